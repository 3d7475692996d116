package main

// The verb that answers why a route has no mirror.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/controller/mirrors"
	"github.com/mirrorgate/mirrorgate/internal/status"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// statusPoll is the time between two looks at the cluster, of `status --watch` and `wait`.
const statusPoll = time.Second

// routeQuery is the part of status and wait that selects routes and reads them.
type routeQuery struct {
	opts                *serveConfig
	namespace, selector string
	all                 bool
	config              *rest.Config
	client              kubernetes.Interface
	namespaces          status.Namespaces
	query               status.Query
}

func newRouteQuery() *routeQuery {
	q := &routeQuery{opts: newServeConfig()}
	q.opts.Level = "warn"
	return q
}

func (q *routeQuery) bind(f *pflag.FlagSet) {
	f.StringVarP(&q.namespace, "namespace", "n", "", "namespace of the routes; by default that of the kubeconfig's context")
	f.StringVarP(&q.selector, "selector", "l", "", "labels of the routes, as kubectl takes them: app=web,tier!=test")
	bindCluster(f, &q.opts.Kubeconfig, &q.opts.Context)
	q.opts.bindShared(f)
}

// connect reads the options and connects to the cluster.
func (q *routeQuery) connect(f *pflag.FlagSet, verb string, names []string) (err error) {
	if err := q.opts.load(f); err != nil {
		return usage(err)
	}
	for _, text := range names {
		name, err := status.ParseName(text)
		if err != nil {
			return usage(err)
		}
		q.query.Names = append(q.query.Names, name)
	}
	var own string
	if q.config, own, err = connect(verb, q.opts.Kubeconfig, q.opts.Context); err != nil {
		return err
	}
	if q.client, err = kubernetes.NewForConfig(q.config); err != nil {
		return err
	}
	switch {
	case q.namespace != "":
		q.query.Namespace = q.namespace
	case !q.all:
		q.query.Namespace = own
	}
	selector, err := webhook.Namespaces()
	if err != nil {
		return err
	}
	q.namespaces = mirrors.NewNamespaces(q.client.CoreV1(), selector)
	return nil
}

// read returns the routes as they are now. Routes may come with an error about others.
func (q *routeQuery) read(ctx context.Context, notes io.Writer) ([]status.Route, error) {
	_, routes, err := q.survey(ctx, notes)
	return routes, err
}

// survey reads the cluster, and returns the routes in it as read does.
func (q *routeQuery) survey(ctx context.Context, notes io.Writer) (*variant.Survey, []status.Route, error) {
	survey, err := variant.NewSurvey(ctx, q.config, variant.Options{
		ClusterDomain: q.opts.ClusterDomain, RootNamespace: q.opts.RootNamespace, Grace: -1,
	}, q.opts.Logger())
	if err != nil {
		return nil, nil, err
	}
	query := q.query
	if query.Labelled, err = status.Labelled(ctx, q.config, query.Namespace, q.selector); err != nil {
		return nil, nil, err
	}
	// The error is ignored: who may not list routes hears of it below.
	query.Authors, _ = status.Authors(ctx, q.config, query.Namespace)
	unlisted := survey.List(ctx, query.Namespace)
	for _, ns := range slices.Sorted(maps.Keys(survey.Unread())) {
		fmt.Fprintf(notes, "mirrorgate: not seen:\n%v\n", survey.Unread()[ns])
	}
	// The error is ignored: the user may lack the right to read webhook configurations.
	deciding, _ := status.WhoDecides(ctx, q.client)
	routes, err := status.Of(ctx, survey, q.namespaces, deciding, query)
	for _, reason := range deciding.Reasons(routes) {
		fmt.Fprintf(notes, "mirrorgate: nothing decides about mirrors: %s; `mirrorgate check` says more\n", reason)
	}
	return survey, routes, errors.Join(unlisted, err)
}

const statusHelp = `Status lists the mirrors of all routes of a namespace, or of some routes: where each is
(active in the spec, limited to a smaller percentage, or parked), why, and whether
mirrorgate would leave it there (SYNCED). SHARE is the percentage that is stored, of the
one that is declared. Where a MirrorPolicy is about a mirror, STEP is the step of its
ramp, NEXT what comes when, and EXPIRES its end. "-o wide" adds since when the stored
form is as it is, and which field manager wrote the rules. ROUTE is NAME or KIND/NAME,
also as "kubectl get -o name" prints it.

With --watch a terminal shows the whole table anew each second, and anything else gets
each mirror again when it has changed. States are coloured on a terminal, unless NO_COLOR
is set. "mirrorgate explain KIND/NAME" tells how the decision about one route came out.

It only reads, and needs no more than the right to get and list in that namespace; a
variant that it may not read is Unknown. Where mirrorgate serve runs, it moves a mirror
that is in the wrong place within moments, or after --unready-grace if the variant has
just become unready. "nothing decides" means that no mirrorgate answers the API server.

The exit code is 0, or with --exit-code 1 when a mirror is not synced; it is 1 when
something could not be read, and 2 after a wrong flag.`

