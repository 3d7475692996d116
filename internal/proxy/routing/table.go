// Package rules is the routing table of the proxy: which rule a request belongs to and
// what that rule does with it. It follows the semantics of Gateway API's HTTPRoute.
//
// It is pure: no sockets, files, clocks or goroutines. A [Table] never changes once it is
// compiled (only its counters do), so that the data plane may swap one for another
// atomically. Nothing that is done once a request allocates.
package routing

// Header looks up header fields of a request. Both terminators implement it over what
// they parsed; name is in lower case and always the name of a field, never of a
// pseudo-header.
type Header interface {
	// Get returns the value of the field called name, compared without regard to
	// case, and whether there is one. The values of a repeated field come joined by
	// "," in their order (RFC 9110, 5.3), of Cookie joined by "; ".
	Get(name string) (value string, ok bool)
}

// Request is what the table has to know of a request. The strings are the bytes as they
// were sent; the table keeps none of them.
type Request struct {
	// Method is case-sensitive.
	Method string
	// Host is Host or :authority, with its port if it was sent with one.
	Host string
	// Path is the request target up to the question mark.
	Path string
	// RawQuery is what follows the question mark, without it.
	RawQuery string
	Header   Header
}

// Table says what to do with every request. Its slices are dense: the Index of an entry is
// its place in them, so that the data plane can keep its own state beside the table in
// slices of the same length.
type Table struct {
	Listeners []*Listener
	// Rules are those of all listeners.
	Rules []*Rule
	// Ports are all ports of all services.
	Ports []*Port
	// Mirrors are those of all rules and backends.
	Mirrors []*Mirror
	// Targets are what mirrors send to, each once however many mirrors do.
	Targets []*MirrorTarget

	ports map[string]*Port
}

// Port returns a port of a service, nil if there is none.
func (t *Table) Port(service string, number int) *Port { return t.ports[portName(service, number)] }

// Listener is what a table knows of a place that requests come in at.
type Listener struct {
	// Name is unique in the table.
	Name string
	// Address is where it listens, as host:port.
	Address string
	// Port is the port that clients use, for redirects.
	Port int
	// TLS says whether clients use TLS.
	TLS bool
	// Affinity says that endpoints are chosen by the client's address.
	Affinity bool
	// Passes says that connections are passed on as they are, to TCP, instead of by rules.
	Passes bool
	// TCP is nil if there is no such port.
	TCP *Port

	hosts hosts
}

// Scheme is "https" with TLS, else "http".
func (l *Listener) Scheme() string {
	if l.TLS {
		return "https"
	}
	return "http"
}

// Match returns the rule that a request belongs to which came in at t.Listeners[listener],
// or nil if there is none: the answer is 404. Of several rules that match, Gateway API's
// precedence decides: the most specific hostname, then an exact path before the longest
// prefix before a regular expression, then a method, the number of headers, the number of
// query parameters, and at last the order in the table.
func (t *Table) Match(listener int, r *Request) *Rule {
	return t.Listeners[listener].hosts.match(r)
}

// Inherit makes t count on where prev stopped, for every rule and mirror that both have:
// a reload does not disturb an exact percentage. Call it before t serves its first
// request. A nil prev does nothing.
func (t *Table) Inherit(prev *Table) {
	if prev == nil {
		return
	}
	picks := make(map[string]*Rule, len(prev.Rules))
	for _, r := range prev.Rules {
		picks[r.Name] = r
	}
	for _, r := range t.Rules {
		if old := picks[r.Name]; old != nil {
			r.picked = old.picked
		}
	}
	samples := make(map[string]*Mirror, len(prev.Mirrors))
	for _, m := range prev.Mirrors {
		samples[m.Name] = m
	}
	for _, m := range t.Mirrors {
		if old := samples[m.Name]; old != nil {
			m.sampler.counter = old.sampler.counter
		}
	}
}
