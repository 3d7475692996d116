package demo

// The mirrors in a route, and whether they are the ones that its author wrote.

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

func isRoute(object *unstructured.Unstructured) bool {
	return object.GetKind() == string(route.HTTPRoute) || object.GetKind() == string(route.VirtualService)
}

// serves reports whether an object is an EndpointSlice of the Service with a ready pod of variant 2. Pods are
// recognized by name, because one Service of Istio's document has those of both variants.
func serves(object *unstructured.Unstructured, service string) bool {
	if object.GetKind() != "EndpointSlice" || object.GetLabels()["kubernetes.io/service-name"] != service {
		return false
	}
	for _, endpoint := range maps(object.Object, "endpoints") {
		ready, known, _ := unstructured.NestedBool(endpoint, "conditions", "ready")
		pod, _, _ := unstructured.NestedString(endpoint, "targetRef", "name")
		if (ready || !known) && strings.HasPrefix(pod, variantTwo+"-") {
			return true
		}
	}
	return false
}

// mirrorFields are the fields of mirrors in an http route of a VirtualService.
var mirrorFields = []string{"mirror", "mirrors", "mirrorPercentage"}

// mirrorsOf returns the mirrors in a route's spec, in their order: filters of an HTTPRoute, the mirror stanza
// of each http route of a VirtualService.
func mirrorsOf(object *unstructured.Unstructured) []any {
	var mirrors []any
	if object == nil {
		return nil
	}
	if object.GetKind() == string(route.VirtualService) {
		for _, http := range maps(object.Object, "spec", "http") {
			stanza := map[string]any{}
			for _, name := range mirrorFields {
				if value, found := http[name]; found {
					stanza[name] = value
				}
			}
			if len(stanza) > 0 {
				mirrors = append(mirrors, stanza)
			}
		}
		return mirrors
	}
	for _, rule := range maps(object.Object, "spec", "rules") {
		for _, filter := range maps(rule, "filters") {
			if filter["type"] == "RequestMirror" {
				mirrors = append(mirrors, filter)
			}
		}
	}
	return mirrors
}

// sameMirrors reports whether a stored route has exactly the mirrors of the manifest.
func sameMirrors(written, stored *unstructured.Unstructured) bool {
	return reflect.DeepEqual(mirrorsOf(defaulted(written)), mirrorsOf(stored))
}

// defaulted returns the route as the API server reads it, so that what it adds to every HTTPRoute is not
// taken for something that mirrorgate did. A VirtualService has no defaults.
func defaulted(written *unstructured.Unstructured) *unstructured.Unstructured {
	object := written.DeepCopy()
	if object.GetKind() == string(route.VirtualService) {
		return object
	}
	for _, parent := range maps(object.Object, "spec", "parentRefs") {
		setDefaults(parent, map[string]any{"group": route.GatewayGroup, "kind": "Gateway"})
	}
	for _, rule := range maps(object.Object, "spec", "rules") {
		setDefaults(rule, map[string]any{
			"matches": []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": "/"}}},
		})
		for _, backend := range maps(rule, "backendRefs") {
			setDefaults(backend, map[string]any{"group": "", "kind": "Service", "weight": int64(1)})
		}
		for _, filter := range maps(rule, "filters") {
			if target, found, _ := unstructured.NestedFieldNoCopy(filter, "requestMirror", "backendRef"); found {
				setDefaults(target, map[string]any{"group": "", "kind": "Service"})
			}
		}
	}
	return object
}

func setDefaults(object any, defaults map[string]any) {
	have, _ := object.(map[string]any)
	for name, value := range defaults {
		if _, found := have[name]; !found && have != nil {
			have[name] = value
		}
	}
}

// maps returns the objects of the list at a path, not copied.
func maps(object map[string]any, path ...string) []map[string]any {
	value, _, _ := unstructured.NestedFieldNoCopy(object, path...)
	list, _ := value.([]any)
	var out []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// specOf returns a route's spec as YAML, "" for none.
func specOf(object *unstructured.Unstructured) string {
	if object == nil || object.Object["spec"] == nil {
		return ""
	}
	return toYAML(map[string]any{"spec": runtime.DeepCopyJSONValue(object.Object["spec"])})
}

func toYAML(value any) string {
	raw, err := yaml.Marshal(value)
	if err != nil {
		return err.Error() // JSON that came from YAML or the API server always marshals
	}
	return string(raw)
}
