// Package lint judges routes in files as admission would judge them in a
// cluster that holds what the files hold, with every workload ready. It calls
// the same policy, and adds what otherwise the schema of a
// CustomResourceDefinition says about mirrors.
package lint

import (
	"cmp"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

// Options steer Check. The zero value is valid.
type Options struct {
	Policy policy.Config
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty;
	// RootNamespace Istio's root namespace, "istio-system" when empty.
	ClusterDomain, RootNamespace string
	// Namespace is that of objects that name none, "default" when empty.
	Namespace string
	// Elsewhere takes what the files lack of a variant as applied already: only
	// what contradicts the files is found.
	Elsewhere bool
}

// Level tells what follows from a finding.
type Level string

// The levels, gravest first. Unreadable input could not be judged; an Error
// would be denied; a Parked mirror would wait until its variant is ready.
const (
	Unreadable Level = "unreadable"
	Error      Level = "error"
	Parked     Level = "parked"
	Warning    Level = "warning"
)

// Reasons that only lint gives.
const (
	SchemaInvalid   policy.Reason = "SchemaInvalid"
	UnknownField    policy.Reason = "UnknownField"
	DuplicateObject policy.Reason = "DuplicateObject"
)

// Finding is one thing that lint has to say.
type Finding struct {
	Level Level  `json:"level"`
	File  string `json:"file"`
	// Line and Document count from 1; 0 where they are not known.
	Line     int `json:"line,omitempty"`
	Document int `json:"document,omitempty"`
	// Object is "HTTPRoute shop/web", "" where it could not be told.
	Object string `json:"object,omitempty"`
	// Field is the field path, Value what stands there, as JSON.
	Field   string        `json:"field,omitempty"`
	Value   string        `json:"value,omitempty"`
	Reason  policy.Reason `json:"reason"`
	Message string        `json:"message"`
	// Remedy tells what to do where the message does not.
	Remedy string `json:"remedy,omitempty"`
}

// Report is the result of a lint.
type Report struct {
	// Findings are sorted by file and line.
	Findings []Finding `json:"findings"`
	// Files were read; Routes and Mirrors are what was found to judge in them.
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

// Check judges the routes in the sources. The error is internal: whatever is
// wrong with the sources is a finding.
func Check(opts Options, sources ...Source) (*Report, error) {
	c := &checker{
		opts: opts,
		index: variant.NewIndex(variant.Options{
			ClusterDomain: opts.ClusterDomain, RootNamespace: opts.RootNamespace, Namespace: opts.Namespace, AssumeReady: true,
		}),
		seen: map[string]*manifest{},
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
	opts   Options
	index  *variant.Index
	seen   map[string]*manifest
	report Report
}

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

// load puts an object where the routes are judged against it.
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
	if first := c.seen[name]; first != nil && m.head.Metadata.Name != "" {
		c.add(m, Finding{Level: Warning, Reason: DuplicateObject, Message: "is also in " + first.place() + "; the last one counts"})
	}
	c.seen[name] = m
	return true
}

// judge says of one route what admission would.
func (c *checker) judge(m *manifest) error {
	schema := judgeSchema(m)
	if !route.MayMirror(m.raw) {
		return nil
	}
	doc, err := route.Decode(m.raw, route.Options{ClusterDomain: c.opts.ClusterDomain, Namespace: c.namespace()})
	if err != nil {
		return err // the index has read it
	}
	snap := c.index.Snapshot(doc)
	if c.opts.Elsewhere {
		snap.AssumeApplied()
	}
	d, err := policy.Decide(doc, snap, c.opts.Policy)
	if err != nil {
		return err
	}
	if doc.Concerns() || len(schema) > 0 {
		c.report.Routes++
	}
	c.report.Mirrors += len(d.Verdicts)
	m.parkedAt(doc)
	c.collect(m, d, schema)
	return nil
}

// collect turns a decision, and what the schema says, into findings.
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
		case n.Parked:
			c.add(m, Finding{Level: Parked, Field: n.Field, Reason: n.Reason, Message: n.Message})
		default:
			c.add(m, Finding{Level: Warning, Field: n.Field, Reason: n.Reason, Message: n.Message})
		}
	}
}

// explains tells whether policy's finding is but the consequence of a value of
// the wrong form, which the schema names better.
func (f Finding) explains(p policy.Finding) bool {
	return f.Level == Error && f.Field != p.Field && (within(f.Field, p.Field) || within(p.Field, f.Field)) &&
		(p.Reason == policy.PercentOutOfRange || p.Reason == policy.UnsupportedTarget)
}

// within tells whether a field path is another's or leads further down.
func within(field, of string) bool {
	rest, ok := strings.CutPrefix(field, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
