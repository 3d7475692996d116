package lint

// The schemas of mirrors in an HTTPRoute and a GRPCRoute (Gateway API 1.6) and in a VirtualService (Istio
// 1.31). In a cluster the API server validates them, and drops unknown fields. A warning is given about
// these, since a mirror whose percentage is misspelled copies everything.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mirrorgate/mirrorgate/internal/printing"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// schema is the form of a value. Exactly one of the first four is set.
type schema struct {
	fields map[string]schema
	items  *schema
	text   func(string) (problem string)
	number *numbers
	// required are the fields that must be set.
	required []string
	// needs returns another fault of an object, "" when there is none.
	needs func(object map[string]any) (field, problem string)
}

// numbers are the numbers from min to max, only whole ones unless fractions are allowed.
type numbers struct {
	min, max  float64
	fractions bool
}

func (n numbers) String() string {
	kind := "a whole number"
	if n.fractions {
		kind = "a number"
	}
	if n.max == math.MaxInt32 {
		return fmt.Sprintf("must be %s, %v or more", kind, n.min)
	}
	return fmt.Sprintf("must be %s from %v to %v", kind, n.min, n.max)
}

const (
	maxFilters = 16
	// maxValue is the largest length of a value in a finding, in bytes.
	maxValue = 100
)

var (
	text  = schema{text: func(string) string { return "" }}
	name  = schema{text: func(s string) string { return length(s, 253) }}
	kinds = schema{text: func(s string) string { return length(s, 63) }}
	label = schema{text: func(s string) string { return strings.Join(validation.IsDNS1123Label(s), "; ") }}
	port  = schema{number: &numbers{min: 1, max: 65535}}
	share = schema{number: &numbers{max: 100}}
	// counts are the parts of a fraction.
	counts = schema{number: &numbers{max: math.MaxInt32}}

	gatewayFilter = schema{
		fields: map[string]schema{
			"backendRef": {
				fields:   map[string]schema{"group": text, "kind": kinds, "name": name, "namespace": label, "port": port},
				required: []string{"name"}, needs: needsPort,
			},
			"percent": share,
			"fraction": {
				fields:   map[string]schema{"numerator": counts, "denominator": {number: &numbers{min: 1, max: math.MaxInt32}}},
				required: []string{"numerator"},
			},
		},
		required: []string{"backendRef"},
	}

	percentage  = schema{fields: map[string]schema{"value": {number: &numbers{max: 100, fractions: true}}}}
	destination = schema{
		fields:   map[string]schema{"host": text, "subset": text, "port": {fields: map[string]schema{"number": port}}},
		required: []string{"host"},
	}
	istioFields = map[string]schema{
		"mirror": destination,
		"mirrors": {items: &schema{
			fields:   map[string]schema{"destination": destination, "percentage": percentage},
			required: []string{"destination"},
		}},
		"mirrorPercentage": percentage,
		"mirrorPercent":    share,
		"mirror_percent":   share,
	}
)

func length(s string, most int) string {
	if s == "" || len(s) > most {
		return fmt.Sprintf("must have 1 to %d characters", most)
	}
	return ""
}

func needsPort(ref map[string]any) (field, problem string) {
	group, kind := ref["group"], ref["kind"]
	if ref["port"] == nil && (group == nil || group == "") && (kind == nil || kind == route.TargetService) {
		return "port", "must be set for a Service"
	}
	return "", ""
}

// validateSchema returns findings about the form of a route's mirrors.
func validateSchema(m *manifest) []Finding {
	dec := json.NewDecoder(bytes.NewReader(m.raw))
	dec.UseNumber()
	var object map[string]any
	if dec.Decode(&object) != nil {
		return nil
	}
	v := &validator{}
	spec, _ := object["spec"].(map[string]any)
	if route.Kind(m.head.Kind) == route.VirtualService {
		each(spec["http"], "spec.http", func(path string, rule map[string]any) { v.istioRule(path, rule) })
		return v.found
	}
	each(spec["rules"], "spec.rules", func(path string, rule map[string]any) {
		v.filters(path+".filters", rule["filters"])
		each(rule["backendRefs"], path+".backendRefs", func(path string, ref map[string]any) {
			v.filters(path+".filters", ref["filters"])
		})
	})
	return v.found
}

