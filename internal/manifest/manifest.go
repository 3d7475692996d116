// Package manifest reads manifests, YAML or JSON, as the JSON objects that kubectl would send, with their
// positions. Numbers are as their author wrote them, and JSON is not changed at all.
package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
)

// Document is one document of a text.
type Document struct {
	// Number counts from 1.
	Number int
	// Raw is the document as JSON, nil for a document without content and for one with an error.
	Raw json.RawMessage
	// Node is its root, with lines and columns as in the text. It is nil when Raw is.
	Node *yamlv3.Node
	// Err is the reason why the document could not be read.
	Err *Error
	// Text is the text of the document, which begins below the line Above.
	Text  []byte
	Above int
	// index is its place among the documents of Text.
	index int
}

// Error is a fault of a text at a position in it. Line and Column count from 1, Column in characters.
type Error struct {
	Line, Column int
	Message      string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// Objects returns the objects in a text in their order, those of a list one by one. Documents without content
// are left out. An error names the document, counted from 1.
func Objects(text []byte) ([]json.RawMessage, error) {
	var objects []json.RawMessage
	for d := range Parse(text) {
		if d.Err != nil {
			return nil, fmt.Errorf("document %d: %w", d.Number, d.Err)
		}
		if d.Raw != nil {
			flatten(&objects, d.Raw)
		}
	}
	return objects, nil
}

// flatten appends an object, or the items of a list.
func flatten(objects *[]json.RawMessage, raw json.RawMessage) {
	if string(raw) == "null" {
		return
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &list)
	if err != nil || list.Items == nil || !strings.HasSuffix(list.Kind, "List") {
		*objects = append(*objects, raw)
		return
	}
	for _, item := range list.Items {
		flatten(objects, item)
	}
}
