package routing

// Compiling a specification to a table: defaults, checks and names.

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Problem is an error or a warning about a field of a specification.
type Problem struct {
	// Path is the field, as in listeners[0].rules[1].matches[0].path.value.
	Path string
	// Message describes the problem and the valid values.
	Message string
	// Warning reports whether the field is valid, but probably not as intended.
	Warning bool
}

func (p Problem) String() string { return p.Path + ": " + p.Message }

// Compile compiles a specification to a table. It returns all problems at once, errors first. The table is
// nil if any problem is an error.
func Compile(s *spec.Table) (*Table, []Problem) {
	c := &compiler{
		table:   &Table{ports: map[string]*Port{}},
		targets: map[string]*target{},
		names:   map[string]string{},
		mirrors: map[string]int{},
	}
	c.services(s.Services)
	c.listeners(s.Listeners)
	if len(c.errors) > 0 {
		return nil, append(c.errors, c.warnings...)
	}
	return c.table, c.warnings
}

type compiler struct {
	table    *Table
	errors   []Problem
	warnings []Problem
	targets  map[string]*target
	names    map[string]string // paths of rules by their name
	mirrors  map[string]int    // number of mirrors by rule and target
}

// invalid reports an invalid value. fix describes the valid values; value nil is not printed.
func (c *compiler) invalid(at string, value any, fix string, args ...any) {
	message := fmt.Sprintf(fix, args...)
	switch v := value.(type) {
	case nil:
	case string:
		message = strconv.Quote(v) + ": " + message
	default:
		message = fmt.Sprint(v) + ": " + message
	}
	c.errors = append(c.errors, Problem{Path: at, Message: message})
}

// warn reports a value that is valid, but probably not as intended.
func (c *compiler) warn(at, format string, args ...any) {
	c.warnings = append(c.warnings, Problem{Path: at, Message: fmt.Sprintf(format, args...), Warning: true})
}

func index(at, field string, i int) string { return at + "." + field + "[" + strconv.Itoa(i) + "]" }

func (c *compiler) listeners(specs []spec.Listener) {
	if len(specs) == 0 {
		c.invalid("listeners", nil, "must have at least one listener, like {address: 127.0.0.1:8000, rules: [...]}")
	}
	names := map[string]bool{}
	for i, s := range specs {
		at := "listeners[" + strconv.Itoa(i) + "]"
		l := &Listener{Name: cmp.Or(s.Name, s.Address), Address: s.Address, Port: s.Port, TLS: s.TLS != nil}
		if names[l.Name] {
			c.invalid(at+".name", l.Name, "another listener has this name; names must be unique (the address is the default)")
		}
		names[l.Name] = true
		if port, ok := c.address(at+".address", s.Address, 0); ok && l.Port == 0 {
			l.Port = port
		}
		if s.Port < 0 || s.Port > 65535 {
			c.invalid(at+".port", s.Port, "must be from 1 to 65535")
		}
		switch s.SessionAffinity {
		case "", "None":
		case "ClientIP":
			l.Affinity = true
		default:
			c.invalid(at+".sessionAffinity", s.SessionAffinity, "must be ClientIP or None")
		}
		if l.AffinityCookie = s.AffinityCookie; l.AffinityCookie != "" && !fieldName.MatchString(l.AffinityCookie) {
			c.invalid(at+".affinityCookie", l.AffinityCookie, "must be the name of a cookie")
		}
		if f := s.Forwarded; f != nil {
			if l.Forwards, l.TrustedHops = true, f.TrustedHops; f.TrustedHops < 0 || f.TrustedHops > 100 {
				c.invalid(at+".forwarded.trustedHops", f.TrustedHops, "must be from 0 to 100")
			}
		}
		if s.TCP != nil {
			c.passthrough(l, &s, at)
		} else {
			c.listener(l, &s, at)
		}
		c.table.Listeners = append(c.table.Listeners, l)
	}
}

// passthrough compiles a listener that forwards TCP connections.
func (c *compiler) passthrough(l *Listener, s *spec.Listener, at string) {
	l.Passes, l.TCP = true, c.ref(&spec.BackendRef{Name: s.TCP.Name, Port: s.TCP.Port}, at+".tcp")
	for _, beside := range []struct {
		field string
		set   bool
	}{{"rules", len(s.Rules) > 0}, {"routes", len(s.Routes) > 0}, {"tls", s.TLS != nil}, {"h2c", s.H2C != nil}, {"otherwise", s.Otherwise != nil}, {"forwarded", s.Forwarded != nil}, {"affinityCookie", s.AffinityCookie != ""}} {
		if beside.set {
			c.invalid(at+"."+beside.field, nil, "must not be set beside tcp, which passes connections on as they are")
		}
	}
}

