package compare

// Why this file exists: some differences are wanted. They are ignored by field and by kind, so that an author who
// allows another value does not allow a missing field.

import (
	"fmt"
	"slices"
	"strings"
)

// The kinds of a difference.
const (
	kindValue    = "value"
	kindType     = "type"
	kindPresence = "presence"
	kindOrder    = "order"
	kindLength   = "length"
)

var kinds = []string{kindValue, kindType, kindPresence, kindOrder, kindLength}

// Ignore is a rule that ignores differences of some fields.
type Ignore struct {
	field string
	below bool // all fields that begin with field
	kind  string
}

// ParseIgnore parses FIELD or FIELD:KIND. A field may end in *.
func ParseIgnore(text string) (Ignore, error) {
	field, kind, given := strings.Cut(text, ":")
	if given && !slices.Contains(kinds, kind) {
		return Ignore{}, fmt.Errorf("%q: %q is no kind of difference; one of %s", text, kind, strings.Join(kinds, ", "))
	}
	i := Ignore{kind: kind}
	i.field, i.below = strings.CutSuffix(field, "*")
	first, _, _ := strings.Cut(i.field, " ")
	first, _, _ = strings.Cut(first, ".")
	first, _, _ = strings.Cut(first, "[")
	if !slices.Contains([]string{"status", "error", "header", "trailer", "body"}, first) {
		return Ignore{}, fmt.Errorf("%q: a field is status, error, header NAME, trailer NAME, or body with the keys below it, as in body.items[].price", text)
	}
	return i, nil
}

// ignored are the kinds of differences of one field that do not count.
type ignored struct{ all, value, kind, presence bool }

// ignoredOf returns the kinds that rules ignore for a field, whose name may end in :order or :length.
func ignoredOf(rules []Ignore, name string) (out ignored) {
	field, special, _ := strings.Cut(name, ":")
	for _, r := range rules {
		if field != r.field && (!r.below || !strings.HasPrefix(field, r.field)) {
			continue
		}
		switch r.kind {
		case "", special:
			out.all = true
		case kindValue:
			out.value = out.value || special == ""
		case kindType:
			out.kind = true
		case kindPresence:
			out.presence = true
		}
	}
	return out
}
