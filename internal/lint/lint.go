// Package lint judges the routes in files as admission would in a cluster with the same objects, in which
// every workload is ready. It calls the same policy, and also checks mirrors against the schemas of the
// CustomResourceDefinitions, which the API server does in a cluster.
package lint

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// Options configure Check. The zero value is valid.
type Options struct {
	Policy policy.Config
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// RootNamespace is Istio's root namespace, "istio-system" when empty.
	RootNamespace string
	// Namespace is the namespace of objects that name none, "default" when empty.
	Namespace string
	// AssumeApplied takes the objects of a variant that the files lack as applied already: findings are then
	// about contradictions to the files alone.
	AssumeApplied bool
	// AsLimit is the action that every MirrorLimit counts with, "" for its own.
	AsLimit limits.Action
	// Cluster is a cluster whose objects are there besides those of the files, which replace them. nil means
	// none.
	Cluster Cluster
	// Progress is called with the number of files that have been read and of those that there are; nil for
	// nobody.
	Progress func(read, files int)
}

// Cluster is a cluster that is read before the files are put on top of it.
type Cluster interface {
	// ListAround reads the objects of some namespaces.
	ListAround(ctx context.Context, namespaces ...string)
	model
}

// model is the state of a cluster, by which routes are judged.
type model interface {
	// Load adds an object, in place of another one of that name.
	Load(raw []byte) error
	Snapshot(rt *route.Route) policy.Snapshot
}

// Level is how severe a finding is.
type Level string

// The levels, the most severe first. Unreadable input could not be judged; an Error would be denied, or the
// API server would drop a field of a mirror; a Parked mirror would wait until its variant is ready; a Warning
// is about a doubt, or about a route that mirrorgate leaves alone.
const (
	Unreadable Level = "unreadable"
	Error      Level = "error"
	Parked     Level = "parked"
	Warning    Level = "warning"
)

// Reasons that only lint gives.
const (
	// SchemaInvalid is the reason of a mirror whose form the CRD does not accept.
	SchemaInvalid policy.Reason = "SchemaInvalid"
	// UnknownField is the reason of a field that the API server would drop.
	UnknownField policy.Reason = "UnknownField"
	// DuplicateObject is the reason of an object that the files contain twice.
	DuplicateObject policy.Reason = "DuplicateObject"
	// IgnoreInvalid and IgnoreUnused are the reasons of a comment that ignores nothing, because it is incomplete
	// or because no finding is there.
	IgnoreInvalid policy.Reason = "IgnoreInvalid"
	IgnoreUnused  policy.Reason = "IgnoreUnused"
)

// Finding is one problem in the files.
type Finding struct {
	Level Level  `json:"level"`
	File  string `json:"file"`
	// Line, Column and Document count from 1, Column in characters.
	Line     int `json:"line,omitempty"`
	Column   int `json:"column,omitempty"`
	Document int `json:"document,omitempty"`
	// Object is "HTTPRoute shop/web", "" where it is not known.
	Object string `json:"object,omitempty"`
	// Field is the field path, Value the value there, as JSON.
	Field   string        `json:"field,omitempty"`
	Value   string        `json:"value,omitempty"`
	Reason  policy.Reason `json:"reason"`
	Message string        `json:"message"`
	// Remedy is what to do about the finding, "" where the message is enough.
	Remedy string `json:"remedy,omitempty"`
	// Docs is the address of the page about the reason.
	Docs string `json:"docs,omitempty"`
	// Because is the reason that a comment gives for ignoring the finding.
	Because string `json:"because,omitempty"`
	// Fixable is set where Report.Fix corrects the finding.
	Fixable bool `json:"fixable,omitempty"`

	edits []edit
}

// Report is the result of Check.
type Report struct {
	// Findings are sorted by file, line and column.
	Findings []Finding `json:"findings"`
	// Ignored are the findings that comments ignore.
	Ignored []Finding `json:"ignored,omitempty"`
	// Files is the number of files, Routes the number of routes that concern mirrors.
	Files  int `json:"files"`
	Routes int `json:"routes"`
	// Mirrors is the number of mirrors: each is Active, Parked or Denied.
	Mirrors int `json:"mirrors"`
	Active  int `json:"active"`
	Parked  int `json:"parked"`
	Denied  int `json:"denied"`
	// RoutesDenied is the number of routes whose write would be denied.
	RoutesDenied int `json:"routesDenied"`
	// NotJudged counts the objects that mention mirrors and are of kinds that mirrorgate does not judge, by
	// kind and group: "HTTPRoute.policy.linkerd.io".
	NotJudged map[string]int `json:"notJudged,omitempty"`
}

// Count returns the number of findings of a level.
func (r *Report) Count(level Level) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Level == level {
			n++
		}
	}
	return n
}

