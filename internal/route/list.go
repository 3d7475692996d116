package route

// A list that holds mirrors: the filters of a rule or of a backendRef, or the mirrors of a VirtualService's
// rule.

import (
	"encoding/json"
	"slices"

	"github.com/mirrorgate/mirrorgate/patch"
)

// maxEdits is the largest number of operations on a list; a list that needs more is written as a whole,
// because applying an operation copies the list.
const maxEdits = 64

// mirrorList is a list that holds mirrors. order is the list with every mirror in its place.
type mirrorList struct {
	stored []json.RawMessage
	order  []slot
	// declared holds the stored mirrors to which a mark belongs, by their index.
	declared map[int]declaredMirror
}

// slot is an element of a list's order: the index of the element in the stored list and that of the mirror in
// the rule, -1 for none.
type slot struct{ stored, mirror int }

// changed is an element of a new list that differs from the stored one in a member: its value, nil for none,
// and the whole text.
type changed struct {
	stored int
	member string
	value  any
	text   json.RawMessage
}

// added is an element of a new list that the stored one does not have.
type added struct{ value any }

// operation returns the operation on the element that makes the change.
func (c changed) operation(at patch.Pointer) patch.Operation {
	if c.value == nil {
		return patch.Remove(at.Key(c.member))
	}
	return patch.Add(at.Key(c.member), c.value)
}

// merge puts parked elements between the inline ones, each at the index that it had or at the end, and keeps
// the order of both.
func merge[T any](inline, parked []T, index func(T) int) []T {
	out := make([]T, 0, len(inline)+len(parked))
	for _, p := range parked {
		n := min(max(index(p)-len(out), 0), len(inline))
		out, inline = append(append(out, inline[:n]...), p), inline[n:]
	}
	return append(out, inline...)
}

// planned returns the list as the plan wants it: an int for a stored element, changed for one with another
// percentage, added for another one.
func (l *mirrorList) planned(p *rulePlan) []any {
	var want []any
	for _, s := range l.order {
		want = p.appendSlot(want, s)
	}
	return want
}

// appendSlot appends an element of a list's order to the wanted list, unless it is a mirror that belongs
// parked.
func (p *rulePlan) appendSlot(want []any, s slot) []any {
	if s.mirror < 0 {
		return append(want, s.stored)
	}
	switch {
	case p.inAnnotation(s.mirror):
		return want
	case s.stored < 0:
		return append(want, added{p.text(s.mirror)})
	case p.stands(s.mirror):
		return append(want, s.stored)
	}
	member, text := "percentage", p.text(s.mirror)
	if p.rule.Mirrors[s.mirror].filter {
		member = "requestMirror"
	}
	return append(want, changed{s.stored, member, valueOf(text, member), text})
}

// text returns the text of a mirror in a list as the plan wants it in the spec.
func (p *rulePlan) text(i int) json.RawMessage {
	switch m := &p.rule.Mirrors[i]; {
	case p.silences(i):
		return m.silentText()
	case p.limit[i] > 0:
		return m.limitedText(p.limit[i])
	default:
		return m.text
	}
}

// stands reports whether a mirror of the spec has the share there that the plan wants.
func (p *rulePlan) stands(i int) bool {
	m := &p.rule.Mirrors[i]
	return (p.silences(i) == m.silenced || m.isOff()) && p.limit[i] == m.limit && !m.stale
}

// edits turns the stored list into the wanted one, whose stored elements are in stored order. A list that
// becomes empty is removed, unless keep is set.
func (l *mirrorList) edits(at patch.Pointer, want []any, keep bool) []patch.Operation {
	if len(want) == 0 && len(l.stored) > 0 && !keep {
		return []patch.Operation{patch.Remove(at)}
	}
	stays := make([]bool, len(l.stored))
	values := make([]any, len(want))
	var adds, changes []patch.Operation
	for i, w := range want {
		switch w := w.(type) {
		case int:
			stays[w], values[i] = true, l.stored[w]
		case changed:
			stays[w.stored], values[i] = true, w.text
			changes = append(changes, w.operation(at.Index(i)))
		case added:
			values[i] = w.value
			adds = append(adds, patch.Add(at.Index(i), w.value))
		}
	}
	var ops []patch.Operation
	for i, stay := range slices.Backward(stays) {
		if !stay {
			ops = append(ops, patch.Remove(at.Index(i)))
		}
	}
	ops = append(append(ops, adds...), changes...)
	if len(ops) > maxEdits || (l.stored == nil && len(ops) > 0) {
		return []patch.Operation{patch.Add(at, values)}
	}
	return ops
}
