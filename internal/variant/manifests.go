package variant

// An Index without a cluster: from objects in tests, from manifests for the
// offline tools.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// FromObjects returns an Index filled with objects of the types that Upsert
// takes. A malformed object is an error that names it.
func FromObjects(opts Options, objs ...any) (*Index, error) {
	i := NewIndex(opts)
	if err := i.Upsert(objs...); err != nil {
		return nil, err
	}
	return i, nil
}

// FromYAML returns an Index filled from manifests, each of one or several YAML
// or JSON documents. Objects without a namespace are in "default"; kinds that
// the Index does not model are ignored. Manifests have no status: with
// Options.AssumeReady a workload with replicas counts as ready unless an
// EndpointSlice of its Service says otherwise.
func FromYAML(opts Options, manifests ...[]byte) (*Index, error) {
	i := NewIndex(opts)
	for _, manifest := range manifests {
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
		for {
			doc, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			raw, err := yaml.YAMLToJSON(doc)
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			if err := i.load(raw); err != nil {
				return nil, err
			}
		}
	}
	return i, nil
}

// load adds an object in JSON, or the items of a list.
func (i *Index) load(raw []byte) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := unmarshal(raw, &list); err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	if strings.HasSuffix(list.Kind, "List") && list.Items != nil {
		for _, item := range list.Items {
			if err := i.load(item); err != nil {
				return err
			}
		}
		return nil
	}
	raw, err := withNamespace(raw)
	if err != nil {
		return err
	}
	rec, err := i.parse(raw)
	if err != nil || rec == nil {
		return err
	}
	i.update(func(t *touched) { i.put(rec, t) })
	return nil
}

// withNamespace fills in the namespace that kubectl would.
func withNamespace(raw []byte) ([]byte, error) {
	var h header
	if err := unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	if h.Metadata.Namespace != "" {
		return raw, nil
	}
	var object map[string]json.RawMessage
	if err := unmarshal(raw, &object); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	metadata := map[string]json.RawMessage{}
	if len(object["metadata"]) > 0 {
		if err := unmarshal(object["metadata"], &metadata); err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
	}
	if metadata == nil { // metadata: null
		metadata = map[string]json.RawMessage{}
	}
	metadata["namespace"] = json.RawMessage(`"default"`)
	var err error
	if object["metadata"], err = json.Marshal(metadata); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	return json.Marshal(object)
}
