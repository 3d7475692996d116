package compare

// Why this file exists: an endpoint is a path without the ids in it. A service with a million carts has one endpoint
// for them, and a scanner that requests a million paths must not make as many.

import (
	"fmt"
	"strings"
)

const (
	// hole is the part of a template that stands for any segment, and of a field that stands for any key.
	hole = "{}"
	// others stands for all that is beyond a bound.
	others = "{other}"
	// maxDepth is the most segments of a template; maxLiterals the most names that one segment may have before it is
	// taken for data, and maxFirst the same for the first segment.
	maxDepth, maxLiterals, maxFirst = 10, 20, 60
	// maxSegments bounds all segments that are known.
	maxSegments = 4096
)

// segment is one segment of the templates that are known, with those that follow it.
type segment struct {
	next map[string]*segment
	// any is set once the segment that follows has had too many names: from then on it is data.
	any bool
}

// Templates turns paths into templates. It is not safe for concurrent use.
type Templates struct {
	patterns [][]string
	root     segment
	known    int
}

// NewTemplates returns templates that follow the patterns first, like /users/{id}/orders. With patterns a path that
// none of them matches belongs to no endpoint of its own, and no part of it is shown.
func NewTemplates(patterns []string) (*Templates, error) {
	t := &Templates{}
	for _, p := range patterns {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("%q: must begin with /, as in /users/{id}", p)
		}
		parts := strings.Split(p[1:], "/")
		for i, part := range parts {
			if strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}") {
				parts[i] = hole
			} else if strings.ContainsAny(part, "{}*") {
				return nil, fmt.Errorf("%q: a segment is a name or a variable in braces, as in /users/{id}", p)
			}
		}
		t.patterns = append(t.patterns, parts)
	}
	return t, nil
}

// Of returns the template of a path. collapsed reports that a segment has just turned out to be data, so that
// templates that were returned before may have changed: Again gives the new ones.
func (t *Templates) Of(path string) (template string, collapsed bool) {
	if path == "" || path[0] != '/' {
		return others, false
	}
	if len(t.patterns) > 0 {
		return t.match(path), false
	}
	var out strings.Builder
	at := &t.root
	rest, depth := path[1:], 0
	for more := true; more; depth++ {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if depth == maxDepth {
			out.WriteString("/" + others)
			break
		}
		name, turned := t.step(&at, part, depth)
		collapsed = collapsed || turned
		out.WriteByte('/')
		out.WriteString(name)
	}
	return out.String(), collapsed
}

// Again returns the present template of a template that Of returned earlier.
func (t *Templates) Again(template string) string {
	if template == others || len(t.patterns) > 0 {
		return template
	}
	parts := strings.Split(template[1:], "/")
	at := &t.root
	for i, part := range parts {
		if part != others && at.any {
			parts[i] = hole
		}
		if at = at.next[parts[i]]; at == nil {
			break
		}
	}
	return "/" + strings.Join(parts, "/")
}

// step descends by one segment and returns its part of the template.
func (t *Templates) step(at **segment, part string, depth int) (name string, collapsed bool) {
	s := *at
	name = hole
	if part == "" || !s.any && isName(part) {
		name = part
	}
	next := s.next[name]
	if next == nil {
		most := maxLiterals
		if depth == 0 {
			most = maxFirst
		}
		if name != hole && (len(s.next) >= most || t.known >= maxSegments) {
			s.any, collapsed, name = true, true, hole
			s.collapse(t)
		}
		if next = s.next[name]; next == nil {
			if t.known >= 2*maxSegments {
				return name, collapsed // shares what follows with the segment before
			}
			next = &segment{}
			if s.next == nil {
				s.next = map[string]*segment{}
			}
			s.next[name] = next
			t.known++
		}
	}
	*at = next
	return name, collapsed
}

// collapse merges all segments that may follow into one.
func (s *segment) collapse(t *Templates) {
	one := &segment{}
	for _, next := range s.next {
		one.absorb(next, t)
		t.known--
	}
	s.next = map[string]*segment{hole: one}
	t.known++
}

func (s *segment) absorb(o *segment, t *Templates) {
	s.any = s.any || o.any
	for name, next := range o.next {
		if s.next == nil {
			s.next = map[string]*segment{}
		}
		if mine := s.next[name]; mine != nil {
			mine.absorb(next, t)
			t.known--
		} else {
			s.next[name] = next
		}
	}
	if s.any && len(s.next) > 1 {
		s.collapse(t)
	}
}

// match returns the first pattern that a path matches.
func (t *Templates) match(path string) string {
	for _, pattern := range t.patterns {
		rest, more, same := path[1:], true, true
		for i := 0; i < len(pattern) && same; i++ {
			var part string
			if same = more; same {
				part, rest, more = strings.Cut(rest, "/")
				same = pattern[i] == part || pattern[i] == hole && part != ""
			}
		}
		if same && !more {
			return "/" + strings.Join(pattern, "/")
		}
	}
	return others
}
