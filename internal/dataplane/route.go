package dataplane

// HTTPRoutes: from raw JSON to the proxy's own rules, and what of them the proxy cannot do.

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
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

// route is an HTTPRoute. Only resolution changes once it is read.
type route struct {
	name       Name
	generation int64
	created    time.Time
	// digest is of the spec: writes of status and labels are no change.
	digest  [sha256.Size]byte
	parents []parentRef
	// rules are those the proxy can serve, by its names: a backend is "namespace/name".
	rules []spec.Rule
	// refs are what is behind the names in rules.
	refs map[string]ref
	// unusable is why nothing of it can be served; dropped, what of it is not.
	unusable string
	dropped  []string
	// ignored are fields that change nothing here.
	ignored []string
	// stored are the entries of ours in the object's status.
	stored []ParentStatus

	resolution
}

// parentRef is one to a Service.
type parentRef struct {
	service Name
	port    int    // 0 for all
	section string // name of a port
	written json.RawMessage
}

// ref is what a backendRef refers to.
type ref struct {
	Name
	// kind is set if that is no Service.
	kind string
}

// written is a reference as an HTTPRoute has it, a parent's or a backend's.
type written struct {
	Group       *string `json:"group"`
	Kind        *string `json:"kind"`
	Namespace   *string `json:"namespace"`
	Name        string  `json:"name"`
	SectionName string  `json:"sectionName"`
	Port        int     `json:"port"`
}

// of reads it as one of a backend, which is a Service by default.
func (w *written) of(namespace string) ref {
	r := ref{Name: Name{Namespace: cmp.Or(ptr.Deref(w.Namespace, ""), namespace), Name: w.Name}}
	if group, kind := ptr.Deref(w.Group, ""), ptr.Deref(w.Kind, "Service"); group != "" || kind != "Service" {
		r.kind = strings.TrimSuffix(kind+"."+group, ".")
	}
	return r
}

// writtenRule has of a rule what spec.Rule has no words for: where its references lead.
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

// header is what all objects have, with the spec unread.
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
		name: h.name(), generation: h.Metadata.Generation, created: h.Metadata.CreationTimestamp,
		digest: sha256.Sum256(h.Spec), refs: map[string]ref{},
	}
	for _, raw := range s.ParentRefs {
		var w written
		if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &w); err != nil {
			return nil, err
		}
		// Without group and kind it is a Gateway.
		if ptr.Deref(w.Group, routes.GatewayGroup) == "" && ptr.Deref(w.Kind, "") == "Service" {
			r.parents = append(r.parents, parentRef{w.of(r.name.Namespace).Name, w.Port, w.SectionName, raw})
		}
	}
	r.stored = ours(h.Status)
	if len(r.parents) == 0 {
		return r, nil
	}
	if s.Rules == nil {
		s.Rules = []json.RawMessage{[]byte("{}")} // the API's default
	}
	return r, r.read(s.Rules)
}

// read decodes the rules and takes out what cannot be served.
func (r *route) read(raw []json.RawMessage) error {
	names := map[string]bool{}
	usable := false
	for i := range raw {
		var rule spec.Rule
		var w writtenRule
		for _, into := range []any{&rule, &w} {
			if err := kjson.UnmarshalCaseSensitivePreserveInts(raw[i], into); err != nil {
				return fmt.Errorf("rules[%d]: %w", i, err)
			}
		}
		// A name of a section has no #.
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
		notes, verdict := sound(&rule)
		for _, note := range notes {
			r.dropped = append(r.dropped, "rules["+strconv.Itoa(i)+"]"+note)
		}
		usable = usable || verdict == serves
		if verdict != nowhere {
			r.rules = append(r.rules, rule)
		}
	}
	if !usable {
		r.unusable = cmp.Or(summary(r.dropped), "it has no rules")
	}
	return nil
}

// refer replaces the names in a rule by those of the table, and notes what they stand for.
func (r *route) refer(rule *spec.Rule, w *writtenRule) {
	name := func(to *spec.BackendRef, w *written) {
		ref := w.of(r.name.Namespace)
		to.Name = ref.String()
		if strings.Contains(ref.Namespace, "/") || strings.Contains(w.Name, "/") || w.Name == "" {
			ref.kind = cmp.Or(ref.kind, "Service")
		}
		if ref.kind != "" {
			to.Name = ref.kind + "//" + to.Name // what no Service is called
			to.Port = max(to.Port, 1)
		}
		r.refs[to.Name] = ref
	}
	mirrors := func(filters []spec.Filter, w []writtenFilter) {
		for i := range filters {
			if m := filters[i].RequestMirror; m != nil {
				// Not HTTPRoute's: settings of a target would be shared with other routes.
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

// verdict is what becomes of a rule.
type verdict uint8

const (
	serves  verdict = iota
	fails           // its requests are answered 500
	nowhere         // nobody knows which requests it is about
)

var mirrorPath = regexp.MustCompile(`^(?:\.backendRefs\[([0-9]+)\])?\.filters\[([0-9]+)\]\.requestMirror\b`)

// sound makes a rule one that the proxy can serve, and says what had to go. A mirror that is wrong
// goes alone: it must not touch the primary. Filters may not be skipped (the API wants an error
// instead), so that anything else that is wrong beside the matches makes the rule answer 500.
func sound(rule *spec.Rule) (notes []string, v verdict) {
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
			return append(notes, note), nowhere
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

// precedes is the order in which rules of several routes are asked that match equally well.
func (r *route) precedes(other *route) int {
	return cmp.Or(r.created.Compare(other.created), strings.Compare(r.name.String(), other.name.String()))
}

// same says that nothing has changed that matters here.
func (r *route) same(other *route) bool {
	return r.digest == other.digest && r.generation == other.generation && r.created.Equal(other.created)
}

// summary is so much of problems that a condition can hold it: the API allows 32 KiB.
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
