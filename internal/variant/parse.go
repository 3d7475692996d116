package variant

// From JSON to records. Custom resources are read through structs of the few fields that matter, so that
// changes of other fields in a newer CRD cannot break anything.

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	grants "github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// header is the part that objects of all kinds have in common.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Namespace         string `json:"namespace"`
		Name              string `json:"name"`
		ResourceVersion   string `json:"resourceVersion"`
		CreationTimestamp string `json:"creationTimestamp"`
		DeletionTimestamp string `json:"deletionTimestamp"`
	} `json:"metadata"`
}

func (h *header) id(kind Kind) id {
	return id{kind, types.NamespacedName{Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}}
}

// groupOf returns the group of an apiVersion, "" for the core group.
func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// parse converts an object in JSON. A kind that the Index does not model gives nil.
func (i *Index) parse(raw []byte) (record, error) {
	var h header
	if err := unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	kind, ok := kindOf(groupOf(h.APIVersion), h.Kind)
	if !ok {
		return nil, nil
	}
	rec, err := i.parseKind(kind, &h, raw)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", kind, h.id(kind).NamespacedName, err)
	}
	return rec, nil
}

func (i *Index) parseKind(kind Kind, h *header, raw []byte) (record, error) {
	switch kind {
	case KindRollout:
		return parseRollout(h, raw)
	case KindDestinationRule:
		return i.parseDestinationRule(h, raw)
	case KindServiceEntry:
		return parseServiceEntry(h, raw)
	case KindReferenceGrant:
		return parseReferenceGrant(h, raw)
	case KindHTTPRoute, KindGRPCRoute, KindVirtualService:
		return i.parseRoute(kind, h, raw)
	default:
		object := kinds[kind].New()
		if err := unmarshal(raw, object); err != nil {
			return nil, err
		}
		return fromTyped(object), nil
	}
}

// parseRoute converts a route. One that has nothing to do with mirrors gives an empty record, which is not
// kept.
func (i *Index) parseRoute(kind Kind, h *header, raw []byte) (record, error) {
	s := &storedRoute{id: h.id(kind)}
	if !route.MayMirror(raw) {
		return s, nil
	}
	rt, err := route.Decode(raw, route.Options{ClusterDomain: i.opts.ClusterDomain})
	if err != nil {
		return nil, err
	}
	if !rt.Concerns() {
		return s, nil
	}
	if s.packed, err = route.Pack(raw); err != nil {
		return nil, err
	}
	s.version = rt.ResourceVersion
	for m := range mirrors(rt) {
		s.mirrors = append(s.mirrors, newStoredMirror(m))
	}
	return s, nil
}

func (i *Index) parseDestinationRule(h *header, raw []byte) (record, error) {
	var o struct {
		Spec struct {
			Host     string   `json:"host"`
			ExportTo []string `json:"exportTo"`
			Subsets  []struct {
				Name   string            `json:"name"`
				Labels map[string]string `json:"labels"`
			} `json:"subsets"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	r := &destinationRule{id: h.id(KindDestinationRule), exportTo: o.Spec.ExportTo, created: h.Metadata.CreationTimestamp}
	r.host = i.qualify(strings.ToLower(o.Spec.Host), r.Namespace)
	for _, s := range o.Spec.Subsets {
		r.subsets = append(r.subsets, subset{name: s.Name, labels: newLabels(s.Labels)})
	}
	return r, nil
}

func parseServiceEntry(h *header, raw []byte) (record, error) {
	var o struct {
		Spec struct {
			Hosts    []string `json:"hosts"`
			ExportTo []string `json:"exportTo"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	e := &serviceEntry{id: h.id(KindServiceEntry), exportTo: o.Spec.ExportTo}
	for _, host := range o.Spec.Hosts {
		e.hosts = append(e.hosts, strings.ToLower(host))
	}
	slices.Sort(e.hosts)
	e.hosts = slices.Compact(e.hosts)
	return e, nil
}

func parseReferenceGrant(h *header, raw []byte) (record, error) {
	g, err := grants.Parse(raw)
	if err != nil {
		return nil, err
	}
	return &referenceGrant{h.id(KindReferenceGrant), g}, nil
}

func unmarshal(raw []byte, into any) error {
	return kjson.UnmarshalCaseSensitivePreserveInts(raw, into)
}
