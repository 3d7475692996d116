package route

// Parked mirrors of a delegate, a VirtualService without hosts. Istio merges a delegate with its root: the
// delegate inherits headers, mirror, mirrors and mirrorPercentage where it has none of its own. A parked mirror
// therefore stays where it is with percentage 0, which is off, so that none is inherited in its place. Its
// placeholder stands among the headers of every entry of route, which are not merged. The placeholder holds the
// declared percentage, and the annotation has no entry.

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// silent is the percentage of a silenced mirror.
var silent = json.RawMessage(`{"value":0}`)

// mark is the placeholder of a silenced mirror: x-mirrorgate-parked-ID-SHARE-v0, where ID is that of the target
// and SHARE the declared percentage; -kN follows for the element N of mirrors, and -eN where N levels above the
// list of headers stood there empty.
type mark struct {
	id, share string
	place     int // index in mirrors, -1 for a single mirror
	keep      int
}

// Characters of a mark, and the length of its id.
const (
	hexDigits  = "0123456789abcdef"
	shareSigns = "0123456789dempx"
	idLength   = 10
)

// readMark reads a placeholder of a silenced mirror. A name that is not exactly as name writes it is the
// user's.
func readMark(name string) (mark, bool) {
	rest, found := strings.CutPrefix(name, PlaceholderPrefix)
	id, rest, dashed := strings.Cut(rest, "-")
	share, rest, off := strings.Cut(rest, "-v0")
	if !found || !dashed || !off || len(id) != idLength || strings.Trim(id, hexDigits) != "" ||
		(share != "n" && strings.Trim(strings.TrimPrefix(share, "v"), shareSigns) != "") {
		return mark{}, false
	}
	m := mark{id: id, share: share, place: -1}
	rest, levels, _ := strings.Cut(rest, "-e")
	m.keep, _ = strconv.Atoi(levels)
	if place, listed := strings.CutPrefix(rest, "-k"); listed {
		m.place, _ = strconv.Atoi(place)
	}
	if m.keep < 0 || m.keep > 3 || m.place > maxValues {
		return mark{}, false
	}
	_, ok := percentageOf(share)
	return m, ok && m.name() == name
}

func (m mark) name() string {
	name := PlaceholderPrefix + m.id + "-" + m.share + "-v0"
	if m.place >= 0 {
		name += "-k" + strconv.Itoa(m.place)
	}
	if m.keep > 0 {
		name += "-e" + strconv.Itoa(m.keep)
	}
	return name
}

// A number in a placeholder is written with letters for its signs.
var (
	toShare   = strings.NewReplacer(".", "d", "-", "m", "+", "p", "E", "x")
	fromShare = strings.NewReplacer("d", ".", "m", "-", "p", "+", "x", "E")
)

// share returns the declared percentage of a mirror as a placeholder holds it, "" for one that does not fit:
// "n" for none, "v12d5" for {value: 12.5}.
func (m *Mirror) share() string {
	raw := m.stanza["mirrorPercentage"]
	if !m.position.single {
		raw = memberOf(m.text, "percentage")
	}
	if isNull(raw) {
		return "n"
	}
	fields, ok := members(raw)
	value := string(fields["value"])
	if !ok || len(fields) > 1 || (len(fields) == 1 && value == "") {
		return ""
	}
	share := "v" + toShare.Replace(value)
	if back, ok := percentageOf(share); !ok || value != "" && string(back) != `{"value":`+value+`}` {
		return ""
	}
	return share
}

// percentageOf is the inverse of share: it returns nil for "n".
func percentageOf(share string) (raw json.RawMessage, ok bool) {
	switch {
	case share == "":
		return nil, false
	case share == "n":
		return nil, true
	case share == "v":
		return json.RawMessage(`{}`), true
	case len(share) > 25 || share[0] != 'v':
		return nil, false
	}
	number := jsontext.Value(fromShare.Replace(share[1:]))
	if number.Kind() != '0' || !number.IsValid() {
		return nil, false
	}
	return json.RawMessage(`{"value":` + string(number) + `}`), true
}

// readRoutes reads the lists of headers of the entries of route, and returns the placeholders in them.
func (l *istioLayout) readRoutes(in *istioRule) []mark {
	var silencers []mark
	seen := map[mark]bool{}
	l.routes = make([]placeholders, len(in.Route))
	for i, r := range in.Route {
		ph := &l.routes[i]
		if r == nil {
			ph.broken = true
			continue
		}
		ph.readHeaders(r.Headers)
		ph.linked = map[string]bool{}
		keep := 0
		for _, name := range ph.names {
			m, ok := readMark(name)
			if !ok || len(silencers) > maxSilencers {
				continue // one more than mirrorgate writes
			}
			ph.linked[name] = true
			keep = max(keep, m.keep)
			m.keep = 0
			if !seen[m] {
				seen[m] = true
				silencers = append(silencers, m)
			}
		}
		ph.setKeep([]entry{{Keep: max(keep, ph.linkMarks())}})
	}
	return silencers
}

