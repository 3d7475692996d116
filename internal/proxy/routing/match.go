package routing

// Finding the rule of a request. Hosts and paths are looked up in maps, so that a thousand
// rules cost as much as ten; only rules of the same path, and regular expressions, are
// tried one after the other, in the order of precedence.

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// hosts finds the paths of a host, the most specific name first. A host that is found
// but has no rule for the request leaves it to less specific ones.
type hosts struct {
	exact map[string]*paths
	// wildcard is by what follows the asterisk of "*.example.com", with the dot.
	wildcard map[string]*paths
	any      *paths
}

func (h *hosts) match(r *Request) *Rule {
	if len(h.exact) > 0 || len(h.wildcard) > 0 {
		if rule := h.named(r); rule != nil {
			return rule
		}
	}
	return h.any.match(r)
}

func (h *hosts) named(r *Request) *Rule {
	// Host names are at most 253 bytes; a longer one is none of ours.
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

// paths finds the rule of a path. A nil paths has none.
type paths struct {
	exact map[string][]*entry
	// prefix is by the prefix without slash at its end, so that of "/" is "".
	prefix map[string][]*entry
	regex  []*entry
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
	for _, e := range p.regex {
		if e.path.MatchString(r.Path) && e.matches(r) {
			return e.rule
		}
	}
	return nil
}

// longestPrefix cuts element after element off the path. The prefix "/" also matches what
// is no path: "*" of OPTIONS, and nothing at all of CONNECT.
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

func first(entries []*entry, r *Request) *Rule {
	for _, e := range entries {
		if e.matches(r) {
			return e.rule
		}
	}
	return nil
}

// entry is one match of a rule: everything but the host, and but the path unless it is a
// regular expression.
type entry struct {
	rule    *Rule
	path    *regexp.Regexp
	method  string
	headers []valueMatch
	query   []valueMatch
}

// valueMatch compares a value as a whole, exactly or with a regular expression.
type valueMatch struct {
	name  string
	exact string
	regex *regexp.Regexp
}

func (v *valueMatch) matches(value string) bool {
	if v.regex != nil {
		return v.regex.MatchString(value)
	}
	return v.exact == value
}

func (e *entry) matches(r *Request) bool {
	if e.method != "" && e.method != r.Method {
		return false
	}
	for i := range e.headers {
		value, ok := r.field(e.headers[i].name)
		if !ok || !e.headers[i].matches(value) {
			return false
		}
	}
	for i := range e.query {
		value, ok := queryValue(r.RawQuery, e.query[i].name)
		if !ok || !e.query[i].matches(value) {
			return false
		}
	}
	return true
}

// precedes says whether e comes before other where both match the same host and path.
func (e *entry) precedes(other *entry) int {
	if (e.method != "") != (other.method != "") {
		if e.method != "" {
			return -1
		}
		return 1
	}
	if d := len(other.headers) - len(e.headers); d != 0 {
		return d
	}
	return len(other.query) - len(e.query)
}

// queryValue returns the first value of a query parameter, decoded. It allocates only if
// something is encoded. What cannot be decoded is compared as it was sent.
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
