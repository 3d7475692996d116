// Package route reads HTTPRoutes, GRPCRoutes and VirtualServices as raw JSON into one small model, the Route,
// and plans where their mirrors belong: each one active in the spec, or parked behind a placeholder with its
// text kept in the parked annotation.
//
// Nothing in this package knows a cluster. Foreign API types are never marshalled, because a Go type that is
// older than the CRD would silently drop the fields that it does not know. docs/design/admission.md explains
// the stored form of a mirror.
package route

import (
	"encoding/json"
	"slices"
	"strings"
)

// Annotations that mirrorgate owns on a route. The controller's touch writes VariantsAnnotation, admission
// writes ParkedAnnotation, and the user writes GateAnnotation and DocumentAnnotation.
const (
	AnnotationPrefix   = "mirrorgate.dev/"
	ParkedAnnotation   = AnnotationPrefix + "parked"
	GateAnnotation     = AnnotationPrefix + "gate"
	VariantsAnnotation = AnnotationPrefix + "variants"
	// DocumentAnnotation names the ConfigMap of Iter8's that may set fields of a route which it did not make.
	DocumentAnnotation = AnnotationPrefix + "iter8"
)

// Kind is a kind of route.
type Kind string

// The kinds of routes that can carry a mirror.
const (
	HTTPRoute      Kind = "HTTPRoute"
	GRPCRoute      Kind = "GRPCRoute"
	VirtualService Kind = "VirtualService"
)

// GatewayGroup and IstioGroup are the API groups of the kinds.
const (
	GatewayGroup = "gateway.networking.k8s.io"
	IstioGroup   = "networking.istio.io"
)

// Group returns the API group of the kind.
func (k Kind) Group() string {
	if k == VirtualService {
		return IstioGroup
	}
	return GatewayGroup
}

// Resource returns the plural, lower-case resource name of the kind.
func (k Kind) Resource() string { return strings.ToLower(string(k)) + "s" }

// Key names one route in a cluster.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

func (k Key) String() string { return string(k.Kind) + " " + k.Namespace + "/" + k.Name }

// TargetHost is the Target.Kind of a VirtualService host that cannot be a Service of this cluster: only a
// ServiceEntry can define it.
const TargetHost = "Host"

// TargetService is the Target.Kind of a Service.
const TargetService = "Service"

// Target is the destination of a mirror or a backend, by meaning: defaults are filled in and VirtualService
// hosts are resolved, so two spellings of the same target are equal. It is comparable and serves as a map
// key.
type Target struct {
	// Group and Kind are "" and "Service" for a Service, "" and "Host" for a host outside the cluster, else
	// as the author wrote them.
	Group, Kind string
	// Namespace is "" for a host.
	Namespace string
	// Name is the Service's name, or the host.
	Name string
	// Port is the Service's port number; 0 when the author named none.
	Port int32
	// Subset is a DestinationRule's subset (VirtualService only).
	Subset string
}

// IsService reports whether the target is a Service of this cluster.
func (t Target) IsService() bool { return t.Group == "" && t.Kind == TargetService }

// WithoutPort returns the target without its port; readiness is looked up by it.
func (t Target) WithoutPort() Target { t.Port = 0; return t }

// Service returns the namespace/name that the target names.
func (t Target) Service() ServiceName { return ServiceName{t.Namespace, t.Name} }

// ServiceName names a Service in a cluster.
type ServiceName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (s ServiceName) String() string { return s.Namespace + "/" + s.Name }

// Route is one route, as far as mirrorgate understands it. It keeps no reference to the bytes that it was
// decoded from, and does not change after Decode.
type Route struct {
	Key
	APIVersion      string
	UID             string
	ResourceVersion string
	// Deleting is set when metadata.deletionTimestamp is.
	Deleting bool
	// Owners are the owner references, which show whether another progressive delivery tool manages the
	// route.
	Owners []Owner
	// Document is the name of the ConfigMap that may set fields of the route, "" for none.
	Document string
	// Gate, Variants and Parked are the values of mirrorgate's annotations, "" when absent.
	Gate, Variants, Parked string
	// ParkedError is the reason why Parked cannot be read, nil when it can.
	ParkedError error
	Attachment
	// Rules are spec.rules, or those of a VirtualService's spec.http that can hold a mirror or a placeholder.
	Rules []Rule

	annotations struct {
		count, bytes int
		hasParked    bool
	}
	// stored is the parked annotation as it stands, entries the values in it that are parked mirrors.
	stored   map[string]json.RawMessage
	entries  map[string]entry
	previous func() *Route
	// linked are the ids of entries that have a placeholder.
	linked map[string]bool
	// frozen is the reason why nothing may be changed, "" where edits are allowed: any edit could lose
	// mirrors that placeholders stand for.
	frozen string
}

// FromConfigMap reports whether a ConfigMap owns the route, or may set its fields, and no touch has decided on
// the route since. The rules of such a route are made from Iter8's documents: its mirrors are declared there and
// not in the route, so there is nothing to park.
func (rt *Route) FromConfigMap() bool {
	return rt.Variants == "" && (rt.Document != "" ||
		slices.ContainsFunc(rt.Owners, func(o Owner) bool { return o.Group == "v1" && o.Kind == "ConfigMap" }))
}

