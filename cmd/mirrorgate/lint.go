package main

// The verb for authors of routes, before the routes reach a cluster.

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/lint"
)

const lintHelp = `Lint reads manifests, YAML or JSON, and judges every HTTPRoute, GRPCRoute and
VirtualService in them as admission would in a cluster that holds the same objects:
Services, workloads (taken as ready), DestinationRules, ServiceEntries and
ReferenceGrants. It also checks mirrors against the schemas of the CRDs.

In a folder it reads every .yaml, .yml and .json file. A mirror whose variant is in
none of the files would be parked, which is a note and no error: --strict makes it
one, and --variants-elsewhere assumes that such variants are applied and ready.

A comment ignores a finding on its own line, or in the field below it:

  # mirrorgate:ignore PortNotFound because the variant's chart adds port 8080

The exit code is 0 when nothing would be denied, 1 when something would be or a
finding has a level of --fail-on, and 2 when some input could not be read; the rest
is judged nevertheless. "mirrorgate explain REASON" says more about a finding.`

const lintExamples = `  kustomize build overlays/prod | mirrorgate lint -
  helm template . | mirrorgate lint -
  mirrorgate lint --config mirrorgate.yaml routes/ services.yaml
  mirrorgate lint --fail-on warning,parked routes/
  mirrorgate lint -o sarif routes/ > mirrorgate.sarif
  mirrorgate lint -o github routes/    # annotations in a workflow of GitHub`

func newLint() *cobra.Command {
	opts := newServeConfig()
	var output, namespace string
	var failOn []string
	var assumeApplied bool
	cmd := &cobra.Command{
		Use:     "lint FILE|FOLDER|- ...",
		Short:   "Judge the routes in manifests, without a cluster",
		Long:    lintHelp,
		Example: lintExamples,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&opts.Policy.Strict, "strict", false, "a mirror that would be parked is an error")
	f.BoolVar(&assumeApplied, "variants-elsewhere", false, "assume that Services, workloads, DestinationRules and ReferenceGrants that the files lack are applied already")
	f.StringVarP(&namespace, "namespace", "n", "default", "namespace of the objects that name none")
	f.StringVarP(&output, "output", "o", "text", "text, json, sarif or github")
	f.StringSliceVar(&failOn, "fail-on", nil, "levels that end in exit code 1, besides error: warning, parked")
	opts.bindShared(f)

	fail := func(err error) error {
		fmt.Fprintln(os.Stderr, "mirrorgate:", err)
		return exitUsage
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fail(err) })
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		errs := append(cli.OneOf("output", output, "text", "json", "sarif", "github"), cli.Name("namespace", namespace, validation.IsDNS1123Label)...)
		for _, level := range failOn {
			errs = append(errs, cli.OneOf("fail-on", level, string(lint.Error), string(lint.Warning), string(lint.Parked))...)
		}
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
		if err := errors.Join(writeReport(cmd.OutOrStdout(), report, output), unread); err != nil {
			return fail(err)
		}
		levels := []lint.Level{lint.Error}
		for _, level := range failOn {
			levels = append(levels, lint.Level(level))
		}
		switch {
		case report.Fails(lint.Unreadable):
			return exitUsage
		case report.Fails(levels...):
			return exitFindings
		}
		return nil
	}
	return cmd
}

func writeReport(w io.Writer, report *lint.Report, output string) error {
	switch output {
	case "json":
		return report.WriteJSON(w)
	case "sarif":
		return report.WriteSARIF(w, version)
	case "github":
		return report.WriteGitHub(w)
	default:
		return report.WriteText(w)
	}
}
