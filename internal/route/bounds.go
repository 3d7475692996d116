package route

// Routes that are too large to be read. A value of one byte takes hundreds in memory once it is read as a backend or a
// mirror, so that a route of megabytes could take gigabytes. The bounds are above all that a cluster can hold.

import (
	"bytes"
	"encoding/json"
	"fmt"
)

const (
	// maxValues is the largest number of JSON values of a route that is read: five thousand usual rules have as many.
	maxValues = 64 << 10
	// maxMirrors is the largest number of mirrors, and of rules that may hold one.
	maxMirrors = 2 << 10
	// maxList is the largest number of elements of a list beside the rules.
	maxList = 4 << 10
	// maxElements is the largest number of backends and matches of these rules.
	maxElements = 8 << 10
	// maxInside is the largest number of members and elements inside of the headers of these rules.
	maxInside = 8 << 10
)

// TooLongError is the error of Decode for a route that is too large to be read.
type TooLongError struct {
	// Field is the field path, "" for the route as a whole; it has more than Max of a thing.
	Field string
	Max   int
	Of    string
}

func (e *TooLongError) Error() string {
	return "decode route: " + e.Message()
}

// Message says which bound is exceeded.
func (e *TooLongError) Message() string {
	field := e.Field
	if field == "" {
		field = "the route"
	}
	return fmt.Sprintf("%s has more than %d %s", field, e.Max, e.Of)
}

// checkValues returns a *TooLongError for a text with too many values. Each value but the outermost is behind a
// bracket or a comma.
func checkValues(raw []byte) error {
	most := 0
	for _, sign := range []string{",", "[", "{"} {
		most += bytes.Count(raw, []byte(sign))
	}
	if most <= maxValues || signs(raw) <= maxValues {
		return nil
	}
	return &TooLongError{Max: maxValues, Of: "values"}
}

// signs counts the commas and opening brackets outside of strings.
func signs(raw []byte) (n int) {
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// checkLists returns a *TooLongError for lists of the kind of a route that are too long.
func (s *spec) checkLists(kind Kind) error {
	type list struct {
		field  string
		length int
	}
	if kind == VirtualService {
		for _, l := range []list{{"spec.hosts", len(s.Hosts)}, {"spec.gateways", len(s.Gateways)}, {"spec.exportTo", len(s.ExportTo)}} {
			if l.length > maxList {
				return &TooLongError{l.field, maxList, "elements"}
			}
		}
		return s.HTTP.check()
	}
	for _, l := range []list{{"spec.parentRefs", len(s.ParentRefs)}, {"spec.hostnames", len(s.Hostnames)}, {"spec.rules", len(s.Rules)}} {
		if l.length > maxList {
			return &TooLongError{l.field, maxList, "elements"}
		}
	}
	filters, others, inside := 0, 0, 0
	for i := range s.Rules {
		r := &s.Rules[i]
		filters, inside = filters+len(r.Filters), inside+insideOf(modifiers(r.Filters)...)
		for j := range r.BackendRefs {
			filters += len(r.BackendRefs[j].Filters)
		}
		others += len(r.BackendRefs) + len(r.Matches)
	}
	switch {
	case filters > maxMirrors:
		return &TooLongError{"spec.rules", maxMirrors, "filters"}
	case others > maxElements:
		return &TooLongError{"spec.rules", maxElements, "backendRefs and matches"}
	case inside > maxInside:
		return &TooLongError{"spec.rules", maxInside, "members and elements of headers"}
	default:
		return nil
	}
}

// insideOf counts the members and elements in some values, and the commas in their strings.
func insideOf(values ...json.RawMessage) (n int) {
	for _, raw := range values {
		n += bytes.Count(raw, []byte(","))
	}
	return n
}

// modifiers returns the filters of a rule that may modify headers.
func modifiers(filters []json.RawMessage) (some []json.RawMessage) {
	for _, raw := range filters {
		if bytes.Contains(raw, []byte("HeaderModifier")) {
			some = append(some, raw)
		}
	}
	return some
}

// check returns a *TooLongError for rules with too many mirrors, destinations, matches or headers.
func (rules istioRules) check() error {
	mirrors, others, inside := 0, 0, 0
	for _, r := range rules {
		mirrors += len(r.Mirrors)
		if !isNull(r.Mirror) {
			mirrors++
		}
		others, inside = others+len(r.Route)+len(r.Match), inside+insideOf(r.Headers)
		for _, to := range r.Route {
			if to != nil {
				inside += insideOf(to.Headers)
			}
		}
	}
	switch {
	case mirrors > maxMirrors:
		return &TooLongError{"spec.http", maxMirrors, "mirrors"}
	case others > maxElements:
		return &TooLongError{"spec.http", maxElements, "destinations and matches in rules that may hold a mirror"}
	case inside > maxInside:
		return &TooLongError{"spec.http", maxInside, "members and elements of headers in rules that may hold a mirror"}
	default:
		return nil
	}
}

// short cuts a name that is too long to be one to one byte more than the longest, so that a name of megabytes is not
// copied into every message. It stays too long.
func short(name string, longest int) string { return name[:min(len(name), longest+1)] }
