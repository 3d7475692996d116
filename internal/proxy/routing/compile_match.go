package routing

// Compiling the matches of a rule to entries in the index of a listener.

import (
	"cmp"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Patterns from the types of Gateway API.
var (
	wildcardHostname = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	hostname         = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	pathCharacters   = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})*$`)
	methodToken      = regexp.MustCompile(`^[A-Z][-A-Z]*$`)
	fieldName        = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+\\-.^_\x60|~]+$")
)

// match compiles a match into e. It returns a function that adds e to the index of a host name, nil if the
// path is invalid.
func (c *compiler) match(e *entry, s *spec.Match, at string) func(**paths) {
	e.method = s.Method
	if s.Method != "" && !methodToken.MatchString(s.Method) {
		c.invalid(at+".method", s.Method, "must be a method in capitals, like GET")
	}
	e.headers = c.values(s.Headers, at, "headers", true)
	e.query = c.values(s.QueryParams, at, "queryParams", false)
	if s.Call != nil {
		if s.Path != nil || s.Method != "" {
			c.invalid(at+".call", nil, "must not stand beside path or method: it has both")
		}
		return c.call(e, s.Call, at+".call")
	}
	kind, value := "PathPrefix", "/"
	if s.Path != nil {
		kind = cmp.Or(s.Path.Type, kind)
		if s.Path.Value != nil {
			value = *s.Path.Value
		}
		at += ".path"
	}
	switch kind {
	case "Exact", "PathPrefix":
		if !c.path(at+".value", value) {
			return nil
		}
	case "RegularExpression":
		if e.path = c.regex(at+".value", value); e.path == nil {
			return nil
		}
	default:
		c.invalid(at+".type", kind, "must be Exact, PathPrefix or RegularExpression")
		return nil
	}
	return e.under(kind, value)
}

// under returns a function that adds an entry to an index: to the paths of a kind of match, with its value.
func (e *entry) under(kind, value string) func(**paths) {
	return func(at **paths) {
		if *at == nil {
			*at = &paths{exact: map[string][]*entry{}, prefix: map[string][]*entry{}}
		}
		p := *at
		switch kind {
		case "Exact":
			p.exact[value] = append(p.exact[value], e)
		case "PathPrefix":
			prefix := strings.TrimSuffix(value, "/")
			p.prefix[prefix] = append(p.prefix[prefix], e)
		default:
			p.others = append(p.others, e)
		}
	}
}

// path checks the value of an exact or prefix match.
func (c *compiler) path(at, value string) bool {
	fix := ""
	for _, wrong := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(value, wrong) {
			fix = "must not contain " + wrong
		}
	}
	for _, wrong := range []string{"/.", "/.."} {
		if strings.HasSuffix(value, wrong) {
			fix = "must not end with " + wrong
		}
	}
	if !pathCharacters.MatchString(value) {
		fix = "must consist of characters that may stand in a path, the others percent-encoded"
	}
	if !strings.HasPrefix(value, "/") {
		fix = "must begin with /"
	}
	if fix == "" && len(value) > 1024 {
		fix = "must not be longer than 1024 bytes"
	}
	if fix != "" {
		c.invalid(at, value, "%s", fix)
	}
	return fix == ""
}

// regex compiles an RE2 expression that must match the whole value.
func (c *compiler) regex(at, value string) *regex {
	// Parse the value alone first: "a)|(b" is valid only inside the parentheses.
	parsed, err := syntax.Parse(value, syntax.Perl)
	if err == nil {
		n := steps(parsed, mostSteps)
		if n > mostSteps {
			c.invalid(at, value, "repeats too much: it must not compile to more than %d steps", mostSteps)
			return nil
		}
		var re *regexp.Regexp
		if re, err = regexp.Compile(`\A(?:` + value + `)\z`); err == nil {
			return &regex{re, n}
		}
	}
	c.invalid(at, value, "must be a regular expression in RE2's syntax: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	return nil
}

// values compiles header or query matches. Of several matches for one name only the first counts, as Gateway
// API requires.
func (c *compiler) values(specs []spec.ValueMatch, at, field string, header bool) []valueMatch {
	var out []valueMatch
	for i, s := range specs {
		at := index(at, field, i)
		v := valueMatch{name: s.Name, exact: s.Value}
		if header {
			v.name = strings.ToLower(s.Name)
			if !fieldName.MatchString(s.Name) {
				c.invalid(at+".name", s.Name, "must be the name of a header field")
			}
		} else if s.Name == "" {
			c.invalid(at+".name", s.Name, "must be the name of a query parameter")
		}
		switch s.Type {
		case "", "Exact":
		case "RegularExpression":
			v.regex = c.regex(at+".value", s.Value)
		default:
			c.invalid(at+".type", s.Type, "must be Exact or RegularExpression")
		}
		if slices.ContainsFunc(out, func(o valueMatch) bool { return o.name == v.name }) {
			c.warn(at+".name", "%s is matched above already; only the first match of a name counts", s.Name)
			continue
		}
		out = append(out, v)
	}
	return out
}

// solePrefix returns the path prefix of a rule's only match. It returns nil if the rule has other or more
// matches: then no prefix can be replaced.
func solePrefix(matches []spec.Match) *string {
	slash := "/"
	switch {
	case len(matches) == 0:
		return &slash
	case len(matches) > 1:
		return nil
	}
	p := matches[0].Path
	switch {
	case matches[0].Call != nil:
		return nil
	case p == nil:
		return &slash
	case p.Type != "" && p.Type != "PathPrefix":
		return nil
	case p.Value == nil:
		return &slash
	}
	return p.Value
}

// add adds an entry to the index of a host name, which may be a wildcard.
func (h *hosts) add(name string, put func(**paths)) {
	names := &h.exact
	if strings.HasPrefix(name, "*") {
		names, name = &h.wildcard, name[1:]
	}
	if *names == nil {
		*names = map[string]*paths{}
	}
	p := (*names)[name]
	put(&p)
	(*names)[name] = p
}

// sort sorts the entries of every path by precedence. Equal entries stay in the order of the rules.
func (h *hosts) sort() {
	all := []*paths{h.any}
	for _, names := range []map[string]*paths{h.exact, h.wildcard} {
		for _, p := range names {
			all = append(all, p)
		}
	}
	for _, p := range all {
		if p == nil {
			continue
		}
		for _, lists := range []map[string][]*entry{p.exact, p.prefix, {"": p.others}} {
			for _, entries := range lists {
				slices.SortStableFunc(entries, (*entry).precedes)
			}
		}
	}
}
