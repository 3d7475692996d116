package main

import (
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
