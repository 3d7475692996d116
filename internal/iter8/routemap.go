package iter8

// A routemap has versions with resources and weights, and templates of routes that use the weights.

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Routemap is an app with its versions and its routes.
type Routemap struct {
	Namespace, Name string
	Versions        []Version
	// Templates are in the order of their names.
	Templates []Template
}

// Version is one version of an app. One without resources is always ready.
type Version struct {
	// Weight is its weight while it is ready; 1 by default.
	Weight    uint32
	Resources []Resource
}

// Template makes a route of the weights.
type Template struct {
	Name string
	// Kind is the kind of the route.
	Kind route.Kind
	path *field.Path
	text program
}

// maxTemplates limits the cost of one routemap.
const maxTemplates = 16

// types are the resources that a template may make.
var types = map[string]route.Kind{
	"vs": route.VirtualService, "virtualservice": route.VirtualService, "virtualservices": route.VirtualService,
	"httproute": route.HTTPRoute, "httproutes": route.HTTPRoute,
}

func readRoutemap(spec node, from Source) *Routemap {
	m := &Routemap{Namespace: from.Namespace, Name: from.Name}
	fields := spec.withoutOldNames(spec.object(), "versions", "routingTemplates")
	for _, v := range spec.need(fields, "versions", "the versions of the app, the primary first").list() {
		m.Versions = append(m.Versions, readVersion(v, from.Namespace))
	}
	templates := optional(fields, "routingTemplates")
	if templates.value == nil { // Iter8's strategy "none" only lists versions
		return m
	}
	texts := templates.object()
	if len(texts) > maxTemplates {
		templates.add(field.TooMany(templates.path, len(texts), maxTemplates))
		return m
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		text.path = templates.path.Key(name)
		m.Templates = append(m.Templates, readTemplate(name, text))
	}
	return m
}

// oldNames are the fields of a routemap before Iter8 0.14, by their later names.
var oldNames = map[string]string{"versions": "variants", "routingTemplates": "ssas"}

// withoutOldNames adds an error for each field that is unknown or has its old name. It returns the fields by their
// later names.
func (n node) withoutOldNames(fields map[string]node, known ...string) map[string]node {
	for _, name := range known {
		old, later := oldNames[name], fields[name]
		if f, ok := fields[old]; ok && later.value == nil {
			f.invalid(fmt.Sprintf("is the name that %s had before Iter8 0.14: rename it", name))
			fields[name] = f
			delete(fields, old)
		}
	}
	n.unknown(fields, known...)
	return fields
}

func readVersion(n node, namespace string) Version {
	v := Version{Weight: 1}
	if n.value == nil { // a version that plays no part in routing: "- " in the list
		return v
	}
	fields := n.object("weight", "resources", "signature")
	weight := optional(fields, "weight")
	if w, ok := weight.value.(int64); ok && w >= 0 && w <= math.MaxUint32 {
		v.Weight = uint32(w)
	} else {
		weight.invalid("must be a whole number from 0")
	}
	resources := optional(fields, "resources")
	if none, ok := resources.value.([]any); ok && len(none) == 0 {
		return v
	}
	for _, r := range resources.list() {
		fields := r.object("gvrShort", "name", "namespace")
		v.Resources = append(v.Resources, Resource{
			Type: r.need(fields, "gvrShort", "names the resource: svc").resourceType(),
			Name: r.need(fields, "name", "names the object").name(),
			Path: r.path.String(),
		})
		if in := optional(fields, "namespace"); in.value != namespace {
			in.invalid(fmt.Sprintf("must be %q, the namespace of the routemap", namespace))
		}
	}
	return v
}

func readTemplate(name string, n node) Template {
	t := Template{Name: name, path: n.path.Child("template")}
	fields := n.object("gvrShort", "template")
	kind := n.need(fields, "gvrShort", "names what the template makes: vs or httproute")
	short := kind.text()
	t.Kind = types[short]
	if t.Kind == "" && short != "" {
		kind.add(field.NotSupported(kind.path, short, []string{"vs", "httproute"}))
	}
	text := n.need(fields, "template", "the text of the route")
	if source := text.text(); source != "" {
		var err error
		if t.text, err = compile(name, source); err != nil {
			text.invalid(err.Error())
		}
	}
	return t
}

// Weights returns the weights of the versions: 0 for one that is not ready, else that of its annotation, or
// of the routemap where the annotation is nil. If all are 0, the primary gets 1.
func (m *Routemap) Weights(ready []bool, annotated []*uint32) []uint32 {
	weights := make([]uint32, len(m.Versions))
	for i, v := range m.Versions {
		switch {
		case !ready[i]:
		case annotated[i] != nil:
			weights[i] = *annotated[i]
		default:
			weights[i] = v.Weight
		}
	}
	if len(weights) > 0 && !slices.ContainsFunc(weights, func(w uint32) bool { return w > 0 }) {
		weights[0] = 1
	}
	return weights
}

// ParseWeight reads the value of a weight annotation.
func ParseWeight(text string) (uint32, error) {
	w, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("annotation %s: %q must be a whole number from 0", WeightAnnotation, shorten(text))
	}
	return uint32(w), nil
}

// Render executes a template. It returns nil where the template makes no text. The caller may change the
// route.
func (m *Routemap) Render(t *Template, weights []uint32) (map[string]any, *field.Error) {
	invalid := func(err error) (map[string]any, *field.Error) {
		return nil, field.Invalid(t.path, m.Name, err.Error())
	}
	text, err := t.text.run(values{Weights: weights, Name: m.Name, Namespace: m.Namespace}, time.Now)
	if err != nil {
		return invalid(err)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	value, err := parseYAML(text)
	if err != nil {
		return invalid(fmt.Errorf("its result %w", err))
	}
	object, err := m.accept(t, value)
	if err != nil {
		return invalid(err)
	}
	return object, nil
}

// accept returns the fields of a template's result that a route of its namespace may have.
func (m *Routemap) accept(t *Template, value any) (map[string]any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("its result is no object")
	}
	apiVersion, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	if kind != string(t.Kind) || groupOf(apiVersion) != t.Kind.Group() {
		return nil, fmt.Errorf("makes a %q of %q, its gvrShort is %s of %s", shorten(kind), shorten(apiVersion), t.Kind, t.Kind.Group())
	}
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return nil, fmt.Errorf("makes a route with metadata.name %q: %s", shorten(name), msgs[0])
	}
	if in := metadata["namespace"]; in != nil && in != m.Namespace {
		return nil, fmt.Errorf("makes a route in namespace %q: must be %q, that of the routemap", shorten(fmt.Sprint(in)), m.Namespace)
	}
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		return nil, errors.New("makes a route without a spec")
	}
	accepted := map[string]any{"name": name, "namespace": m.Namespace}
	for _, field := range []string{"labels", "annotations"} {
		texts, ok := metadata[field].(map[string]any)
		if !ok {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			if strings.HasPrefix(key, "mirrorgate.dev/") && key != route.GateAnnotation {
				return nil, fmt.Errorf("makes a route with metadata.%s %s, which mirrorgate sets", field, key)
			}
		}
		accepted[field] = texts
	}
	return map[string]any{
		"apiVersion": t.Kind.Group() + "/v1", "kind": string(t.Kind), "metadata": accepted, "spec": spec,
	}, nil
}

func groupOf(apiVersion string) string {
	group, _, _ := strings.Cut(apiVersion, "/")
	return group
}
