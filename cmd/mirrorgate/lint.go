package main

// The verb for authors of routes, before the routes reach a cluster.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/lint"
	"github.com/mirrorgate/mirrorgate/internal/variant"
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

The exit code is 0 when nothing would be denied, or a comment ignores it, 1 when
something would be or a finding has a level of --fail-on, and 2 when some input could
not be read; the rest is judged nevertheless. "mirrorgate explain REASON" says more
about a finding.`

const lintExamples = `  kustomize build overlays/prod | mirrorgate lint -
  helm template . | mirrorgate lint -
  mirrorgate lint --config mirrorgate.yaml routes/ services.yaml
  mirrorgate lint --diff routes/       # show what --fix would correct
  mirrorgate lint --fix routes/        # mirrorPercent, short hosts, mirrorPercentage: 50
  mirrorgate lint --fail-on warning,parked routes/
  mirrorgate lint --as-limit Deny --context prod routes/    # which routes the limits would deny
  mirrorgate lint -o sarif routes/ > mirrorgate.sarif
  mirrorgate lint -o github routes/    # annotations in a workflow of GitHub`

// lintOptions are the flags of lint.
type lintOptions struct {
	*serveConfig
	output, namespace string
	asLimit           string
	// kubeconfig and context are those of the flags alone: a file of serve's that is read for its policy names no
	// cluster for lint.
	kubeconfig, context string
	failOn              []string
	assumeApplied       bool
	fix, diff           bool
	// survey is the cluster, once it was read.
	survey *variant.Survey
}

func newLint() *cobra.Command {
	o := &lintOptions{serveConfig: newServeConfig()}
	o.Level = "warn"
	cmd := &cobra.Command{
		Use:     "lint FILE|FOLDER|- ...",
		Short:   "Judge the routes in manifests, without a cluster",
		Long:    lintHelp,
		Example: lintExamples,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&o.Policy.Strict, "strict", false, "a mirror that would be parked is an error")
	f.BoolVar(&o.assumeApplied, "variants-elsewhere", false, "assume that Services, workloads, DestinationRules and ReferenceGrants that the files lack are applied already")
	f.StringVarP(&o.namespace, "namespace", "n", "", `namespace of the objects that name none; by default that of the context with --context, else "default"`)
	f.StringVarP(&o.output, "output", "o", "text", "text, json, sarif or github")
	f.StringSliceVar(&o.failOn, "fail-on", nil, "levels that end in exit code 1, besides error: warning, parked")
	f.StringVar(&o.asLimit, "as-limit", "", "let every MirrorLimit act as Limit, Deny or Warn, to see what would happen")
	f.BoolVar(&o.fix, "fix", false, "correct in the files what has one right answer")
	f.BoolVar(&o.diff, "diff", false, "print the corrections of --fix; without --fix the files stay as they are")
	bindCluster(f, &o.kubeconfig, &o.context)
	f.Lookup("kubeconfig").Usage = "kubeconfig of a cluster whose objects count besides those of the files"
	f.Lookup("context").Usage = "context of such a cluster"
	o.bindShared(f)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		if err := errors.Join(o.load(f), o.validate()); err != nil {
			return usage(err)
		}
		if len(paths) == 0 {
			return usage(errors.New("lint: name files, folders, or - for standard input"))
		}
		return o.run(cmd, paths)
	}
	return cmd
}

func (o *lintOptions) validate() error {
	errs := cli.OneOf("output", o.output, "text", "json", "sarif", "github")
	if o.namespace != "" {
		errs = append(errs, cli.Name("namespace", o.namespace, validation.IsDNS1123Label)...)
	}
	if o.asLimit != "" {
		errs = append(errs, cli.OneOf("as-limit", o.asLimit, string(limits.Lower), string(limits.Deny), string(limits.Warn))...)
	}
	for _, level := range o.failOn {
		errs = append(errs, cli.OneOf("fail-on", level, string(lint.Error), string(lint.Warning), string(lint.Parked))...)
	}
	if o.diff && o.output != "text" {
		errs = append(errs, field.Forbidden(field.NewPath("diff"), "only with --output text"))
	}
	return errs.ToAggregate()
}

