package routing

// Finding the rule of a request. Hosts and paths are looked up in maps, so that the cost does not depend on
// the number of rules. Only rules with the same path, and regular expressions, are tried one after the other,
// in the order of precedence.

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// hosts is the index of a listener by host name. The most specific name is tried first; if it has no rule for
// the request, less specific names are tried.
type hosts struct {
	exact map[string]*paths
	// wildcard is indexed by the name without its asterisk: ".example.com" for "*.example.com".
	wildcard map[string]*paths
	any      *paths
}

func (h *hosts) match(r *Request) *Rule {
	if h == nil {
		return nil
	}
	if len(h.exact) > 0 || len(h.wildcard) > 0 {
		if rule := h.named(r); rule != nil {
			return rule
		}
	}
	return h.any.match(r)
}

// named finds the rule of a request among rules with host names.
func (h *hosts) named(r *Request) *Rule {
	// Host names in the table have at most 253 bytes, so a longer one cannot match.
	var buf [256]byte
	host, _ := message.SplitPort(r.Host)
	host = strings.TrimSuffix(host, ".")
	if len(host) > len(buf) {
		return nil
	}
	name := buf[:len(host)]
	for i := range name {
		name[i] = message.LowerByte(host[i])
	}
	if rule := h.exact[string(name)].match(r); rule != nil {
		return rule
	}
	if len(h.wildcard) == 0 {
		return nil
	}
	// "*" stands for at least one label, of at least one byte.
	for i := 1; i < len(name); i++ {
		if name[i] == '.' {
			if rule := h.wildcard[string(name[i:])].match(r); rule != nil {
				return rule
			}
		}
	}
	return nil
}

// paths is the index of a host name by path. A nil paths is empty.
type paths struct {
	exact map[string][]*entry
	// prefix is indexed by the prefix without its final slash: "" for "/".
	prefix map[string][]*entry
	// others have a regular expression, or are for calls of gRPC to any service.
	others []*entry
}

func (p *paths) match(r *Request) *Rule {
	if p == nil {
		return nil
	}
	if len(p.exact) > 0 {
		if rule := first(p.exact[r.Path], r); rule != nil {
			return rule
		}
	}
	if len(p.prefix) > 0 {
		if rule := p.longestPrefix(r); rule != nil {
			return rule
		}
	}
	for _, e := range p.others {
		if (e.path == nil || r.tries(e.path, r.Path, pathTooLong)) && e.matches(r) {
			return e.rule
		}
	}
	return nil
}

// longestPrefix tries the path and all its prefixes, the longest first. The prefix "/" also matches targets
// that have no path: "*" of OPTIONS, and the empty path of CONNECT.
func (p *paths) longestPrefix(r *Request) *Rule {
	for path := r.Path; ; {
		if rule := first(p.prefix[path], r); rule != nil {
			return rule
		}
		if path == "" {
			return nil
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
}

// first returns the rule of the first entry that matches.
func first(entries []*entry, r *Request) *Rule {
	for _, e := range entries {
		if e.matches(r) {
			return e.rule
		}
	}
	return nil
}

// entry is one match of a rule, without the host name, and without the path unless that is a regular
// expression.
type entry struct {
	rule *Rule
	path *regex
	// service and call are the numbers of characters of the service and the method of a match of calls.
	service, call int

	method  string
	headers []valueMatch
	query   []valueMatch
}

// valueMatch matches the whole value of a header or query parameter, exactly or by a regular expression.
type valueMatch struct {
	name  string
	exact string
	regex *regex
}

// matches reports whether a value of the request matches. status is that of an answer if there is too much to try.
func (v *valueMatch) matches(r *Request, value string, status int) bool {
	if v.regex != nil {
		return r.tries(v.regex, value, status)
	}
	return v.exact == value
}

func (e *entry) matches(r *Request) bool {
	if e.method != "" && e.method != r.Method {
		return false
	}
	for i := range e.headers {
		value, ok := r.field(e.headers[i].name)
		if !ok || !e.headers[i].matches(r, value, fieldTooLong) {
			return false
		}
	}
	for i := range e.query {
		value, ok := queryValue(r.RawQuery, e.query[i].name)
		if !ok || !e.query[i].matches(r, value, pathTooLong) {
			return false
		}
	}
	return true
}

// precedes compares two entries for the same host and path: it is negative if e has precedence over other.
func (e *entry) precedes(other *entry) int {
	return cmp.Or(
		other.service-e.service, other.call-e.call,
		min(len(other.method), 1)-min(len(e.method), 1), // whether there is a method, not how long it is
		len(other.headers)-len(e.headers),
		len(other.query)-len(e.query),
	)
}

// queryValue returns the first value of a query parameter, decoded. It allocates only if a name or value is
// encoded. A value that cannot be decoded is returned as it was sent.
func queryValue(query, name string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(pair, "=")
		if unescape(k) == name && pair != "" {
			return unescape(v), true
		}
	}
	return "", false
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
