package iter8

// A routing policy holds the route in front of a subject, and names the variant on which the mirrors of that route
// depend.

import (
	"fmt"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// chart is the only chart that is supported.
const chart = "mirror"

// Policy is a routing policy.
type Policy struct {
	// Owner is the name of the subject, and of the route.
	Owner string
	// Variant is the number, from 1, of the variant on which the mirrors depend.
	Variant int
	// Values is the spec of the route with all of its mirrors.
	Values map[string]any
}

var (
	updates  = regexp.MustCompile(`^variant/([1-9][0-9]{0,2})$`)
	versions = regexp.MustCompile(`^[v=~^]?0\.14(\.([xX*]|[0-9]+))?$`)
)

func readPolicy(spec node) *Policy {
	p := &Policy{}
	fields := spec.object("trigger", "repo", "chart", "version", "values")
	if trigger, ok := spec.need(fields, "trigger", "names the subject of the route, and the variant on which it depends"); ok {
		readTrigger(trigger, p)
	}
	if repo, ok := fields["repo"]; ok { // it is checked but never contacted, since the chart is built in
		repo.text()
	}
	if n, ok := spec.need(fields, "chart", `must be "`+chart+`"`); ok {
		if name := n.text(); name != "" && name != chart {
			n.add(field.NotSupported(n.path, name, []string{chart}))
		}
	}
	if version, ok := spec.need(fields, "version", "must be 0.14.x, or a release of 0.14"); ok {
		// YAML reads 0.14 as a number.
		if !versions.MatchString(fmt.Sprint(version.value)) {
			version.invalid("must be 0.14.x, or a release of 0.14: chart " + chart + " is built in as of that version")
		}
	}
	if values, ok := spec.need(fields, "values", "the spec of the route: parentRefs, hostnames, rules"); ok {
		p.Values = readValues(values)
	}
	return p
}

func readTrigger(trigger node, p *Policy) {
	fields := trigger.object("owner", "update")
	if owner, ok := trigger.need(fields, "owner", "names the subject, and the route"); ok {
		p.Owner = owner.name()
	}
	update, ok := trigger.need(fields, "update", "names the variant on which mirrors depend: variant/2")
	if !ok {
		return
	}
	text := update.text()
	if match := updates.FindStringSubmatch(text); match != nil {
		p.Variant, _ = strconv.Atoi(match[1])
	} else if text != "" {
		update.invalid("must be variant/N, with N from 1: variant/2")
	}
}

// readValues checks the fields that WithoutMirrors edits, and leaves all others to the API server.
func readValues(values node) map[string]any {
	fields := values.object()
	rules, ok := values.need(fields, "rules", "the rules of the route; one without backendRefs answers no request")
	if !ok {
		return nil
	}
	for _, rule := range rules.list() {
		readFilters(rule.object())
	}
	spec, _ := values.value.(map[string]any)
	return spec
}

func readFilters(rule map[string]node) {
	if filters, ok := optional(rule, "filters"); ok {
		for _, filter := range filters.list() {
			fields := filter.object()
			if kind, ok := filter.need(fields, "type", "names the filter: RequestMirror"); ok {
				kind.text()
			}
		}
	}
	if backends, ok := optional(rule, "backendRefs"); ok {
		for _, backend := range backends.list() {
			fields := backend.object()
			delete(fields, "backendRefs")
			readFilters(fields)
		}
	}
}

// Route returns the route in a namespace, with all of its mirrors. The caller may change it.
//
// A parent of kind Service without a group gets the group of Services, as the tutorial means it: with the API's
// default, gateway.networking.k8s.io, no such kind exists, and no data plane would serve the route.
func (p *Policy) Route(namespace string) map[string]any {
	spec := runtime.DeepCopyJSON(p.Values)
	for _, parent := range objects(spec["parentRefs"]) {
		if _, ok := parent["group"]; !ok && parent["kind"] == "Service" {
			parent["group"] = ""
		}
	}
	return map[string]any{
		"apiVersion": route.GatewayGroup + "/v1", "kind": string(route.HTTPRoute),
		"metadata": map[string]any{"name": p.Owner, "namespace": namespace},
		"spec":     spec,
	}
}
