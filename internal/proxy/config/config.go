// Package config reads the proxy's file: listeners and rules in HTTPRoute's own words,
// services with their endpoints, and how the process behaves. It reports everything that
// is wrong with a file at once, each with field and line.
package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Config is a file that is in order.
type Config struct {
	Table     *routing.Table
	Listeners []Listener
	// Admin is the address of metrics, /healthz and /readyz; empty for none.
	Admin     string
	AccessLog AccessLog
	Limits    Limits
	// Warnings are what works, but hardly as it is meant.
	Warnings []Problem

	name   string
	lines  *decoder
	digest [sha256.Size]byte
}

// Listener is what a table does not know of the listener at the same index.
type Listener struct {
	Name    string
	Address string
	// TCP says whether connections are passed on as they are.
	TCP bool
	// H2C says whether HTTP/2 without TLS is accepted.
	H2C bool
	// CertFile and KeyFile are set with TLS. Load makes a relative path one from the
	// folder of the file.
	CertFile, KeyFile string
	// Certificate is what is in them. Only Load sets it.
	Certificate *tls.Certificate
}

// AccessLog is where requests are logged, and how.
type AccessLog struct {
	// Format is json, common, or empty for no log.
	Format string
	// Path is a file, - for standard output.
	Path string
}

// Limits bound what clients may use.
type Limits struct {
	// HeaderBytes is the largest head of a request, and Headers the most fields in it:
	// 431 beyond.
	HeaderBytes int
	Headers     int
	// TargetBytes is the longest request target: 414 beyond.
	TargetBytes int
	// HeaderTimeout is how long a head may take to arrive.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection may stay open between two requests.
	IdleTimeout time.Duration
	// BodyTimeout is how long a body, in either direction, may stand still for the client's fault.
	BodyTimeout time.Duration
	// BackendTimeout is how long an HTTP/1.1 backend may be silent where the rule has no timeout.
	BackendTimeout time.Duration
	// Connections is how many clients' connections are open at once; further ones wait.
	Connections int
	// VariantConnects is how many new connections an endpoint of a variant gets in a second; copies
	// that want more are dropped.
	VariantConnects int
}

// String is the limits as they are written.
func (l Limits) String() string {
	return fmt.Sprintf("{headerBytes: %d, headers: %d, targetBytes: %d, headerTimeout: %s, idleTimeout: %s, bodyTimeout: %s, backendTimeout: %s, connections: %d, variantConnects: %d}",
		l.HeaderBytes, l.Headers, l.TargetBytes, l.HeaderTimeout, l.IdleTimeout, l.BodyTimeout%forever, l.BackendTimeout%forever, l.Connections, l.VariantConnects)
}

// forever stands for no limit, which is written 0s.
const forever = 100 * 365 * 24 * time.Hour

// Problem is something wrong in a file.
type Problem struct {
	Line int
	// Path is the field; empty for the file as a whole.
	Path string
	// Message says what is wrong, and what would be right.
	Message string
	Warning bool
}

func (p Problem) String() string {
	at := strconv.Itoa(p.Line) + ": "
	if p.Warning {
		at += "warning: "
	}
	if p.Path != "" {
		at += p.Path + ": "
	}
	return at + p.Message
}

// Problems are all that is wrong in a file, by line.
type Problems struct {
	// File is its name.
	File string
	List []Problem
}

// maxProblems is how many problems a message holds.
const maxProblems = 200

// Error has a line for each problem, as compilers write them.
func (p *Problems) Error() string {
	lines := make([]string, 0, min(len(p.List), maxProblems)+1)
	for i, problem := range p.List {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("%s: and %d more", p.File, len(p.List)-i))
			break
		}
		lines = append(lines, p.File+":"+problem.String())
	}
	return strings.Join(lines, "\n")
}

// file is what may be written.
type file struct {
	spec.Table
	Admin      *admin     `json:"admin"`
	AccessLog  *accessLog `json:"accessLog"`
	Comparison bool       `json:"comparison"`
	Limits     limits     `json:"limits"`
}

type admin struct {
	Address string `json:"address"`
}

type accessLog struct {
	Format string `json:"format"`
	Path   string `json:"path"`
}

