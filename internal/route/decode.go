package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DefaultClusterDomain is the DNS domain of a cluster unless it says otherwise.
const DefaultClusterDomain = "cluster.local"

// Options steer Decode. The zero value is valid.
type Options struct {
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// Namespace is the route's namespace where its metadata names none.
	Namespace string
	// Previous returns the same route before the write that is being judged, nil
	// when there was none. It is asked only for entries that the write has lost,
	// and may be nil.
	Previous func() *Route
}

// ErrKind is returned for an object that is no route.
var ErrKind = errors.New("not an HTTPRoute, a GRPCRoute or a VirtualService")

// MayMirror tells cheaply whether an object can carry a mirror or one of our
// annotations at all; most routes do not.
func MayMirror(raw []byte) bool {
	return bytes.Contains(raw, []byte("irror")) // RequestMirror, mirror, mirrors, mirrorgate.dev
}

type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name              string            `json:"name"`
		GenerateName      string            `json:"generateName"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		Annotations       map[string]string `json:"annotations"`
		OwnerReferences   []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Spec spec `json:"spec"`
}

// spec holds the parts of all three kinds that concern mirrors.
type spec struct {
	ParentRefs []struct {
		Group     *string `json:"group"`
		Kind      *string `json:"kind"`
		Namespace *string `json:"namespace"`
		Name      string  `json:"name"`
	} `json:"parentRefs"`
	Rules []gatewayRule `json:"rules"`
	Hosts []string      `json:"hosts"`
	HTTP  []istioRule   `json:"http"`
}

// Decode reads one route. It fails on JSON that is not of a route's form; it
// does not judge values.
func Decode(raw []byte, opts Options) (*Route, error) {
	var o object
	if err := unmarshal(raw, &o); err != nil {
		return nil, unusable("decode route", err)
	}
	if opts.ClusterDomain == "" {
		opts.ClusterDomain = DefaultClusterDomain
	}
	d := &Route{
		Key:             Key{Kind: Kind(o.Kind), Namespace: o.Metadata.Namespace, Name: o.Metadata.Name},
		APIVersion:      o.APIVersion,
		UID:             o.Metadata.UID,
		ResourceVersion: o.Metadata.ResourceVersion,
		Deleting:        o.Metadata.DeletionTimestamp != "",
	}
	if d.Name == "" {
		d.Name = o.Metadata.GenerateName
	}
	if d.Name == "" {
		return nil, errors.New("decode route: metadata.name is missing")
	}
	if d.Namespace == "" {
		d.Namespace = opts.Namespace
	}
	d.readMetadata(&o)
	d.previous = opts.Previous
	d.readParked()
	group, _, _ := strings.Cut(o.APIVersion, "/")
	switch {
	case group == GatewayGroup && (d.Kind == HTTPRoute || d.Kind == GRPCRoute):
		d.readGateway(&o.Spec)
	case group == IstioGroup && d.Kind == VirtualService:
		d.readVirtualService(&o.Spec, opts.ClusterDomain)
	default:
		return nil, fmt.Errorf("%s %s: %w", o.APIVersion, o.Kind, ErrKind)
	}
	if d.ParkedError != nil && slices.ContainsFunc(d.Rules, func(r Rule) bool { return len(r.Orphans) > 0 }) {
		d.frozen = misfitForged
	}
	d.name()
	return d, nil
}

func (d *Route) readMetadata(o *object) {
	for _, ref := range o.Metadata.OwnerReferences {
		group, _, _ := strings.Cut(ref.APIVersion, "/")
		d.Owners = append(d.Owners, Owner{Group: group, Kind: ref.Kind, Name: ref.Name})
	}
	annotations := o.Metadata.Annotations
	d.annotations.count, d.annotations.bytes = sizes(annotations)
	d.Gate = annotations[GateAnnotation]
	d.Variants = annotations[VariantsAnnotation]
	d.Parked, d.annotations.hasParked = annotations[ParkedAnnotation]
}

// readParked reads the parked annotation.
func (d *Route) readParked() {
	if d.Parked == "" {
		return
	}
	d.entries = map[string]entry{}
	var texts map[string]json.RawMessage
	if err := unmarshal([]byte(d.Parked), &texts); err != nil {
		d.ParkedError = unusable("not a JSON object of parked mirrors", err)
		return
	}
	d.stored = texts
	for id, text := range texts {
		var e entry
		if err := unmarshal(text, &e); err == nil && e.check(d.Kind) == nil {
			d.entries[id] = e
		}
	}
}

// entry finds what is kept under an id. What the annotation has lost, a previous
// version of the route may still know: an entry lives as long as its placeholder.
func (d *Route) entry(id string) (entry, bool) {
	e, ok := d.entries[id]
	if !ok && d.previous != nil {
		if previous := d.previous(); previous != nil {
			e, ok = previous.entries[id]
		}
	}
	return e, ok
}

// Every yields the document's mirrors in declared order with their rules.
func (d *Route) Every(yield func(*Rule, *Mirror) bool) {
	for i := range d.Rules {
		for j := range d.Rules[i].Mirrors {
			if !yield(&d.Rules[i], &d.Rules[i].Mirrors[j]) {
				return
			}
		}
	}
}

// Concerns tells whether mirrorgate has anything to say about the route.
func (d *Route) Concerns() bool {
	if d.annotations.hasParked || d.Gate != "" || d.Variants != "" {
		return true
	}
	for i := range d.Rules {
		r := &d.Rules[i]
		if len(r.Mirrors) > 0 || len(r.Orphans) > 0 || r.LoosePercent != nil {
			return true
		}
	}
	return false
}

// SameToUs tells whether two versions of a route have the same rules and the
// same annotations of ours, so that there is nothing to decide between them.
func SameToUs(a, b []byte) (bool, error) {
	var x, y struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Rules json.RawMessage `json:"rules"`
			HTTP  json.RawMessage `json:"http"`
		} `json:"spec"`
	}
	if err := errors.Join(unmarshal(a, &x), unmarshal(b, &y)); err != nil {
		return false, err
	}
	for _, key := range []string{ParkedAnnotation, GateAnnotation, VariantsAnnotation} {
		if x.Metadata.Annotations[key] != y.Metadata.Annotations[key] {
			return false, nil
		}
	}
	return bytes.Equal(x.Spec.Rules, y.Spec.Rules) && bytes.Equal(x.Spec.HTTP, y.Spec.HTTP), nil
}

// unmarshal refuses an object that has a member twice: readers differ in which
// of the two counts. Names are case-sensitive, as in the API server.
func unmarshal(raw []byte, into any) error {
	return jsonv2.Unmarshal(raw, into, lenient)
}

// The API server stores whatever bytes a string holds.
var lenient = jsontext.AllowInvalidUTF8(true)

// unusable says why a text cannot be read; the names of Go's types and packages
// concern nobody.
func unusable(what string, err error) error {
	var mismatch *jsonv2.SemanticError
	if !errors.As(err, &mismatch) {
		return fmt.Errorf("%s: %s", what, strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	field := strings.ReplaceAll(strings.TrimPrefix(string(mismatch.JSONPointer), "/"), "/", ".")
	if field != "" {
		field += " "
	}
	kind, named := kinds[mismatch.JSONKind]
	if !named {
		kind = mismatch.JSONKind.String()
	}
	return fmt.Errorf("%s: %smust not be of type %s", what, field, kind)
}

var kinds = map[jsontext.Kind]string{'{': "object", '[': "array", 't': "bool", 'f': "bool"}

// isNull tells whether a field is missing or null.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}