func newStatus() *cobra.Command {
	q := newRouteQuery()
	var format status.Format
	var watch, exitCode bool
	cmd := &cobra.Command{
		Use:   "status [ROUTE ...]",
		Short: "List the mirrors of a cluster: where each is, and why",
		Long:  statusHelp,
		Example: `  mirrorgate status                                    # the namespace of the context
  mirrorgate status -A -o wide                         # with variants, fields and details
  mirrorgate status -n shop httproute/web vs/mesh      # some routes
  mirrorgate status -A --exit-code                     # in a script: 1 when a mirror is not synced
  mirrorgate status -l app=web -o jsonpath='{.routes[*].mirrors[*].state}'`,
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVarP(&q.all, "all-namespaces", "A", false, "routes of all namespaces")
	f.StringVarP(&format.Output, "output", "o", "", "wide, json, yaml, name or jsonpath=TEMPLATE; a table by default")
	f.BoolVar(&format.NoHeaders, "no-headers", false, "print no line with the names of the columns")
	f.BoolVarP(&watch, "watch", "w", false, "show the table anew as it changes, until Ctrl-C; a table only")
	f.BoolVar(&exitCode, "exit-code", false, "exit with 1 when a mirror is not synced")
	q.bind(f)
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	cmd.MarkFlagsMutuallyExclusive("watch", "exit-code")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := format.Parse(); err != nil {
			return usage(err)
		}
		if watch && !format.IsTable() {
			return usage(errors.New("--watch prints a table: leave out --output, or take wide"))
		}
		if err := q.connect(f, "status", args); err != nil {
			return err
		}
		format.AllNamespaces = q.all
		terminal := isTerminal(cmd.OutOrStdout())
		format.Colour = terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if watch {
			return watchStatus(cmd.Context(), cmd.OutOrStdout(), q.read, &format, terminal)
		}
		return showStatus(cmd.Context(), cmd.OutOrStdout(), q, &format, exitCode)
	}
	return cmd
}

func showStatus(ctx context.Context, out io.Writer, q *routeQuery, format *status.Format, exitCode bool) error {
	routes, err := q.read(ctx, os.Stderr)
	if missing := q.query.Missing(routes); err == nil && len(missing) > 0 {
		err = fmt.Errorf("no route with mirrors is called %q in %s", missing[0], place(q.query.Namespace))
	}
	if err != nil {
		err = fmt.Errorf("status: %w", err)
	}
	switch {
	case len(routes) > 0 || !format.IsTable() && format.Output != "name":
		err = errors.Join(format.Write(out, routes), err)
	case err == nil:
		fmt.Fprintf(os.Stderr, "no route in %s has a mirror\n", place(q.query.Namespace))
	}
	if err == nil && exitCode && slices.ContainsFunc(routes, func(r status.Route) bool { return !r.Synced() }) {
		return exitFindings
	}
	return err
}

// isTerminal reports whether somebody sees the output as it is written.
func isTerminal(out io.Writer) bool {
	file, is := out.(*os.File)
	return is && term.IsTerminal(int(file.Fd()))
}

// watchStatus prints the table, and then each route again when it has changed, until ctx ends; with redraw, the whole table
// in its place.
func watchStatus(ctx context.Context, out io.Writer, read func(context.Context, io.Writer) ([]status.Route, error), format *status.Format, redraw bool) error {
	var notes io.Writer = os.Stderr
	printed := status.Changes{}
	for {
		routes, err := read(ctx, notes)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("status: %w", err)
		}
		if redraw && ctx.Err() == nil {
			if err := redrawStatus(out, routes, format); err != nil {
				return err
			}
		} else if changed := printed.Next(routes); !redraw && len(changed) > 0 {
			if err := format.Write(out, changed); err != nil {
				return err
			}
			format.NoHeaders = true
		}
		notes = io.Discard // once is enough
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statusPoll):
		}
	}
}

// redrawStatus writes the table over the earlier one: each line, and the rest of the screen, are cleared as they are written,
// so that nothing flickers.
func redrawStatus(out io.Writer, routes []status.Route, format *status.Format) error {
	var table bytes.Buffer
	if err := format.Write(&table, routes); err != nil {
		return err
	}
	const home, toEndOfLine, toEndOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	_, err := io.WriteString(out, home+strings.ReplaceAll(table.String(), "\n", toEndOfLine+"\n")+toEndOfScreen)
	return err
}

func place(namespace string) string {
	if namespace == "" {
		return "any namespace"
	}
	return fmt.Sprintf("namespace %q", namespace)
}
