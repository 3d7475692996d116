// Package routing is the routing table of the proxy: it finds the rule of a request, and the backend and the
// mirrors of that rule. It follows the semantics of Gateway API's HTTPRoute.
//
// The package is pure: no sockets, files, clocks or goroutines. A compiled [Table] is immutable except for
// its counters, so that the data plane can replace one table by another atomically. Operations per request do
// not allocate.
package routing

import (
	"cmp"
	"strconv"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Header looks up header fields of a request.
type Header interface {
	// Get returns the value of the named field, and whether the request has the field. name is in lower case
	// and never that of a pseudo-header. Names are compared without regard to case. The values of a repeated
	// field are joined by "," in their order (RFC 9110, 5.3), those of Cookie by "; ".
	Get(name string) (value string, ok bool)
}

// Request holds the properties of a request that matches can refer to. The strings are the bytes as they were
// sent; the table does not keep them.
type Request struct {
	// Method is case-sensitive.
	Method string
	// Host is the value of Host or :authority, with its port if one was sent.
	Host string
	// Path is the request target up to the question mark.
	Path string
	// RawQuery is the request target after the question mark.
	RawQuery string
	Header   Header
	// Refused is set by Match if the request would make too much work: then it has no rule, and the answer is this
	// status.
	Refused int
	work    int
}

// Table is a compiled routing table. The Index of an entry is its position in the slice, so that the data
// plane can keep its own state of the entries in slices of the same length.
type Table struct {
	Listeners []*Listener
	// Rules are those of all listeners.
	Rules []*Rule
	// Ports are all ports of all services.
	Ports []*Port
	// Mirrors are those of all rules and backends.
	Mirrors []*Mirror
	// Targets are the targets of all mirrors, each of them once.
	Targets []*MirrorTarget

	ports map[string]*Port
}

// Port returns a port of a service, or nil if the table does not have it.
func (t *Table) Port(service string, number int) *Port { return t.ports[portName(service, number)] }

// Listener is an address at which requests arrive.
type Listener struct {
	// Name is unique in the table.
	Name string
	// Address is the listener's address, as host:port.
	Address string
	// Port is the port that clients connect to. Redirects use it.
	Port int
	// TLS reports whether clients use TLS.
	TLS bool
	// Affinity reports whether endpoints are chosen by the client's address.
	Affinity bool
	// AffinityCookie is the cookie that names the endpoint of a client, empty if there is none.
	AffinityCookie string
	// Forwards reports whether backends learn who the client is, and TrustedHops how many proxies before this one are
	// believed.
	Forwards    bool
	TrustedHops int
	// Passes reports whether TCP connections are forwarded to the port TCP, without rules.
	Passes bool
	// Detects reports whether only connections that are HTTP have rules, and the others are forwarded to the port
	// TCP.
	Detects bool
	// TCP is nil without Passes and Detects, or if the service or its port is missing.
	TCP *Port

	// hosts are the rules for requests whose port is not in byPort.
	hosts  *hosts
	byPort map[int]*hosts
}

// Scheme is "https" with TLS, else "http".
func (l *Listener) Scheme() string {
	if l.TLS {
		return "https"
	}
	return "http"
}

// Match returns the rule of a request that arrived at t.Listeners[listener], or nil if no rule matches: then
// the answer is 404. Of several rules that match, the precedence of Gateway API decides: the most specific
// hostname, then an exact path before the longest prefix before a regular expression, then a method, the
// number of headers, the number of query parameters, and last the order in the table.
func (t *Table) Match(listener int, r *Request) *Rule {
	l := t.Listeners[listener]
	hosts := l.hosts
	if len(l.byPort) > 0 {
		if h := l.byPort[l.portOf(r)]; h != nil {
			hosts = h
		}
	}
	rule := hosts.match(r)
	if r.Refused != 0 {
		return nil // a rule that was not tried may have precedence
	}
	return rule
}

// portOf returns the port that a request is for: that of its authority, or else that of the scheme. It is 0 if
// the authority has no valid one.
func (l *Listener) portOf(r *Request) int {
	_, port := message.SplitPort(r.Host)
	switch {
	case len(port) > 1:
		number, _ := strconv.Atoi(port[1:])
		return number
	case l.TLS:
		return 443
	}
	return 80
}

// Inherit makes t continue the counters of prev for every rule and mirror that both have, so that percentages
// and paces stay exact over a reload. Call it before t serves its first request. prev may be nil.
func (t *Table) Inherit(prev *Table) {
	if prev == nil {
		return
	}
	picked := make(map[string]*atomic.Uint64, len(prev.Rules))
	for _, r := range prev.Rules {
		picked[r.Name] = r.picked
	}
	for _, r := range t.Rules {
		r.picked = cmp.Or(picked[r.Name], r.picked)
	}
	paces := make(map[string]*rate.Limiter, len(prev.Mirrors))
	for _, m := range prev.Mirrors {
		paces[m.Name] = m.pace
	}
	for _, m := range t.Mirrors {
		if old := paces[m.Name]; old != nil && m.pace != nil && old.Limit() == m.pace.Limit() {
			m.pace = old
		}
	}
	sampled := make(map[string]*atomic.Uint64, len(prev.Mirrors))
	for _, m := range prev.Mirrors {
		sampled[m.Name] = m.sampler.counter
	}
	for _, m := range t.Mirrors {
		m.sampler.counter = cmp.Or(sampled[m.Name], m.sampler.counter)
	}
}