// Rule is one rule of a route, with its mirrors in declared order, active and parked alike.
type Rule struct {
	// Path is the field path of the rule: spec.rules[0], spec.http[2].
	Path string
	// Name is the name that its author gave the rule, "" for none.
	Name string
	// Backends are the targets whose answers the client gets.
	Backends []Backend
	// Delegates is set where the rule hands its requests to another VirtualService, which inherits its
	// percentage.
	Delegates bool
	// Methods are the methods that the rule's matches name, if they name any. AnyMethod is set where one of them, or the
	// lack of matches, lets requests of every method in.
	Methods   []string
	AnyMethod bool
	// TellsCopies reports whether the rule tells copies apart by a header: it sets one that a destination of its
	// sets to another value (VirtualService only).
	TellsCopies bool
	// Mirrors are the rule's mirrors in declared order.
	Mirrors []Mirror
	// Answers is "redirect" or "directResponse" where the rule of a VirtualService answers by itself, else
	// "".
	Answers string
	// LoosePercent is a percentage that has no mirror beside it (VirtualService only), nil when there is
	// none.
	LoosePercent *PercentageField
	// BothForms is set where the spec has both mirror and mirrors.
	BothForms bool
	// Orphans are the ids of placeholders that no usable entry belongs to.
	Orphans []string
	// Replaced are parked mirrors that gave way to an inline mirror with the same target and another
	// percentage.
	Replaced []Mirror

	// index is the rule's place in the spec.
	index int
	// silences is set for a rule of a delegate: its parked mirrors stay in the spec with percentage 0.
	silences bool

	layout layout
}

// Mirror is one declared mirror, active or parked.
type Mirror struct {
	// ID names the mirror's placeholder: a short hash of target, port, subset and ordinal among the route's
	// mirrors to that target.
	ID     string
	Target Target
	// Host is a VirtualService's host as its author wrote it.
	Host string
	// ShortHost is set for hosts like name.namespace or name.namespace.svc: Istio does not expand them to a
	// Service.
	ShortHost  bool
	Percentage Percentage
	// Parked reports whether the mirror was found in the annotation, as opposed to the spec.
	Parked bool
	// Path is the field path of the mirror, where its author wrote it; TargetPath and PortPath those of its
	// target and port.
	Path, TargetPath, PortPath string

	// text is the filter or the element of mirrors verbatim, stanza the fields of a single mirror.
	text   json.RawMessage
	stanza map[string]json.RawMessage
	// filter is set for a mirror of an HTTPRoute or a GRPCRoute.
	filter bool
	// silenced is set for a parked mirror of a delegate, which stands in the spec with percentage 0.
	silenced bool
	// limit is the share with which a limited mirror stands in the spec, 0 for any other. stale is set for one whose
	// author wrote another share beside that of mirrorgate.
	limit Share
	stale bool
	// fault is the reason why the API refuses the mirror, "" for one whose form is valid.
	fault    string
	position position
}

// Limit returns the share with which a limited mirror stands in the spec, 0 for one that stands there as declared and for
// a parked one.
func (m *Mirror) Limit() Share { return m.limit }

// Copies returns the percentage that takes effect in the stored spec.
func (m *Mirror) Copies() float64 {
	switch {
	case m.Parked:
		return 0
	case m.limit > 0:
		return m.limit.Percent()
	default:
		return m.Percentage.Percent()
	}
}

// inSpec reports whether the mirror stands in the stored spec, active or silenced.
func (m *Mirror) inSpec() bool { return !m.Parked || m.silenced }

// position is the place where a mirror stands in its rule, or returns to.
type position struct {
	// index is the mirror's index in its list, counted with every mirror of the list in place.
	index int
	// backend is the index of the backendRef that holds the mirror, or onRule, or backendGone.
	backend int
	// ref identifies that backendRef, also after it is gone; nil for onRule.
	ref *backendID
	// single is set for a VirtualService's mirror, in contrast to an element of mirrors.
	single bool
}

const (
	onRule      = -1
	backendGone = -2
)

// entryFrame is the approximate length of an entry without the mirror's text: its id, the names of its fields
// and the position.
const entryFrame = 50

// size is the approximate length of the mirror's entry in bytes.
func (m *Mirror) size() int {
	n := entryFrame + len(m.text)
	for _, text := range m.stanza {
		n += len(text)
	}
	return n
}

// Backend returns the index of the backendRef that holds the mirror; it is negative for a mirror of the rule
// itself.
func (m *Mirror) Backend() int { return m.position.backend }

// group identifies the mirrors of a rule that have the same target and the same list. They move together: if
// one were in the spec and another parked, the inline one would win and the parked one be lost.
type group struct {
	target  Target
	backend int
	single  bool
}

// inlineMirrors are the mirrors in the spec of a rule, before which parked ones give way, with their
// percentages.
type inlineMirrors map[group]map[float64]bool

func (in inlineMirrors) add(g group, p Percentage) {
	if in[g] == nil {
		in[g] = map[float64]bool{}
	}
	in[g][p.Percent()] = true
}

func (m *Mirror) group() group { return group{m.Target, m.position.backend, m.position.single} }
