package route

// Routes that are too large to be read. A value of one byte takes hundreds in memory once it is read as a backend or a
// mirror, so that a route of megabytes could take gigabytes. The bounds are above all that a cluster can hold.

import (
	"bytes"
	"fmt"
)

const (
	// maxValues is the largest number of JSON values of a route that is read: five thousand usual rules have as many.
	maxValues = 64 << 10
	// maxList is the largest number of mirrors, of rules that may hold one, and of elements of a list beside the rules:
	// as many as an HTTPRoute may have filters, in 16 rules with 16 backendRefs each.
	maxList = 16 * (16 + 16*16)
	// maxElements is the largest number of backends and matches of these rules.
	maxElements = 16 << 10
)

// TooLongError is the error of Decode for a route that is too large to be read. The API refuses such HTTPRoutes and
// GRPCRoutes, whatever mirrorgate answers; it takes such VirtualServices.
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
	filters, others := 0, 0
	for i := range s.Rules {
		r := &s.Rules[i]
		filters += len(r.Filters)
		for j := range r.BackendRefs {
			filters += len(r.BackendRefs[j].Filters)
		}
		others += len(r.BackendRefs) + len(r.Matches)
	}
	switch {
	case filters > maxList:
		return &TooLongError{"spec.rules", maxList, "filters"}
	case others > maxElements:
		return &TooLongError{"spec.rules", maxElements, "backendRefs and matches"}
	default:
		return nil
	}
}

// check returns a *TooLongError for rules with too many mirrors, destinations or matches.
func (rules istioRules) check() error {
	mirrors, others := 0, 0
	for _, r := range rules {
		mirrors += len(r.Mirrors)
		if !isNull(r.Mirror) {
			mirrors++
		}
		others += len(r.Route) + len(r.Match)
	}
	switch {
	case mirrors > maxList:
		return &TooLongError{"spec.http", maxList, "mirrors"}
	case others > maxElements:
		return &TooLongError{"spec.http", maxElements, "destinations and matches in rules that may hold a mirror"}
	default:
		return nil
	}
}

// short cuts a name that is too long to be one to one byte more than the longest, so that a name of megabytes is not
// copied into every message. It stays too long.
func short(name string, longest int) string { return name[:min(len(name), longest+1)] }
