package route

// Limited mirrors stand in the spec with a smaller share than they declare. A mark among the headers that the rule
// removes, x-mirrorgate-limited-ID-DECLARED-STORED, holds both shares, so that no client that writes a part of the rule
// can separate them. A mark counts while its rule has a mirror to its target with the stored share; otherwise somebody
// wrote the mirror since, the mark goes, and the mirror is declared as it stands.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// LimitedPrefix starts the header name that holds the shares of a limited mirror. Nobody sends such a header, so
// removing it changes nothing.
const LimitedPrefix = "x-mirrorgate-limited-"

// storedDenominator is the denominator of the fractions that are stored for limited mirrors of HTTPRoutes and
// GRPCRoutes; no author writes it.
const storedDenominator = int64(All)

// limitMark is the mark of a limited mirror. -eN follows its shares where N levels above the list stood there empty, and
// -N for the mirror number N that has the same target and the same shares.
type limitMark struct {
	id string // that of the target
	// declared and stored are the shares as the mark spells them.
	declared, stored string
	keep, nth        int
}

// Shares in a mark: n for none, p25 for a percent, f1o1000 for a fraction, v12d5 for a VirtualService's value, w5 for
// mirrorPercent and u5 for mirror_percent.
var (
	limitPattern = regexp.MustCompile(`^` + LimitedPrefix +
		`([0-9a-f]{10})-(n|[pvwu][0-9dempx]{0,24}|f[0-9]{1,10}(?:o[0-9]{1,10})?)-([fv][0-9d]{1,8})(?:-e([1-3]))?(?:-([1-9][0-9]{0,4}))?$`)
	fractionPattern = regexp.MustCompile(`^f([0-9]+)(?:o([0-9]+))?$`)
)

// readLimitMark reads a mark. A name that is not exactly as name writes it, or whose stored share is not below the
// declared one, is the user's.
func readLimitMark(name string) (limitMark, bool) {
	if !strings.HasPrefix(name, LimitedPrefix) {
		return limitMark{}, false
	}
	parts := limitPattern.FindStringSubmatch(name)
	if parts == nil {
		return limitMark{}, false
	}
	k := limitMark{id: parts[1], declared: parts[2], stored: parts[3], nth: 1}
	if parts[4] != "" {
		k.keep, _ = strconv.Atoi(parts[4])
	}
	if parts[5] != "" {
		k.nth, _ = strconv.Atoi(parts[5])
	}
	declared, ok := k.percent()
	stored := k.share()
	return k, ok && k.name() == name && stored > 0 && stored.Percent() < declared
}

func (k limitMark) name() string {
	name := LimitedPrefix + k.id + "-" + k.declared + "-" + k.stored
	if k.keep > 0 {
		name += "-e" + strconv.Itoa(k.keep)
	}
	if k.nth > 1 {
		name += "-" + strconv.Itoa(k.nth)
	}
	return name
}

// share returns the stored share, 0 for a spelling that is never stored.
func (k limitMark) share() Share {
	if k.stored[0] == 'f' {
		n, err := strconv.ParseInt(k.stored[1:], 10, 32)
		if err != nil || storedGateway(Share(n)) != k.stored {
			return 0
		}
		return Share(n)
	}
	percent, err := strconv.ParseFloat(fromShare.Replace(k.stored[1:]), 64)
	if s := ShareOf(percent); err == nil && storedIstio(s) == k.stored {
		return s
	}
	return 0
}

// percent returns the declared percentage.
func (k limitMark) percent() (float64, bool) {
	fields, ok := k.fields()
	if !ok {
		return 0, false
	}
	p := gatewayPercentage(fields["percent"], fields["fraction"])
	if k.stored[0] == 'v' {
		p = stanzaPercentage(fields)
	}
	return p.Percent(), p.problem() == "" && p.Percent() <= 100
}

// fields returns the fields in which the declared share was written; a single mirror's for a VirtualService.
func (k limitMark) fields() (map[string]json.RawMessage, bool) {
	if k.declared == "n" {
		return nil, true
	}
	gateway := k.stored[0] == 'f'
	if parts := fractionPattern.FindStringSubmatch(k.declared); parts != nil && gateway {
		text := `{"numerator":` + parts[1] + `,"denominator":` + cmp.Or(parts[2], string(defaultDenominator)) + `}`
		return map[string]json.RawMessage{"fraction": json.RawMessage(text)}, true
	}
	if k.declared[0] == 'v' && !gateway {
		raw, ok := percentageOf(k.declared)
		return map[string]json.RawMessage{"mirrorPercentage": raw}, ok
	}
	name, known := map[byte]string{'p': "percent", 'w': "mirrorPercent", 'u': "mirror_percent"}[k.declared[0]]
	number := jsontext.Value(fromShare.Replace(k.declared[1:]))
	if !known || (name == "percent") != gateway || number.Kind() != '0' || !number.IsValid() {
		return nil, false
	}
	return map[string]json.RawMessage{name: json.RawMessage(number)}, true
}

