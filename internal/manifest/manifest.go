// Package manifest reads manifests, YAML or JSON, as the JSON objects that kubectl would send. Numbers are as
// their author wrote them, and JSON is not changed at all.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Objects returns the objects in a text in their order, those of a list one by one. Documents without content
// are left out. An error names the document, counted from 1.
func Objects(text []byte) ([]json.RawMessage, error) {
	var objects []json.RawMessage
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err == nil {
			err = read(&objects, document)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// read appends the objects of one document, which may be several JSON values.
func read(objects *[]json.RawMessage, document []byte) error {
	values, err := jsonValues(document)
	if err != nil {
		values = nil
		dec := yamlv3.NewDecoder(bytes.NewReader(document))
		for {
			raw, err := fromYAML(dec)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			values = append(values, raw)
		}
	}
	for _, raw := range values {
		flatten(objects, raw)
	}
	return nil
}

// jsonValues returns the JSON values of a document, or an error when it is no JSON. Comments may stand above
// them, as Helm writes.
func jsonValues(document []byte) ([]json.RawMessage, error) {
	rest := bytes.TrimSpace(bytes.TrimPrefix(document, []byte("\ufeff")))
	for bytes.HasPrefix(rest, []byte("#")) {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
		rest = bytes.TrimSpace(rest)
	}
	if !bytes.HasPrefix(rest, []byte("{")) {
		return nil, errors.New("no JSON object")
	}
	var values []json.RawMessage
	for dec := json.NewDecoder(bytes.NewReader(rest)); ; {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, raw)
	}
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

// fromYAML reads the next YAML document as JSON.
func fromYAML(dec *yamlv3.Decoder) (json.RawMessage, error) {
	var v value
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	raw, err := v.MarshalJSON()
	return bytes.TrimSpace(raw), err
}

// value is a YAML value as encoding/json takes it.
type value struct{ any }

// UnmarshalYAML implements yaml.Unmarshaler. The decoder resolves aliases and merges, and refuses keys that
// appear twice.
func (v *value) UnmarshalYAML(n *yamlv3.Node) error {
	switch n.Kind {
	case yamlv3.MappingNode:
		var members map[string]value
		err := n.Decode(&members)
		v.any = members
		return err
	case yamlv3.SequenceNode:
		elements := []value{}
		err := n.Decode(&elements)
		v.any = elements
		return err
	}
	return v.scalar(n)
}

func (v *value) scalar(n *yamlv3.Node) error {
	switch tag := n.ShortTag(); {
	case (tag == "!!int" || tag == "!!float") && json.Valid([]byte(n.Value)):
		v.any = json.Number(n.Value)
	case tag == "!!str" && (n.Style != 0 || !slices.Contains(booleans, strings.ToLower(n.Value))), tag == "!!timestamp":
		v.any = n.Value
	default: // everything else means the same as to kubectl, whose library this is
		return yaml.Unmarshal([]byte(n.Value), &v.any)
	}
	return nil
}

// booleans are words that are strings in YAML 1.2 and true or false in YAML 1.1, which kubectl reads.
var booleans = []string{"y", "n", "yes", "no", "on", "off"}

// MarshalJSON implements json.Marshaler.
func (v value) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v.any)
	return out.Bytes(), err
}
