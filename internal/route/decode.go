package route

// Decode reads the raw JSON of a route, and reports errors in the words of the API and not of Go.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DefaultClusterDomain is the DNS domain of a cluster that is not configured with another one.
const DefaultClusterDomain = "cluster.local"

// Options configure Decode. The zero value is valid.
type Options struct {
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// Namespace is the route's namespace where its metadata names none.
	Namespace string
	// Previous returns the same route before the write that is being judged, nil when there was none. It is
	// called only for entries that the write has lost, and may be nil.
	Previous func() *Route
}

// MayMirror reports, at little cost, whether an object can carry a mirror or one of mirrorgate's annotations;
// most routes cannot. It may report true for one that carries neither.
func MayMirror(raw []byte) bool {
	return bytes.Contains(raw, []byte("irror")) // RequestMirror, mirror, mirrors, mirrorgate.dev
}

// object holds the fields of a route that are read. S is its spec, decoded or raw.
type object[S any] struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name              string      `json:"name"`
		GenerateName      string      `json:"generateName,omitzero"`
		Namespace         string      `json:"namespace"`
		UID               string      `json:"uid"`
		ResourceVersion   string      `json:"resourceVersion,omitzero"`
		DeletionTimestamp string      `json:"deletionTimestamp,omitzero"`
		Annotations       annotations `json:"annotations,omitzero"`
		OwnerReferences   []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
			UID        string `json:"uid,omitzero"`
			Controller bool   `json:"controller,omitzero"`
		} `json:"ownerReferences,omitzero"`
	} `json:"metadata"`
	Spec S `json:"spec"`
}

// spec holds the fields of all three kinds that concern mirrors.
type spec struct {
	ParentRefs []backendRef  `json:"parentRefs"`
	Hostnames  []string      `json:"hostnames"`
	Rules      []gatewayRule `json:"rules"`
	Hosts      []string      `json:"hosts"`
	Gateways   []string      `json:"gateways"`
	ExportTo   []string      `json:"exportTo"`
	HTTP       istioRules    `json:"http"`
}

// Decode reads one route. It returns an error for JSON that does not have the form of a route; it does not
// judge values.
func Decode(raw []byte, opts Options) (*Route, error) {
	if err := checkValues(raw); err != nil {
		return nil, err
	}
	var o object[spec]
	if err := unmarshal(raw, &o); err != nil {
		if long, ok := errors.AsType[*TooLongError](err); ok {
			return nil, long
		}
		return nil, unusable("decode route", err)
	}
	if err := o.Spec.checkLists(Kind(o.Kind)); err != nil {
		return nil, err
	}
	rt := &Route{
		Key: Key{
			Kind:      Kind(o.Kind),
			Namespace: cmp.Or(o.Metadata.Namespace, opts.Namespace),
			Name:      cmp.Or(o.Metadata.Name, o.Metadata.GenerateName),
		},
		APIVersion:      o.APIVersion,
		UID:             o.Metadata.UID,
		ResourceVersion: o.Metadata.ResourceVersion,
		Deleting:        o.Metadata.DeletionTimestamp != "",
	}
	if rt.Name == "" {
		return nil, errors.New("decode route: metadata.name is missing")
	}
	rt.readMetadata(&o)
	rt.previous = opts.Previous
	rt.readParked()
	group, _, _ := strings.Cut(o.APIVersion, "/")
	switch {
	case group == GatewayGroup && (rt.Kind == HTTPRoute || rt.Kind == GRPCRoute):
		rt.readGateway(&o.Spec)
	case group == IstioGroup && rt.Kind == VirtualService:
		rt.readVirtualService(&o.Spec, cmp.Or(opts.ClusterDomain, DefaultClusterDomain))
	default:
		return nil, fmt.Errorf("%s %s: not an HTTPRoute, a GRPCRoute or a VirtualService", o.APIVersion, o.Kind)
	}
	if rt.ParkedError != nil && slices.ContainsFunc(rt.Rules, func(r Rule) bool { return len(r.Orphans) > 0 }) {
		rt.frozen = misfitForged
	}
	rt.assignIDs()
	return rt, nil
}

func (rt *Route) readMetadata(o *object[spec]) {
	rt.Owners = slices.Grow(rt.Owners, len(o.Metadata.OwnerReferences))
	for _, ref := range o.Metadata.OwnerReferences {
		group, _, _ := strings.Cut(ref.APIVersion, "/")
		rt.Owners = append(rt.Owners, Owner{Group: group, Kind: ref.Kind, Name: ref.Name, UID: ref.UID, Controller: ref.Controller})
	}
	annotations := &o.Metadata.Annotations
	rt.annotations.count, rt.annotations.bytes = annotations.count, annotations.bytes
	rt.Gate, rt.Document = annotations.own[GateAnnotation], annotations.own[DocumentAnnotation]
	rt.Variants = annotations.own[VariantsAnnotation]
	rt.Parked, rt.annotations.hasParked = annotations.own[ParkedAnnotation]
}

