// Package lint judges the routes in files as admission would in a cluster with the same objects, in which
// every workload is ready. It calls the same policy, and also checks mirrors against the schemas of the
// CustomResourceDefinitions, which the API server does in a cluster.
package lint

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/mirrorgate/mirrorgate/docs/reasons"
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

// result is the judgement about one route.
type result struct {
	findings []Finding
	// concerns is set for a route that has to do with mirrors, denied for one whose write would be denied.
	concerns, denied bool
	// outcomes are those of its mirrors: Error, Parked, or "" for an active one.
	outcomes []Level
}

// add counts a result.
func (r *Report) add(route *result) {
	r.Findings = append(r.Findings, route.findings...)
	if route.concerns {
		r.Routes++
	}
	if route.denied {
		r.RoutesDenied++
	}
	for _, outcome := range route.outcomes {
		r.Mirrors++
		switch outcome {
		case Error:
			r.Denied++
		case Parked:
			r.Parked++
		default:
			r.Active++
		}
	}
}

// judge returns the findings about one route that admission would have.
func (c *checker) judge(o *object) (result, error) {
	schema := validateSchema(o)
	if !route.MayMirror(o.raw) {
		return result{}, nil
	}
	rt, err := route.Decode(o.raw, route.Options{ClusterDomain: c.opts.ClusterDomain, Namespace: c.namespace()})
	if err != nil {
		return result{}, err // the model has read it
	}
	snap := c.model.Snapshot(rt)
	if c.opts.AssumeApplied {
		snap.AssumeApplied()
	}
	d, err := policy.Decide(rt, snap, c.opts.Policy)
	if err != nil {
		return result{}, err
	}
	o.noteParked(rt)
	findings := collect(d, schema)
	if len(findings) > 0 { // their positions are in the tree
		o.node = o.tree()
		defer func() { o.node = nil }()
	}
	r := result{concerns: rt.Concerns() || len(schema) > 0}
	for _, f := range findings {
		r.denied = r.denied || f.denies()
	}
	near := byRule(findings, func(f Finding) string { return f.Field })
	denied := map[string]bool{} // the paths of mirrors
	for _, v := range d.Verdicts {
		worst := outcome(v.Mirror, near)
		r.outcomes = append(r.outcomes, worst)
		denied[v.Mirror.Path] = denied[v.Mirror.Path] || worst == Error
	}
	for _, f := range findings {
		if f.Level != Parked || !denied[f.Field] {
			f.Remedy = cmp.Or(f.Remedy, c.remedy(rt, f))
			f.edits = c.fix(o, rt, f)
			f.Fixable = len(f.edits) > 0
			r.findings = append(r.findings, c.complete(o, f))
		}
	}
	return r, nil
}

// outcome returns the most severe level of the findings about a mirror, "" when it would be active.
func outcome(m *route.Mirror, findings nearby[Finding]) (worst Level) {
	concerns := func(field string) bool {
		if within(field, m.Path) || within(m.Path, field) {
			return true
		}
		return slices.ContainsFunc(m.Percentage.Fields, func(f route.PercentageField) bool {
			return within(f.Path, field) || within(field, f.Path)
		})
	}
	for f := range findings.of(m.Path) {
		switch {
		case !concerns(f.Field):
		case f.denies():
			return Error
		case f.Level == Parked:
			worst = Parked
		}
	}
	return worst
}

// denies reports whether a write is denied over the finding. The API server drops a field that it does not
// know, unless the client asks it to be strict.
func (f Finding) denies() bool { return f.Level == Error && f.Reason != UnknownField }

// collect returns the findings of a decision and those of the schema. Where both are about one fault, one is
// left out.
func collect(d policy.Decision, schema []Finding) (found []Finding) {
	inSchema := byRule(schema, func(f Finding) string { return f.Field })
	inPolicy := byRule(d.Findings, func(f policy.Finding) string { return f.Field })
	parked := map[string]bool{}
	for _, n := range d.Notices {
		parked[n.Field] = parked[n.Field] || n.Parked
	}
	for _, f := range d.Findings {
		if !inSchema.any(f.Field, func(s Finding) bool { return s.explains(f) }) {
			found = append(found, Finding{Level: Error, Field: f.Field, Value: f.Value, Reason: f.Reason, Message: f.Message})
		}
	}
	for _, s := range schema {
		if !inPolicy.any(s.Field, func(f policy.Finding) bool { return f.Field == s.Field && !s.explains(f) }) {
			found = append(found, s)
		}
	}
	for _, n := range d.Notices {
		f := Finding{Level: Warning, Field: n.Field, Reason: n.Reason, Message: n.Message}
		switch {
		case n.Reason == policy.ShortHost && !n.Parked && parked[n.Field]: // the state of a host explains its spelling
			continue
		case n.Reason == policy.MirrorInvalid && explained(n, inPolicy, inSchema):
			continue
		case n.Reason == policy.MirrorInvalid:
			f.Level = Error
		case n.Parked:
			f.Level = Parked
		}
		found = append(found, f)
	}
	return found
}

// explained reports whether another finding is about a part of a mirror that the API refuses, or about a
// percentage beside it.
func explained(n policy.Notice, found nearby[policy.Finding], schema nearby[Finding]) bool {
	return schema.any(n.Field, func(f Finding) bool { return f.denies() && strings.HasPrefix(f.Field, n.Field) }) ||
		found.any(n.Field, func(f policy.Finding) bool {
			return strings.HasPrefix(f.Field, n.Field) && (f.Reason == policy.PercentOutOfRange || f.Reason == policy.UnsupportedTarget)
		})
}

// nearby holds findings by the rule that their fields are in, "" for none. Only findings of one rule can be about
// one fault, and a route may have thousands.
type nearby[F any] map[string][]F

func byRule[F any](findings []F, field func(F) string) nearby[F] {
	n := nearby[F]{}
	for _, f := range findings {
		rule := ruleOf(field(f))
		n[rule] = append(n[rule], f)
	}
	return n
}

// of yields the findings that may be about a field: of its rule and of none, or all if it is in none.
func (n nearby[F]) of(field string) iter.Seq[F] {
	lists := [][]F{n[""], n[ruleOf(field)]}
	if ruleOf(field) == "" {
		lists = slices.Collect(maps.Values(n))
	}
	return func(yield func(F) bool) {
		for _, list := range lists {
			for _, f := range list {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// any reports whether one of the findings that may be about a field satisfies a condition.
func (n nearby[F]) any(field string, is func(F) bool) bool {
	for f := range n.of(field) {
		if is(f) {
			return true
		}
	}
	return false
}

// ruleOf returns the path of the rule that a field is in, "" for none.
func ruleOf(field string) string {
	for _, list := range []string{"spec.http[", "spec.rules["} {
		if rest, in := strings.CutPrefix(field, list); in {
			index, _, _ := strings.Cut(rest, "]")
			return list + index
		}
	}
	return ""
}

// explains reports whether policy's finding is only a consequence of this one: of a value of the wrong form,
// which the schema describes better.
func (f Finding) explains(p policy.Finding) bool {
	return f.Level == Error && (within(f.Field, p.Field) || within(p.Field, f.Field)) &&
		(f.Field != p.Field || f.Remedy != "") &&
		(p.Reason == policy.PercentOutOfRange || p.Reason == policy.UnsupportedTarget)
}

// within reports whether a field path is equal to another one or leads to a part of it.
func within(field, of string) bool {
	rest, ok := strings.CutPrefix(field, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
