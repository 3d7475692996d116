package iter8

// A routemap has versions with resources and weights, and templates of routes in which
// the weights are filled in.

import (
	"errors"
	"fmt"
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

// Version is one version of an app.
type Version struct {
	// Weight is what it gets while it is there, 1 unless it says otherwise.
	Weight    uint32
	Resources []Resource
}

// Template is a route with places for weights.
type Template struct {
	Name string
	// Path is where the text stands.
	Path *field.Path
	kind route.Kind
	text program
}

// Kind is what the template makes.
func (t *Template) Kind() route.Kind { return t.kind }

// maxTemplates bounds what one routemap costs.
const maxTemplates = 16

// types are the resources that a template may be for.
var types = map[string]route.Kind{
	"vs": route.VirtualService, "virtualservice": route.VirtualService, "virtualservices": route.VirtualService,
	"httproute": route.HTTPRoute, "httproutes": route.HTTPRoute,
}

func readRoutemap(spec node, from Source) *Routemap {
	m := &Routemap{Namespace: from.Namespace, Name: from.Name}
	fields := spec.object("versions", "routingTemplates")
	if versions, ok := spec.need(fields, "versions", "the versions of the app, the primary first"); ok {
		for _, v := range versions.list() {
			m.Versions = append(m.Versions, readVersion(v, from.Namespace))
		}
	}
	templates, ok := spec.need(fields, "routingTemplates", "the routes, by a name for each")
	if !ok {
		return m
	}
	texts := templates.object()
	if len(texts) > maxTemplates {
		templates.add(field.TooMany(templates.path, len(texts), maxTemplates))
		return m
	}
	for _, name := range sorted(texts) {
		text := texts[name]
		text.path = templates.path.Key(name)
		m.Templates = append(m.Templates, readTemplate(name, text))
	}
	return m
}

func readVersion(n node, namespace string) Version {
	v := Version{Weight: 1}
	fields := n.object("weight", "resources", "signature")
	if weight, ok := fields["weight"]; ok && weight.value != nil {
		if w, ok := weight.value.(int64); ok && w >= 0 && w <= math.MaxUint32 {
			v.Weight = uint32(w)
		} else {
			weight.invalid("must be a whole number from 0")
		}
	}
	resources, ok := fields["resources"]
	if !ok || resources.value == nil {
		return v // it is always there
	}
	for _, r := range resources.list() {
		fields := r.object("gvrShort", "name", "namespace")
		var res Resource
		if kind, ok := r.need(fields, "gvrShort", "names the resource: svc"); ok {
			res.Type = kind.resourceType()
		}
		if name, ok := r.need(fields, "name", "names the object"); ok {
			res.Name, res.Path = name.name(), r.path.String()
		}
		if in, ok := fields["namespace"]; ok && in.value != nil && in.value != namespace {
			in.invalid(fmt.Sprintf("must be %q, the namespace of the routemap", namespace))
		}
		v.Resources = append(v.Resources, res)
	}
	return v
}

func readTemplate(name string, n node) Template {
	t := Template{Name: name, Path: n.path.Child("template")}
	fields := n.object("gvrShort", "template")
	if kind, ok := n.need(fields, "gvrShort", "names what the template makes: vs or httproute"); ok {
		text, _ := kind.text()
		if t.kind, ok = types[text]; !ok && text != "" {
			kind.add(field.NotSupported(kind.path, text, []string{"vs", "httproute"}))
		}
	}
	if text, ok := n.need(fields, "template", "the text of the route"); ok {
		if source, ok := text.text(); ok {
			var err error
			if t.text, err = compile(name, source); err != nil {
				text.invalid(err.Error())
			}
		}
	}
	return t
}

// Weights are the weights of the versions: 0 for one that is not there, what an annotation
// says (nil for none) or else the routemap for one that is. If nothing is left, the primary gets 1.
func (m *Routemap) Weights(there []bool, annotated []*uint32) []uint32 {
	weights := make([]uint32, len(m.Versions))
	for i, v := range m.Versions {
		switch {
		case !there[i]:
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

// Render fills in the weights. It returns nil where the template makes nothing of them.
// What is returned may be changed.
func (m *Routemap) Render(t *Template, weights []uint32) (map[string]any, *field.Error) {
	wrong := func(err error) (map[string]any, *field.Error) {
		return nil, field.Invalid(t.Path, m.Name, err.Error())
	}
	text, err := t.text.run(values{Weights: weights, Name: m.Name, Namespace: m.Namespace}, time.Now)
	if err != nil {
		return wrong(err)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	value, err := parseYAML(text)
	if err != nil {
		return wrong(fmt.Errorf("what it makes %w", err))
	}
	object, err := m.accept(t, value)
	if err != nil {
		return wrong(err)
	}
	return object, nil
}

// accept takes from what a template made what a route of its namespace may have.
func (m *Routemap) accept(t *Template, value any) (map[string]any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("what it makes is no object")
	}
	apiVersion, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	if kind != string(t.kind) || groupOf(apiVersion) != t.kind.Group() {
		return nil, fmt.Errorf("makes a %q of %q, its gvrShort says %s of %s", shorten(kind), shorten(apiVersion), t.kind, t.kind.Group())
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
		for _, key := range sorted(texts) {
			if strings.HasPrefix(key, "mirrorgate.dev/") && key != route.GateAnnotation {
				return nil, fmt.Errorf("makes a route with metadata.%s %s, which is ours", field, key)
			}
		}
		accepted[field] = texts
	}
	return map[string]any{
		"apiVersion": t.kind.Group() + "/v1", "kind": string(t.kind), "metadata": accepted, "spec": spec,
	}, nil
}

func groupOf(apiVersion string) string {
	group, _, _ := strings.Cut(apiVersion, "/")
	return group
}
