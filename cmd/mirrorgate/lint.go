package main

// The verb for authors of routes, before the routes reach a cluster.

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/lint"
)

// Exit codes of lint.
const (
	lintDenied     = 1
	lintUnreadable = 2
)

const lintHelp = `Lint reads manifests, YAML or JSON, and judges every HTTPRoute, GRPCRoute and
VirtualService in them as admission would in a cluster that holds the same objects:
Services, workloads (taken as ready), DestinationRules, ServiceEntries and
ReferenceGrants. It also checks mirrors against the schemas of the CRDs.

In a folder it reads every .yaml, .yml and .json file. A mirror whose variant is in
none of the files would be parked, which is a note and no error: --strict makes it
one, and --variants-elsewhere assumes that such variants are applied and ready.

The exit code is 0 when nothing would be denied, 1 when something would be, and 2
when some input could not be read; the rest is judged nevertheless.`

func newLint() *cobra.Command {
	opts := newServeConfig()
	var output, namespace string
	var assumeApplied bool
	cmd := &cobra.Command{
		Use:   "lint FILE|FOLDER|- ...",
		Short: "Judge the routes in manifests, without a cluster",
		Long:  lintHelp,
		Example: `  kustomize build overlays/prod | mirrorgate lint -
  mirrorgate lint --config mirrorgate.yaml routes/ services.yaml`,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&opts.Policy.Strict, "strict", false, "a mirror that would be parked is an error")
	f.BoolVar(&assumeApplied, "variants-elsewhere", false, "assume that Services, workloads, DestinationRules and ReferenceGrants that the files lack are applied already")
	f.StringVarP(&namespace, "namespace", "n", "default", "namespace of the objects that name none")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	opts.bindShared(f)

	fail := func(err error) error {
		fmt.Fprintln(os.Stderr, "mirrorgate:", err)
		return exitError(lintUnreadable)
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fail(err) })
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		errs := append(cli.OneOf("output", output, "text", "json"), cli.Name("namespace", namespace, validation.IsDNS1123Label)...)
		if err := errors.Join(opts.load(f), errs.ToAggregate()); err != nil {
			return fail(err)
		}
		if len(paths) == 0 {
			return fail(errors.New("lint: name files, folders, or - for standard input"))
		}
		sources, unread := lint.Read(cmd.InOrStdin(), paths...)
		report, err := lint.Check(cmd.Context(), lint.Options{
			Policy: opts.Policy, ClusterDomain: opts.ClusterDomain, RootNamespace: opts.RootNamespace,
			Namespace: namespace, AssumeApplied: assumeApplied,
		}, sources...)
		if err != nil {
			return fail(err)
		}
		write := report.WriteText
		if output == "json" {
			write = report.WriteJSON
		}
		if err := errors.Join(write(cmd.OutOrStdout()), unread); err != nil {
			return fail(err)
		}
		switch {
		case report.Count(lint.Unreadable) > 0:
			return exitError(lintUnreadable)
		case report.Count(lint.Error) > 0:
			return exitError(lintDenied)
		}
		return nil
	}
	return cmd
}
