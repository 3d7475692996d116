package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxyserve"
)

func TestProxyExitCodeOfAnAbortedDrain(t *testing.T) {
	require.ErrorIs(t, proxyExit(fmt.Errorf("ends: %w", proxyserve.ErrAborted)), exitAborted)
	other := errors.New("other")
	require.Equal(t, other, proxyExit(other))
	require.NoError(t, proxyExit(nil))
}

// Flags that contradict each other are named in the error.
func TestProxyServiceFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                     "--service a Service",
		"--service a --config b":               "cannot stand beside --config",
		"--service a --check":                  "check: Forbidden",
		"--service A_":                         `service: Invalid value: "A_"`,
		"--service a --namespace b/c":          `namespace: Invalid value: "b/c"`,
		"--service a --admin-bind 9090":        `admin-bind: Invalid value: "9090": must be HOST:PORT`,
		"--service a --access-log xml":         "access-log: Unsupported value",
		"--config a --namespace b":             "namespace: Forbidden",
		"--config a --admin-bind :1":           "admin-bind: Forbidden",
		"--service a --kubeconfig /nowhere":    "kubeconfig: ",
		"--service a --drain-min -1s":          "drain-min: Invalid value",
		"--config nowhere.yaml --drain-min 1s": "nowhere.yaml",
	} {
		cmd := newProxy()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(args))
		assert.ErrorContains(t, cmd.ExecuteContext(t.Context()), want, args)
	}
}
