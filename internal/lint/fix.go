package lint

// Fixes for findings that have one right answer. They replace bytes at the positions of keys and values, so
// that comments and formatting stay as they are.

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

const (
	shareField = "mirrorPercentage"
	// ruleDepth is the number of steps to a field of a rule, as in spec.http[0].mirrorPercent.
	ruleDepth = 4
)

// edit replaces the text of a node, or removes a member of a mapping.
type edit struct {
	node *yamlv3.Node
	text string
	// value is that of the key node which is removed with it, nil for an edit that replaces.
	value *yamlv3.Node
	flow  bool
}

// fix returns the edits that correct a finding, none where it has no right answer or more than one.
func (c *checker) fix(o *object, rt *route.Route, f Finding) []edit {
	if rt.Kind != route.VirtualService {
		return nil
	}
	switch f.Reason {
	case policy.ShortHost, policy.ServiceNotFound, policy.HostNotFound:
		return c.fixHost(o, rt, f)
	case UnknownField:
		if edits := fixNested(o, f); edits != nil {
			return edits
		}
		return fixName(o, f)
	case policy.DeprecatedField:
		return fixName(o, f)
	case SchemaInvalid:
		if key, value := o.own(f.Field); key != nil && (key.Value == shareField || key.Value == "percentage") {
			return fixShare(key, value)
		}
	}
	return nil
}

// fixHost writes a short host in full if the Service is known.
func (c *checker) fixHost(o *object, rt *route.Route, f Finding) []edit {
	for _, m := range rt.Every {
		if !within(f.Field, m.Path) || m.Parked {
			continue
		}
		host, short := strings.CutSuffix(strings.ToLower(m.Host), ".svc")
		domain := cmp.Or(c.opts.ClusterDomain, route.DefaultClusterDomain)
		_, value := o.own(m.TargetPath + ".host")
		if value == nil || strings.Count(host, ".") != 1 || (!short && !f.namesService()) {
			return nil
		}
		return []edit{{node: value, text: quoteLike(value, host+".svc."+domain)}}
	}
	return nil
}

// namesService reports whether the finding is about a short host that is the name of a known Service.
func (f Finding) namesService() bool { return f.Reason == policy.ShortHost && f.Level == Parked }

// fixName writes the name of a deprecated or misspelt share, and its value in the form that belongs to the name.
func fixName(o *object, f Finding) []edit {
	key, value := o.own(f.Field)
	if key == nil || len(steps(f.Field)) != ruleDepth || o.has(f.Field, shareField) {
		return nil
	}
	deprecated := key.Value == "mirrorPercent" || key.Value == "mirror_percent"
	if !deprecated && !strings.EqualFold(strings.ReplaceAll(key.Value, "_", ""), shareField) {
		return nil
	}
	if deprecated && o.has(f.Field, "mirrorPercent") && o.has(f.Field, "mirror_percent") {
		return nil
	}
	edits := []edit{{node: key, text: quoteLike(key, shareField)}}
	if value.Kind == yamlv3.ScalarNode {
		share := fixShare(key, value)
		if share == nil {
			return nil
		}
		edits = append(edits, share...)
	}
	return edits
}

// fixShare writes a number as {value: NUMBER}, with quotes where the key has them, as in JSON.
func fixShare(key, value *yamlv3.Node) []edit {
	text, ok := shareText(key, value)
	if !ok {
		return nil
	}
	return []edit{{node: value, text: text}}
}

// shareText returns {value: NUMBER} for a number that is a percentage.
func shareText(key, value *yamlv3.Node) (string, bool) {
	n, err := strconv.ParseFloat(value.Value, 64)
	if value.Kind != yamlv3.ScalarNode || err != nil || !(n >= 0 && n <= 100) {
		return "", false
	}
	name := "value"
	if key.Style&yamlv3.DoubleQuotedStyle != 0 {
		name = `"value"`
	}
	return "{" + name + ": " + value.Value + "}", true
}

// shareNames are the names that people give the percentage of a mirror.
var shareNames = []string{shareField, "mirror_percentage", "mirrorPercent", "mirror_percent"}

