package manifest

// YAML texts: one tree with positions, and the JSON that it stands for.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// maxAliased is how many values the aliases and merges of a document may stand for, and maxGrowth how many times its
// length they may come to, above maxWritten. A few lines of aliases to aliases could stand for billions, and aliases of
// a long text for gigabytes.
const (
	maxAliased = 100_000
	maxGrowth  = 16
	maxWritten = 1 << 20
)

// mergeKey is the key of YAML 1.1 that merges another mapping.
const mergeKey = "<<"

// parseYAML reads one YAML document.
func parseYAML(c chunk) (Document, *fault) {
	root, err := tree(c.text)
	if err != nil {
		return Document{}, yamlFault(c, err)
	}
	if len(root.Content) == 0 || Resolve(root.Content[0]).Tag == "!!null" {
		return Document{}, nil
	}
	shift(root, c.above)
	w := jsonWriter{most: maxGrowth*len(c.text) + maxWritten}
	if err := w.write(root.Content[0]); err != nil {
		return Document{}, &fault{Error: *err, located: true}
	}
	return Document{Node: Resolve(root.Content[0]), Raw: w.out}, nil
}

// tree parses a text that must have one document.
func tree(text []byte) (*yamlv3.Node, error) {
	var root, second yamlv3.Node
	dec := yamlv3.NewDecoder(bytes.NewReader(text))
	err := dec.Decode(&root)
	if err == nil {
		err = dec.Decode(&second)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return &root, err
}

// jsonWriter writes nodes as JSON.
type jsonWriter struct {
	// out may become as long as most.
	out  json.RawMessage
	most int
	// inside are the aliases around the value that is written, aliased the number of values written in them.
	inside  []*yamlv3.Node
	aliased int
}

func errorAt(n *yamlv3.Node, format string, args ...any) *Error {
	return &Error{Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)}
}

func (w *jsonWriter) write(n *yamlv3.Node) *Error {
	if len(w.out) > w.most {
		return errorAt(n, "the aliases of the document stand for more than %d bytes", w.most)
	}
	if len(w.inside) > 0 {
		if w.aliased++; w.aliased > maxAliased {
			return errorAt(w.inside[0], "the aliases of the document stand for more than %d values", maxAliased)
		}
	}
	switch n.Kind {
	case yamlv3.AliasNode:
		if slices.Contains(w.inside, n) {
			return errorAt(n, "the alias *%s is inside the value that it stands for", n.Value)
		}
		w.inside = append(w.inside, n)
		err := w.write(n.Alias)
		w.inside = w.inside[:len(w.inside)-1]
		return err
	case yamlv3.MappingNode:
		return w.mapping(n)
	case yamlv3.SequenceNode:
		w.out = append(w.out, '[')
		for i, element := range n.Content {
			if i > 0 {
				w.out = append(w.out, ',')
			}
			if err := w.write(element); err != nil {
				return err
			}
		}
		w.out = append(w.out, ']')
		return nil
	default:
		return w.scalar(n)
	}
}

func (w *jsonWriter) mapping(n *yamlv3.Node) *Error {
	members, err := w.members(n)
	if err != nil {
		return err
	}
	w.out = append(w.out, '{')
	for i := 0; i < len(members); i += 2 {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.text(Resolve(members[i]).Value)
		w.out = append(w.out, ':')
		if err := w.write(members[i+1]); err != nil {
			return err
		}
	}
	w.out = append(w.out, '}')
	return nil
}

// members returns the keys and values of a mapping, with those of merged mappings that it does not set itself.
func (w *jsonWriter) members(n *yamlv3.Node) ([]*yamlv3.Node, *Error) {
	set := make(map[string]int, len(n.Content)/2)
	var members, merged []*yamlv3.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := Resolve(n.Content[i])
		switch {
		case key.Kind != yamlv3.ScalarNode:
			return nil, errorAt(n.Content[i], "a key must be text, and this one is a list or a mapping")
		case key.Value == mergeKey && key.ShortTag() == "!!merge":
			merged = append(merged, n.Content[i+1])
			continue
		case set[key.Value] > 0:
			return nil, errorAt(n.Content[i], "key %s is already set at line %d", jsonName(key.Value), set[key.Value])
		}
		set[key.Value] = key.Line
		members = append(members, n.Content[i], n.Content[i+1])
	}
	for _, value := range merged {
		sources := []*yamlv3.Node{value}
		if list := Resolve(value); list.Kind == yamlv3.SequenceNode {
			sources = list.Content
		}
		for _, source := range sources {
			found, err := w.merge(value, source)
			if err != nil {
				return nil, err
			}
			for i := 0; i < len(found); i += 2 {
				if key := Resolve(found[i]); set[key.Value] == 0 {
					set[key.Value] = max(1, key.Line)
					members = append(members, found[i], found[i+1])
				}
			}
		}
	}
	return members, nil
}

// merge returns the keys and values of a mapping that is merged into another one.
func (w *jsonWriter) merge(at, source *yamlv3.Node) ([]*yamlv3.Node, *Error) {
	mapping := Resolve(source)
	switch {
	case mapping.Kind != yamlv3.MappingNode:
		return nil, errorAt(at, "only a mapping can be merged with <<")
	case slices.Contains(w.inside, mapping):
		return nil, errorAt(at, "a mapping cannot be merged into itself")
	}
	if w.aliased += 1 + len(mapping.Content); w.aliased > maxAliased {
		return nil, errorAt(at, "the aliases of the document stand for more than %d values", maxAliased)
	}
	w.inside = append(w.inside, mapping)
	found, err := w.members(mapping)
	w.inside = w.inside[:len(w.inside)-1]
	return found, err
}

func (w *jsonWriter) text(s string) {
	w.out, _ = jsontext.AppendQuote(w.out, s) // the parser has refused text that is not UTF-8
}

func (w *jsonWriter) scalar(n *yamlv3.Node) *Error {
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		w.out = append(w.out, "null"...)
	case (tag == "!!int" || tag == "!!float") && json.Valid([]byte(n.Value)):
		w.out = append(w.out, n.Value...)
	case tag == "!!str" && (n.Style != 0 || !slices.Contains(booleans, strings.ToLower(n.Value))), tag == "!!timestamp":
		w.text(n.Value)
	default: // everything else means the same as to kubectl, whose library this is
		var value any
		err := yaml.Unmarshal([]byte(n.Value), &value)
		raw, jsonErr := json.Marshal(value)
		if err != nil || jsonErr != nil {
			return errorAt(n, "the value %s cannot be sent as JSON", jsonName(n.Value))
		}
		w.out = append(w.out, raw...)
	}
	return nil
}

// booleans are words that are strings in YAML 1.2 and true or false in YAML 1.1, which kubectl reads.
var booleans = []string{"y", "n", "yes", "no", "on", "off"}
