package variant

// An Index without a cluster: from manifests for the offline tools, from objects for tests.

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

// FromObjects returns an Index filled with objects of the types that Upsert takes. A malformed object is an
// error that names it.
func FromObjects(opts Options, objs ...any) (*Index, error) {
	i := NewIndex(opts)
	if err := i.Upsert(objs...); err != nil {
		return nil, err
	}
	return i, nil
}

// FromYAML returns an Index filled from manifests, each of one or several YAML or JSON documents, which are
// read as Load does. Manifests have no status: with Options.AssumeReady a workload with replicas counts as
// ready unless an EndpointSlice of its Service is among the manifests and has no ready endpoint.
func FromYAML(opts Options, manifests ...[]byte) (*Index, error) {
	i := NewIndex(opts)
	for _, manifest := range manifests {
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
		for {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			raw, err := yaml.YAMLToJSON(document)
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", err)
			}
			if err := i.Load(raw); err != nil {
				return nil, err
			}
		}
	}
	return i, nil
}

// Load adds an object in JSON, or the items of a list. An object without a namespace is in Options.Namespace.
// Kinds that the Index does not model are ignored. A malformed object is an error that names it.
func (i *Index) Load(raw []byte) error {
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
			if err := i.Load(item); err != nil {
				return err
			}
		}
		return nil
	}
	raw, err := withNamespace(raw, i.opts.Namespace)
	if err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	return i.Upsert(json.RawMessage(raw))
}

// withNamespace adds the namespace to an object that names none, as kubectl does.
func withNamespace(raw []byte, namespace string) ([]byte, error) {
	var h header
	if err := unmarshal(raw, &h); err != nil || h.Metadata.Namespace != "" {
		return raw, err
	}
	var object map[string]json.RawMessage
	if err := unmarshal(raw, &object); err != nil {
		return nil, err
	}
	var metadata map[string]json.RawMessage
	if len(object["metadata"]) > 0 {
		if err := unmarshal(object["metadata"], &metadata); err != nil {
			return nil, err
		}
	}
	if metadata == nil { // missing or null
		metadata = map[string]json.RawMessage{}
	}
	var err error
	if metadata["namespace"], err = json.Marshal(namespace); err != nil {
		return nil, err
	}
	if object["metadata"], err = json.Marshal(metadata); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}
