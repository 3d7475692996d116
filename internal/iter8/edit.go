package iter8

// The removal of mirrors from a route.

import (
	"fmt"
	"slices"
)

// WithoutMirrors removes the mirrors of a route for which out is true, and leaves no empty list behind: a
// route without its mirror looks as if it never had one. Paths are those of route.Mirror, such as
// spec.rules[0].filters[0].requestMirror and spec.http[0].mirror.
func WithoutMirrors(object map[string]any, out func(path string) bool) {
	spec, _ := object["spec"].(map[string]any)
	for i, rule := range objects(spec["rules"]) {
		path := fmt.Sprintf("spec.rules[%d]", i)
		withoutFilters(rule, path, out)
		for b, backend := range objects(rule["backendRefs"]) {
			withoutFilters(backend, fmt.Sprintf("%s.backendRefs[%d]", path, b), out)
		}
	}
	for i, http := range objects(spec["http"]) {
		path := fmt.Sprintf("spec.http[%d]", i)
		if http["mirror"] != nil && out(path+".mirror") {
			for _, name := range []string{"mirror", "mirrorPercentage", "mirrorPercent", "mirror_percent"} {
				delete(http, name)
			}
		}
		without(http, "mirrors", func(n int) bool { return out(fmt.Sprintf("%s.mirrors[%d]", path, n)) })
	}
}

func withoutFilters(holder map[string]any, path string, out func(string) bool) {
	filters, _ := holder["filters"].([]any)
	without(holder, "filters", func(n int) bool {
		filter, _ := filters[n].(map[string]any)
		return filter["type"] == "RequestMirror" && out(fmt.Sprintf("%s.filters[%d].requestMirror", path, n))
	})
}

// without removes elements of a list, and the list itself when none is left.
func without(holder map[string]any, name string, out func(int) bool) {
	list, _ := holder[name].([]any)
	n := -1
	left := slices.DeleteFunc(slices.Clone(list), func(any) bool { n++; return out(n) })
	switch {
	case len(left) == len(list):
	case len(left) == 0:
		delete(holder, name)
	default:
		holder[name] = left
	}
}

// objects returns the elements of a list of objects; any other element is nil.
func objects(value any) []map[string]any {
	list, _ := value.([]any)
	found := make([]map[string]any, len(list))
	for i, element := range list {
		found[i], _ = element.(map[string]any)
	}
	return found
}