type limits struct {
	HeaderBytes     spec.Size `json:"headerBytes"`
	Headers         *int      `json:"headers"`
	TargetBytes     spec.Size `json:"targetBytes"`
	HeaderTimeout   string    `json:"headerTimeout"`
	IdleTimeout     string    `json:"idleTimeout"`
	BodyTimeout     string    `json:"bodyTimeout"`
	BackendTimeout  string    `json:"backendTimeout"`
	Connections     *int      `json:"connections"`
	VariantConnects *int      `json:"variantConnects"`
}

// Parse reads a file that is called name. The error is a *Problems.
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{lines: map[string]int{}}
	var f file
	if root := d.document(data); root != nil {
		d.value(root, reflect.ValueOf(&f).Elem(), "", 0)
	}
	if d.nodes == 0 || d.nodes > maxNodes {
		return nil, problems(name, d.problems)
	}
	d.compare(&f)
	c := &Config{name: name, lines: d}
	unread := slices.Clone(d.problems)
	var found []routing.Problem
	c.Table, found = routing.Compile(&f.Table)
	for _, p := range found {
		d.problems = append(d.problems, Problem{Line: d.line(p.Path), Path: p.Path, Message: p.Message, Warning: p.Warning})
	}
	for i := range f.Listeners {
		c.Listeners = append(c.Listeners, d.listener(&f.Listeners[i], "listeners["+strconv.Itoa(i)+"]"))
	}
	d.addresses(c.Listeners)
	d.process(c, &f)
	d.problems = slices.Concat(unread, slices.DeleteFunc(d.problems[len(unread):], func(p Problem) bool {
		return slices.ContainsFunc(unread, func(u Problem) bool { return within(p.Path, u.Path) || within(u.Path, p.Path) })
	}))
	if slices.ContainsFunc(d.problems, func(p Problem) bool { return !p.Warning }) {
		return nil, problems(name, d.problems)
	}
	c.Warnings = problems(name, d.problems).List
	return c, nil
}

// within says whether a field is another, or a part of it. What could not be read needs no
// second problem that says it is missing.
func within(part, whole string) bool {
	rest, ok := strings.CutPrefix(part, whole)
	return ok && (rest == "" || whole == "" || rest[0] == '.' || rest[0] == '[')
}

