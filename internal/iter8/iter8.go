// Package iter8 reads the documents of Iter8: the subject and the routing policy of its tutorial, and the
// routemap of its later releases. It reports the errors in a document by field, and computes the route that a
// document wants for a state of its variants.
//
// It takes plain values and does no I/O. No chart is fetched: Policy.Route does the work of the chart
// "mirror".
package iter8

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The labels by which Iter8's documents are found.
const (
	// ManagedByLabel is ManagedBy on subjects and routing policies.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "iter8"
	// ComponentLabel is the owner's name on a subject.
	ComponentLabel = "app.kubernetes.io/component"
	// KindLabel is KindRoutemap on routemaps.
	KindLabel    = "iter8.tools/kind"
	KindRoutemap = "routemap"
	// oldKindRoutemap is the value that routemaps had first.
	oldKindRoutemap = "subject"
)

// WeightAnnotation overrides the weight of a version, on the first of its resources.
const WeightAnnotation = "iter8.tools/weight"

// maxSpec is the size in bytes of the longest spec that is read; a ConfigMap may be four times as large.
const maxSpec = 256 << 10

// maxEntries bounds every list of a document.
const maxEntries = 64

// Source is the part of a ConfigMap that is read.
type Source struct {
	Namespace, Name string
	Labels          map[string]string
	Data            map[string]string
}

// Document is one of Iter8's documents; exactly one of its fields is set.
type Document struct {
	Subject  *Subject
	Policy   *Policy
	Routemap *Routemap
}

// Resource names an object that a variant consists of, in the document's namespace.
type Resource struct {
	// Type is a short name, a plural, or a plural with its group, such as svc, deployments,
	// inferenceservices.serving.kserve.io.
	Type string
	Name string
	// Path is the field of the document that names it.
	Path string
}

func (r Resource) String() string { return r.Type + "/" + r.Name }

// Read reads a ConfigMap that carries the labels of a document. The spec decides between a routing policy and
// a subject, since the label that the tutorial gives to policies, iter8/routingpolicy, has a slash, which no
// API server accepts in the value of a label.
func Read(from Source) (doc Document, errs field.ErrorList) {
	routemap := from.Labels[KindLabel] == KindRoutemap
	if kind := from.Labels[KindLabel]; kind == oldKindRoutemap && from.Data["strSpec"] != "" {
		return doc, field.ErrorList{field.Invalid(field.NewPath("metadata", "labels").Key(KindLabel), kind,
			"is the name that a routemap had before Iter8 0.14: write "+KindRoutemap+", and in data.strSpec versions for variants and routingTemplates for ssas")}
	}
	key := "spec"
	if routemap {
		key = "strSpec"
	}
	spec, errs := readSpec(from, key)
	if len(errs) > 0 {
		return doc, errs
	}
	if routemap {
		doc.Routemap = readRoutemap(spec, from)
		return doc, *spec.errs
	}
	switch fields := spec.object(); {
	case fields == nil: // there is an error already
	case has(fields, "trigger", "chart", "values"):
		doc.Policy = readPolicy(spec)
	case has(fields, "gvrs", "variants"):
		doc.Subject = readSubject(spec, from)
	default:
		spec.invalid("names neither the gvrs and variants of a subject nor the trigger, chart and values of a routing policy")
	}
	return doc, *spec.errs
}

// has reports whether there is a field of one of these names.
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

// parseYAML reads one YAML document. A duplicate key is an error, and integers stay integers.
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

// shorten cuts a value that is too long for a message.
func shorten(text string) string {
	const most = 60
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// node is a value of a document with its path; errors about it are added to errs. The zero node is a field
// that is missing: it has no value, and adds no error.
type node struct {
	path  *field.Path
	value any
	errs  *field.ErrorList
}

func (n node) add(err *field.Error) {
	if n.errs != nil {
		*n.errs = append(*n.errs, err)
	}
}

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

// object returns the fields of an object, and adds an error for each one that is not known, unless no known
// ones are named. If the value is no object it adds an error and returns nil.
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
		n.unknown(fields, known...)
	}
	return fields
}

// unknown adds an error for each field that is not known.
func (n node) unknown(fields map[string]node, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			n.add(field.Invalid(n.path.Child(name), shorten(fmt.Sprint(fields[name].value)), "unknown field, must be one of "+strings.Join(known, ", ")))
		}
	}
}

// need returns a field. If it is missing, it adds an error with a description.
func (n node) need(fields map[string]node, name, description string) node {
	child := optional(fields, name)
	if child.value == nil && fields != nil { // without fields there is an error already
		n.add(field.Required(n.path.Child(name), description))
	}
	return child
}

// optional returns a field, the zero node if it is missing or null.
func optional(fields map[string]node, name string) node {
	if fields[name].value == nil {
		return node{}
	}
	return fields[name]
}

// list returns the elements of a list of 1 to maxEntries; for any other value it adds an error and returns
// nil.
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

// text returns a text; for any other value, and for "", it adds an error and returns "".
func (n node) text() string {
	text, _ := n.value.(string)
	if text == "" {
		n.invalid("must be a text")
	}
	return text
}

// name returns the name of an object; for an invalid one it adds an error and returns "".
func (n node) name() string { return n.subdomain("") }

// resourceType returns a short name, a plural, or one with its version and group.
func (n node) resourceType() string {
	return n.subdomain("must be a resource, by its short name, or its plural with or without a group: svc, deploy, inferenceservices.serving.kserve.io")
}

// subdomain returns a DNS subdomain; the error about any other text is the message, by default that of
// Kubernetes.
func (n node) subdomain(message string) string {
	text := n.text()
	if msgs := validation.IsDNS1123Subdomain(text); text != "" && len(msgs) > 0 {
		n.invalid(cmp.Or(message, msgs[0]))
		return ""
	}
	return text
}
