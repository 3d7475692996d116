// Package lint judges the routes in files as admission would in a cluster with the same objects, in which
// every workload is ready. It calls the same policy, and also checks mirrors against the schemas of the
// CustomResourceDefinitions, which the API server does in a cluster.
package lint

import (
	"cmp"
	"slices"
	"strings"

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
}

// Level is how severe a finding is.
type Level string

// The levels, the most severe first. Unreadable input could not be judged; an Error would be denied; a Parked
// mirror would wait until its variant is ready; a Warning is about a doubt, or about a route that mirrorgate
// leaves alone.
const (
	Unreadable Level = "unreadable"
	Error      Level = "error"
	Parked     Level = "parked"
	Warning    Level = "warning"
)

// Reasons that only lint gives.
const (
	schemaInvalid   policy.Reason = "SchemaInvalid"
	unknownField    policy.Reason = "UnknownField"
	duplicateObject policy.Reason = "DuplicateObject"
)

// Finding is one problem in the files.
type Finding struct {
	Level Level  `json:"level"`
	File  string `json:"file"`
	// Line and Document count from 1; they are 0 where they are not known.
	Line     int `json:"line,omitempty"`
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
}

// Report is the result of Check.
type Report struct {
	// Findings are sorted by file and line.
	Findings []Finding `json:"findings"`
	// Files is the number of files, Routes and Mirrors the numbers of routes and mirrors that were judged.
	Files   int `json:"files"`
	Routes  int `json:"routes"`
	Mirrors int `json:"mirrors"`
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
func Check(opts Options, sources ...Source) (*Report, error) {
	c := &checker{
		opts: opts,
		index: variant.NewIndex(variant.Options{
			ClusterDomain: opts.ClusterDomain, RootNamespace: opts.RootNamespace, Namespace: opts.Namespace, AssumeReady: true,
		}),
		loaded: map[string]*manifest{},
	}
	var routes []*manifest
	for _, source := range sources {
		c.report.Files++
		manifests, failures := split(source)
		c.report.Findings = append(c.report.Findings, failures...)
		for _, m := range manifests {
			if c.load(m) && m.isRoute() {
				routes = append(routes, m)
			}
		}
	}
	for _, m := range routes {
		if err := c.judge(m); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return &c.report, nil
}

type checker struct {
	opts  Options
	index *variant.Index
	// loaded are the latest manifests by group, kind, namespace and name.
	loaded map[string]*manifest
	report Report
}

// add adds a finding about an object.
func (c *checker) add(m *manifest, f Finding) {
	f.File, f.Document, f.Object = m.file, m.document, m.object(c.namespace())
	if f.Line == 0 {
		f.Line = m.line(f.Field)
	}
	if f.Remedy == "" {
		f.Remedy = remedies[f.Reason]
	}
	c.report.Findings = append(c.report.Findings, f)
}

func (c *checker) namespace() string { return cmp.Or(c.opts.Namespace, "default") }

// load puts an object into the index against which the routes are judged, and reports whether it could be
// read.
func (c *checker) load(m *manifest) bool {
	if err := c.index.Load(m.raw); err != nil {
		field, message := misread(err)
		if whole, found := strings.CutPrefix(message, m.head.Kind+` "`); found {
			_, message, _ = strings.Cut(whole, `": `) // the object is named already
		}
		message = strings.TrimPrefix(message, "decode route: ")
		c.add(m, Finding{Level: Unreadable, Field: field, Reason: policy.Unreadable, Message: message, Remedy: quoting(field)})
		return false
	}
	name := m.head.group() + "/" + m.object(c.namespace())
	if first := c.loaded[name]; first != nil && m.head.Metadata.Name != "" {
		c.add(m, Finding{Level: Warning, Reason: duplicateObject, Message: "is also in " + first.place() + "; the last one counts"})
	}
	c.loaded[name] = m
	return true
}

// judge adds the findings about one route that admission would have.
func (c *checker) judge(m *manifest) error {
	schema := validateSchema(m)
	if !route.MayMirror(m.raw) {
		return nil
	}
	rt, err := route.Decode(m.raw, route.Options{ClusterDomain: c.opts.ClusterDomain, Namespace: c.namespace()})
	if err != nil {
		return err // the index has read it
	}
	snap := c.index.Snapshot(rt)
	if c.opts.AssumeApplied {
		snap.AssumeApplied()
	}
	d, err := policy.Decide(rt, snap, c.opts.Policy)
	if err != nil {
		return err
	}
	if rt.Concerns() || len(schema) > 0 {
		c.report.Routes++
	}
	c.report.Mirrors += len(d.Verdicts)
	m.noteParked(rt)
	c.collect(m, d, schema)
	return nil
}

// collect adds the findings of a decision and those of the schema. Where both are about one fault, one is
// left out.
func (c *checker) collect(m *manifest, d policy.Decision, schema []Finding) {
	level := Error
	if d.Action == policy.Skip {
		level = Warning // admission leaves the route alone
	}
	for _, f := range d.Findings {
		if !slices.ContainsFunc(schema, func(s Finding) bool { return s.explains(f) }) {
			c.add(m, Finding{Level: level, Field: f.Field, Value: f.Value, Reason: f.Reason, Message: f.Message})
		}
	}
	for _, s := range schema {
		if !slices.ContainsFunc(d.Findings, func(f policy.Finding) bool { return f.Field == s.Field }) {
			c.add(m, s)
		}
	}
	for _, n := range d.Notices {
		denied := func(f policy.Finding) bool { return f.Reason == n.Reason && within(f.Field, n.Field) }
		switch {
		case n.Parked && slices.ContainsFunc(d.Findings, denied):
		case n.Reason == policy.MirrorInvalid && !explained(n, d, schema):
			c.add(m, Finding{Level: Error, Field: n.Field, Reason: n.Reason, Message: n.Message})
		case n.Reason == policy.MirrorInvalid:
		case n.Parked:
			c.add(m, Finding{Level: Parked, Field: n.Field, Reason: n.Reason, Message: n.Message})
		default:
			c.add(m, Finding{Level: Warning, Field: n.Field, Reason: n.Reason, Message: n.Message})
		}
	}
}

// explained reports whether another finding is about a part of a mirror that the API refuses, or about a
// percentage beside it.
func explained(n policy.Notice, d policy.Decision, schema []Finding) bool {
	return slices.ContainsFunc(schema, func(f Finding) bool { return strings.HasPrefix(f.Field, n.Field) }) ||
		slices.ContainsFunc(d.Findings, func(f policy.Finding) bool {
			return strings.HasPrefix(f.Field, n.Field) && (f.Reason == policy.PercentOutOfRange || f.Reason == policy.UnsupportedTarget)
		})
}

// explains reports whether policy's finding is only a consequence of this one: of a value of the wrong form,
// which the schema describes better.
func (f Finding) explains(p policy.Finding) bool {
	return f.Level == Error && f.Field != p.Field && (within(f.Field, p.Field) || within(p.Field, f.Field)) &&
		(p.Reason == policy.PercentOutOfRange || p.Reason == policy.UnsupportedTarget)
}

// within reports whether a field path is equal to another one or leads to a part of it.
func within(field, of string) bool {
	rest, ok := strings.CutPrefix(field, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