func problems(name string, list []Problem) *Problems {
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Problems{File: name, List: list}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)`)

// document parses the only document of a file.
func (d *decoder) document(data []byte) *yaml.Node {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	err := in.Decode(&doc)
	if errors.Is(err, io.EOF) {
		d.problems = append(d.problems, Problem{Line: 1, Message: "is empty; there must be listeners"})
		return nil
	}
	if err == nil {
		if err = in.Decode(&next); errors.Is(err, io.EOF) {
			return doc.Content[0]
		}
		if err == nil {
			d.bad(&next, "", "is a second document; there must be only one")
			return nil
		}
	}
	problem := Problem{Line: 1, Message: err.Error()}
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		problem.Line, _ = strconv.Atoi(cmp.Or(m[1], "1"))
		problem.Message = "must be YAML: " + m[2]
	}
	d.problems = append(d.problems, problem)
	return nil
}

// compare hands the file's choice to the mirrors that make none.
func (d *decoder) compare(f *file) {
	each := func(filters []spec.Filter) {
		for _, s := range filters {
			if m := s.RequestMirror; m != nil && m.Mirrorgate.Compare == nil {
				m.Mirrorgate.Compare = &f.Comparison
			}
		}
	}
	every := func(rules []spec.Rule) {
		for _, r := range rules {
			each(r.Filters)
			for _, b := range r.BackendRefs {
				each(b.Filters)
			}
		}
	}
	for _, l := range f.Listeners {
		every(l.Rules)
		for _, r := range l.Routes {
			every(r.Rules)
		}
	}
}

func (d *decoder) listener(s *spec.Listener, at string) Listener {
	l := Listener{Name: cmp.Or(s.Name, s.Address), Address: s.Address, TCP: s.TCP != nil, H2C: s.TLS == nil && s.TCP == nil}
	if s.H2C != nil {
		if l.H2C = *s.H2C; l.H2C && s.TLS != nil {
			d.wrong(at+".h2c", "must not be true beside tls, where ALPN chooses HTTP/2")
		}
	}
	if s.TLS != nil {
		l.CertFile, l.KeyFile = s.TLS.CertFile, s.TLS.KeyFile
		for _, f := range []struct{ name, value string }{{"certFile", l.CertFile}, {"keyFile", l.KeyFile}} {
			if f.value == "" {
				d.wrong(at+".tls."+f.name, "must name a PEM file")
			}
		}
	}
	return l
}

// addresses must be unique.
func (d *decoder) addresses(listeners []Listener) {
	seen := map[string]int{}
	for i, l := range listeners {
		if other, ok := seen[l.Address]; ok {
			d.wrong("listeners["+strconv.Itoa(i)+"].address", "%q: is that of listeners[%d]", l.Address, other)
		}
		seen[l.Address] = i
	}
}

// process checks what is not about routing.
func (d *decoder) process(c *Config, f *file) {
	if f.Admin != nil {
		c.Admin = f.Admin.Address
		if _, port, err := net.SplitHostPort(c.Admin); err != nil || port == "" {
			d.wrong("admin.address", "%q: must be HOST:PORT, like 127.0.0.1:9090", c.Admin)
		}
	}
	if f.AccessLog != nil {
		c.AccessLog = AccessLog{Format: cmp.Or(f.AccessLog.Format, "json"), Path: cmp.Or(f.AccessLog.Path, "-")}
		if c.AccessLog.Format != "json" && c.AccessLog.Format != "common" {
			d.wrong("accessLog.format", "%q: must be json or common", c.AccessLog.Format)
		}
	}
	l := &f.Limits
	c.Limits = Limits{
		HeaderBytes:     int(d.size("limits.headerBytes", l.HeaderBytes, 64<<10, 1<<10, 16<<20)),
		Headers:         d.number("limits.headers", l.Headers, 128, 1, 100_000),
		TargetBytes:     int(d.size("limits.targetBytes", l.TargetBytes, 16<<10, 256, 16<<20)),
		HeaderTimeout:   d.duration("limits.headerTimeout", l.HeaderTimeout, 10*time.Second),
		IdleTimeout:     d.duration("limits.idleTimeout", l.IdleTimeout, time.Minute),
		BodyTimeout:     d.durationOrNone("limits.bodyTimeout", l.BodyTimeout, time.Minute),
		BackendTimeout:  d.durationOrNone("limits.backendTimeout", l.BackendTimeout, time.Minute),
		Connections:     d.number("limits.connections", l.Connections, 65536, 1, 10_000_000),
		VariantConnects: d.number("limits.variantConnects", l.VariantConnects, 250, 1, 1_000_000),
	}
}

// wrong reports a field, whose line is looked up.
func (d *decoder) wrong(at, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: d.line(at), Path: at, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) size(at string, value spec.Size, byDefault, least, most int64) int64 {
	if value == "" {
		return byDefault
	}
	n, err := routing.ParseSize(string(value))
	switch {
	case err != nil:
		d.wrong(at, "%q: %s", value, err)
	case n < least || n > most:
		d.wrong(at, "%s: must be from %d to %d bytes", value, least, most)
	}
	return n
}

func (d *decoder) number(at string, value *int, byDefault, least, most int) int {
	if value == nil {
		return byDefault
	}
	if *value < least || *value > most {
		d.wrong(at, "%d: must be from %d to %d", *value, least, most)
	}
	return *value
}

func (d *decoder) duration(at, value string, byDefault time.Duration) time.Duration {
	t := d.durationOrNone(at, value, byDefault)
	if t == forever {
		d.wrong(at, "%q: must be more than 0", value)
	}
	return t
}

// durationOrNone takes 0 for no limit.
func (d *decoder) durationOrNone(at, value string, byDefault time.Duration) time.Duration {
	if value == "" {
		return byDefault
	}
	t, err := routing.ParseDuration(value)
	switch {
	case err != nil:
		d.wrong(at, "%q: %s", value, err)
	case t == 0:
		return forever
	}
	return t
}
