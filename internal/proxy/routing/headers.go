package routing

// Edits of header fields, compiled so that one pass over a head applies any number of
// filters.

import "slices"

// Field is a header field.
type Field struct{ Name, Value string }

// HeaderEdits is what filters do to a head: drop every field for which Drops is true, then
// append Add. Several filters in a row are one HeaderEdits (see then).
type HeaderEdits struct {
	// Add are the fields to append, after those that stay.
	Add []Field

	drop []string // lower case
}

// Empty says whether there is nothing to do.
func (e *HeaderEdits) Empty() bool { return len(e.drop) == 0 && len(e.Add) == 0 }

// Drops says whether the field called name (in any case) goes.
func (e *HeaderEdits) Drops(name string) bool {
	for _, d := range e.drop {
		if len(d) == len(name) && equalFold(d, name) {
			return true
		}
	}
	return false
}

// newHeaderEdits compiles one filter. Remove comes first, then set, which replaces, then
// add, which appends (to what was sent, or was set).
func newHeaderEdits(set, add []Field, remove []string) HeaderEdits {
	var e HeaderEdits
	for _, name := range remove {
		e.drop = append(e.drop, lower(name))
	}
	for _, f := range set {
		e.drop = append(e.drop, lower(f.Name))
	}
	e.Add = append(slices.Clone(set), add...)
	return e
}

// then returns the edits that do the same as e and after it next.
func (e *HeaderEdits) then(next *HeaderEdits) HeaderEdits {
	var out HeaderEdits
	out.drop = append(slices.Clone(e.drop), next.drop...)
	slices.Sort(out.drop)
	out.drop = slices.Compact(out.drop)
	for _, f := range e.Add {
		if !next.Drops(f.Name) {
			out.Add = append(out.Add, f)
		}
	}
	out.Add = append(out.Add, next.Add...)
	return out
}

// equalFold compares a, in lower case, with b of the same length, in any case. Names of
// fields are ASCII.
func equalFold(a, b string) bool {
	for i := range len(a) {
		if a[i] != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lower is strings.ToLower for ASCII alone: hosts and header names.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowerByte(c)
	}
	return string(b)
}
