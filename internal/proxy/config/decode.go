package config

// A strict YAML decoder: it reports every unknown, repeated or mistyped field with its path and line, and
// keeps the lines of all fields for problems that are found later.

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Limits of the decoded file: aliases can make a small file huge or endless.
const (
	maxDepth = 50
	maxNodes = 1 << 18
)

type decoder struct {
	problems []Problem
	lines    map[string]int // lines of fields by path
	nodes    int
}

// report reports a problem with a node.
func (d *decoder) report(n *yaml.Node, at, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: n.Line, Path: at, Message: fmt.Sprintf(format, args...)})
}

// line returns the line of a field, or of the innermost field around it that is in the file.
func (d *decoder) line(at string) int {
	for {
		if line, ok := d.lines[at]; ok {
			return line
		}
		if at == "" {
			return 1
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
}

var (
	portType     = reflect.TypeFor[spec.Port]()
	endpointType = reflect.TypeFor[spec.Endpoint]()
	sizeType     = reflect.TypeFor[spec.Size]()
)

// value decodes n into v. It reports problems, and does not change v then.
func (d *decoder) value(n *yaml.Node, v reflect.Value, at string, depth int) {
	switch d.nodes++; {
	case d.nodes == maxNodes+1:
		d.report(n, at, "is too much: a file can have at most %d values", maxNodes)
		return
	case d.nodes > maxNodes:
		return
	case depth > maxDepth:
		d.report(n, at, "is nested too deeply")
		return
	}
	d.lines[at] = n.Line
	if n.Kind == yaml.AliasNode {
		d.value(n.Alias, v, at, depth+1)
		return
	}
	if n.Tag == "!!null" {
		return
	}
	switch {
	case v.Type() == portType && n.Kind == yaml.SequenceNode:
		d.list(n, v.FieldByName("Endpoints"), at+".endpoints", depth)
	case v.Type() == endpointType && n.Kind == yaml.ScalarNode:
		d.scalar(n, v.FieldByName("Address"), at+".address")
	default:
		d.kind(n, v, at, depth)
	}
}

// kind decodes n according to the kind of v.
func (d *decoder) kind(n *yaml.Node, v reflect.Value, at string, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		v.Set(to)
		d.value(n, to.Elem(), at, depth+1)
	case reflect.Struct, reflect.Map:
		if n.Kind != yaml.MappingNode {
			d.report(n, at, "must be a mapping, with keys and values")
			return
		}
		d.mapping(n, v, at, depth)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.report(n, at, "must be a list")
			return
		}
		d.list(n, v, at, depth)
	default:
		d.scalar(n, v, at)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, at string, depth int) {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), at+"["+strconv.Itoa(i)+"]", depth+1)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, at string, depth int) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, item := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
			d.report(name, at, "must have plain keys")
			continue
		}
		if seen[name.Value] {
			d.report(name, at, "has the key %s twice", name.Value)
			continue
		}
		seen[name.Value] = true
		if v.Kind() == reflect.Map {
			d.entry(name, item, v, at, depth)
			continue
		}
		field, ok := fieldOf(v, name.Value)
		if !ok {
			d.report(name, join(at, name.Value), "is unknown; known are %s", strings.Join(names(v.Type()), ", "))
			continue
		}
		d.value(item, field, join(at, name.Value), depth+1)
	}
}

// entry decodes one entry of a map.
func (d *decoder) entry(name, item *yaml.Node, v reflect.Value, at string, depth int) {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	at += "[" + name.Value + "]"
	key := reflect.New(v.Type().Key()).Elem()
	if key.Kind() == reflect.String {
		key.SetString(name.Value)
	} else if n, err := strconv.Atoi(name.Value); err == nil {
		key.SetInt(int64(n))
	} else {
		d.report(name, at, "must have a number as its key")
		return
	}
	value := reflect.New(v.Type().Elem()).Elem()
	d.value(item, value, at, depth+1)
	v.SetMapIndex(key, value)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, at string) {
	d.lines[at] = n.Line
	want := "a string"
	switch v.Kind() {
	case reflect.String:
		if n.Tag == "!!str" || v.Type() == sizeType && n.Tag == "!!int" {
			v.SetString(n.Value)
			return
		}
		if n.Kind == yaml.ScalarNode {
			want = fmt.Sprintf("a string: put it in quotes, %q", n.Value)
		}
		if n.Tag == "!!int" && isDuration(at) {
			want = fmt.Sprintf("a duration, like %ss", n.Value)
		}
	case reflect.Int:
		var i int64
		if n.Tag == "!!int" && n.Decode(&i) == nil && !v.OverflowInt(i) {
			v.SetInt(i)
			return
		}
		want = "a whole number"
		if n.Tag == "!!float" && strings.HasSuffix(at, ".percent") {
			want += "; for a part of a percent use fraction, like {numerator: 5, denominator: 1000}"
		}
	case reflect.Bool:
		var b bool
		if n.Tag == "!!bool" && n.Decode(&b) == nil {
			v.SetBool(b)
			return
		}
		want = "true or false"
	default:
	}
	d.mistyped(n, at, want)
}

// mistyped reports a value of another type than the field wants.
func (d *decoder) mistyped(n *yaml.Node, at, want string) {
	var plain yaml.Node
	switch {
	case n.Kind != yaml.ScalarNode:
		d.report(n, at, "must be %s", want)
	case n.Tag != "!!str":
		d.report(n, at, "%s: must be %s", n.Value, want)
	case yaml.Unmarshal([]byte(n.Value), &plain) == nil && len(plain.Content) == 1 && plain.Content[0].Tag != "!!str":
		d.report(n, at, "%q: must be %s, without quotes", n.Value, want)
	default:
		d.report(n, at, "%q: must be %s", n.Value, want)
	}
}

// isDuration reports whether a field is a duration. They are strings to the decoder, as in Gateway API.
func isDuration(at string) bool {
	for _, name := range []string{"imeout", "ause", ".request", ".backendRequest"} {
		if strings.HasSuffix(at, name) {
			return true
		}
	}
	return false
}

// fieldOf finds a field by its JSON name, also in embedded structs.
func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for _, f := range reflect.VisibleFields(v.Type()) {
		if !f.Anonymous && f.Tag.Get("json") == name {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

// names returns the JSON names of all fields of a struct.
func names(t reflect.Type) []string {
	var out []string
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous {
			out = append(out, f.Tag.Get("json"))
		}
	}
	return out
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
