package iter8

// A routing policy says which route there is in front of a subject, and which of its
// variants has to be there for the mirrors in it.

import (
	"fmt"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// Chart is the one chart that there is.
const Chart = "mirror"

// Policy is a routing policy.
type Policy struct {
	// Owner is the subject, and the name of the route.
	Owner string
	// Variant is the one that mirrors are for, from 1.
	Variant int
	// Values are the spec of the route with all of its mirrors.
	Values map[string]any
}

var (
	updates  = regexp.MustCompile(`^variant/([1-9][0-9]{0,2})$`)
	versions = regexp.MustCompile(`^[v=~^]?0\.14(\.([xX*]|[0-9]+))?$`)
)

func readPolicy(spec node) *Policy {
	p := &Policy{}
	fields := spec.object("trigger", "repo", "chart", "version", "values")
	if trigger, ok := spec.need(fields, "trigger", "says whose route this is, and on which variant it depends"); ok {
		readTrigger(trigger, p)
	}
	if repo, ok := fields["repo"]; ok { // charts are built in: nobody asks there
		repo.text()
	}
	if chart, ok := spec.need(fields, "chart", `must be "`+Chart+`"`); ok {
		if name, ok := chart.text(); ok && name != Chart {
			chart.add(field.NotSupported(chart.path, name, []string{Chart}))
		}
	}
	if version, ok := spec.need(fields, "version", "must be 0.14.x, or a release of 0.14"); ok {
		// YAML takes 0.14 for a number.
		if !versions.MatchString(fmt.Sprint(version.value)) {
			version.invalid("must be 0.14.x, or a release of 0.14: chart " + Chart + " is built in as of that version")
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
	text, ok := update.text()
	if !ok {
		return
	}
	match := updates.FindStringSubmatch(text)
	if match == nil {
		update.invalid("must be variant/N, with N from 1: variant/2")
		return
	}
	p.Variant, _ = strconv.Atoi(match[1])
}

// readValues checks as much as is edited; the rest is for the API server to judge.
func readValues(values node) map[string]any {
	fields := values.object()
	rules, ok := values.need(fields, "rules", "what the route does; a rule without backendRefs answers nobody")
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
	if filters, ok := rule["filters"]; ok && filters.value != nil {
		for _, filter := range filters.list() {
			fields := filter.object()
			if kind, ok := filter.need(fields, "type", "names the filter: RequestMirror"); ok {
				kind.text()
			}
		}
	}
	if backends, ok := rule["backendRefs"]; ok && backends.value != nil {
		for _, backend := range backends.list() {
			fields := backend.object()
			delete(fields, "backendRefs")
			readFilters(fields)
		}
	}
}

// Route returns the route with all of its mirrors, in a namespace. It may be changed.
//
// A parent of kind Service without a group is a Service, as the tutorial means it: the API's default
// for the group would make it something that exists nowhere, and nobody would serve the route.
func (p *Policy) Route(namespace string) map[string]any {
	spec := deepCopy(p.Values)
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
