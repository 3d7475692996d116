package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhereTheWebhookServerListens(t *testing.T) {
	for name, tc := range map[string]struct {
		flags []string
		port  int
	}{
		"by default":              {nil, 9443},
		"at the port of the URL":  {[]string{"--webhook-url=https://hooks.example.com:8443"}, 8443},
		"a URL without a port":    {[]string{"--webhook-url=https://hooks.example.com"}, 9443},
		"where the flag says":     {[]string{"--webhook-url=https://hooks.example.com:443", "--webhook-bind=:9443"}, 9443},
		"behind another port":     {[]string{"--webhook-url=https://hooks.example.com:443", "--webhook-bind=127.0.0.1:8080"}, 8080},
		"a slash is no real path": {[]string{"--webhook-url=https://hooks.example.com:8443/"}, 8443},
	} {
		t.Run(name, func(t *testing.T) {
			opts := defaultServeOptions()
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			opts.bind(flags)
			require.NoError(t, flags.Parse(tc.flags))
			require.NoError(t, opts.load(flags))
			assert.Equal(t, tc.port, opts.port)
		})
	}
	opts := defaultServeOptions()
	opts.WebhookURL = "https://hooks.example.com:8443/base"
	assert.ErrorContains(t, opts.Validate().ToAggregate(), "without a path")
}

func TestListsOfFlagsReplaceThoseOfTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("routes: [istio]\ncert-names: [a]\nworkers: 3\n"), 0o600))
	for name, tc := range map[string]struct{ flags, routes, names []string }{
		"file":  {nil, []string{"istio"}, []string{"a"}},
		"flags": {[]string{"--routes=gateway-api", "--routes=istio", "--cert-names=b,c"}, []string{"gateway-api", "istio"}, []string{"b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := defaultServeOptions()
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			opts.bind(flags)
			require.NoError(t, flags.Parse(append(tc.flags, "--config="+file)))
			require.NoError(t, opts.load(flags))
			assert.Equal(t, tc.routes, opts.Routes)
			assert.Equal(t, tc.names, opts.CertNames)
			assert.Equal(t, 3, opts.Workers)
		})
	}
	opts := defaultServeOptions()
	opts.Routes = []string{"ingress"}
	require.ErrorContains(t, opts.Validate().ToAggregate(), `routes: Unsupported value: "ingress": supported values: "gateway-api", "istio"`)
	opts.Routes = nil
	require.ErrorContains(t, opts.Validate().ToAggregate(), "routes: Required value")
}

func TestOptionsWithoutAMesh(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("no-mesh: true\nproxy: {image: mine, replicas: 3, maxReplicas: 9, resources: {limits: {memory: 1Gi}}}\n"), 0o600))
	opts := defaultServeOptions()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	opts.bind(flags)
	require.NoError(t, flags.Parse([]string{"--proxy-image=theirs", "--config=" + file}))
	require.NoError(t, opts.load(flags))
	assert.True(t, opts.NoMesh)
	assert.Equal(t, "theirs", opts.Proxy.Image, "flags win")
	assert.Equal(t, int32(3), opts.Proxy.Replicas)
	assert.Equal(t, "1Gi", opts.Proxy.Resources.Limits.Memory().String())
	assert.Equal(t, []string{"gateway-api", "istio", "no-mesh"}, opts.components())

	for says, change := range map[string]func(*serveOptions){
		"no-mesh: Invalid value: true: needs gateway-api among --routes": func(o *serveOptions) { o.Routes = []string{"istio"} },
		"proxy-image: Required value":                                    func(o *serveOptions) { o.Proxy.Image, o.WebhookURL = "", "https://192.0.2.7:9443" },
		"proxy.replicas: Invalid value: 0: must be from 1 to 100":        func(o *serveOptions) { o.Proxy.Replicas = 0 },
	} {
		o := *opts
		change(&o)
		assert.ErrorContains(t, o.Validate().ToAggregate(), says)
	}
}
