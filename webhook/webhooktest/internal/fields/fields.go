// Package fields finds misspelt fields of objects: in a cluster a field that is not in the schema of its kind
// is dropped, or refused where field validation is strict.
package fields

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
)

// The names come from the CustomResourceDefinitions of Gateway API 1.6 (experimental channel), Istio 1.31 and
// Argo Rollouts 1.9.
//
//go:embed fields.json
var foreignJSON []byte

// names are the fields of an object, or of the objects in a list; "*" stands for the values of a map. A field
// without names of its own may hold anything.
type names map[string]names

var foreign = sync.OnceValue(func() map[string]names {
	var kinds map[string]names
	if err := json.Unmarshal(foreignJSON, &kinds); err != nil {
		panic(err) // the file is part of the program
	}
	return kinds
})

// builtin makes an empty object of a kind that is part of Kubernetes, nil for others.
func builtin(kind schema.GroupKind) any {
	switch kind {
	case schema.GroupKind{Kind: "Service"}:
		return &corev1.Service{}
	case schema.GroupKind{Kind: "Pod"}:
		return &corev1.Pod{}
	case schema.GroupKind{Kind: "Namespace"}:
		return &corev1.Namespace{}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "Deployment"}:
		return &appsv1.Deployment{}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"}:
		return &appsv1.StatefulSet{}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "DaemonSet"}:
		return &appsv1.DaemonSet{}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}:
		return &appsv1.ReplicaSet{}
	case schema.GroupKind{Group: discoveryv1.GroupName, Kind: "EndpointSlice"}:
		return &discoveryv1.EndpointSlice{}
	case schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: "MirrorLimit"}:
		return &v1alpha1.MirrorLimit{}
	case schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: "MirrorPolicy"}:
		return &v1alpha1.MirrorPolicy{}
	}
	return nil
}

// Check returns an error that names the path of every field which the kind does not have, or which has a
// value of the wrong type where the type is known. Objects of unknown kinds are fine.
func Check(kind schema.GroupKind, raw []byte) error {
	if object := builtin(kind); object != nil {
		return strict("", raw, object)
	}
	tree, known := foreign()[kind.String()]
	if !known {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return err
	}
	var parts struct {
		Metadata json.RawMessage `json:"metadata"`
		Spec     struct {
			Template json.RawMessage `json:"template"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(raw, &parts) // parts of another form are compared with the names alone
	errs := []error{strict("metadata", parts.Metadata, &metav1.ObjectMeta{})}
	for _, name := range []string{"apiVersion", "kind", "metadata"} {
		delete(object, name)
	}
	if kind.Kind == "Rollout" {
		errs = append(errs, strict("spec.template", parts.Spec.Template, &corev1.PodTemplateSpec{}))
	}
	return errors.Join(append(errs, tree.check("", object)...)...)
}

// strict decodes a value into a Go type that knows all of its fields.
func strict(path string, raw []byte, into any) error {
	if len(raw) == 0 {
		return nil
	}
	unknown, err := kjson.UnmarshalStrict(raw, into)
	var errs []error
	for _, problem := range append(unknown, err) {
		var field kjson.FieldError
		if errors.As(problem, &field) && path != "" {
			field.SetFieldPath(path + "." + field.FieldPath())
		}
		if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](problem); ok {
			problem = fmt.Errorf("%s must not be of type %s", strings.TrimPrefix(path+"."+mismatch.Field, "."), mismatch.Value)
		}
		errs = append(errs, problem)
	}
	return errors.Join(errs...)
}

// check compares a value with the names that it may have.
func (n names) check(path string, value any) (errs []error) {
	switch v := value.(type) {
	case []any:
		for i, element := range v {
			errs = append(errs, n.check(path+"["+strconv.Itoa(i)+"]", element)...)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			below, known := n[name]
			at := strings.TrimPrefix(path+"."+name, ".")
			if values, isMap := n["*"]; isMap {
				below, known, at = values, true, path+"["+name+"]"
			}
			switch {
			case !known:
				errs = append(errs, fmt.Errorf("unknown field %q", at))
			case below != nil:
				errs = append(errs, below.check(at, v[name])...)
			}
		}
	}
	return errs
}