// fixNested moves a share that stands inside mirror, where the API server drops it, in front of mirror.
func fixNested(o *object, f Finding) []edit {
	if len(steps(f.Field)) != ruleDepth+1 {
		return nil
	}
	outer := f.Field[:strings.LastIndexByte(f.Field, '.')]
	key, value := o.own(f.Field)
	mirrorKey, mirror := o.own(outer)
	_, rule := o.own(outer[:strings.LastIndexByte(outer, '.')])
	if key == nil || mirrorKey == nil || mirrorKey.Value != "mirror" || rule == nil || !slices.Contains(shareNames, key.Value) || !hasMember(mirror, "host") {
		return nil
	}
	for _, name := range shareNames {
		if hasMember(rule, name) || name != key.Value && hasMember(mirror, name) {
			return nil
		}
	}
	text, ok := shareText(mirrorKey, value)
	if !ok {
		return nil
	}
	separator := ", "
	if rule.Style&yamlv3.FlowStyle == 0 {
		separator = "\n" + strings.Repeat(" ", mirrorKey.Column-1)
	}
	moved := quoteLike(mirrorKey, shareField) + ": " + text + separator + quoteLike(mirrorKey, mirrorKey.Value)
	return []edit{{node: mirrorKey, text: moved}, {node: key, value: value, flow: mirror.Style&yamlv3.FlowStyle != 0}}
}

func hasMember(mapping *yamlv3.Node, name string) bool {
	key, _ := manifest.Field(mapping, name)
	return key != nil
}

// own returns the key and the value of a field, nil unless they stand in the object itself: a value that is
// reached through an alias, or that has an anchor, belongs to other places too.
func (o *object) own(field string) (key, value *yamlv3.Node) {
	for _, path := range o.parked {
		if within(field, path) {
			return nil, nil
		}
	}
	node := o.tree()
	for _, step := range steps(field) {
		var raw *yamlv3.Node
		key, raw = child(node, step)
		if raw == nil || raw.Kind == yamlv3.AliasNode || raw.Anchor != "" {
			return nil, nil
		}
		node = raw
	}
	return key, node
}

// child returns a member of a mapping with its key, or an element of a sequence, without resolving aliases.
func child(node *yamlv3.Node, step string) (key, value *yamlv3.Node) {
	key, _ = manifest.Field(node, step)
	switch {
	case key == nil:
		return nil, nil
	case node.Kind == yamlv3.MappingNode:
		return key, node.Content[slices.Index(node.Content, key)+1]
	default:
		n, _ := strconv.Atoi(step) // Field has found it
		return nil, node.Content[n]
	}
}

// has reports whether the object that has a field also has a field of another name.
func (o *object) has(field, name string) bool {
	parent := field[:max(0, strings.LastIndexByte(field, '.'))]
	key, _ := deepest(o.tree(), parent+"."+name)
	return key.Value == name
}

// quoteLike returns a text in the quotes that a node has. The text must need no escapes.
func quoteLike(node *yamlv3.Node, text string) string {
	switch {
	case node.Style&yamlv3.DoubleQuotedStyle != 0:
		return `"` + text + `"`
	case node.Style&yamlv3.SingleQuotedStyle != 0:
		return "'" + text + "'"
	default:
		return text
	}
}

// Fixed is a source with the fixes of a report.
type Fixed struct {
	Source
	// Before is its text without them.
	Before []byte
	// Fixes is the number of findings that they correct.
	Fixes int
}

// Fix returns the sources that fixes change.
func (r *Report) Fix(sources []Source) ([]Fixed, error) {
	var out []Fixed
	for _, source := range sources {
		t := newTokens(source.Text)
		fixes := 0
		for _, f := range r.Findings {
			if f.File == source.Name && t.replace(f.edits) {
				fixes++
			}
		}
		if fixes == 0 {
			continue
		}
		text := t.replaced()
		if n := broken(source.Text, text); n > 0 {
			return nil, fmt.Errorf("%s: the fix of document %d would break it; correct it by hand", source.Name, n)
		}
		out = append(out, Fixed{Source{Name: source.Name, Text: text, Found: source.Found}, source.Text, fixes})
	}
	return out, nil
}

// broken returns the number of the first document that a change of its text has broken, 0 for none.
func broken(before, after []byte) int {
	next, stop := iter.Pull(manifest.Parse(before))
	defer stop()
	number := 0
	for d := range manifest.Parse(after) {
		number = d.Number
		if was, there := next(); !there || d.Err != nil && was.Err == nil {
			return number
		}
	}
	if _, more := next(); more {
		return number + 1
	}
	return 0
}

// tokens replaces tokens of a text.
type tokens struct {
	text []byte
	// lines are the offsets at which lines start.
	lines []int
	// marks are the offsets of every markEvery-th character of the lines that were looked up.
	marks map[int][]int
	// replacements are those of the bytes from the key to the end.
	replacements map[int]replacement
}

// markEvery is the number of characters between two marks.
const markEvery = 256

type replacement struct {
	end  int
	text string
}

