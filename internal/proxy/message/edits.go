// Edits of header fields, compiled so that one pass over a head applies any number of filters.

package message

import (
	"slices"
	"strings"
)

// HeaderEdits is the effect of filters on a head: fields are dropped by name, then Add is appended. Several
// filters in a row are one HeaderEdits, see Then.
type HeaderEdits struct {
	// Add are the fields to append, after those that stay.
	Add []Field

	drop []string // lower case
}

// NewHeaderEdits compiles one filter. remove comes first, then set, which replaces, then add, which appends
// to the fields that were sent or set.
func NewHeaderEdits(set, add []Field, remove []string) HeaderEdits {
	var e HeaderEdits
	for _, name := range remove {
		e.drop = append(e.drop, strings.ToLower(name))
	}
	for _, f := range set {
		e.drop = append(e.drop, strings.ToLower(f.Name))
	}
	e.Add = append(slices.Clone(set), add...)
	return e
}

// empty reports whether there is nothing to do.
func (e *HeaderEdits) empty() bool { return len(e.drop) == 0 && len(e.Add) == 0 }

// drops reports whether the field called name (in any case) is dropped.
func (e *HeaderEdits) drops(name string) bool {
	for _, d := range e.drop {
		if Is(name, d) {
			return true
		}
	}
	return false
}

// Then returns the edits that have the same effect as e followed by next.
func (e *HeaderEdits) Then(next *HeaderEdits) HeaderEdits {
	var out HeaderEdits
	out.drop = append(slices.Clone(e.drop), next.drop...)
	slices.Sort(out.drop)
	out.drop = slices.Compact(out.drop)
	for _, f := range e.Add {
		if !next.drops(f.Name) {
			out.Add = append(out.Add, f)
		}
	}
	out.Add = append(out.Add, next.Add...)
	return out
}
