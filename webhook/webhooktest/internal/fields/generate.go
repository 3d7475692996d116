//go:build ignore

// Generate writes fields.json, the names of the fields of foreign kinds, from files with their
// CustomResourceDefinitions:
//
//	go run generate.go CRDS.yaml... > fields.json
package main

import (
	"encoding/json"
	"log"
	"maps"
	"os"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
)

// schema is the part of an OpenAPI schema that has names of fields.
type schema struct {
	Properties           map[string]schema `json:"properties"`
	Items                *schema           `json:"items"`
	AdditionalProperties *schema           `json:"additionalProperties"`
	AnyFields            bool              `json:"x-kubernetes-preserve-unknown-fields"`
}

// names returns the tree of names below a schema, nil where any name is allowed.
func (s *schema) names() any {
	switch {
	case s.Items != nil:
		return s.Items.names()
	case s.AdditionalProperties != nil:
		below := s.AdditionalProperties.names()
		if below == nil {
			return nil
		}
		return map[string]any{"*": below}
	case s.AnyFields, len(s.Properties) == 0:
		return nil
	}
	tree := map[string]any{}
	for name, property := range s.Properties {
		if name == "template" {
			tree[name] = nil // a PodTemplateSpec, which the program knows as a Go type
			continue
		}
		tree[name] = property.names()
	}
	return tree
}

// merge adds the names of another version.
func merge(a, b any) any {
	x, xOK := a.(map[string]any)
	y, yOK := b.(map[string]any)
	if !xOK || !yOK {
		return nil
	}
	for name, tree := range y {
		if have, ok := x[name]; ok {
			tree = merge(have, tree)
		}
		x[name] = tree
	}
	return x
}

func main() {
	kinds := map[string]any{}
	for _, name := range os.Args[1:] {
		text, err := os.ReadFile(name)
		if err != nil {
			log.Fatal(err)
		}
		objects, err := manifest.Objects(text)
		if err != nil {
			log.Fatal(err)
		}
		for _, raw := range objects {
			var crd struct {
				Spec struct {
					Group    string                `json:"group"`
					Names    struct{ Kind string } `json:"names"`
					Versions []struct {
						Schema struct {
							Schema schema `json:"openAPIV3Schema"`
						} `json:"schema"`
					} `json:"versions"`
				} `json:"spec"`
			}
			if err := yaml.Unmarshal(raw, &crd); err != nil {
				log.Fatal(err)
			}
			wanted := []string{"HTTPRoute", "GRPCRoute", "ReferenceGrant", "VirtualService", "DestinationRule", "ServiceEntry", "Rollout"}
			if !slices.Contains(wanted, crd.Spec.Names.Kind) {
				continue
			}
			key := crd.Spec.Names.Kind + "." + crd.Spec.Group
			for _, v := range crd.Spec.Versions {
				tree := v.Schema.Schema.names()
				if have, ok := kinds[key]; ok {
					tree = merge(have, tree)
				}
				kinds[key] = tree
			}
		}
	}
	for _, key := range slices.Collect(maps.Keys(kinds)) {
		for _, name := range []string{"apiVersion", "kind", "metadata"} { // not every CustomResourceDefinition has them
			delete(kinds[key].(map[string]any), name)
		}
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "\t")
	if err := enc.Encode(kinds); err != nil {
		log.Fatal(err)
	}
}