// listener compiles the rules and routes of a listener.
func (c *compiler) listener(l *Listener, s *spec.Listener, at string) {
	if s.Otherwise != nil {
		l.Detects, l.TCP = true, c.ref(&spec.BackendRef{Name: s.Otherwise.Name, Port: s.Otherwise.Port}, at+".otherwise")
		if s.TLS != nil {
			c.invalid(at+".otherwise", nil, "must not be set beside tls, under which no other protocol is expected")
		}
	}
	all := c.portsOf(l, s, at)
	for i := range s.Rules {
		c.rule(all, nil, &s.Rules[i], index(at, "rules", i), l.Name, i)
	}
	for j, route := range s.Routes {
		indexes := all
		if len(route.Ports) > 0 {
			indexes = nil
			for _, port := range route.Ports {
				indexes = append(indexes, l.byPort[port])
			}
		}
		at := index(at, "routes", j)
		for i, name := range route.Hostnames {
			if !wildcardHostname.MatchString(name) || len(name) > 253 || net.ParseIP(name) != nil {
				c.invalid(index(at, "hostnames", i), name, "must be a host name in lower case, without port, like example.com or *.example.com")
			}
		}
		if len(route.Rules) == 0 {
			c.invalid(at+".rules", nil, "must have at least one rule")
		}
		name := cmp.Or(route.Name, fmt.Sprintf("%s/route-%d", l.Name, j))
		for i := range route.Rules {
			c.rule(indexes, route.Hostnames, &route.Rules[i], index(at, "rules", i), name, i).Source = route.Source
		}
	}
	if len(s.Rules)+len(s.Routes) == 0 {
		c.warn(at+".rules", "there are none: every request is answered 404")
	}
	for _, h := range all {
		h.sort()
	}
}

// portsOf makes the indexes of a listener: one for each port that its routes name, and one for all others unless
// the listener's own port is named. It returns all of them.
func (c *compiler) portsOf(l *Listener, s *spec.Listener, at string) (all []*hosts) {
	for j, route := range s.Routes {
		for i, port := range route.Ports {
			if port < 1 || port > 65535 {
				c.invalid(index(index(at, "routes", j), "ports", i), port, "must be from 1 to 65535")
			}
			if l.byPort == nil {
				l.byPort = map[int]*hosts{}
			}
			if l.byPort[port] == nil {
				l.byPort[port] = &hosts{}
				all = append(all, l.byPort[port])
			}
		}
	}
	if l.hosts = l.byPort[l.Port]; l.hosts == nil {
		l.hosts = &hosts{}
		all = append(all, l.hosts)
	}
	return all
}

// rule compiles a rule into the given indexes for the given host names. An empty list means all host names.
func (c *compiler) rule(indexes []*hosts, hostnames []string, s *spec.Rule, at, owner string, i int) *Rule {
	section := cmp.Or(s.Name, strconv.Itoa(i))
	r := &Rule{Index: len(c.table.Rules), Name: owner + "/" + section, Section: section, picked: new(atomic.Uint64)}
	if other, taken := c.names[r.Name]; taken {
		c.invalid(at+".name", r.Name, "%s has this name; names must be unique", other)
	}
	c.names[r.Name] = at
	c.table.Rules = append(c.table.Rules, r)

	prefix := solePrefix(s.Matches)
	f := c.filters(s.Filters, at, prefix)
	r.Redirect, r.ResponseHeaders = f.redirect, f.response
	for _, m := range f.mirrors {
		r.Mirrors = append(r.Mirrors, c.mirror(r, m, &f.request, &f.rewrite))
	}
	c.backends(r, s, &f, at, prefix)
	c.timeouts(r, s.Timeouts, at+".timeouts")
	c.loops(s, at)

	matches := s.Matches
	if len(matches) == 0 {
		matches = []spec.Match{{}}
	}
	for i := range matches {
		e := &entry{rule: r}
		put := c.match(e, &matches[i], index(at, "matches", i))
		if put == nil {
			continue
		}
		for _, h := range indexes {
			if len(hostnames) == 0 {
				put(&h.any)
			}
			for _, name := range hostnames {
				h.add(name, put)
			}
		}
	}
	return r
}

// backends compiles the backendRefs of a rule whose filters are f.
func (c *compiler) backends(r *Rule, s *spec.Rule, f *filters, at string, prefix *string) {
	if f.redirect != nil {
		if len(s.BackendRefs) > 0 {
			c.invalid(at+".backendRefs", nil, "must be empty beside a RequestRedirect, which answers every request")
		}
		return
	}
	if len(s.BackendRefs) == 0 {
		c.warn(at+".backendRefs", "there are none: every request is answered 500")
	}
	var backends []*Backend
	var weights []uint64
	for i, ref := range s.BackendRefs {
		at := index(at, "backendRefs", i)
		weight := 1
		if ref.Weight != nil {
			weight = *ref.Weight
		}
		if weight < 0 || weight > 1_000_000 {
			c.invalid(at+".weight", weight, "must be from 0 to 1000000")
			weight = 0
		}
		own := c.filters(ref.Filters, at, prefix)
		if own.redirect != nil {
			c.invalid(at+".filters", "RequestRedirect", "belongs to the filters of the rule, not to those of a backend")
		}
		b := &Backend{
			Port: c.ref(&ref, at), Name: portName(ref.Name, ref.Port),
			RequestHeaders:  f.request.Then(&own.request),
			ResponseHeaders: own.response.Then(&f.response),
			Rewrite:         f.rewrite.then(&own.rewrite),
		}
		for _, m := range own.mirrors {
			b.Mirrors = append(b.Mirrors, c.mirror(r, m, &b.RequestHeaders, &b.Rewrite))
		}
		backends, weights = append(backends, b), append(weights, uint64(weight))
	}
	r.spread(backends, weights)
}

