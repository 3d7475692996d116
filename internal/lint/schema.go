package lint

// The schemas of mirrors in an HTTPRoute and a GRPCRoute (Gateway API 1.6) and in a VirtualService (Istio
// 1.31). In a cluster the API server validates them, and drops unknown fields. Such a field is an error here,
// since a mirror whose percentage is misspelled copies everything.

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
	// instead are the remedies for values of another type, and misplaced those for fields that people write
	// here and that belong elsewhere.
	instead   func(value any) (remedy string)
	misplaced map[string]string
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
	// maxUnknown is the number of unknown fields of one object that have findings of their own.
	maxUnknown = 20
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
				required: []string{"name"}, needs: needsPort, instead: insteadOfBackendRef, misplaced: misplacedInBackendRef,
			},
			"percent": share,
			"fraction": {
				fields:   map[string]schema{"numerator": counts, "denominator": {number: &numbers{min: 1, max: math.MaxInt32}}},
				required: []string{"numerator"}, instead: insteadOfFraction,
			},
		},
		required: []string{"backendRef"}, misplaced: misplacedInFilter,
	}

	percentage = schema{
		fields: map[string]schema{"value": {number: &numbers{max: 100, fractions: true}}}, instead: insteadOfPercentage,
		misplaced: misplacedInPercentage,
	}
	destination = schema{
		fields: map[string]schema{
			"host": text, "subset": text,
			"port": {fields: map[string]schema{"number": port}, instead: insteadOfPort},
		},
		required: []string{"host"}, instead: insteadOfDestination, misplaced: misplacedInDestination,
	}
	istioFields = map[string]schema{
		"mirror": destination,
		"mirrors": {items: &schema{
			fields:   map[string]schema{"destination": destination, "percentage": percentage},
			required: []string{"destination"}, misplaced: misplacedInMirrors,
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
func validateSchema(o *object) []Finding {
	dec := json.NewDecoder(bytes.NewReader(o.raw))
	dec.UseNumber()
	var object map[string]any
	if dec.Decode(&object) != nil {
		return nil
	}
	v := &validator{}
	spec, _ := object["spec"].(map[string]any)
	if route.Kind(o.head.Kind) == route.VirtualService {
		v.misplacedMirrors("spec", spec, "move it into a rule of http, beside route")
		each(spec["http"], "spec.http", v.istioRule)
		return v.found
	}
	v.misplacedMirrors("spec", spec, "a mirror is a filter of a rule: filters: [{type: RequestMirror, requestMirror: {backendRef: …}}]")
	each(spec["rules"], "spec.rules", func(path string, rule map[string]any) {
		v.misplacedMirrors(path, rule, "a mirror is a filter: filters: [{type: RequestMirror, requestMirror: {backendRef: …}}]")
		if _, found := rule["filter"]; found {
			v.unknown(path+".filter", "did you mean filters?", nil)
		}
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

func (v *validator) add(path string, value any, problem, remedy string) {
	text := ""
	if value != nil {
		text = printing.Shorten(asJSON(value), maxValue)
	}
	v.found = append(v.found, Finding{Level: Error, Field: path, Value: text, Reason: SchemaInvalid, Message: problem, Remedy: remedy})
}

func asJSON(value any) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // it was decoded from JSON
	return strings.TrimSpace(out.String())
}

// filters validates the list of filters of a rule or of a backendRef.
func (v *validator) filters(path string, list any) {
	mirrors := 0
	each(list, path, func(path string, filter map[string]any) {
		mirror := filter["requestMirror"]
		isMirror := filter["type"] == "RequestMirror"
		if mirror == nil && !isMirror {
			return
		}
		mirrors++
		misspelt := v.filterFields(path, filter)
		switch {
		case mirror != nil && !isMirror:
			v.add(path+".type", filter["type"], `must be "RequestMirror", since requestMirror is set`, "")
		case mirror == nil && !misspelt:
			v.add(path+".requestMirror", nil, "must be set, since type is RequestMirror", "")
		}
		if mirror != nil {
			v.value(path+".requestMirror", mirror, gatewayFilter)
		}
	})
	if items, _ := list.([]any); mirrors > 0 && len(items) > maxFilters {
		v.add(path, nil, fmt.Sprintf("must have at most %d filters, and has %d", maxFilters, len(items)), "")
	}
}

// filterFields finds the fields that a filter with a mirror does not have, and reports whether one of them is
// requestMirror misspelt.
func (v *validator) filterFields(path string, filter map[string]any) (misspelt bool) {
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		if slices.Contains(gatewayFilters, name) {
			continue
		}
		remedy := misplacedBesideFilter[name]
		if remedy == "" && printing.Nearest(name, []string{"requestMirror"}) != "" {
			misspelt, remedy = true, "did you mean requestMirror?"
		}
		v.unknown(path+"."+name, remedy, gatewayFilters[:2])
	}
	return misspelt
}

// istioRule validates one http rule of a VirtualService.
func (v *validator) istioRule(path string, rule map[string]any) {
	known := slices.Sorted(maps.Keys(istioFields))
	for _, name := range slices.Sorted(maps.Keys(rule)) {
		value := rule[name]
		form, mirrors := istioFields[name]
		switch {
		case mirrors && value != nil:
			v.value(path+"."+name, value, form)
		case mirrors, slices.Contains(istioRuleFields, name):
		case rule["mirror"] != nil && misplacedBesideMirror[name] != "":
			v.unknown(path+"."+name, misplacedBesideMirror[name], known)
		default:
			if meant := printing.Nearest(name, known); meant != "" || strings.HasPrefix(strings.ToLower(name), "mirror") {
				v.unknown(path+"."+name, didYouMean(meant), known)
			}
		}
	}
	each(rule["route"], path+".route", func(at string, backend map[string]any) {
		remedy := "move it up into " + path + ", beside route"
		v.misplacedMirrors(at, backend, remedy)
		if destination, ok := backend["destination"].(map[string]any); ok {
			v.misplacedMirrors(at+".destination", destination, remedy)
		}
	})
}

// misplacedMirrors finds fields of mirrors in an object that has none.
func (v *validator) misplacedMirrors(path string, object map[string]any, remedy string) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if _, istio := istioFields[name]; istio || name == "requestMirror" {
			v.unknown(path+"."+name, remedy, nil)
		}
	}
}

// unknown adds a finding about a field that the API server drops. known are the fields of its place.
func (v *validator) unknown(path, remedy string, known []string) {
	message := "the API server drops this field, since it does not know it here"
	if len(known) > 0 {
		message += "; known are " + strings.Join(known, ", ")
	}
	v.found = append(v.found, Finding{Level: Error, Field: path, Reason: UnknownField, Message: message, Remedy: remedy})
}

// value validates one value. Null counts as absent.
func (v *validator) value(path string, value any, form schema) {
	var problem string
	switch {
	case form.fields != nil:
		if object, ok := value.(map[string]any); ok {
			v.object(path, object, form)
			return
		}
		problem = "must be an object with " + strings.Join(slices.Sorted(maps.Keys(form.fields)), ", ")
	case form.items != nil:
		if items, ok := value.([]any); ok {
			for i, item := range items {
				v.value(path+"["+strconv.Itoa(i)+"]", item, *form.items)
			}
			return
		}
		problem = "must be a list"
	case form.number != nil:
		number, _ := value.(json.Number)
		n, err := number.Float64()
		if err != nil || n < form.number.min || n > form.number.max || (!form.number.fractions && n != math.Trunc(n)) {
			v.add(path, value, form.number.String(), insteadOfNumber(value, form.number))
		}
		return
	default:
		s, ok := value.(string)
		if !ok {
			problem = "must be text"
		} else if problem = form.text(s); problem == "" {
			return
		}
	}
	remedy := ""
	if form.instead != nil {
		remedy = form.instead(value)
	}
	v.add(path, value, problem, remedy)
}

func (v *validator) object(path string, object map[string]any, form schema) {
	known := slices.Sorted(maps.Keys(form.fields))
	meant := map[string]bool{}
	unknown := 0
	for _, name := range slices.Sorted(maps.Keys(object)) {
		field, ok := form.fields[name]
		if !ok {
			unknown++
		}
		switch {
		case unknown > maxUnknown:
			v.unknown(path, fmt.Sprintf("there are %d unknown fields or more", unknown), known)
			return
		case !ok:
			remedy := form.misplaced[name]
			if remedy == "" {
				near := printing.Nearest(name, known)
				meant[near], remedy = true, didYouMean(near)
			}
			v.unknown(path+"."+name, remedy, known)
		case object[name] != nil:
			v.value(path+"."+name, object[name], field)
		}
	}
	for _, name := range form.required {
		if object[name] == nil && !meant[name] {
			v.add(path+"."+name, nil, "must be set", "")
		}
	}
	if form.needs != nil {
		if field, problem := form.needs(object); problem != "" && !meant[field] {
			v.add(path+"."+field, nil, problem, "")
		}
	}
}
