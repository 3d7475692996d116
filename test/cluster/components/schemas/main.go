// Command schemas prints the schemas of Kubernetes' own kinds as the API server has them, in one JSON
// document of definitions. The files in Kubernetes' api/openapi-spec lack the values of enumerations.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// kindExtension names the kinds of a definition, as in what an API server publishes.
const kindExtension = "x-kubernetes-group-version-kind"

func main() {
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"definitions": definitions()}); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

// definitions are all schemas by name; those of kinds say which.
func definitions() map[string]spec.Schema {
	ref := func(name string) spec.Ref { return spec.MustCreateRef("#/definitions/" + name) }
	found := map[string]spec.Schema{}
	for name, definition := range openapi.GetOpenAPIDefinitions(ref) {
		found[name] = definition.Schema
	}
	kinds := map[string][]any{}
	for kind, goType := range scheme.Scheme.AllKnownTypes() {
		if model, named := reflect.New(goType).Interface().(util.OpenAPIModelNamer); named {
			kinds[model.OpenAPIModelName()] = append(kinds[model.OpenAPIModelName()], jsonOf(kind))
		}
	}
	for name, of := range kinds {
		if definition, known := found[name]; known {
			definition.AddExtension(kindExtension, of)
			found[name] = definition
		}
	}
	return found
}

func jsonOf(kind schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": kind.Group, "version": kind.Version, "kind": kind.Kind}
}
