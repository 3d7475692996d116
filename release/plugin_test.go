package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// checkPlugin unpacks the plugin as krew does, by its manifest, and runs it.
func checkPlugin(t *testing.T, out string, here platform) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(out, "krew.yaml"))
	require.NoError(t, err)
	var m krewManifest
	require.NoError(t, yaml.UnmarshalStrict(text, &m))
	require.Equal(t, "v1.2.3-test", m.Spec.Version)
	require.Len(t, m.Spec.Platforms, 1)
	p := m.Spec.Platforms[0]
	require.Equal(t, map[string]map[string]string{"matchLabels": {"os": here.os, "arch": here.arch}}, p.Selector)
	name := "kubectl-mirrorgate_v1.2.3-test_" + here.os + "_" + here.arch + ".tar.gz"
	require.Equal(t, address+"/releases/download/v1.2.3-test/"+name, p.URI)
	archive, err := os.ReadFile(filepath.Join(out, name))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("%x", sha256.Sum256(archive)), p.SHA256)

	folder := t.TempDir()
	packed, err := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join(out, name), "-C", folder).CombinedOutput()
	require.NoError(t, err, string(packed))
	help, err := exec.CommandContext(t.Context(), filepath.Join(folder, p.Bin), "status", "--help").Output()
	require.NoError(t, err)
	require.Contains(t, string(help), "\n  kubectl mirrorgate status [ROUTE ...] [flags]\n")
	require.NotRegexp(t, `(?m)^  mirrorgate `, string(help))
	completed, err := exec.CommandContext(t.Context(), filepath.Join(folder, completionFile), "status", "-o", "").Output()
	require.NoError(t, err)
	require.Contains(t, string(completed), "wide\njson\n")
}
