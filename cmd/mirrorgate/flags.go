package main

// The flags that several verbs share.

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/serve"
)

func bindLog(f *pflag.FlagSet, o *cli.Log) {
	f.StringVar(&o.Level, "log-level", o.Level, "debug, info, warn or error")
	f.StringVar(&o.Format, "log-format", o.Format, "text or json")
}

// bindCluster binds the flags that name the cluster that a verb talks to.
func bindCluster(f *pflag.FlagSet, kubeconfig, context *string) {
	f.StringVar(kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; kubectl's by default")
	f.StringVar(context, "context", "", "context of the kubeconfig, if not its current one")
}

// connect returns the configuration of a verb's client, and the namespace of the context.
func connect(verb, kubeconfig, context string) (config *rest.Config, namespace string, err error) {
	if config, namespace, err = cli.Kubeconfig(kubeconfig, context); err != nil {
		return nil, "", err
	}
	config.UserAgent = "mirrorgate-" + verb + "/" + version
	return config, namespace, nil
}

// serveConfig is the options of serve, some of which may come from a file. lint and status read the same
// file, because they decide by the same policy.
type serveConfig struct {
	*serve.Options
	file string
}

func newServeConfig() *serveConfig { return &serveConfig{Options: serve.DefaultOptions()} }

// bindShared binds the flags that every verb that decides needs.
func (c *serveConfig) bindShared(f *pflag.FlagSet) {
	f.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "DNS domain of the cluster")
	f.StringVar(&c.RootNamespace, "root-namespace", c.RootNamespace, "Istio's root namespace, whose DestinationRules apply to all namespaces")
	f.StringVar(&c.file, "config", "", "YAML file with the options of serve: the same keys as its flags, and policy")
}

// load reads the config file, lets the flags that were given override it, and checks the result. A fault of a
// value that the file has is reported with its line.
func (c *serveConfig) load(f *pflag.FlagSet) error {
	lines := map[string]int{}
	if c.file != "" {
		given := givenFlags(f)
		var err error
		if lines, err = c.ReadFile(c.file); err != nil {
			return err
		}
		for _, set := range given {
			if err := set(); err != nil {
				return err
			}
		}
	}
	var faults []error
	for _, err := range c.Validate() {
		flag := f.Lookup(err.Field)
		if line := lines[err.Field]; line > 0 && (flag == nil || !flag.Changed) {
			faults = append(faults, fmt.Errorf("%s:%d: %w", c.file, line, err))
			continue
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// run loads the options, assembles a process of them and runs it.
func (c *serveConfig) run(cmd *cobra.Command, assemble func() (*serve.Process, error)) error {
	if err := c.load(cmd.Flags()); err != nil {
		return usage(err)
	}
	c.Version, c.Clock = version, ownClock
	process, err := assemble()
	if err != nil {
		return err
	}
	return process.Run(cmd.Context())
}

// givenFlags returns a function for each flag that was given, which sets it to that value again.
func givenFlags(f *pflag.FlagSet) (set []func() error) {
	f.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values := slices.Clone(list.GetSlice()) // Set would append to the list
			set = append(set, func() error { return list.Replace(values) })
			return
		}
		value := f.Value.String()
		set = append(set, func() error { return f.Value.Set(value) })
	})
	return set
}