// Check judges the routes in the sources. The error is internal: a fault in a source is a finding.
func Check(ctx context.Context, opts Options, sources ...Source) (*Report, error) {
	c := &checker{
		opts: opts,
		model: variant.NewIndex(variant.Options{
			ClusterDomain: opts.ClusterDomain, RootNamespace: opts.RootNamespace, Namespace: opts.Namespace, AssumeReady: true,
		}),
		loaded: map[string]*object{},
	}
	c.report.Files = len(sources)
	files := make([]file, len(sources))
	var read atomic.Int64
	if err := parallel(ctx, len(sources), func(n int) error {
		files[n] = readFile(sources[n])
		if done := read.Add(1); opts.Progress != nil {
			opts.Progress(int(done), len(sources))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if opts.Cluster != nil {
		c.model = opts.Cluster
		opts.Cluster.ListAround(ctx, c.namespaces(files)...)
	}
	var routes []*object
	comments := map[string][]*ignore{}
	for n := range files {
		comments[sources[n].Name] = append(comments[sources[n].Name], files[n].ignores...)
		c.report.Findings = append(c.report.Findings, files[n].failures...)
		for _, o := range files[n].objects {
			if c.load(o) && o.isRoute() {
				routes = append(routes, o)
			}
		}
	}
	results := make([]result, len(routes))
	if err := parallel(ctx, len(routes), func(n int) (err error) { results[n], err = c.judge(routes[n]); return err }); err != nil {
		return nil, err
	}
	for n := range results {
		c.report.add(&results[n])
	}
	c.report.ignoreFindings(comments)
	for _, list := range [][]Finding{c.report.Findings, c.report.Ignored} {
		for n := range list {
			list[n].Docs = reasons.URL(string(list[n].Reason))
		}
	}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &c.report, nil
}

// parallel calls fn with 0 to n-1 on all processors.
func parallel(ctx context.Context, n int, fn func(int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(i)
		})
	}
	return group.Wait()
}

// file holds the objects of a source.
type file struct {
	objects  []*object
	failures []Finding
	ignores  []*ignore
}

func readFile(source Source) file {
	comments := newComments(source.Text)
	objects, failures := split(source, comments.markTexts)
	if len(objects) == 0 && len(failures) == 0 && source.Name == stdinName {
		failures = append(failures, Finding{
			Level: Unreadable, File: source.Name, Line: 1, Column: 1, Reason: policy.Unreadable,
			Message: "no manifest was read", Remedy: "run the command before the pipe alone, to see why it prints none",
		})
	}
	if len(objects) == 0 {
		return file{objects, failures, nil}
	}
	return file{objects, failures, comments.ignores()}
}

type checker struct {
	opts  Options
	model model
	// loaded are the latest objects by group, kind, namespace and name.
	loaded map[string]*object
	report Report
}

// complete adds the place and the remedy to a finding about an object.
func (c *checker) complete(o *object, f Finding) Finding {
	f.File, f.Document, f.Object = o.file, o.document, o.name(c.namespace())
	f.Line, f.Column = o.position(f.Field)
	if f.Remedy == "" {
		f.Remedy = remedies[f.Reason]
	}
	return f
}

func (c *checker) add(o *object, f Finding) {
	c.report.Findings = append(c.report.Findings, c.complete(o, f))
}

func (c *checker) namespace() string { return cmp.Or(c.opts.Namespace, "default") }

// namespaces returns the namespaces of the routes in files and of their mirrors.
func (c *checker) namespaces(files []file) []string {
	found := map[string]bool{}
	for n := range files {
		for _, o := range files[n].objects {
			if !o.isRoute() || !route.MayMirror(o.raw) {
				continue
			}
			rt, err := route.Decode(o.raw, route.Options{ClusterDomain: c.opts.ClusterDomain, Namespace: c.namespace()})
			if err != nil {
				continue // load reports it
			}
			found[rt.Namespace] = true
			for _, m := range rt.Every {
				if m.Target.IsService() {
					found[m.Target.Namespace] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// load puts an object into the model against which the routes are judged, and reports whether it could be
// read.
func (c *checker) load(o *object) bool {
	if err := c.model.Load(o.raw); err != nil {
		if long, ok := errors.AsType[*route.TooLongError](err); ok {
			f := policy.TooLong(long)
			c.add(o, Finding{Level: Error, Field: f.Field, Value: f.Value, Reason: f.Reason, Message: f.Message})
			c.report.Routes++
			c.report.RoutesDenied++
			return false
		}
		field, message := misread(err)
		if whole, found := strings.CutPrefix(message, o.head.Kind+` "`); found {
			_, message, _ = strings.Cut(whole, `": `) // the object is named already
		}
		message = strings.TrimPrefix(message, "decode route: ")
		c.add(o, Finding{Level: Unreadable, Field: field, Reason: policy.Unreadable, Message: message, Remedy: quoting(field)})
		return false
	}
	name := o.head.group() + "/" + o.name(c.namespace())
	if first := c.loaded[name]; first != nil && o.head.Metadata.Name != "" {
		c.add(o, Finding{Level: Warning, Reason: DuplicateObject, Message: "is also in " + first.place() + "; the last one counts"})
	}
	c.loaded[name] = o
	if o.foreign {
		if c.report.NotJudged == nil {
			c.report.NotJudged = map[string]int{}
		}
		c.report.NotJudged[strings.TrimSuffix(o.head.Kind+"."+o.head.group(), ".")]++
	}
	return true
}
