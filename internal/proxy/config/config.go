// Package config reads the configuration file of the proxy: listeners with rules as in HTTPRoute, services
// with their endpoints, and settings of the process. It reports all problems of a file at once, each with its
// field and line.
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

	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Config is the contents of a valid file.
type Config struct {
	Table     *routing.Table
	Listeners []Listener
	// Admin is the address of metrics, /healthz and /readyz; empty for none.
	Admin     string
	AccessLog AccessLog
	Limits    Limits
	// PerRule makes metrics for each rule and mirror. HideReason keeps the reason of an error from clients.
	PerRule, HideReason bool
	// Warnings are problems of a valid file: fields that probably do not work as intended.
	Warnings []Problem

	name   string
	lines  *decoder
	digest [sha256.Size]byte
}

// Listener holds the settings of a listener that are not about routing. The table has the listener at the
// same index.
type Listener struct {
	Name    string
	Address string
	// TCP reports whether TCP connections are forwarded without looking into them.
	TCP bool
	// H2C reports whether HTTP/2 without TLS is accepted.
	H2C bool
	// Detects reports whether connections that are not HTTP are forwarded.
	Detects bool
	// ProxyProtocol and SendProxyProtocol report whether connections begin with a header of PROXY protocol: those of
	// clients, and those that are passed through.
	ProxyProtocol, SendProxyProtocol bool
	// CertFile and KeyFile are set with TLS. Load resolves relative paths against the folder of the file.
	CertFile, KeyFile string
	// MinVersion is the least version of TLS, 0 for the default, and ALPN the protocols that are offered, if not both.
	MinVersion uint16
	ALPN       []string
	// Certificate is the pair from CertFile and KeyFile. Only Load sets it.
	Certificate *tls.Certificate
}

// AccessLog is the format and the destination of the access log.
type AccessLog struct {
	// Format is json, common, or empty for no log.
	Format string `json:"format"`
	// Path is the name of a file, or - for standard output.
	Path string `json:"path"`
}

// Limits bound the resources that clients and variants may use.
type Limits struct {
	// Limits are those of connections. Above Head or Fields the answer is 431, above Target it is 414.
	h1.Limits
	// Connections is the number of client connections that are open at once. Further connections wait.
	Connections int
	// BackendIdle is how long connections to backends are kept without use.
	BackendIdle time.Duration
	// VariantConnects is the number of new connections per second to one endpoint of a variant. Copies that
	// would need more are dropped.
	VariantConnects int
}

// String returns the limits as they are written in a file.
func (l Limits) String() string {
	return fmt.Sprintf("{headerBytes: %d, headers: %d, targetBytes: %d, headerTimeout: %s, idleTimeout: %s, bodyTimeout: %s, backendTimeout: %s, backendIdleTimeout: %s, halfClose: %t, connections: %d, variantConnects: %d}",
		l.Head, l.Fields, l.Target, l.HeadTimeout, l.IdleTimeout, l.BodyTimeout%forever, l.BackendTimeout%forever, l.BackendIdle, l.HalfClose, l.Connections, l.VariantConnects)
}

// forever is the duration for no limit, which a file writes as 0s.
const forever = 100 * 365 * 24 * time.Hour