// each calls fn with the objects of a list.
func each(list any, path string, fn func(path string, object map[string]any)) {
	items, _ := list.([]any)
	for i, item := range items {
		if object, ok := item.(map[string]any); ok {
			fn(path+"["+strconv.Itoa(i)+"]", object)
		}
	}
}

// validator collects the findings about one route.
type validator struct{ found []Finding }

func (v *validator) add(path string, value any, problem string) {
	text := ""
	if value != nil {
		raw, _ := json.Marshal(value) //nolint:errchkjson // It was decoded from JSON.
		text = string(raw)
	}
	v.found = append(v.found, Finding{Level: Error, Field: path, Value: printing.Shorten(text, maxValue), Reason: schemaInvalid, Message: problem})
}

// filters validates the list of filters of a rule or of a backendRef.
func (v *validator) filters(path string, list any) {
	mirrors := 0
	each(list, path, func(path string, filter map[string]any) {
		mirror := filter["requestMirror"]
		switch {
		case mirror != nil && filter["type"] != "RequestMirror":
			v.add(path+".type", filter["type"], `must be "RequestMirror", since requestMirror is set`)
		case filter["type"] == "RequestMirror" && mirror == nil:
			v.add(path+".requestMirror", nil, "must be set, since type is RequestMirror")
		case mirror == nil:
			return
		}
		mirrors++
		if mirror != nil {
			v.value(path+".requestMirror", mirror, gatewayFilter)
		}
	})
	if items, _ := list.([]any); mirrors > 0 && len(items) > maxFilters {
		v.add(path, nil, fmt.Sprintf("must have at most %d filters, and has %d", maxFilters, len(items)))
	}
}

func (v *validator) istioRule(path string, rule map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(rule)) {
		value := rule[name]
		if form, known := istioFields[name]; known && value != nil {
			v.value(path+"."+name, value, form)
		} else if !known && strings.HasPrefix(strings.ToLower(name), "mirror") {
			v.unknown(path+"."+name, istioFields)
		}
	}
}

func (v *validator) unknown(path string, fields map[string]schema) {
	v.found = append(v.found, Finding{
		Level: Warning, Field: path, Reason: unknownField,
		Message: "the API server drops a field that it does not know; known are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", "),
	})
}

// value validates one value. Null counts as absent.
func (v *validator) value(path string, value any, form schema) {
	switch {
	case form.fields != nil:
		object, ok := value.(map[string]any)
		if !ok {
			v.add(path, value, "must be an object with "+strings.Join(slices.Sorted(maps.Keys(form.fields)), ", "))
			return
		}
		v.object(path, object, form)
	case form.items != nil:
		items, ok := value.([]any)
		if !ok {
			v.add(path, value, "must be a list")
		}
		for i, item := range items {
			v.value(path+"["+strconv.Itoa(i)+"]", item, *form.items)
		}
	case form.number != nil:
		number, _ := value.(json.Number)
		n, err := number.Float64()
		if err != nil || n < form.number.min || n > form.number.max || (!form.number.fractions && n != math.Trunc(n)) {
			v.add(path, value, form.number.String())
		}
	default:
		s, ok := value.(string)
		if !ok {
			v.add(path, value, "must be a string")
		} else if problem := form.text(s); problem != "" {
			v.add(path, value, problem)
		}
	}
}

func (v *validator) object(path string, object map[string]any, form schema) {
	for _, name := range form.required {
		if object[name] == nil {
			v.add(path+"."+name, nil, "must be set")
		}
	}
	if form.needs != nil {
		if field, problem := form.needs(object); problem != "" {
			v.add(path+"."+field, nil, problem)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if field, known := form.fields[name]; !known {
			v.unknown(path+"."+name, form.fields)
		} else if object[name] != nil {
			v.value(path+"."+name, object[name], field)
		}
	}
}
