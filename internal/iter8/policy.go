package iter8

// A routing policy holds the route in front of a subject, and names the variant on which the mirrors of that
// route depend.

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

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
	// values is the spec of the route with all of its mirrors, as JSON.
	values []byte
}

var (
	updates  = regexp.MustCompile(`^variant/([1-9][0-9]{0,2})$`)
	versions = regexp.MustCompile(`^[v=~^]?0\.14(\.([xX*]|[0-9]+))?$`)
)

func readPolicy(spec node) *Policy {
	p := &Policy{}
	fields := spec.object("trigger", "repo", "chart", "version", "values")
	readTrigger(spec.need(fields, "trigger", "names the subject of the route, and the variant on which it depends"), p)
	if repo, ok := fields["repo"]; ok { // it is checked but never contacted, since the chart is built in
		repo.text()
	}
	n := spec.need(fields, "chart", `must be "`+chart+`"`)
	if name := n.text(); name != "" && name != chart {
		n.add(field.NotSupported(n.path, name, []string{chart}))
	}
	version := spec.need(fields, "version", "must be 0.14.x, or a release of 0.14")
	if !versions.MatchString(fmt.Sprint(version.value)) { // YAML reads 0.14 as a number
		version.invalid("must be 0.14.x, or a release of 0.14: chart " + chart + " is built in as of that version")
	}
	p.values = readValues(spec.need(fields, "values", "the spec of the route: parentRefs, hostnames, rules"))
	return p
}

func readTrigger(trigger node, p *Policy) {
	fields := trigger.object("owner", "update")
	p.Owner = trigger.need(fields, "owner", "names the subject, and the route").name()
	update := trigger.need(fields, "update", "names the variant on which mirrors depend: variant/2")
	text := update.text()
	if match := updates.FindStringSubmatch(text); match != nil {
		p.Variant, _ = strconv.Atoi(match[1])
	} else if text != "" {
		update.invalid("must be variant/N, with N from 1: variant/2")
	}
}

// readValues returns the JSON of the values. It checks the fields that WithoutMirrors edits, and leaves all
// others to the API server.
func readValues(values node) []byte {
	fields := values.object()
	rules := values.need(fields, "rules", "the rules of the route; one without backendRefs answers no request")
	for _, rule := range rules.list() {
		readFilters(rule.object())
	}
	raw, _ := json.Marshal(values.value) // it was read from JSON
	return raw
}

func readFilters(rule map[string]node) {
	for _, filter := range optional(rule, "filters").list() {
		filter.need(filter.object(), "type", "names the filter: RequestMirror").text()
	}
	for _, backend := range optional(rule, "backendRefs").list() {
		fields := backend.object()
		delete(fields, "backendRefs")
		readFilters(fields)
	}
}

// Route returns the route in a namespace, with all of its mirrors. The caller may change it.
//
// A parent of kind Service without a group gets the group of Services, as the tutorial means it: with the
// API's default, gateway.networking.k8s.io, no such kind exists, and no data plane would serve the route.
func (p *Policy) Route(namespace string) map[string]any {
	var spec map[string]any
	_ = kjson.UnmarshalCaseSensitivePreserveInts(p.values, &spec)
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
