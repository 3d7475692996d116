package route

// A placeholder stands in a rule for a parked mirror: a name in the rule's list of request headers to remove.
// It ends in the mirror's id. The list lies three levels deep in both kinds of rule (filters, the modifier
// filter, remove; headers, request, remove). Any of the levels may be missing, and they are left as they were
// found when the last placeholder goes.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mirrorgate/mirrorgate/patch"
)

// PlaceholderPrefix starts the header name that stands, in a rule's remove list, for a parked mirror. Nobody
// sends such a header, so removing it changes nothing.
const PlaceholderPrefix = "x-mirrorgate-parked-"

// idOf returns the id in a placeholder, "" for a header name of the user's.
func idOf(name string) string {
	id, found := strings.CutPrefix(name, PlaceholderPrefix)
	if !found || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

// assignIDs gives every mirror its canonical id. It depends on the route alone, so dry run, every replica and
// every repeat agree. The id of an orphan is not given to another mirror, which would then own the
// placeholder.
func (rt *Route) assignIDs() {
	mirrors := rt.CountMirrors()
	seen, taken := make(map[Target]int, mirrors), make(map[string]bool, mirrors)
	for i := range rt.Rules {
		for _, id := range rt.Rules[i].Orphans {
			taken[id] = true
		}
	}
	for _, m := range rt.Every {
		for {
			ordinal := seen[m.Target]
			seen[m.Target]++
			m.ID = mirrorID(m.Target, ordinal)
			if !taken[m.ID] {
				break
			}
		}
		taken[m.ID] = true
	}
}

func mirrorID(t Target, ordinal int) string {
	var buffer [512]byte
	text := buffer[:0]
	for _, part := range []string{t.Group, t.Kind, t.Namespace, t.Name, t.Subset} {
		text = append(append(text, part...), 0)
	}
	text = append(strconv.AppendInt(text, int64(t.Port), 10), 0)
	sum := sha256.Sum256(strconv.AppendInt(text, int64(ordinal), 10))
	return hex.EncodeToString(sum[:5])
}

// placeholders is a rule's list of headers to remove, with the levels above it.
type placeholders struct {
	// depth is the number of levels that exist, from the outside.
	depth int
	// shared is set, for levels 1 and 2, when something besides the next level stands there.
	shared [3]bool
	// names is the stored list; linked holds the names in it that stand for a parked mirror.
	names  []string
	linked map[string]bool
	// keep is the number of levels that stood there empty before the first placeholder.
	keep int
	// marks are those of limited mirrors in the list.
	marks []limitMark
	// broken is set when the list cannot be read: no placeholder is added or removed.
	broken bool
}

// others returns the names that stay: the user's own, and orphans.
func (ph *placeholders) others() []string {
	return slices.DeleteFunc(slices.Clone(ph.names), func(name string) bool { return ph.linked[name] })
}

// outermostOwn returns the outermost level that holds placeholders and nothing else; 4 when there is none.
func (ph *placeholders) outermostOwn() int {
	if len(ph.others()) > 0 {
		return 4
	}
	level := 3
	for level > 1 && !ph.shared[level-1] {
		level--
	}
	return level
}

// setKeep sets keep, once linked and shared are known.
func (ph *placeholders) setKeep(linked []entry) {
	for _, e := range linked {
		ph.keep = max(ph.keep, e.Keep)
	}
	if len(ph.linked) == 0 && ph.outermostOwn() <= ph.depth {
		ph.keep = ph.depth
	}
}

// namesWith returns the list with the given placeholders behind the other names.
func (ph *placeholders) namesWith(placeholders []string) []string {
	return append(ph.others(), placeholders...)
}

// levels are the places of the levels in a rule, from the outside.
type levels [3]struct {
	at   patch.Pointer
	name string // of the member, for building a level that is missing
}

// edits turns the stored list into the one with the given placeholders.
func (ph *placeholders) edits(levels levels, placeholders []string) []patch.Operation {
	names := ph.namesWith(placeholders)
	if ph.broken || slices.Equal(names, ph.names) {
		return nil
	}
	if len(names) == 0 {
		if level := max(ph.outermostOwn(), ph.keep+1); level <= 3 {
			return []patch.Operation{patch.Remove(levels[level-1].at)}
		}
	}
	if ph.depth < 3 {
		var value any = names
		for level := 3; level > ph.depth+1; level-- {
			value = map[string]any{levels[level-1].name: value}
		}
		return []patch.Operation{patch.Add(levels[ph.depth].at, value)}
	}
	same := 0
	for same < min(len(names), len(ph.names)) && names[same] == ph.names[same] {
		same++
	}
	list := levels[2].at
	if len(ph.names)+len(names)-2*same > maxEdits {
		return []patch.Operation{patch.Add(list, names)}
	}
	var ops []patch.Operation
	for i := len(ph.names) - 1; i >= same; i-- {
		ops = append(ops, patch.Remove(list.Index(i)))
	}
	for _, name := range names[same:] {
		ops = append(ops, patch.Add(list.End(), name))
	}
	return ops
}

// readNames reads the stored list. An element that is not a name is read as "", so that the names around it
// are still found.
func (ph *placeholders) readNames(list json.RawMessage) {
	ph.depth = 3
	defer ph.readMarks()
	if reread(list, &ph.names) == nil {
		return
	}
	ph.broken = true
	var items []json.RawMessage
	if reread(list, &items) != nil {
		ph.names = nil
		return
	}
	ph.names = make([]string, len(items))
	for i, item := range items {
		_ = reread(item, &ph.names[i])
	}
}

// readMarks finds the marks of limited mirrors in the list.
func (ph *placeholders) readMarks() {
	seen := map[string]bool{}
	for _, name := range ph.names {
		if k, ok := readLimitMark(name); ok && !seen[name] {
			seen[name] = true
			ph.marks = append(ph.marks, k)
		}
	}
}

// linkMarks notes the marks among the names that mirrorgate may take out, and returns the largest number of empty levels
// in them.
func (ph *placeholders) linkMarks() (keep int) {
	for _, k := range ph.marks {
		ph.linked[k.name()] = true
		keep = max(keep, k.keep)
	}
	return keep
}

// members reads an object's members; null ones count as absent. ok is false when raw is no object.
func members(raw json.RawMessage) (m map[string]json.RawMessage, ok bool) {
	if isNull(raw) || reread(raw, &m) != nil {
		return nil, false
	}
	maps.DeleteFunc(m, func(_ string, v json.RawMessage) bool { return isNull(v) })
	return m, true
}

// link returns the mirrors that the rule's placeholders stand for. A placeholder without an entry is an
// orphan. A mirror that its author has written again in the same place is left out, because the inline mirror
// wins.
func (rt *Route) link(rule *Rule, ph *placeholders, inline inlineMirrors, read func(entry) Mirror) []Mirror {
	ph.linked = map[string]bool{}
	var mirrors []Mirror
	entries := []entry{{Keep: ph.linkMarks()}}
	seen := make(map[string]bool, len(ph.names))
	for _, name := range ph.names {
		id := idOf(name)
		if id == "" || seen[id] {
			continue
		}
		seen[id] = true
		e, ok := rt.findEntry(id)
		if !ok {
			rule.Orphans = append(rule.Orphans, id)
			continue
		}
		ph.linked[name] = true
		if rt.linked == nil {
			rt.linked = map[string]bool{}
		}
		rt.linked[id] = true
		entries = append(entries, e)
		mirror := read(e)
		switch same := inline[mirror.group()]; {
		case same == nil:
			mirrors = append(mirrors, mirror)
		case !same[mirror.Percentage.Percent()]:
			rule.Replaced = append(rule.Replaced, mirror)
		}
	}
	ph.setKeep(entries)
	if ph.broken && len(seen)+len(ph.marks) > 0 {
		rt.frozen = misfitBroken
	}
	return mirrors
}
