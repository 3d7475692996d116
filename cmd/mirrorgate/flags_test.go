package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// loaded returns the options of serve with these flags and this config file.
func loaded(t *testing.T, config string, args ...string) *serveConfig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	opts, flags := newServeConfig(), pflag.NewFlagSet("", pflag.ContinueOnError)
	bindServe(flags, opts.Options)
	opts.bindShared(flags)
	require.NoError(t, flags.Parse(append(args, "--config="+file)))
	require.NoError(t, opts.load(flags))
	return opts
}

func TestListsOfFlagsReplaceThoseOfTheFile(t *testing.T) {
	const config = "routes: [istio]\ncert-names: [a]\nworkers: 3\n"
	for name, tc := range map[string]struct{ flags, routes, names []string }{
		"file":  {nil, []string{"istio"}, []string{"a"}},
		"flags": {[]string{"--routes=gateway-api", "--routes=istio", "--cert-names=b,c"}, []string{"gateway-api", "istio"}, []string{"b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := loaded(t, config, tc.flags...)
			assert.Equal(t, tc.routes, opts.Routes)
			assert.Equal(t, tc.names, opts.CertNames)
			assert.Equal(t, 3, opts.Workers)
		})
	}
}

func TestFlagsOverrideTheFile(t *testing.T) {
	opts := loaded(t, `
no-mesh: true
log-level: debug
proxy: {image: mine, replicas: 3, maxReplicas: 9, resources: {limits: {memory: 1Gi}}}
`, "--proxy-image=theirs")
	assert.True(t, opts.NoMesh)
	assert.Equal(t, "debug", opts.Level)
	assert.Equal(t, "theirs", opts.Proxy.Image)
	assert.Equal(t, int32(3), opts.Proxy.Replicas)
	assert.Equal(t, "1Gi", opts.Proxy.Resources.Limits.Memory().String())
}