func storedGateway(s Share) string { return "f" + strconv.Itoa(int(s)) }
func storedIstio(s Share) string   { return "v" + toShare.Replace(s.String()) }

// canLimit reports whether a mark can hold the mirror's shares.
func (m *Mirror) canLimit(s Share) bool { _, ok := m.limitMark(s); return ok }

// limitMark returns the mark of a mirror at a share, false for one whose declared share a mark cannot hold.
func (m *Mirror) limitMark(s Share) (limitMark, bool) {
	k := limitMark{id: mirrorID(m.Target, 0), declared: m.spelling(), stored: storedIstio(s), nth: 1}
	if m.filter {
		k.stored = storedGateway(s)
	}
	back, ok := k.fields()
	if !ok || !m.declaredIn(back) {
		return limitMark{}, false
	}
	read, ok := readLimitMark(k.name())
	return k, ok && read == k
}

// shareFields are the fields of a single mirror of a VirtualService that hold its share.
var shareFields = stanzaKeys[1:]

// written returns the fields in which the mirror's share is written.
func (m *Mirror) written() map[string]json.RawMessage {
	fields := map[string]json.RawMessage{}
	put := func(name string, raw json.RawMessage) {
		if !isNull(raw) {
			fields[name] = raw
		}
	}
	switch {
	case m.filter:
		filter := memberOf(m.text, "requestMirror")
		put("percent", memberOf(filter, "percent"))
		put("fraction", memberOf(filter, "fraction"))
	case m.stanza != nil:
		for _, name := range shareFields {
			put(name, m.stanza[name])
		}
	default:
		put("mirrorPercentage", memberOf(m.text, "percentage"))
	}
	return fields
}

// declaredIn reports whether the mirror's share is written in these fields, and in no others.
func (m *Mirror) declaredIn(fields map[string]json.RawMessage) bool {
	return maps.EqualFunc(m.written(), fields, sameShare)
}

