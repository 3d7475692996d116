// Package iter8 reads the documents of Iter8: the subject and the routing policy of
// its tutorial, and the routemap that its later releases have. It says what is wrong
// with one by field, and which route one wants for a state of its variants.
//
// It takes plain values and does no I/O. No chart is fetched: chart mirror is what
// Policy.Route does.
package iter8

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The labels by which Iter8's documents and what belongs to them are found.
const (
	// ManagedByLabel is ManagedBy on subjects and routing policies.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "iter8"
	// ComponentLabel is the owner's name on a subject.
	ComponentLabel = "app.kubernetes.io/component"
	// KindLabel is KindRoutemap on routemaps.
	KindLabel    = "iter8.tools/kind"
	KindRoutemap = "routemap"
)

// WeightAnnotation overrides the weight of a version, on the first of its resources.
const WeightAnnotation = "iter8.tools/weight"

// maxSpec is the size of the longest spec that is read, in bytes; a ConfigMap may hold
// four times that.
const maxSpec = 256 << 10

// maxEntries bounds every list of a document.
const maxEntries = 64

// Source is a ConfigMap, as far as it is read.
type Source struct {
	Namespace, Name string
	Labels          map[string]string
	Data            map[string]string
}

// Document is one of Iter8's; exactly one of its fields is set.
type Document struct {
	Subject  *Subject
	Policy   *Policy
	Routemap *Routemap
}

// Resource names something that a variant consists of, in the document's namespace.
type Resource struct {
	// Type is a short name, a plural, or a plural with its group: svc, deployments,
	// inferenceservices.serving.kserve.io.
	Type string
	Name string
	// Path is the field that names it.
	Path string
}

func (r Resource) String() string { return r.Type + "/" + r.Name }

// Read reads a ConfigMap that carries the labels of a document. What a routing policy is
// and what a subject is tells the spec: the label that the tutorial gives to policies,
// iter8/routingpolicy, has a slash in it, and no API server stores that.
func Read(from Source) (Document, field.ErrorList) {
	if from.Labels[KindLabel] == KindRoutemap {
		spec, errs := readSpec(from, "strSpec")
		if len(errs) > 0 {
			return Document{}, errs
		}
		m := readRoutemap(spec, from)
		return Document{Routemap: m}, *spec.errs
	}
	spec, errs := readSpec(from, "spec")
	if len(errs) > 0 {
		return Document{}, errs
	}
	fields := spec.object()
	switch {
	case fields == nil: // has been said
		return Document{}, *spec.errs
	case has(fields, "trigger", "chart", "values"):
		p := readPolicy(spec)
		return Document{Policy: p}, *spec.errs
	case has(fields, "gvrs", "variants"):
		s := readSubject(spec, from)
		return Document{Subject: s}, *spec.errs
	}
	spec.invalid("names neither the gvrs and variants of a subject nor the trigger, chart and values of a routing policy")
	return Document{}, *spec.errs
}

func has(fields map[string]node, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := fields[name]; return ok })
}

// readSpec parses the YAML text under a key of data.
func readSpec(from Source, key string) (node, field.ErrorList) {
	path := field.NewPath("data").Key(key)
	text, ok := from.Data[key]
	switch {
	case !ok:
		return node{}, field.ErrorList{field.Required(path, "holds the document, as YAML")}
	case len(text) > maxSpec:
		return node{}, field.ErrorList{field.TooLong(path, "", maxSpec)}
	}
	value, err := parseYAML(text)
	if err != nil {
		return node{}, field.ErrorList{field.Invalid(path, shorten(text), err.Error())}
	}
	return node{path: field.NewPath("spec"), value: value, errs: &field.ErrorList{}}, nil
}

// parseYAML reads one YAML document; a key that stands twice is an error, and integers stay
// integers.
func parseYAML(text string) (value any, err error) {
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &value); err != nil {
		return nil, fmt.Errorf("is not YAML that can be JSON: %w", err)
	}
	return value, nil
}

// shorten makes a value fit into a message.
func shorten(text string) string {
	const most = 60
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// node is a value of a document and where it stands; what is wrong is added to errs.
type node struct {
	path  *field.Path
	value any
	errs  *field.ErrorList
}

func (n node) add(err *field.Error) { *n.errs = append(*n.errs, err) }

func (n node) invalid(why string) {
	value := n.value
	switch v := value.(type) {
	case map[string]any, []any:
		value = shorten(fmt.Sprint(v))
	case string:
		value = shorten(v)
	}
	n.add(field.Invalid(n.path, value, why))
}

// object returns the fields; it has none, and an error, when n is no object, and an error
// for each that is not among those known (if any are named).
func (n node) object(known ...string) map[string]node {
	values, ok := n.value.(map[string]any)
	if !ok {
		n.invalid("must be an object")
		return nil
	}
	fields := make(map[string]node, len(values))
	for name, value := range values {
		fields[name] = node{n.path.Child(name), value, n.errs}
	}
	if len(known) > 0 {
		for _, name := range sorted(values) {
			if !slices.Contains(known, name) {
				n.add(field.Invalid(n.path.Child(name), shorten(fmt.Sprint(values[name])), "unknown field, must be one of "+strings.Join(known, ", ")))
			}
		}
	}
	return fields
}

// need returns a field; it is missing, and an error, when ok is false.
func (n node) need(fields map[string]node, name, what string) (child node, ok bool) {
	if fields == nil {
		return node{}, false // has been said
	}
	child, ok = fields[name]
	if !ok || child.value == nil {
		n.add(field.Required(n.path.Child(name), what))
		return node{}, false
	}
	return child, true
}

// list returns the elements of a list of 1 to maxEntries.
func (n node) list() []node {
	values, ok := n.value.([]any)
	switch {
	case !ok:
		n.invalid("must be a list")
		return nil
	case len(values) == 0:
		n.add(field.Required(n.path, "must have an element"))
		return nil
	case len(values) > maxEntries:
		n.add(field.TooMany(n.path, len(values), maxEntries))
		return nil
	}
	nodes := make([]node, len(values))
	for i, value := range values {
		nodes[i] = node{n.path.Index(i), value, n.errs}
	}
	return nodes
}

func (n node) text() (string, bool) {
	text, ok := n.value.(string)
	if !ok || text == "" {
		n.invalid("must be a text")
		return "", false
	}
	return text, true
}

// name reads the name of an object.
func (n node) name() string {
	text, ok := n.text()
	if !ok {
		return ""
	}
	if msgs := validation.IsDNS1123Subdomain(text); len(msgs) > 0 {
		n.invalid(msgs[0])
		return ""
	}
	return text
}

// resourceType reads a short name, a plural, or one with its version and group.
func (n node) resourceType() string {
	text, ok := n.text()
	if !ok {
		return ""
	}
	if msgs := validation.IsDNS1123Subdomain(text); len(msgs) > 0 {
		n.invalid("must be a resource, by its short name, or its plural with or without a group: svc, deploy, inferenceservices.serving.kserve.io")
		return ""
	}
	return text
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