// silence marks the mirrors as parked that a placeholder belongs to: one of its target that is off, at its place
// if there is one. A mirror that is not off was written again since, and its placeholder goes; silence returns
// those that had another percentage before.
func (l *istioLayout) silence(inline []Mirror, silencers []mark, namespace, domain string) (replaced []Mirror) {
	if len(silencers) == 0 {
		return nil
	}
	type place struct {
		id    string
		place int
	}
	at, left, active := map[place]int{}, map[string][]int{}, map[string]int{}
	for i := range inline {
		m := &inline[i]
		id := mirrorID(m.Target, 0)
		if m.fault == "" && m.isOff() {
			at[place{id, m.placeInList()}] = i
			left[id] = append(left[id], i)
		} else {
			active[id] = i
		}
	}
	var moved []mark
	for _, mark := range silencers {
		if i, ok := at[place{mark.id, mark.place}]; ok && !inline[i].silenced {
			l.park(&inline[i], mark.share, namespace, domain)
		} else {
			moved = append(moved, mark)
		}
	}
	for _, mark := range moved {
		m := (*Mirror)(nil)
		for m == nil && len(left[mark.id]) > 0 {
			if next := &inline[left[mark.id][0]]; !next.silenced && next.position.single == (mark.place < 0) {
				m = next
			}
			left[mark.id] = left[mark.id][1:]
		}
		if m != nil {
			l.park(m, mark.share, namespace, domain)
		} else if i, ok := active[mark.id]; ok {
			before := inline[i]
			if l.park(&before, mark.share, namespace, domain); before.Percentage.Percent() != inline[i].Percentage.Percent() {
				replaced = append(replaced, before)
			}
		}
	}
	return replaced
}

// placeInList returns the index of the mirror in mirrors, -1 for a single one.
func (m *Mirror) placeInList() int {
	if m.position.single {
		return -1
	}
	return m.position.index
}

// isOff reports whether the mirror has the percentage of a silenced one.
func (m *Mirror) isOff() bool {
	if len(m.Percentage.Fields) == 0 {
		return false
	}
	f := &m.Percentage.Fields[0]
	return (f.Name == "mirrorPercentage" || f.Name == "percentage") && f.Problem == "" && f.Percent == 0
}

// park makes an inline mirror the parked one with the declared percentage.
func (l *istioLayout) park(m *Mirror, share, namespace, domain string) {
	declared, _ := percentageOf(share)
	position := m.position
	if position.single {
		stanza := maps.Clone(m.stanza)
		if delete(stanza, "mirrorPercentage"); declared != nil {
			stanza["mirrorPercentage"] = declared
		}
		*m = stanzaMirror(stanza, namespace, domain)
	} else {
		*m = elementMirror(withMember(m.text, "percentage", declared), namespace, domain)
	}
	m.position, m.Parked, m.silenced = position, true, true
}

// silentStanza returns the fields of a single mirror that is silenced. One that is declared off is left as it
// is.
func (m *Mirror) silentStanza() map[string]json.RawMessage {
	if m.isOff() {
		return m.stanza
	}
	stanza := maps.Clone(m.stanza)
	stanza["mirrorPercentage"] = silent
	return stanza
}

// silentText returns the text of an element of mirrors that is silenced.
func (m *Mirror) silentText() json.RawMessage {
	if m.isOff() {
		return m.text
	}
	return withMember(m.text, "percentage", silent)
}

// valueOf returns a member of a JSON object as the value of an operation, nil when it has none.
func valueOf(text json.RawMessage, member string) any {
	if raw := memberOf(text, member); raw != nil {
		return raw
	}
	return nil
}

// silencers returns the placeholders of the mirrors that are silenced.
func (p *rulePlan) silencers() []mark {
	var silencers []mark
	for i := range p.rule.Mirrors {
		if m := &p.rule.Mirrors[i]; p.silences(i) {
			silencers = append(silencers, mark{id: mirrorID(m.Target, 0), share: m.share(), place: m.placeInList()})
		}
	}
	return silencers
}

// withKeep returns the names of placeholders in a list with that number of empty levels above it.
func withKeep(silencers []mark, keep int) []string {
	var names []string
	for _, m := range silencers {
		m.keep = keep
		names = append(names, m.name())
	}
	return names
}

// memberOf returns a member of a JSON object, nil when it has none.
func memberOf(object json.RawMessage, name string) json.RawMessage {
	start, end, _ := findMember(object, name)
	if start < 0 {
		return nil
	}
	return slices.Clone(object[start:end])
}

// withMember returns a JSON object with another value of a member, nil for none, and everything else as it
// is.
func withMember(object json.RawMessage, name string, value json.RawMessage) json.RawMessage {
	start, end, from := findMember(object, name)
	switch {
	case start >= 0 && value != nil:
		return slices.Concat(object[:start], value, object[end:])
	case start >= 0:
		rest := bytes.TrimLeft(object[end:], " \t\r\n")
		if bytes.HasSuffix(bytes.TrimRight(object[:from], " \t\r\n"), []byte("{")) {
			rest = bytes.TrimPrefix(rest, []byte(",")) // it was the first member
		}
		return slices.Concat(object[:from], rest)
	case value == nil:
		return object
	default:
		last := bytes.LastIndexByte(object, '}')
		member := `"` + name + `":` + string(value)
		if !bytes.HasSuffix(bytes.TrimRight(object[:last], " \t\r\n"), []byte("{")) {
			member = "," + member
		}
		return slices.Concat(object[:last], json.RawMessage(member), object[last:])
	}
}

// findMember returns the place of a member's value in a JSON object, -1 when it has none, and the end of the
// member in front of it.
func findMember(object json.RawMessage, name string) (start, end, from int) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object), reading)
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return -1, -1, -1
	}
	for dec.PeekKind() == '"' {
		from = int(dec.InputOffset())
		key, err := dec.ReadToken()
		if err != nil {
			break
		}
		found := key.String() == name
		value, err := dec.ReadValue()
		if err != nil {
			break
		}
		if found {
			end = int(dec.InputOffset())
			return end - len(value), end, from
		}
	}
	return -1, -1, -1
}
