package lint

// Fixes for findings that have one right answer. They replace bytes at the positions of keys and values, so
// that comments and formatting stay as they are.

import (
	"bytes"
	"cmp"
	"fmt"
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

// edit replaces the text of a node.
type edit struct {
	node *yamlv3.Node
	text string
}

// fix returns the edits that correct a finding, none where it has no right answer or more than one.
func (c *checker) fix(o *object, rt *route.Route, f Finding) []edit {
	if rt.Kind != route.VirtualService {
		return nil
	}
	switch f.Reason {
	case policy.ShortHost, policy.ServiceNotFound, policy.HostNotFound:
		return c.fixHost(o, rt, f)
	case policy.DeprecatedField, UnknownField:
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
		return []edit{{value, quoteLike(value, host+".svc."+domain)}}
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
	edits := []edit{{key, quoteLike(key, shareField)}}
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
	n, err := strconv.ParseFloat(value.Value, 64)
	if value.Kind != yamlv3.ScalarNode || err != nil || !(n >= 0 && n <= 100) {
		return nil
	}
	name := "value"
	if key.Style&yamlv3.DoubleQuotedStyle != 0 {
		name = `"value"`
	}
	return []edit{{value, "{" + name + ": " + value.Value + "}"}}
}

// own returns the key and the value of a field, nil unless they stand in the object itself: a value that is
// reached through an alias, or that has an anchor, belongs to other places too.
func (o *object) own(field string) (key, value *yamlv3.Node) {
	for _, path := range o.parked {
		if within(field, path) {
			return nil, nil
		}
	}
	node := o.node
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
	key, _ := deepest(o.node, parent+"."+name)
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
		before, after := manifest.Parse(source.Text), manifest.Parse(text)
		for n := range after {
			if len(after) != len(before) || (after[n].Err != nil && before[n].Err == nil) {
				return nil, fmt.Errorf("%s: the fix of document %d would break it; correct it by hand", source.Name, n+1)
			}
		}
		out = append(out, Fixed{Source{Name: source.Name, Text: text, Found: source.Found}, source.Text, fixes})
	}
	return out, nil
}

// tokens replaces tokens of a text.
type tokens struct {
	text []byte
	// lines are the offsets at which lines start.
	lines []int
	// replacements are those of the bytes from the key to the end.
	replacements map[int]replacement
}

type replacement struct {
	end  int
	text string
}

func newTokens(text []byte) *tokens {
	t := &tokens{text: text, replacements: map[int]replacement{}}
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
		start, end := t.span(e.node)
		if _, taken := t.replacements[start]; taken || end < 0 {
			return false
		}
	}
	for _, e := range edits {
		start, end := t.span(e.node)
		t.replacements[start] = replacement{end, e.text}
	}
	return len(edits) > 0
}

// span returns the offsets of a scalar node, -1 as the end unless it stands in the text as it was read.
func (t *tokens) span(node *yamlv3.Node) (start, end int) {
	if node.Line < 1 || node.Line > len(t.lines) {
		return 0, -1
	}
	start = t.lines[node.Line-1]
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(t.text[start:])
		start += size
	}
	token := quoteLike(node, node.Value)
	if !bytes.HasPrefix(t.text[start:], []byte(token)) {
		return 0, -1
	}
	return start, start + len(token)
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
