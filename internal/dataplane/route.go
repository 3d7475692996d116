package dataplane

// Routes: from raw JSON to the proxy's own rules, with a list of the fields that it does not support.

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/ptr"
	kjson "sigs.k8s.io/json"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	routes "github.com/mirrorgate/mirrorgate/internal/route"
)

// route is an HTTPRoute or a GRPCRoute. Only resolution changes once it is read.
type route struct {
	name       RouteName
	generation int64
	created    time.Time
	// digest is that of the spec, so that writes of status and labels are no change.
	digest  [sha256.Size]byte
	parents []parentRef
	// rules are those the proxy can serve, by its names: a backend is "namespace/name".
	rules []spec.Rule
	// refs are the references behind the names in rules.
	refs map[string]ref
	// unusable is why no rule can be served, "" if one can. dropped are the parts that are not served, each
	// with why.
	unusable string
	dropped  []string
	// ignored are the fields without an effect.
	ignored []string
	// stored are mirrorgate's entries in the object's status.
	stored []ParentStatus

	resolution
}

// parentRef is a parentRef to a Service.
type parentRef struct {
	service Name
	port    int    // 0 for all
	section string // name of a port
	written json.RawMessage
}

// ref is the object that a backendRef refers to.
type ref struct {
	Name
	// kind is set if it is no Service.
	kind string
}

// written is a parentRef or backendRef as a route has it.
type written struct {
	Group       *string `json:"group"`
	Kind        *string `json:"kind"`
	Namespace   *string `json:"namespace"`
	Name        string  `json:"name"`
	SectionName string  `json:"sectionName"`
	Port        int     `json:"port"`
}

// of reads a backendRef of a route in a namespace. The kind is Service by default.
func (w *written) of(namespace string) ref {
	r := ref{Name: Name{Namespace: cmp.Or(ptr.Deref(w.Namespace, ""), namespace), Name: w.Name}}
	if group, kind := ptr.Deref(w.Group, ""), ptr.Deref(w.Kind, "Service"); group != "" || kind != "Service" {
		r.kind = strings.TrimSuffix(kind+"."+group, ".")
	}
	return r
}

// writtenRule has the fields of a rule that spec.Rule lacks: where its references lead.
type writtenRule struct {
	Retry              json.RawMessage `json:"retry"`
	SessionPersistence json.RawMessage `json:"sessionPersistence"`

	Filters     []writtenFilter `json:"filters"`
	BackendRefs []struct {
		written
		Filters []writtenFilter `json:"filters"`
	} `json:"backendRefs"`
}

type writtenFilter struct {
	RequestMirror *struct {
		BackendRef written `json:"backendRef"`
	} `json:"requestMirror"`
}

// header has the fields that all objects have, with the spec unread.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace         string    `json:"namespace"`
		Name              string    `json:"name"`
		Generation        int64     `json:"generation"`
		CreationTimestamp time.Time `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status json.RawMessage `json:"status"`
}

func (h *header) name() Name { return Name{Namespace: h.Metadata.Namespace, Name: h.Metadata.Name} }

func parseRoute(h *header) (*route, error) {
	var s struct {
		ParentRefs []json.RawMessage `json:"parentRefs"`
		Rules      []json.RawMessage `json:"rules"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(h.Spec, &s); err != nil {
		return nil, err
	}
	r := &route{
		name: RouteName{KindHTTPRoute, h.name()}, generation: h.Metadata.Generation, created: h.Metadata.CreationTimestamp,
		digest: sha256.Sum256(h.Spec), refs: map[string]ref{},
	}
	if h.Kind == KindGRPCRoute.String() {
		r.name.Kind = KindGRPCRoute
	}
	for _, raw := range s.ParentRefs {
		var w written
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &w); err != nil {
			return nil, err
		}
		// The default is a Gateway.
		if ptr.Deref(w.Group, routes.GatewayGroup) == "" && ptr.Deref(w.Kind, "") == "Service" {
			r.parents = append(r.parents, parentRef{w.of(r.name.Namespace).Name, w.Port, w.SectionName, raw})
		}
	}
	r.stored = entriesOf(r.name.Kind, h.Status)
	if len(r.parents) == 0 {
		return r, nil
	}
	if s.Rules == nil && r.name.Kind == KindHTTPRoute {
		s.Rules = []json.RawMessage{[]byte("{}")} // the API's default
	}
	return r, r.read(s.Rules)
}