func newTokens(text []byte) *tokens {
	t := &tokens{text: text, marks: map[int][]int{}, replacements: map[int]replacement{}}
	t.lines = []int{len(text) - len(bytes.TrimPrefix(text, []byte("\ufeff")))}
	for at, b := range text {
		if b == '\n' {
			t.lines = append(t.lines, at+1)
		}
	}
	return t
}

// replace carries edits out together, and reports whether it did: each node must stand in the text as it was
// read, and be no part of another fix. Two findings may have the same fix, as the state of a short host and its
// spelling.
func (t *tokens) replace(edits []edit) bool {
	for _, e := range edits {
		start, end := t.spanOf(e)
		if _, taken := t.replacements[start]; taken || end < 0 {
			return false
		}
	}
	for _, e := range edits {
		start, end := t.spanOf(e)
		t.replacements[start] = replacement{end, e.text}
	}
	return len(edits) > 0
}

// spanOf returns the offsets of the text that an edit replaces, -1 as the end where it cannot.
func (t *tokens) spanOf(e edit) (start, end int) {
	start, end = t.span(e.node)
	if e.value == nil || end < 0 {
		return start, end
	}
	at, end := t.span(e.value)
	if end < 0 || strings.Trim(string(t.text[start+len(quoteLike(e.node, e.node.Value)):at]), " \t") != ":" {
		return 0, -1
	}
	if e.flow {
		return t.flowMember(start, end)
	}
	return t.blockMember(start, end)
}

// blockMember widens a member of a mapping in block style to its whole line; a comment behind it stays.
func (t *tokens) blockMember(start, end int) (int, int) {
	line := bytes.LastIndexByte(t.text[:start], '\n') + 1
	rest, _, _ := bytes.Cut(t.text[end:], []byte("\n"))
	behind := bytes.TrimLeft(rest, " \t")
	switch {
	case len(bytes.TrimSpace(t.text[line:start])) > 0 || line == 0:
		return 0, -1 // it is the first of its line, behind a dash
	case len(behind) > 0 && behind[0] == '#':
		return start, end + len(rest) - len(behind)
	case len(bytes.TrimSpace(behind)) > 0:
		return 0, -1
	}
	return line - 1, end + len(bytes.TrimRight(rest, "\r")) // with the line break above
}

// flowMember widens a member of a mapping in flow style to the comma behind it, or to the one before it.
func (t *tokens) flowMember(start, end int) (int, int) {
	const blank = " \t\r\n"
	behind := bytes.TrimLeft(t.text[end:], blank)
	if bytes.HasPrefix(behind, []byte(",")) {
		behind = bytes.TrimLeft(behind[1:], " \t")
		return start, len(t.text) - len(behind)
	}
	before := bytes.TrimRight(t.text[:start], blank)
	if !bytes.HasPrefix(behind, []byte("}")) || !bytes.HasSuffix(before, []byte(",")) {
		return 0, -1
	}
	return len(before) - 1, end
}

// span returns the offsets of a scalar node, -1 as the end unless it stands in the text as it was read.
func (t *tokens) span(node *yamlv3.Node) (start, end int) {
	if node.Line < 1 || node.Line > len(t.lines) {
		return 0, -1
	}
	start = t.offset(node.Line, node.Column)
	token := quoteLike(node, node.Value)
	if !bytes.HasPrefix(t.text[start:], []byte(token)) {
		return 0, -1
	}
	return start, start + len(token)
}

// offset returns the offset of a column, which counts characters. Marks keep a file of one line and many nodes from
// being read once for each.
func (t *tokens) offset(line, column int) int {
	marks, marked := t.marks[line]
	if !marked {
		marks = []int{t.lines[line-1]}
		end := len(t.text)
		if line < len(t.lines) {
			end = t.lines[line]
		}
		for at, n := marks[0], 0; at < end; n++ {
			if n > 0 && n%markEvery == 0 {
				marks = append(marks, at)
			}
			_, size := utf8.DecodeRune(t.text[at:])
			at += size
		}
		t.marks[line] = marks
	}
	n := min((column-1)/markEvery, len(marks)-1)
	start := marks[n]
	for range column - 1 - n*markEvery {
		_, size := utf8.DecodeRune(t.text[start:])
		start += size
	}
	return start
}

// replaced returns the text with its replacements.
func (t *tokens) replaced() []byte {
	var out []byte
	done := 0
	for _, start := range slices.Sorted(maps.Keys(t.replacements)) {
		out = append(append(out, t.text[done:start]...), t.replacements[start].text...)
		done = t.replacements[start].end
	}
	return append(out, t.text[done:]...)
}
