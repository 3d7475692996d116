package route

// The marks of a rule are its placeholders: names in the list of request
// headers to remove. The list lies three levels deep in both kinds of rule
// (filters, the modifier filter, remove; headers, request, remove), any of
// which may be missing, and is left as it was found when the last mark goes.

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/patch"
)

var placeholder = regexp.MustCompile(`^` + PlaceholderPrefix + `[0-9a-f]+$`)

// idOf returns the id that a header name marks, "" for a name of the user's.
func idOf(name string) string {
	if !placeholder.MatchString(name) {
		return ""
	}
	return strings.TrimPrefix(name, PlaceholderPrefix)
}

// marks is a rule's list of headers to remove and the levels above it.
type marks struct {
	// depth is how many of the three levels exist, from the outside.
	depth int
	// busy tells, for levels 1 and 2, that something else stands there too.
	busy [3]bool
	// items is the stored list; linked holds those of its names that mark a
	// parked mirror.
	items  []string
	linked map[string]bool
	// keep is how much of the way stood there empty before the first mark.
	keep int
	// broken is set when the list cannot be read: no mark is added or taken.
	broken bool
}

// rest are the names that stay: the user's own and marks of nothing known.
func (m *marks) rest() []string {
	return slices.DeleteFunc(slices.Clone(m.items), func(name string) bool { return m.linked[name] })
}

// vacant returns the outermost level that holds nothing but the way to our
// marks; 4 when there is none.
func (m *marks) vacant() int {
	if len(m.rest()) > 0 {
		return 4
	}
	level := 3
	for level > 1 && !m.busy[level-1] {
		level--
	}
	return level
}

// settleKeep works out keep once linked and busy are known.
func (m *marks) settleKeep(linked []entry) {
	for _, e := range linked {
		m.keep = max(m.keep, e.Keep)
	}
	if len(m.linked) == 0 && m.vacant() <= m.depth {
		m.keep = m.depth
	}
}

// names returns the list with the marks of the given ids, behind the rest.
func (m *marks) names(ids []string) []string {
	names := m.rest()
	for _, id := range ids {
		names = append(names, PlaceholderPrefix+id)
	}
	return names
}

// way is where the levels of a rule's marks are.
type way [3]struct {
	at   patch.Pointer
	name string // of the member, for building what is missing
}

// edits turns the stored list into the one with the marks of ids.
func (m *marks) edits(w way, ids []string) []patch.Operation {
	names := m.names(ids)
	if m.broken || slices.Equal(names, m.items) {
		return nil
	}
	if len(names) == 0 {
		if level := max(m.vacant(), m.keep+1); level <= 3 {
			return []patch.Operation{patch.Remove(w[level-1].at)}
		}
	}
	if m.depth < 3 {
		var value any = names
		for level := 3; level > m.depth+1; level-- {
			value = map[string]any{w[level-1].name: value}
		}
		return []patch.Operation{patch.Add(w[m.depth].at, value)}
	}
	same := 0
	for same < min(len(names), len(m.items)) && names[same] == m.items[same] {
		same++
	}
	if len(m.items)+len(names)-2*same > maxEdits {
		return []patch.Operation{patch.Add(w[2].at, names)}
	}
	var ops []patch.Operation
	for i := len(m.items) - 1; i >= same; i-- {
		ops = append(ops, patch.Remove(w[2].at.Index(i)))
	}
	for _, name := range names[same:] {
		ops = append(ops, patch.Add(w[2].at.End(), name))
	}
	return ops
}

// readItems reads the stored list. What is no name in it is "", so that the names
// around it are still found.
func (m *marks) readItems(list json.RawMessage) {
	if unmarshal(list, &m.items) == nil {
		return
	}
	m.broken = true
	var items []json.RawMessage
	if unmarshal(list, &items) != nil {
		m.items = nil
		return
	}
	m.items = make([]string, len(items))
	for i, item := range items {
		_ = unmarshal(item, &m.items[i])
	}
}

// members reads an object's members; null ones count as absent. ok is false
// when raw is no object.
func members(raw json.RawMessage) (m map[string]json.RawMessage, ok bool) {
	if isNull(raw) || unmarshal(raw, &m) != nil {
		return nil, false
	}
	maps.DeleteFunc(m, func(_ string, v json.RawMessage) bool { return isNull(v) })
	return m, true
}

// link returns the mirrors behind the rule's placeholders. What nothing is known
// about is an orphan; what its author has written again in the same place is
// left out, for the inline mirror wins.
func (d *Route) link(rule *Rule, m *marks, inline map[group]bool, read func(entry) Mirror) []Mirror {
	m.linked = map[string]bool{}
	var mirrors []Mirror
	var entries []entry
	seen := map[string]bool{}
	for _, name := range m.items {
		id := idOf(name)
		if id == "" || seen[id] {
			continue
		}
		seen[id] = true
		e, ok := d.entry(id)
		if !ok {
			rule.Orphans = append(rule.Orphans, id)
			continue
		}
		m.linked[name] = true
		if d.linked == nil {
			d.linked = map[string]bool{}
		}
		d.linked[id] = true
		entries = append(entries, e)
		if mirror := read(e); !inline[mirror.group()] {
			mirrors = append(mirrors, mirror)
		}
	}
	m.settleKeep(entries)
	if m.broken && len(seen) > 0 {
		d.frozen = misfitBroken
	}
	return mirrors
}