// Problem is an error or a warning about a field of a file.
type Problem struct {
	// Line counts from 1.
	Line int
	// Path is the field, as in listeners[0].name; empty for the file as a whole.
	Path string
	// Message describes the problem and the valid values.
	Message string
	// Warning reports whether the file is valid nevertheless.
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

// Problems are all problems of a file, sorted by line.
type Problems struct {
	// File is the name of the file.
	File string
	List []Problem
}

// maxProblems is the largest number of problems in a message.
const maxProblems = 200

// Error returns one line per problem, in the format of compilers.
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

// file is the schema of a file.
type file struct {
	spec.Table
	// Admin is the server of metrics and health; without it there is none.
	Admin *admin `json:"admin"`
	// AccessLog is the log of all requests; without it there is none.
	AccessLog *AccessLog `json:"accessLog"`
	// Comparison compares the answers of variant and primary by status and latency, for all mirrors. Default false.
	Comparison bool `json:"comparison"`
	// Metrics are the settings of metrics.
	Metrics metrics `json:"metrics"`
	// ReasonHeader tells clients the reason of an error that is the proxy's own, in x-mirrorgate-reason. Default true.
	ReasonHeader *bool `json:"reasonHeader"`
	// Limits bound the resources that clients and variants may use.
	Limits limits `json:"limits"`
}

type metrics struct {
	// PerRule makes metrics for each rule and mirror, not only for services and targets. Default false.
	PerRule bool `json:"perRule"`
}

type admin struct {
	// Address is host:port of /metrics, /healthz and /readyz.
	Address string `json:"address"`
}

type limits struct {
	// HeaderBytes is the size of a head, above which the answer is 431. Default 64Ki.
	HeaderBytes spec.Size `json:"headerBytes"`
	// Headers is the number of header fields, above which the answer is 431. Default 128.
	Headers *int `json:"headers"`
	// TargetBytes is the length of path and query, above which the answer is 414. Default 16Ki.
	TargetBytes spec.Size `json:"targetBytes"`
	// HeaderTimeout is the time in which a head has to arrive. Default 10s.
	HeaderTimeout string `json:"headerTimeout"`
	// IdleTimeout is the time between two requests of a connection. Default 1m.
	IdleTimeout string `json:"idleTimeout"`
	// BodyTimeout is how long a client may let a body stand still, but for gRPC calls; 0s is no limit. Default 1m.
	BodyTimeout string `json:"bodyTimeout"`
	// BackendTimeout is how long an HTTP/1.1 backend may be silent; 0s is no limit. Default 1m.
	BackendTimeout string `json:"backendTimeout"`
	// BackendIdle is how long a connection to a backend is kept without use. Default 55s.
	BackendIdle string `json:"backendIdleTimeout"`
	// HalfClose lets a client that has closed its sending half wait for its answer. Default false.
	HalfClose bool `json:"halfClose"`
	// Connections is the number of clients' connections at a time; further ones wait. Default 65536.
	Connections *int `json:"connections"`
	// VariantConnects is the number of new connections a second to one endpoint of a variant. Default 250.
	VariantConnects *int `json:"variantConnects"`
}

// Parse parses the contents of the file with the given name. Errors are *Problems.
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

// within reports whether the field part is the field whole or lies inside of it. A field that could not be
// decoded would otherwise get a second problem that calls it missing.
func within(part, whole string) bool {
	rest, ok := strings.CutPrefix(part, whole)
	return ok && (rest == "" || whole == "" || rest[0] == '.' || rest[0] == '[')
}

// problems sorts the problems of a file by line.
func problems(name string, list []Problem) *Problems {
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Problems{File: name, List: list}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)`)

// document parses the only YAML document of a file.
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
			d.report(&next, "", "is a second document; there must be only one")
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

// compare sets Compare of every mirror that does not set it to comparison of the file.
func (d *decoder) compare(f *file) {
	var rules []spec.Rule
	for _, l := range f.Listeners {
		rules = append(rules, l.Rules...)
		for _, r := range l.Routes {
			rules = append(rules, r.Rules...)
		}
	}
	var filters []spec.Filter
	for _, r := range rules {
		filters = append(filters, r.Filters...)
		for _, b := range r.BackendRefs {
			filters = append(filters, b.Filters...)
		}
	}
	for _, s := range filters {
		if m := s.RequestMirror; m != nil && m.Mirrorgate.Compare == nil {
			m.Mirrorgate.Compare = &f.Comparison
		}
	}
}

// listener checks the settings of a listener that are not about routing.
func (d *decoder) listener(s *spec.Listener, at string) Listener {
	l := Listener{Name: cmp.Or(s.Name, s.Address), Address: s.Address, TCP: s.TCP != nil, H2C: s.TLS == nil && s.TCP == nil, Detects: s.Otherwise != nil}
	l.ProxyProtocol = s.ProxyProtocol
	l.SendProxyProtocol = s.TCP != nil && s.TCP.ProxyProtocol || s.Otherwise != nil && s.Otherwise.ProxyProtocol
	if s.H2C != nil {
		if l.H2C = *s.H2C; l.H2C && s.TLS != nil {
			d.reportAt(at+".h2c", "must not be true beside tls, where ALPN chooses HTTP/2")
		}
	}
	if s.TLS != nil {
		l.CertFile, l.KeyFile = s.TLS.CertFile, s.TLS.KeyFile
		for _, f := range []struct{ name, value string }{{"certFile", l.CertFile}, {"keyFile", l.KeyFile}} {
			if f.value == "" {
				d.reportAt(at+".tls."+f.name, "must name a PEM file")
			}
		}
		d.versions(&l, s.TLS, at+".tls")
	}
	return l
}

// versions reads the versions of TLS and of HTTP that a listener with TLS offers.
func (d *decoder) versions(l *Listener, s *spec.TLS, at string) {
	switch s.MinVersion {
	case "", "1.2":
	case "1.3":
		l.MinVersion = tls.VersionTLS13
	default:
		d.reportAt(at+".minVersion", "%q: must be \"1.2\" or \"1.3\"", s.MinVersion)
	}
	for i, protocol := range s.ALPN {
		if protocol != "h2" && protocol != "http/1.1" || slices.Contains(s.ALPN[:i], protocol) {
			d.reportAt(fmt.Sprintf("%s.alpn[%d]", at, i), "%q: must be h2 or http/1.1, and each once", protocol)
		}
	}
	l.ALPN = s.ALPN
}

// addresses checks that no two listeners have the same address.
func (d *decoder) addresses(listeners []Listener) {
	seen := map[string]int{}
	for i, l := range listeners {
		if other, ok := seen[l.Address]; ok {
			d.reportAt("listeners["+strconv.Itoa(i)+"].address", "%q: is also the address of listeners[%d]", l.Address, other)
		}
		seen[l.Address] = i
	}
}

// process reads the settings of the process into c.
func (d *decoder) process(c *Config, f *file) {
	if f.Admin != nil {
		c.Admin = f.Admin.Address
		if _, port, err := net.SplitHostPort(c.Admin); err != nil || port == "" {
			d.reportAt("admin.address", "%q: must be HOST:PORT, like 127.0.0.1:9090", c.Admin)
		}
	}
	c.PerRule, c.HideReason = f.Metrics.PerRule, f.ReasonHeader != nil && !*f.ReasonHeader
	if f.AccessLog != nil {
		c.AccessLog = AccessLog{Format: cmp.Or(f.AccessLog.Format, "json"), Path: cmp.Or(f.AccessLog.Path, "-")}
		if c.AccessLog.Format != "json" && c.AccessLog.Format != "common" {
			d.reportAt("accessLog.format", "%q: must be json or common", c.AccessLog.Format)
		}
	}
	l := &f.Limits
	c.Limits = Limits{
		Limits: h1.Limits{
			Head:           int(d.size("limits.headerBytes", l.HeaderBytes, 64<<10, 1<<10, 16<<20)),
			Fields:         d.number("limits.headers", l.Headers, 128, 1, 100_000),
			Target:         int(d.size("limits.targetBytes", l.TargetBytes, 16<<10, 256, 16<<20)),
			HeadTimeout:    d.duration("limits.headerTimeout", l.HeaderTimeout, 10*time.Second),
			IdleTimeout:    d.duration("limits.idleTimeout", l.IdleTimeout, time.Minute),
			BodyTimeout:    d.durationOrNone("limits.bodyTimeout", l.BodyTimeout, time.Minute),
			BackendTimeout: d.durationOrNone("limits.backendTimeout", l.BackendTimeout, time.Minute),
			HalfClose:      l.HalfClose,
		},
		Connections:     d.number("limits.connections", l.Connections, 65536, 1, 10_000_000),
		BackendIdle:     d.duration("limits.backendIdleTimeout", l.BackendIdle, 55*time.Second),
		VariantConnects: d.number("limits.variantConnects", l.VariantConnects, 250, 1, 1_000_000),
	}
}

// reportAt reports a problem with a field, and looks up its line.
func (d *decoder) reportAt(at, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: d.line(at), Path: at, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) size(at string, value spec.Size, byDefault, least, most int64) int64 {
	if value == "" {
		return byDefault
	}
	n, err := routing.ParseSize(string(value))
	switch {
	case err != nil:
		d.reportAt(at, "%q: %s", value, err)
	case n < least || n > most:
		d.reportAt(at, "%s: must be from %d to %d bytes", value, least, most)
	}
	return n
}

func (d *decoder) number(at string, value *int, byDefault, least, most int) int {
	if value == nil {
		return byDefault
	}
	if *value < least || *value > most {
		d.reportAt(at, "%d: must be from %d to %d", *value, least, most)
	}
	return *value
}

func (d *decoder) duration(at, value string, byDefault time.Duration) time.Duration {
	t := d.durationOrNone(at, value, byDefault)
	if t == forever {
		d.reportAt(at, "%q: must be more than 0", value)
	}
	return t
}

// durationOrNone is like duration, but accepts 0, which means no limit.
func (d *decoder) durationOrNone(at, value string, byDefault time.Duration) time.Duration {
	if value == "" {
		return byDefault
	}
	t, err := routing.ParseDuration(value)
	switch {
	case err != nil:
		d.reportAt(at, "%q: %s", value, err)
	case t == 0:
		return forever
	}
	return t
}