// Every yields the route's mirrors in declared order with their rules.
func (rt *Route) Every(yield func(*Rule, *Mirror) bool) {
	for i := range rt.Rules {
		for j := range rt.Rules[i].Mirrors {
			if !yield(&rt.Rules[i], &rt.Rules[i].Mirrors[j]) {
				return
			}
		}
	}
}

// CountMirrors returns the number of the route's mirrors.
func (rt *Route) CountMirrors() (n int) {
	for i := range rt.Rules {
		n += len(rt.Rules[i].Mirrors)
	}
	return n
}

// Concerns reports whether the route has a mirror, a placeholder, a lone percentage or an annotation of
// mirrorgate's; mirrorgate has nothing to say about any other route.
func (rt *Route) Concerns() bool {
	if rt.annotations.hasParked || rt.Gate != "" || rt.Variants != "" {
		return true
	}
	for i := range rt.Rules {
		r := &rt.Rules[i]
		if len(r.Mirrors) > 0 || len(r.Orphans) > 0 || r.LoosePercent != nil {
			return true
		}
	}
	return false
}

// Unchanged reports whether two versions of a route have the same rules and the same annotations of
// mirrorgate's, so that there is nothing to decide about the change.
func Unchanged(a, b []byte) (bool, error) {
	var x, y struct {
		Metadata struct {
			Annotations annotations `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Rules json.RawMessage `json:"rules"`
			HTTP  json.RawMessage `json:"http"`
		} `json:"spec"`
	}
	// A member that is there twice counts as the last one, since nothing is edited here.
	if err := errors.Join(reread(a, &x), reread(b, &y)); err != nil {
		return false, err
	}
	for _, key := range ownAnnotations[:len(ownAnnotations)-1] {
		if x.Metadata.Annotations.own[key] != y.Metadata.Annotations.own[key] {
			return false, nil
		}
	}
	return bytes.Equal(x.Spec.Rules, y.Spec.Rules) && bytes.Equal(x.Spec.HTTP, y.Spec.HTTP), nil
}

// unmarshal refuses an object that has a member twice, because readers differ in which of the two counts.
// Names are case-sensitive, as in the API server.
func unmarshal(raw []byte, into any) error {
	return jsonv2.Unmarshal(raw, into, lenient)
}

// reread reads a part of a text that was read by unmarshal, and so has no member twice.
func reread(raw []byte, into any) error {
	return jsonv2.Unmarshal(raw, into, reading)
}

var reading = jsonv2.JoinOptions(lenient, jsontext.AllowDuplicateNames(true))

// lenient accepts strings that are not UTF-8, because the API server stores them.
var lenient = jsontext.AllowInvalidUTF8(true)

// unusable returns the error for a text that cannot be read, without the names of Go's types and packages,
// which a user does not know.
func unusable(what string, err error) error {
	var mismatch *jsonv2.SemanticError
	if !errors.As(err, &mismatch) {
		return fmt.Errorf("%s: %s", what, strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	kind, named := kinds[mismatch.JSONKind]
	if !named {
		kind = mismatch.JSONKind.String()
	}
	return &FormError{Doing: what, Field: fieldPath(mismatch.JSONPointer), Message: "must not be of type " + kind}
}

// FormError is the error for a value whose type the API does not allow in a field.
type FormError struct {
	// Doing is the step that failed.
	Doing string
	// Field is the field path, "" for the object as a whole.
	Field   string
	Message string
}

func (e *FormError) Error() string {
	return e.Doing + ": " + strings.TrimPrefix(e.Field+" "+e.Message, " ")
}

// fieldPath returns a JSON pointer as a field path, as in spec.rules[0].filters.
func fieldPath(pointer jsontext.Pointer) string {
	var path strings.Builder
	for token := range pointer.Tokens() {
		switch _, err := strconv.ParseUint(token, 10, 32); {
		case err == nil, strings.ContainsAny(token, "./"):
			path.WriteString("[" + token + "]")
		case path.Len() > 0:
			path.WriteString("." + token)
		default:
			path.WriteString(token)
		}
	}
	return path.String()
}

var kinds = map[jsontext.Kind]string{'{': "object", '[': "array", 't': "bool", 'f': "bool"}

// isNull reports whether a field is missing or null.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}