// sameShare reports whether two values of a field mean the same to the letter of their numbers.
func sameShare(a, b json.RawMessage) bool {
	x, isObject := members(a)
	y, both := members(b)
	if !isObject || !both {
		return !isObject && !both && bytes.Equal(a, b)
	}
	for _, fraction := range []map[string]json.RawMessage{x, y} {
		if fraction["numerator"] != nil && fraction["denominator"] == nil {
			fraction["denominator"] = defaultDenominator
		}
	}
	return maps.EqualFunc(x, y, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// defaultDenominator is the one that the API server adds to a fraction without one. A mark leaves it out, so that a mirror
// has the same mark before and after that.
var defaultDenominator = json.RawMessage("100")

// spelling returns the declared share as a mark spells it; one that it cannot spell does not come back from it.
func (m *Mirror) spelling() string {
	fields := m.written()
	for name, letter := range map[string]string{"percent": "p", "mirrorPercent": "w", "mirror_percent": "u"} {
		if raw, ok := fields[name]; ok {
			return letter + toShare.Replace(string(raw))
		}
	}
	if raw, ok := fields["mirrorPercentage"]; ok {
		value, _ := members(raw)
		return "v" + toShare.Replace(string(value["value"]))
	}
	raw, ok := fields["fraction"]
	if !ok {
		return "n"
	}
	parts, _ := members(raw)
	text := "f" + string(parts["numerator"])
	if d, ok := parts["denominator"]; ok && !bytes.Equal(d, defaultDenominator) {
		text += "o" + string(d)
	}
	return text
}

// withFields returns the mirror's text with its share written in these fields alone, or its stanza.
func (m *Mirror) withFields(fields map[string]json.RawMessage) (text json.RawMessage, stanza map[string]json.RawMessage) {
	switch {
	case m.stanza != nil:
		stanza = maps.Clone(m.stanza)
		for _, name := range shareFields {
			delete(stanza, name)
		}
		maps.Copy(stanza, fields)
		return nil, stanza
	case m.filter:
		filter := memberOf(m.text, "requestMirror")
		for _, name := range []string{"percent", "fraction"} {
			filter = withMember(filter, name, fields[name])
		}
		return inOrder(withMember(m.text, "requestMirror", filter)), nil
	default:
		return inOrder(withMember(m.text, "percentage", fields["mirrorPercentage"])), nil
	}
}

// inOrder returns a JSON value with the members of objects in the order in which the API server writes them, so that a
// mirror that was limited has the text that it would have otherwise.
func inOrder(raw json.RawMessage) json.RawMessage {
	value := jsontext.Value(slices.Clone(raw))
	if value.Format(lenient, jsontext.PreserveRawStrings(true), jsontext.ReorderRawObjects(true)) != nil {
		return raw
	}
	return json.RawMessage(value)
}

// storedFields returns the fields that are stored for a share.
func (m *Mirror) storedFields(s Share) map[string]json.RawMessage {
	if m.filter {
		return map[string]json.RawMessage{"fraction": json.RawMessage(
			`{"numerator":` + strconv.Itoa(int(s)) + `,"denominator":` + strconv.FormatInt(storedDenominator, 10) + `}`)}
	}
	return map[string]json.RawMessage{"mirrorPercentage": json.RawMessage(`{"value":` + s.String() + `}`)}
}

// storedShare returns the share in the field in which a limited mirror has it, and whether another field is set beside
// it; 0 for any other mirror.
func (m *Mirror) storedShare() (s Share, beside bool) {
	fields := m.written()
	name := "mirrorPercentage"
	if m.filter {
		name = "fraction"
	}
	raw, ok := fields[name]
	if !ok || m.inadmissible() {
		return 0, false
	}
	if name == "mirrorPercentage" {
		f := istioPercent(name, raw)
		if s = ShareOf(f.Percent); f.Problem != "" || s.Percent() != f.Percent {
			return 0, false
		}
		return s, len(fields) > 1
	}
	var v struct {
		Numerator   int64 `json:"numerator"`
		Denominator int64 `json:"denominator"`
	}
	if reread(raw, &v) != nil || v.Denominator != storedDenominator || v.Numerator < 0 || v.Numerator > storedDenominator {
		return 0, false
	}
	return Share(v.Numerator), len(fields) > 1
}

// inadmissible reports whether the API refuses the mirror for another reason than its share.
func (m *Mirror) inadmissible() bool { return m.fault != "" && m.problemOfShare() == "" }

func (m *Mirror) problemOfShare() string {
	switch {
	case len(m.Percentage.Fields) > 1:
		return "several fields hold its share"
	default:
		return m.Percentage.problem()
	}
}

// marked is an inline mirror to which a mark belongs: what its author declared, and the share that is stored.
type marked struct {
	fields map[string]json.RawMessage
	share  Share // 0 where the author wrote another share beside it
}

// matchMarks finds the mirrors of a rule to which its marks belong, by their index. Where more marks fit than there are
// mirrors, those with the smallest declared shares count.
func matchMarks(marks []limitMark, mirrors []Mirror) map[int]marked {
	type key struct {
		id    string
		share Share
	}
	if len(marks) == 0 {
		return nil
	}
	fit := map[key][]limitMark{}
	for _, k := range marks {
		at := key{k.id, k.share()}
		fit[at] = append(fit[at], k)
	}
	stand := map[key][]int{}
	besides := map[int]bool{}
	for i := range mirrors {
		s, beside := mirrors[i].storedShare()
		if at := (key{mirrorID(mirrors[i].Target, 0), s}); s > 0 && len(fit[at]) > 0 {
			stand[at], besides[i] = append(stand[at], i), beside
		}
	}
	out := map[int]marked{}
	for at, indexes := range stand {
		for n, k := range smallest(fit[at], len(indexes)) {
			i := indexes[n]
			fields, _ := k.fields()
			if besides[i] {
				fields = mirrors[i].written()
				delete(fields, "fraction")
				delete(fields, "mirrorPercentage")
				out[i] = marked{fields: fields}
				continue
			}
			out[i] = marked{fields, at.share}
		}
	}
	return out
}

// smallest returns the n marks with the smallest declared shares, in the order in which they stand.
func smallest(marks []limitMark, n int) []limitMark {
	if len(marks) <= n {
		return marks
	}
	order, percents := make([]int, len(marks)), make([]float64, len(marks))
	for i, k := range marks {
		order[i] = i
		percents[i], _ = k.percent()
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(percents[a], percents[b]) })
	order = order[:n]
	slices.Sort(order)
	kept := make([]limitMark, n)
	for i, at := range order {
		kept[i] = marks[at]
	}
	return kept
}

// text returns what the author of an inline mirror declared.
func (k marked) text(m *Mirror) declaredMirror {
	text, stanza := m.withFields(k.fields)
	return declaredMirror{text: text, stanza: stanza, limit: k.share, stale: k.share == 0}
}

// declaredMirror is what the author of an inline mirror declared, where the spec has it with another share.
type declaredMirror struct {
	text   json.RawMessage
	stanza map[string]json.RawMessage
	limit  Share
	// stale is set where the field that mirrorgate stored stands beside the one that the author wrote since.
	stale bool
}

// limitMarks returns the marks of the mirrors that will be limited, as names for a list with that number of empty levels
// above it.
func (p *rulePlan) limitMarks(keep int) []string {
	var names []string
	seen := map[limitMark]int{}
	for i := range p.rule.Mirrors {
		if p.limit[i] == 0 {
			continue
		}
		k, _ := p.rule.Mirrors[i].limitMark(p.limit[i])
		seen[k]++
		k.nth, k.keep = seen[k], keep
		names = append(names, k.name())
	}
	return names
}

// limitedText returns the text of a mirror in a list at a share.
func (m *Mirror) limitedText(s Share) json.RawMessage {
	text, _ := m.withFields(m.storedFields(s))
	return text
}
