package main

// The verb that answers why a route has no mirror.

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
	"github.com/mirrorgate/mirrorgate/internal/status"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook"
)

func newStatus() *cobra.Command {
	opts := newServeConfig()
	opts.Level = "warn"
	var namespace, output string
	var all bool
	cmd := &cobra.Command{
		Use:   "status [ROUTE]",
		Short: "List the mirrors of a cluster: where each is, and why",
		Long: `Status lists the mirrors of all routes of a namespace, or of one route, with the
state of their variants, and reports whether each is where mirrorgate's decision puts it. ROUTE is NAME or KIND/NAME.

  mirrorgate status -A
  mirrorgate status -n shop httproute/web -o json

It only reads, and needs no more than the right to get and list in that namespace; a
variant that it may not read is Unknown. Where mirrorgate serve runs, it moves a mirror
that is in the wrong place within moments, or after --unready-grace if the variant has
just become unready.

The exit code is 0 unless something could not be read.`,
		Args: cobra.MaximumNArgs(1),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&namespace, "namespace", "n", "", "namespace of the routes; by default that of the kubeconfig's context")
	f.BoolVarP(&all, "all-namespaces", "A", false, "routes of all namespaces")
	f.StringVarP(&output, "output", "o", "table", "table or json")
	bindCluster(f, &opts.Kubeconfig, &opts.Context)
	opts.bindShared(f)
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(opts.load(f), cli.OneOf("output", output, "table", "json").ToAggregate()); err != nil {
			return err
		}
		query := status.Query{}
		if len(args) == 1 {
			var err error
			if query, err = status.ParseRoute(args[0]); err != nil {
				return err
			}
		}
		config, own, err := connect("status", opts.Kubeconfig, opts.Context)
		if err != nil {
			return err
		}
		switch {
		case namespace != "":
			query.Namespace = namespace
		case !all:
			query.Namespace = own
		}
		return showStatus(cmd, opts, config, query, output)
	}
	return cmd
}

func showStatus(cmd *cobra.Command, opts *serveConfig, config *rest.Config, query status.Query, output string) error {
	survey, err := variant.NewSurvey(cmd.Context(), config, variant.Options{
		ClusterDomain: opts.ClusterDomain, RootNamespace: opts.RootNamespace, Grace: -1,
	}, opts.Logger())
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	namespaces, err := namespacesOf(config)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	unlisted := survey.List(cmd.Context(), query.Namespace)
	for _, ns := range slices.Sorted(maps.Keys(survey.Unread())) {
		fmt.Fprintf(os.Stderr, "mirrorgate: not seen:\n%v\n", survey.Unread()[ns])
	}
	routes, err := status.Of(cmd.Context(), survey, namespaces, query)
	if err = errors.Join(unlisted, err); err != nil {
		err = fmt.Errorf("status: %w", err)
	} else if query.Name != "" && len(routes) == 0 {
		err = fmt.Errorf("status: no route with mirrors is called %q in %s", query.Name, place(query.Namespace))
	}
	switch {
	case output == "json":
		return errors.Join(status.WriteJSON(cmd.OutOrStdout(), routes), err)
	case len(routes) > 0:
		return errors.Join(status.WriteTable(cmd.OutOrStdout(), routes), err)
	case err == nil:
		fmt.Fprintf(os.Stderr, "no route in %s has a mirror\n", place(query.Namespace))
	}
	return err
}

// namespacesOf knows the namespaces that an installation by the manifests leaves alone.
func namespacesOf(config *rest.Config) (status.Namespaces, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	selector, err := webhook.Namespaces()
	if err != nil {
		return nil, err
	}
	return mirrors.NewNamespaces(client.CoreV1(), selector), nil
}

func place(namespace string) string {
	if namespace == "" {
		return "any namespace"
	}
	return fmt.Sprintf("namespace %q", namespace)
}
