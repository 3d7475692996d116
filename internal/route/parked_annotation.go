package route

// The parked annotation: a JSON object with one entry for each parked mirror, by the mirror's id. An entry
// keeps the mirror's text and the position that it came from.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/patch"
)

// maxAnnotations is the API server's limit for all annotations of an object, in bytes of keys and values.
const maxAnnotations = 256 << 10

// entry is one value of the parked annotation's JSON object. Exactly one of Filter, Stanza and Element is
// set.
type entry struct {
	// Filter is a Gateway API filter of type RequestMirror.
	Filter json.RawMessage `json:"filter,omitempty"`
	// Stanza holds a VirtualService's mirror and the percentage beside it.
	Stanza map[string]json.RawMessage `json:"stanza,omitempty"`
	// Element is an element of a VirtualService's mirrors.
	Element json.RawMessage `json:"element,omitempty"`
	// At is the index in the list, counted with every mirror in place.
	At int `json:"at,omitempty"`
	// Modifier is the position of the filter that carries the placeholder, counted in the same way from 1. It
	// is 0 for a filter that holds nothing but placeholders, which has the place of the first mirror among
	// them.
	Modifier int `json:"mark,omitempty"`
	// Backend identifies the backendRef that holds the filter, nil for a filter of the rule itself.
	Backend *backendID `json:"backend,omitempty"`
	// Keep is the number of levels above the remove list that stood there empty before the first mirror was
	// parked. They stay when the last one returns.
	Keep int `json:"keep,omitempty"`
}

// backendID identifies a backendRef after others moved: by its target, and by its ordinal among those with
// the same target.
type backendID struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Port      int32  `json:"port,omitempty"`
	Nth       int    `json:"nth,omitempty"`
}

// backendIndex finds the backendRefs of a rule.
type backendIndex struct {
	exact map[backendID]int
	// named has the only backendRef with a name, whatever its port; backendGone where there are several.
	named map[backendID]int
}

func newBackendIndex(ids []backendID) backendIndex {
	index := backendIndex{map[backendID]int{}, map[backendID]int{}}
	for i, id := range ids {
		index.exact[id] = i
		id.Port, id.Nth = 0, 0
		if _, several := index.named[id]; several {
			i = backendGone
		}
		index.named[id] = i
	}
	return index
}

// find returns the index of the backendRef, or backendGone. The only backendRef with that name is found
// although its port was edited.
func (in backendIndex) find(id backendID) int {
	if i, ok := in.exact[id]; ok {
		return i
	}
	id.Port, id.Nth = 0, 0
	if i, ok := in.named[id]; ok {
		return i
	}
	return backendGone
}

func backendIDs(backends []Backend) []backendID {
	seen := make(map[Target]int, len(backends))
	ids := make([]backendID, 0, len(backends))
	for i := range backends {
		t := backends[i].Target
		ids = append(ids, backendID{t.Group, t.Kind, t.Namespace, t.Name, t.Port, seen[t]})
		seen[t]++
	}
	return ids
}

// stanzaKeys are the fields of a VirtualService's http route that make up its single mirror.
var stanzaKeys = []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"}

// check returns the reason why the entry cannot be a parked mirror of a route of that kind, nil when it can.
func (e entry) check(kind Kind) error {
	if e.At < 0 || e.Modifier < 0 || e.Keep < 0 || e.Keep > 3 || (e.Backend != nil && e.Backend.Nth < 0) {
		return errors.New("a position is out of range")
	}
	forms := 0
	for _, set := range []bool{!isNull(e.Filter), e.Stanza != nil, !isNull(e.Element)} {
		if set {
			forms++
		}
	}
	if forms != 1 {
		return errors.New("exactly one of filter, stanza and element must be set")
	}
	if kind != VirtualService {
		var f filterHead
		if err := reread(e.Filter, &f); err != nil || !f.isMirror() {
			return errors.New("filter is not a RequestMirror filter")
		}
		return nil
	}
	if !isNull(e.Element) {
		var m istioMirror
		if err := reread(e.Element, &m); err != nil || m.Destination == nil {
			return errors.New("element is not an element of mirrors")
		}
		return nil
	}
	return e.checkStanza()
}

func (e entry) checkStanza() error {
	var dst istioDestination
	if err := reread(e.Stanza["mirror"], &dst); err != nil || isNull(e.Stanza["mirror"]) {
		return errors.New("stanza has no mirror")
	}
	for key := range e.Stanza {
		if !slices.Contains(stanzaKeys, key) {
			return fmt.Errorf("stanza has fields other than %s", strings.Join(stanzaKeys, ", "))
		}
	}
	return nil
}

// readParked reads the parked annotation.
func (rt *Route) readParked() {
	if rt.Parked == "" {
		return
	}
	rt.entries = map[string]entry{}
	if len(rt.Parked) > maxAnnotations {
		rt.ParkedError = fmt.Errorf("longer than %d bytes", maxAnnotations)
		return
	}
	var texts map[string]json.RawMessage
	if err := unmarshal([]byte(rt.Parked), &texts); err != nil {
		rt.ParkedError = unusable("not a JSON object of parked mirrors", err)
		return
	}
	rt.stored = texts
	for id, text := range texts {
		var e entry
		if err := reread(text, &e); err == nil && e.check(rt.Kind) == nil {
			rt.entries[id] = e
		}
	}
}

