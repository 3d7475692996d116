package main

import (
	"reflect"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/docs/reference"
	"github.com/mirrorgate/mirrorgate/internal/serve"
)

// docs/reference/configuration.md has every key of the file of serve, with the help of its flag or its comment.
func TestReferenceIsThatOfTheOptions(t *testing.T) {
	keys := reference.Keys{Root: "../..", Help: map[string]string{}, Opaque: map[reflect.Type]string{
		reflect.TypeFor[metav1.Duration]():             "duration",
		reflect.TypeFor[corev1.ResourceRequirements](): "resources of a container",
	}}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	opts := newServeConfig()
	bindServe(flags, opts.Options)
	opts.bindShared(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		keys.Help[f.Name] = f.Usage
		if f.DefValue != "" && f.DefValue != "[]" {
			keys.Help[f.Name] += " (default `" + f.DefValue + "`)"
		}
	})
	keys.Help["policy"] = "the rules about mirrors that are stricter than the defaults"
	keys.Help["proxy"] = "the proxies in front of Services"
	table, err := keys.Table(reflect.TypeFor[serve.Options]())
	require.NoError(t, err)
	page := "# Configuration\n\nGenerated from the options of `mirrorgate serve`. They are the keys of the file that `--config` names, and of `config` in " +
		"the values of the Helm chart, but for `kubeconfig`, `context` and `webhook-url`, which an installation does not have. A flag of the same name overrides the key. " +
		"`.*` stands for each key of a map. `mirrorgate lint`, `status` and `check` read the same file.\n\n" + table
	require.NoError(t, reference.Hold("../../docs/reference/configuration.md", page, *update))
}
