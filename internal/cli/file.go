package cli

// Strict reading of a config file: every fault at once, each with its line, and for an unknown key the keys that
// are known. Package manifest parses the text; the keys are held against the options here.

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
)

// Faults are the faults of a file, in the order of their lines.
type Faults struct {
	Name  string
	Lines []string
}

func (f *Faults) Error() string { return strings.Join(f.Lines, "\n") }

// Unmarshal reads YAML into a struct with JSON names. The error is a *Faults when the text has faults. lines has
// the line of every key that is set, by its path.
func Unmarshal(name string, text []byte, into any) (lines map[string]int, err error) {
	r := reader{faults: Faults{Name: name}, lines: map[string]int{}}
	root, syntax := manifest.Single(text)
	for _, fault := range syntax {
		r.reportAt(fault.Line, "%s", fault.Message)
	}
	if root != nil {
		r.value(root, reflect.TypeOf(into).Elem(), "")
	}
	if len(r.faults.Lines) > 0 {
		return nil, &r.faults
	}
	return r.lines, k8syaml.UnmarshalStrict(text, into)
}

type reader struct {
	faults Faults
	lines  map[string]int
}

func (r *reader) report(n *yaml.Node, format string, args ...any) {
	r.reportAt(n.Line, format, args...)
}

func (r *reader) reportAt(line int, format string, args ...any) {
	r.faults.Lines = append(r.faults.Lines, fmt.Sprintf("%s:%d: ", r.faults.Name, line)+fmt.Sprintf(format, args...))
}

// value checks a node against a type. Structs and maps are walked; the rest is decoded to see whether it can be.
func (r *reader) value(n *yaml.Node, t reflect.Type, at string) {
	n = manifest.Resolve(n)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, decodesItself := reflect.TypeAssert[json.Unmarshaler](reflect.New(t))
	isMapping := !decodesItself && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map)
	switch {
	case n.Tag == "!!null":
	case isMapping && n.Kind != yaml.MappingNode:
		r.report(n, "%s: must have keys", at)
	case isMapping:
		r.mapping(n, t, at)
	default:
		r.leaf(n, t, at)
	}
}

func (r *reader) mapping(n *yaml.Node, t reflect.Type, at string) {
	var known map[string]reflect.Type
	if t.Kind() == reflect.Struct {
		known = Keys(t)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		path := strings.TrimPrefix(at+"."+key.Value, ".")
		of, is := known[key.Value]
		switch {
		case seen[key.Value]:
			r.report(key, "%s: is there twice", path)
		case known == nil:
			r.value(n.Content[i+1], t.Elem(), fmt.Sprintf("%s[%s]", at, key.Value))
		case !is:
			r.report(key, "%s: unknown key; known are %s", path, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		default:
			r.lines[path] = key.Line
			r.value(n.Content[i+1], of, path)
		}
		seen[key.Value] = true
	}
}

func (r *reader) leaf(n *yaml.Node, t reflect.Type, at string) {
	text, err := yaml.Marshal(n)
	if err == nil {
		err = k8syaml.UnmarshalStrict(text, reflect.New(t).Interface())
	}
	if err == nil {
		return
	}
	reason := map[reflect.Kind]string{
		reflect.Bool: "must be true or false", reflect.String: "must be a text", reflect.Slice: "must be a list",
		reflect.Int: "must be a whole number", reflect.Int32: "must be a whole number", reflect.Float64: "must be a number",
	}[t.Kind()]
	if reason == "" {
		reason = strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")
	}
	r.report(n, "%s: Invalid value: %q: %s", at, n.Value, reason)
}

// Keys returns the keys of a struct's JSON and their types.
func Keys(t reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			maps.Copy(keys, Keys(f.Type))
		case name != "":
			keys[name] = f.Type
		}
	}
	return keys
}
