// Package route reads HTTPRoutes, GRPCRoutes and VirtualServices as raw JSON
// into one small model, the Route, and arranges their mirrors: each one
// active in the spec, or parked behind a placeholder with its text kept in our
// annotation.
//
// Nothing here knows a cluster. Foreign API types are never marshalled: a Go
// type older than the CRD would silently drop the fields it does not know.
package route

import (
	"encoding/json"
	"slices"
	"strings"
)

// Annotations that mirrorgate owns on a route. VariantsAnnotation is written by
// the controller's touch, ParkedAnnotation by admission, GateAnnotation by the
// user.
const (
	AnnotationPrefix   = "mirrorgate.dev/"
	ParkedAnnotation   = AnnotationPrefix + "parked"
	GateAnnotation     = AnnotationPrefix + "gate"
	VariantsAnnotation = AnnotationPrefix + "variants"
)

// PlaceholderPrefix starts the name of the header that marks, in a rule's
// remove list, the place of a parked mirror. Nobody sends such a header, so
// removing it changes nothing.
const PlaceholderPrefix = "x-mirrorgate-parked-"

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

// TargetHost is the Target.Kind of a VirtualService host that cannot be a
// Service of this cluster: only a ServiceEntry can define it.
const TargetHost = "Host"

// TargetService is the Target.Kind of a Service.
const TargetService = "Service"

// Target is what a mirror or a backend points at, by meaning: defaults are
// filled in and VirtualService hosts are resolved, so that two spellings of the
// same target are equal. It is comparable and serves as a map key.
type Target struct {
	// Group and Kind are "" and "Service" for a Service, "" and "Host" for a
	// host outside the cluster, else what the author wrote.
	Group, Kind string
	// Namespace is "" for a host.
	Namespace string
	// Name is the Service's name, or the host.
	Name string
	// Port is the Service's port number; 0 when none is named.
	Port int32
	// Subset is a DestinationRule's subset (VirtualService only).
	Subset string
}

// IsService tells whether the target is a Service of this cluster.
func (t Target) IsService() bool { return t.Group == "" && t.Kind == TargetService }

// WithoutPort returns the target with no port: what readiness depends on.
func (t Target) WithoutPort() Target { t.Port = 0; return t }

// Service returns the namespace/name that the target names.
func (t Target) Service() ServiceName { return ServiceName{t.Namespace, t.Name} }

// ServiceName names a Service in a cluster.
type ServiceName struct{ Namespace, Name string }

func (s ServiceName) String() string { return s.Namespace + "/" + s.Name }

// Owner is an owner reference of a route; the group of a core object is its version, v1.
type Owner struct{ Group, Kind, Name string }

// Route is what mirrorgate understands of one route. It keeps no reference
// to the bytes it was decoded from, and is not changed after Decode.
type Route struct {
	Key
	APIVersion      string
	UID             string
	ResourceVersion string
	// Deleting is set when metadata.deletionTimestamp is.
	Deleting bool
	// Owners are the owner references, for routes that another progressive
	// delivery tool manages.
	Owners []Owner
	// Gate, Variants and Parked are the values of our annotations, "" when
	// absent.
	Gate, Variants, Parked string
	// ParkedError tells why Parked is not what mirrorgate writes, nil when it
	// is.
	ParkedError error
	// Serves are the Services that the route stands in front of: parentRefs of
	// kind Service, or a VirtualService's hosts. Loops are found through them.
	Serves []ServiceName
	// Rules are spec.rules, or spec.http of a VirtualService.
	Rules []Rule

	annotations struct {
		count, bytes int
		hasParked    bool
	}
	// stored is the parked annotation as it stands, entries those of it (and
	// of the previous version) that are parked mirrors.
	stored   map[string]json.RawMessage
	entries  map[string]entry
	previous func() *Route
	// linked are the ids of entries that a placeholder stands for.
	linked map[string]bool
	// frozen tells why nothing may be changed, "" where it may: any edit could
	// lose what placeholders stand for.
	frozen string
}

// FromConfigMap tells whether a ConfigMap owns the route, as it does where Iter8's documents
// describe it, and no touch has decided on the route since: its mirrors are declared there and
// not in the route, so that there is nothing to park.
func (d *Route) FromConfigMap() bool {
	return d.Variants == "" && slices.ContainsFunc(d.Owners, func(o Owner) bool { return o.Group == "v1" && o.Kind == "ConfigMap" })
}

// Rule is one rule of a route, with its mirrors in the order their author gave
// them, active and parked alike.
type Rule struct {
	// Path is the field path of the rule: spec.rules[0], spec.http[2].
	Path string
	// Backends are where the rule sends what the client gets answered from.
	Backends []Target
	// Methods are the methods that the rule's matches name, if they name any.
	Methods []string
	// Mirrors are the rule's mirrors in declared order.
	Mirrors []Mirror
	// Answers is "redirect" or "directResponse" where the rule of a
	// VirtualService answers by itself, else "".
	Answers string
	// LoosePercent is a percentage that has no mirror beside it (VirtualService
	// only), nil when there is none.
	LoosePercent *PercentageField
	// BothForms is set where mirror and mirrors stand side by side in the spec.
	BothForms bool
	// Orphans are the ids of placeholders that no usable entry belongs to.
	Orphans []string

	layout layout
}

// Mirror is one declared mirror, active or parked.
type Mirror struct {
	// ID names the mirror's placeholder: a short hash of target, port, subset
	// and ordinal among the document's mirrors to that target.
	ID     string
	Target Target
	// Host is a VirtualService's host as its author wrote it.
	Host string
	// ShortHost is set for hosts like name.namespace that Istio does not
	// expand.
	ShortHost  bool
	Percentage Percentage
	// Parked tells where the mirror was found: in the annotation (true) or in
	// the spec.
	Parked bool
	// Path is the field path of the mirror, where its author wrote it; TargetPath
	// and PortPath those of its target and port.
	Path, TargetPath, PortPath string

	// text is the filter or the element of mirrors verbatim, stanza the fields
	// of a single mirror.
	text   json.RawMessage
	stanza map[string]json.RawMessage
	// unreadable is set where neither tells what the target is.
	unreadable bool
	place      place
}

// place is where a mirror stands, or returns to.
type place struct {
	// at is the position with every mirror in place.
	at int
	// backend is the index of the backendRef that the mirror stands under, or
	// onRule, or backendGone.
	backend int
	// under is that backendRef, also when it is gone; nil for onRule.
	under *backendPlace
	// single marks a VirtualService's mirror, in contrast to an element of
	// mirrors.
	single bool
}

const (
	onRule      = -1
	backendGone = -2
)

// entryFrame is about how long an entry is without the mirror's text: its id, the
// names of its fields and the place.
const entryFrame = 50

// size is about how long the mirror's entry is.
func (m *Mirror) size() int {
	n := entryFrame + len(m.text)
	for _, text := range m.stanza {
		n += len(text)
	}
	return n
}

// Backend is the index of the backendRef that the mirror stands under, less than
// 0 for one of the rule's own.
func (m *Mirror) Backend() int { return m.place.backend }

// group is what a rule's mirrors of one target and place have in common. They
// move together: were one in the spec and another parked, the inline one would
// win and the other be lost.
type group struct {
	target  Target
	backend int
	single  bool
}

func (m *Mirror) group() group { return group{m.Target, m.place.backend, m.place.single} }