// loops reports mirrors that send copies to a backend of the same rule.
func (c *compiler) loops(s *spec.Rule, at string) {
	c.loopsOf(s, s.Filters, at)
	for i, ref := range s.BackendRefs {
		c.loopsOf(s, ref.Filters, index(at, "backendRefs", i))
	}
}

func (c *compiler) loopsOf(s *spec.Rule, filters []spec.Filter, owner string) {
	for i, f := range filters {
		if f.RequestMirror == nil {
			continue
		}
		to := f.RequestMirror.BackendRef
		for j, ref := range s.BackendRefs {
			if ref.Name == to.Name && ref.Port == to.Port {
				c.invalid(index(owner, "filters", i)+".requestMirror.backendRef", portName(to.Name, to.Port),
					"is backendRefs[%d] of this rule, which would get requests and their copies; mirror to another service or port", j)
			}
		}
	}
}

func (c *compiler) timeouts(r *Rule, s *spec.Timeouts, at string) {
	if s == nil {
		return
	}
	r.Timeouts.Request = parsed(c, at+".request", s.Request, ParseDuration)
	r.Timeouts.BackendRequest = parsed(c, at+".backendRequest", s.BackendRequest, ParseDuration)
	if r.Timeouts.Request > 0 && r.Timeouts.BackendRequest > r.Timeouts.Request {
		c.invalid(at+".backendRequest", s.BackendRequest, "must not be longer than request (%s)", s.Request)
	}
}

// ref returns the port that a reference names. It returns nil if there is no such port: requests to it are
// answered 500.
func (c *compiler) ref(ref *spec.BackendRef, at string) *Port {
	if ref.Name == "" {
		c.invalid(at+".name", nil, "must name a service")
		return nil
	}
	if ref.Port < 1 || ref.Port > 65535 {
		c.invalid(at+".port", ref.Port, "must be a port of service %s, from 1 to 65535", ref.Name)
		return nil
	}
	port := c.table.Port(ref.Name, ref.Port)
	if port == nil {
		c.warn(at, "service %s has no port %d in services", ref.Name, ref.Port)
	}
	return port
}

func portName(service string, port int) string { return service + ":" + strconv.Itoa(port) }

func (c *compiler) services(specs map[string]spec.Service) {
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		ports := specs[name]
		for _, number := range slices.Sorted(maps.Keys(ports)) {
			at := fmt.Sprintf("services[%s][%d]", name, number)
			if number < 1 || number > 65535 {
				c.invalid(at, number, "must be a port from 1 to 65535")
			}
			c.port(&Port{Index: len(c.table.Ports), Service: name, Number: number}, ports[number], at)
		}
		if strings.ContainsAny(name, ":[]") || name == "" {
			c.invalid("services["+name+"]", name, "must be a name without : and brackets")
		}
	}
}

func (c *compiler) port(p *Port, s spec.Port, at string) {
	switch s.Protocol {
	case "", "http":
	case "h2c":
		p.Protocol = H2C
	case "auto":
		p.Protocol = Auto
	default:
		c.invalid(at+".protocol", s.Protocol, "must be http, h2c or auto")
	}
	seen := map[string]bool{}
	for i, e := range s.Endpoints {
		at := index(at, "endpoints", i)
		c.address(at+".address", e.Address, 1)
		if seen[e.Address] {
			c.invalid(at+".address", e.Address, "is listed twice; endpoints have no weights")
		}
		seen[e.Address] = true
	}
	p.Ready, p.Unready = s.Addresses()
	if p.TLS = s.TLS; s.TLS != nil {
		c.backendTLS(s.TLS, at+".tls")
	}
	c.table.Ports = append(c.table.Ports, p)
	c.table.ports[portName(p.Service, p.Number)] = p
}

// address checks an address, HOST:PORT. The port must be at least lowest.
func (c *compiler) address(at, address string, lowest int) (port int, ok bool) {
	host, number, err := net.SplitHostPort(address)
	port, atoi := strconv.Atoi(number)
	if err != nil || atoi != nil || port < lowest || port > 65535 || (lowest > 0 && host == "") {
		c.invalid(at, address, "must be HOST:PORT, like 127.0.0.1:8000 or [::1]:8000")
		return 0, false
	}
	return port, true
}
