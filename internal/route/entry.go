package route

// An entry is what the parked annotation keeps of one mirror: its text and the
// place that it came from.

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// entry is one value of the parked annotation's JSON object. Exactly one of
// Filter, Stanza and Element is set.
type entry struct {
	// Filter is a Gateway API filter of type RequestMirror.
	Filter json.RawMessage `json:"filter,omitempty"`
	// Stanza holds a VirtualService's mirror and the percentage beside it.
	Stanza map[string]json.RawMessage `json:"stanza,omitempty"`
	// Element is an element of a VirtualService's mirrors.
	Element json.RawMessage `json:"element,omitempty"`
	// At is the position in the list, counted with every mirror in place.
	At int `json:"at,omitempty"`
	// Mark is the position of the filter that carries the placeholder, counted
	// in the same way from 1; 0 when it is there for placeholders only and has
	// the place of the first of them.
	Mark int `json:"mark,omitempty"`
	// Backend is the backendRef that the filter stands under, nil for one of
	// the rule's own.
	Backend *backendPlace `json:"backend,omitempty"`
	// Keep is how much of the way to the remove list stood there empty before
	// the first mirror was parked, and stays when the last one returns.
	Keep int `json:"keep,omitempty"`
}

// backendPlace finds a backendRef again after others moved: by what it points
// at, and by its number among those that point at the same.
type backendPlace struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Port      int32  `json:"port,omitempty"`
	Nth       int    `json:"nth,omitempty"`
}

// find returns the number of the backendRef, or backendGone. One that is alone
// with its name is found although its port was edited.
func (p backendPlace) find(index map[backendPlace]int) int {
	if i, ok := index[p]; ok {
		return i
	}
	found := backendGone
	for other, i := range index {
		other.Port, other.Nth = p.Port, p.Nth
		switch {
		case other != p:
		case found != backendGone:
			return backendGone
		default:
			found = i
		}
	}
	return found
}

func placesOf(backends []Target) []backendPlace {
	seen := map[Target]int{}
	places := make([]backendPlace, 0, len(backends))
	for _, t := range backends {
		places = append(places, backendPlace{t.Group, t.Kind, t.Namespace, t.Name, t.Port, seen[t]})
		seen[t]++
	}
	return places
}

// stanzaKeys are the fields of a VirtualService's http route that make up its
// single mirror.
var stanzaKeys = []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"}

// check tells why the entry cannot be a parked mirror of a route of that kind.
func (e entry) check(kind Kind) error {
	if e.At < 0 || e.Mark < 0 || e.Keep < 0 || e.Keep > 3 || (e.Backend != nil && e.Backend.Nth < 0) {
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
		if err := unmarshal(e.Filter, &f); err != nil || f.Type != "RequestMirror" || f.RequestMirror == nil {
			return errors.New("filter is not a RequestMirror filter")
		}
		return nil
	}
	if !isNull(e.Element) {
		var m istioMirror
		if err := unmarshal(e.Element, &m); err != nil || m.Destination == nil {
			return errors.New("element is not an element of mirrors")
		}
		return nil
	}
	return e.checkStanza()
}

func (e entry) checkStanza() error {
	var dst istioDestination
	if err := unmarshal(e.Stanza["mirror"], &dst); err != nil || isNull(e.Stanza["mirror"]) {
		return errors.New("stanza has no mirror")
	}
	known := 0
	for _, key := range stanzaKeys {
		if _, ok := e.Stanza[key]; ok {
			known++
		}
	}
	if known != len(e.Stanza) {
		return fmt.Errorf("stanza has fields other than %s", strings.Join(stanzaKeys, ", "))
	}
	return nil
}

// EntryError tells why the entry behind a placeholder that is an orphan cannot
// be used; nil when there is no entry at all.
func (d *Route) EntryError(id string) error {
	text, ok := d.stored[id]
	if !ok {
		return nil
	}
	var e entry
	if err := unmarshal(text, &e); err != nil {
		return unusable("not a parked mirror", err)
	}
	return e.check(d.Kind)
}

// encodeEntries writes the parked annotation. Text is left as its author wrote
// it; keys are sorted, so that the same entries give the same bytes.
func encodeEntries(entries map[string]json.RawMessage) (string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(entries); err != nil {
		return "", err
	}
	return strings.TrimSuffix(buf.String(), "\n"), nil
}

func encodeEntry(e entry) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// settle gives the entry of an inline mirror the text that is stored for it
// already, when it means the same: the API server adds defaults to what it
// stores, and an apply that leaves them out must not look like a change.
func (d *Route) settle(m *Mirror, e entry) entry {
	if m.Parked || d.linked[m.ID] {
		return e
	}
	if stored, ok := d.entry(m.ID); ok && sameFilter(e.Filter, stored.Filter) {
		e.Filter = stored.Filter
	}
	return e
}

func sameFilter(a, b json.RawMessage) bool {
	if isNull(a) || isNull(b) {
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

// name gives every mirror its canonical id. It depends on nothing but the
// document, so dry run, every replica and every repeat agree. The id of an
// orphan is not given to another mirror: the placeholder would become its.
func (d *Route) name() {
	seen := map[Target]int{}
	taken := map[string]bool{}
	for i := range d.Rules {
		for _, id := range d.Rules[i].Orphans {
			taken[id] = true
		}
	}
	for _, m := range d.Every {
		for {
			ordinal := seen[m.Target]
			seen[m.Target]++
			m.ID = hash(m.Target, ordinal)
			if !taken[m.ID] {
				break
			}
		}
		taken[m.ID] = true
	}
}

func hash(t Target, ordinal int) string {
	text := strings.Join([]string{t.Group, t.Kind, t.Namespace, t.Name, t.Subset}, "\x00")
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", text, t.Port, ordinal))
	return hex.EncodeToString(sum[:5])
}
