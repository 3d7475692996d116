package variant

// An Index without a cluster: from manifests for the offline tools, from objects for tests.

import (
	"encoding/json"
	"fmt"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
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

// FromYAML returns an Index filled from manifests, each of one or several YAML or JSON documents. Each object
// is read as by Load. Manifests have no status: with Options.AssumeReady a workload with replicas counts as
// ready unless an EndpointSlice of its Service is given.
func FromYAML(opts Options, manifests ...[]byte) (*Index, error) {
	i := NewIndex(opts)
	for _, text := range manifests {
		objects, err := manifest.Objects(text)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		for _, raw := range objects {
			if err := i.Load(raw); err != nil {
				return nil, err
			}
		}
	}
	return i, nil
}

// Load adds an object in JSON. An object without a namespace is in Options.Namespace. Kinds that the Index
// does not model are ignored. A malformed object is an error that names it.
func (i *Index) Load(raw []byte) error {
	raw, err := withNamespace(raw, i.opts.Namespace)
	if err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	return i.Upsert(json.RawMessage(raw))
}

// withNamespace adds the namespace to an object that names none, as kubectl does.
func withNamespace(raw []byte, namespace string) ([]byte, error) {
	var object, metadata map[string]json.RawMessage
	if err := unmarshal(raw, &object); err != nil {
		return nil, err
	}
	if len(object["metadata"]) > 0 {
		if err := unmarshal(object["metadata"], &metadata); err != nil {
			return nil, err
		}
	}
	if at := string(metadata["namespace"]); at != "" && at != `""` && at != "null" {
		return raw, nil
	}
	if metadata == nil { // metadata is missing or null
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