// read decodes the rules and drops the parts that cannot be served.
func (r *route) read(raw []json.RawMessage) error {
	names := map[string]bool{}
	usable := false
	for i := range raw {
		rule, err := r.decode(raw[i])
		var w writtenRule
		if err = errors.Join(err, kjson.UnmarshalCaseSensitivePreserveInts(raw[i], &w)); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
		// The API permits no # in a name, so this one is free.
		if rule.Name = cmp.Or(rule.Name, strconv.Itoa(i)); names[rule.Name] {
			rule.Name = "#" + strconv.Itoa(i)
		}
		names[rule.Name] = true
		r.refer(&rule, &w)
		for field, value := range map[string]json.RawMessage{"retry": w.Retry, "sessionPersistence": w.SessionPersistence} {
			if len(value) > 0 && string(value) != "null" {
				r.ignored = append(r.ignored, fmt.Sprintf("rules[%d].%s", i, field))
			}
		}
		slices.Sort(r.ignored)
		notes, verdict := repair(&rule)
		for _, note := range notes {
			r.dropped = append(r.dropped, "rules["+strconv.Itoa(i)+"]"+r.asWritten(note))
		}
		usable = usable || verdict == serves
		if verdict != unmatched {
			r.rules = append(r.rules, rule)
		}
	}
	if !usable {
		r.unusable = cmp.Or(summary(r.dropped), "it has no rules")
	}
	return nil
}

// decode reads a rule.
func (r *route) decode(raw []byte) (rule spec.Rule, err error) {
	if r.name.Kind == KindGRPCRoute {
		return decodeCalls(raw)
	}
	err = kjson.UnmarshalCaseSensitivePreserveInts(raw, &rule)
	return rule, err
}

// refer replaces the names in a rule by those of the table, and notes the objects that they stand for.
func (r *route) refer(rule *spec.Rule, w *writtenRule) {
	name := func(to *spec.BackendRef, w *written) {
		ref := w.of(r.name.Namespace)
		to.Name = ref.String()
		if strings.Contains(ref.Namespace, "/") || strings.Contains(w.Name, "/") || w.Name == "" {
			ref.kind = cmp.Or(ref.kind, "Service")
		}
		if ref.kind != "" {
			to.Name = ref.kind + "//" + to.Name // no Service has such a name
			to.Port = max(to.Port, 1)
		}
		r.refs[to.Name] = ref
	}
	mirrors := func(filters []spec.Filter, w []writtenFilter) {
		for i := range filters {
			if m := filters[i].RequestMirror; m != nil {
				// Routes have no such field. Settings of a target would be shared with other routes.
				m.Mirrorgate = spec.Mirror{}
				name(&m.BackendRef, &w[i].RequestMirror.BackendRef)
			}
		}
	}
	mirrors(rule.Filters, w.Filters)
	for i := range rule.BackendRefs {
		name(&rule.BackendRefs[i], &w.BackendRefs[i].written)
		mirrors(rule.BackendRefs[i].Filters, w.BackendRefs[i].Filters)
	}
}

// verdict is how much of a rule can be served.
type verdict uint8

const (
	serves    verdict = iota
	fails             // its requests are answered 500
	unmatched         // its matches are wrong, so that it is left out
)

var mirrorPath = regexp.MustCompile(`^(?:\.backendRefs\[([0-9]+)\])?\.filters\[([0-9]+)\]\.requestMirror\b`)

// repair drops the parts of a rule that the proxy cannot serve, and returns a note on each. A wrong mirror is
// dropped alone, since it must not affect the primary. Filters may not be skipped (the API wants an error
// instead), so any other fault except in matches makes the rule answer 500.
func repair(rule *spec.Rule) (notes []string, v verdict) {
	for {
		table, problems := routing.Compile(&spec.Table{Listeners: []spec.Listener{{Address: ":1", Rules: []spec.Rule{*rule}}}})
		if table != nil {
			return notes, v
		}
		problem := problems[0]
		at := strings.TrimPrefix(problem.Path, "listeners[0].rules[0]")
		note := at + ": " + problem.Message
		if m := mirrorPath.FindStringSubmatch(at); m != nil {
			notes = append(notes, note+"; this mirror is left out")
			dropMirror(rule, m[1], m[2])
			continue
		}
		if strings.HasPrefix(at, ".matches") || v == fails {
			return append(notes, note), unmatched
		}
		notes = append(notes, note+"; its requests are answered 500")
		rule.Filters, rule.BackendRefs, rule.Timeouts, v = nil, nil, nil, fails
	}
}

func dropMirror(rule *spec.Rule, backend, filter string) {
	filters := &rule.Filters
	if backend != "" {
		i, _ := strconv.Atoi(backend)
		filters = &rule.BackendRefs[i].Filters
	}
	i, _ := strconv.Atoi(filter)
	*filters = slices.Delete(*filters, i, i+1)
}

// precedes orders routes whose rules match a request equally well: the first one is used.
func (r *route) precedes(other *route) int {
	return cmp.Or(r.created.Compare(other.created), compareNames(r.name.Name, other.name.Name), cmp.Compare(r.name.Kind, other.name.Kind))
}

// same reports whether both are the same but for status and metadata that do not matter.
func (r *route) same(other *route) bool {
	return r.digest == other.digest && r.generation == other.generation && r.created.Equal(other.created)
}

// summary joins problems, shortened to the 32 KiB that the API allows in the message of a condition.
func summary(problems []string) string {
	const most, longest = 8, 512
	var out []string
	for i, problem := range problems {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(problems)-most))
			break
		}
		if len(problem) > longest {
			problem = strings.ToValidUTF8(problem[:longest], "") + "…"
		}
		out = append(out, problem)
	}
	return strings.Join(out, "; ")
}