// findEntry returns the entry of an id. One that the annotation has lost is looked up in the previous version
// of the route: an entry lives as long as its placeholder.
func (rt *Route) findEntry(id string) (entry, bool) {
	e, ok := rt.entries[id]
	if !ok && rt.previous != nil {
		if previous := rt.previous(); previous != nil {
			e, ok = previous.entries[id]
		}
	}
	return e, ok
}

// EntryError returns the reason why the entry of an orphaned placeholder cannot be used; nil when there is no
// entry at all.
func (rt *Route) EntryError(id string) error {
	text, ok := rt.stored[id]
	if !ok {
		return nil
	}
	var e entry
	if err := reread(text, &e); err != nil {
		return unusable("not a parked mirror", err)
	}
	return e.check(rt.Kind)
}

// annotation returns the parked annotation of the plans, "" for none.
func (rt *Route) annotation(plans []*rulePlan) (string, error) {
	entries, size := map[string]any{}, 0
	for _, p := range plans {
		for _, id := range p.rule.Orphans {
			if text, ok := rt.stored[id]; ok {
				entries[id] = text // unusable, but the author may still mend it
			}
		}
		for i := range p.rule.Mirrors {
			if p.inAnnotation(i) {
				m := &p.rule.Mirrors[i]
				size += m.size()
				entries[m.ID] = rt.withStoredText(m, p.rule.layout.entry(p.rule, i))
			}
		}
	}
	if len(entries) == 0 {
		return "", nil
	}
	// Text is left as its author wrote it; keys are sorted, so the same entries give the same bytes.
	var buf bytes.Buffer
	buf.Grow(size)
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(entries); err != nil {
		return "", err
	}
	return strings.TrimSuffix(buf.String(), "\n"), nil
}

// withStoredText gives the entry of an inline mirror the text that is already stored for it, if both mean the
// same: the API server adds defaults to the objects that it stores, and an apply that leaves them out must
// not look like a change.
func (rt *Route) withStoredText(m *Mirror, e entry) entry {
	if m.Parked || rt.linked[m.ID] || isNull(e.Filter) {
		return e
	}
	if stored, ok := rt.findEntry(m.ID); ok && sameFilter(e.Filter, stored.Filter) {
		e.Filter = stored.Filter
	}
	return e
}

func sameFilter(a, b json.RawMessage) bool {
	if isNull(b) {
		return false
	}
	if bytes.Equal(a, b) {
		return true
	}
	x, y := exactly(a), exactly(b)
	for _, f := range []map[string]any{x, y} {
		m, _ := f["requestMirror"].(map[string]any)
		fill(m["backendRef"], "group", "")
		fill(m["backendRef"], "kind", TargetService)
		fill(m["fraction"], "denominator", json.Number("100"))
	}
	return reflect.DeepEqual(x, y)
}

// exactly decodes a JSON object with its numbers as they are written.
func exactly(raw json.RawMessage) (m map[string]any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	_ = dec.Decode(&m) // filters were decoded before
	return m
}

// fill gives a member of a JSON object its default.
func fill(object any, name string, value any) {
	if o, ok := object.(map[string]any); ok {
		if _, ok := o[name]; !ok {
			o[name] = value
		}
	}
}

// excess returns the number of bytes by which the route's annotations would become too large with this parked
// annotation. Annotations that are too large without it are not mirrorgate's to mend.
func (rt *Route) excess(parked string) int {
	size := rt.annotations.bytes - len(rt.Parked) + len(parked)
	if !rt.annotations.hasParked {
		size += len(ParkedAnnotation)
	}
	return min(size-maxAnnotations, len(parked)-len(rt.Parked))
}

// leastExcess returns a number of bytes that excess will not be below.
func (rt *Route) leastExcess(plans []*rulePlan) int {
	size := rt.annotations.bytes - len(rt.Parked)
	for _, p := range plans {
		for i := range p.rule.Mirrors {
			if p.inAnnotation(i) {
				size += p.rule.Mirrors[i].size() - entryFrame
			}
		}
	}
	return size - maxAnnotations
}

// annotationEdits turns the stored parked annotation into the given one.
func (rt *Route) annotationEdits(parked string) []patch.Operation {
	annotations := patch.Pointer("").Key("metadata").Key("annotations")
	at := annotations.Key(ParkedAnnotation)
	switch {
	case parked == rt.Parked && rt.annotations.hasParked == (parked != ""):
		return nil
	case parked == "" && rt.annotations.count == 1:
		return []patch.Operation{patch.Remove(annotations)}
	case parked == "":
		return []patch.Operation{patch.Remove(at)}
	case rt.annotations.count == 0:
		return []patch.Operation{patch.Add(annotations, map[string]any{ParkedAnnotation: parked})}
	default:
		return []patch.Operation{patch.Add(at, parked)}
	}
}