func (o *lintOptions) run(cmd *cobra.Command, paths []string) error {
	sources, unread := lint.Read(cmd.InOrStdin(), paths...)
	report, err := o.check(cmd.Context(), sources)
	if err == nil && (o.fix || o.diff) {
		report, err = o.correct(cmd, report, sources)
	}
	if err != nil {
		return usage(err)
	}
	if err := errors.Join(writeReport(cmd.OutOrStdout(), report, o.output), unread); err != nil {
		return usage(err)
	}
	levels := []lint.Level{lint.Error}
	for _, level := range o.failOn {
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

// check judges the sources, with the objects of a cluster where one is named.
func (o *lintOptions) check(ctx context.Context, sources []lint.Source) (*lint.Report, error) {
	opts := lint.Options{
		Policy: o.Policy, ClusterDomain: o.ClusterDomain, RootNamespace: o.RootNamespace,
		Namespace: o.namespace, AssumeApplied: o.assumeApplied, AsLimit: limits.Action(o.asLimit),
	}
	if o.kubeconfig == "" && o.context == "" {
		progress, done := showProgress(os.Stderr)
		defer done()
		opts.Progress = progress
		return lint.Check(ctx, opts, sources...)
	}
	if o.survey != nil { // corrected files are judged by the same cluster
		opts.Namespace, opts.Cluster = o.namespace, o.survey
		return lint.Check(ctx, opts, sources...)
	}
	config, own, err := connect("lint", o.kubeconfig, o.context)
	if err != nil {
		return nil, err
	}
	o.namespace = cmp.Or(o.namespace, own)
	o.survey, err = variant.NewSurvey(ctx, config, variant.Options{
		ClusterDomain: o.ClusterDomain, RootNamespace: o.RootNamespace, Namespace: o.namespace, Grace: -1, AssumeReady: true,
	}, o.Logger())
	if err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	opts.Namespace, opts.Cluster = o.namespace, o.survey
	report, err := lint.Check(ctx, opts, sources...)
	for _, ns := range slices.Sorted(maps.Keys(o.survey.Unread())) {
		fmt.Fprintf(os.Stderr, "mirrorgate: not seen:\n%v\n", o.survey.Unread()[ns])
	}
	return report, err
}

// correct shows the fixes, writes them, and judges the files again.
func (o *lintOptions) correct(cmd *cobra.Command, report *lint.Report, sources []lint.Source) (*lint.Report, error) {
	fixed, err := report.Fix(sources)
	if err != nil {
		return nil, err
	}
	for _, file := range fixed {
		if o.diff {
			fmt.Fprint(cmd.OutOrStdout(), file.Diff())
		}
		if !o.fix {
			continue
		}
		if err := file.Write(); err != nil {
			return nil, fmt.Errorf("lint: fix: %w", err)
		}
		fmt.Fprintf(os.Stderr, "mirrorgate: fixed %s: %d\n", file.Name, file.Fixes)
		for n := range sources {
			if sources[n].Name == file.Name {
				sources[n].Text = file.Text
			}
		}
	}
	if !o.fix || len(fixed) == 0 {
		return report, nil
	}
	return o.check(cmd.Context(), sources)
}

// showProgress returns a function that prints how many files have been read, and one that clears the line. On
// anything but a terminal both do nothing.
func showProgress(w *os.File) (progress func(read, files int), done func()) {
	if !term.IsTerminal(int(w.Fd())) {
		return nil, func() {}
	}
	var mu sync.Mutex
	var last time.Time
	progress = func(read, files int) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) > 100*time.Millisecond {
			last = now
			fmt.Fprintf(w, "\r\x1b[Kread %d of %d files", read, files)
		}
	}
	return progress, func() {
		if !last.IsZero() {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
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
