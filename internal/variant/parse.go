package variant

// From JSON to records. Custom resources are read through structs of the few fields that matter, so that
// changes of other fields in a newer CRD cannot break anything.

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	grants "github.com/mirrorgate/mirrorgate/internal/grant"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant/hosts"
)

// header is the part that objects of all kinds have in common.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Namespace         string `json:"namespace"`
		Name              string `json:"name"`
		UID               string `json:"uid"`
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
	case KindCanary:
		return &canary{h.id(kind), h.Metadata.UID}, nil
	case KindIstioGateway:
		return parseIstioGateway(h, raw)
	case KindGateway:
		return parseGateway(h, raw)
	case KindGatewayClass:
		return parseGatewayClass(h, raw)
	case KindDestinationRule:
		return i.parseDestinationRule(h, raw)
	case KindServiceEntry:
		return parseServiceEntry(h, raw)
	case KindReferenceGrant:
		return parseReferenceGrant(h, raw)
	case KindMirrorLimit:
		return parseMirrorLimit(h, raw)
	case KindMirrorPolicy:
		return parseMirrorPolicy(h, raw)
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

// parseRoute converts a route. One that has nothing to do with mirrors, nor with those of its delegates, gives
// an empty record, which is not kept.
func (i *Index) parseRoute(kind Kind, h *header, raw []byte) (record, error) {
	s := &storedRoute{id: h.id(kind)}
	if !route.MayMirror(raw) && (kind != KindVirtualService || !bytes.Contains(raw, []byte(`"delegate"`))) {
		return s, nil
	}
	rt, err := route.Decode(raw, route.Options{ClusterDomain: i.opts.ClusterDomain})
	if err != nil {
		return nil, err
	}
	if len(rt.Delegates) > 0 && !rt.IsDelegate() {
		s.root = newRoot(rt)
	}
	if rt.Concerns() {
		if s.packed, err = route.Pack(raw); err != nil {
			return nil, err
		}
		s.version = rt.ResourceVersion
	}
	if s.kept() {
		i.nameObjects(s, rt)
	}
	return s, nil
}

// nameObjects notes the objects that a route names.
func (i *Index) nameObjects(s *storedRoute, rt *route.Route) {
	var names []uint64
	if s.mirrored() {
		names = s.nameMirrors(rt)
		if owner := claimedOwner(rt); owner != nil {
			names = append(names, byOwner.key(owner.UID))
		}
	}
	for _, key := range gatewaysOf(rt) {
		names = append(names, gatewayNameKey(key))
	}
	for _, p := range i.patternsOf(rt) {
		names = append(names, clientsKey(p))
	}
	if s.root != nil {
		for _, d := range rt.Delegates {
			names = append(names, byDelegate.key(d.Namespace, d.Name))
		}
	}
	slices.Sort(names)
	s.names = slices.Clone(slices.Compact(names))
}

// nameMirrors counts a route's mirrors, and returns the keys of the objects that they name.
func (s *storedRoute) nameMirrors(rt *route.Route) (names []uint64) {
	var targets strings.Builder
	seen := map[string]bool{}
	for m := range mirrors(rt) {
		if m.Parked {
			s.parked++
		} else {
			s.active++
		}
		target := m.Target.Name
		if m.Target.IsService() {
			service := types.NamespacedName(m.Target.Service())
			target += "/"
			if service.Namespace != rt.Namespace {
				target += service.Namespace
			}
			names = append(names, byService.of(service))
			if m.Target.Subset != "" {
				names = append(names, bySubset.of(service))
			}
		}
		if crosses(rt.Kind, rt.Namespace, m.Target) {
			names = append(names, crossingKey(m.Target.Namespace, grantee{Kind: rt.Kind, Namespace: rt.Namespace}))
		}
		if rt.Kind != route.VirtualService || !hosts.Valid(m.Target.Name) || seen[target] {
			continue
		}
		seen[target] = true
		targets.WriteString(target + "\n")
		if !m.Target.IsService() {
			names = append(names, byHost.key(m.Target.Name))
		}
	}
	s.hosts = strings.Clone(targets.String())
	return names
}

// gatewaysOf returns the gateways that serve a route.
func gatewaysOf(rt *route.Route) (keys []gatewayKey) {
	for _, name := range rt.Gateways {
		if namespace, name, ok := strings.Cut(name, "/"); ok {
			keys = append(keys, gatewayKey{KindIstioGateway, types.NamespacedName{Namespace: namespace, Name: name}})
		}
	}
	for _, p := range rt.Parents {
		if p.Group == route.GatewayGroup && p.Kind == kinds[KindGateway].Name {
			keys = append(keys, gatewayKey{KindGateway, types.NamespacedName{Namespace: p.Namespace, Name: p.Name}})
		}
	}
	return keys
}

func newRoot(rt *route.Route) *root {
	r := &root{attachment: rt.Attachment}
	r.attachment.Delegates = nil
	var names []string
	for _, d := range rt.Delegates {
		names = append(names, d.Namespace+"/"+d.Name+"\n")
	}
	slices.Sort(names)
	r.delegates = strings.Join(slices.Compact(names), "")
	return r
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
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
			WorkloadSelector *struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"workloadSelector"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	r := &destinationRule{id: h.id(KindDestinationRule)}
	r.Rule = hosts.Rule[labels]{
		Namespace: r.id.Namespace, Name: r.id.Name, Created: h.Metadata.CreationTimestamp,
		ExportTo: exportedTo(o.Spec.ExportTo, r.id.Namespace),
	}
	if hosts.Valid(o.Spec.Host) {
		r.Pattern = hosts.Parse(i.qualify(o.Spec.Host, r.id.Namespace))
	}
	if selector := o.Spec.WorkloadSelector; selector != nil {
		r.Selects, r.Selector = true, newLabels(selector.MatchLabels)
		r.SelectorText = r.Selector.String()
	}
	for _, s := range o.Spec.Subsets {
		r.Subsets = append(r.Subsets, hosts.Subset[labels]{Name: s.Name, Labels: newLabels(s.Labels)})
	}
	slices.SortStableFunc(r.Subsets, func(a, b hosts.Subset[labels]) int { return strings.Compare(a.Name, b.Name) })
	r.Subsets = slices.CompactFunc(r.Subsets, func(a, b hosts.Subset[labels]) bool { return a.Name == b.Name })
	return r, nil
}

// exportedTo returns the exportTo of an Istio object, sorted, with its own namespace for ".".
func exportedTo(exportTo []string, own string) []string {
	var out []string
	for _, to := range exportTo {
		if to == "." {
			to = own
		}
		out = append(out, to)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func parseServiceEntry(h *header, raw []byte) (record, error) {
	var o struct {
		Spec struct {
			Hosts    []string `json:"hosts"`
			ExportTo []string `json:"exportTo"`
			Ports    []struct {
				Number int32 `json:"number"`
			} `json:"ports"`
		} `json:"spec"`
	}
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	e := &serviceEntry{id: h.id(KindServiceEntry)}
	e.exportTo = exportedTo(o.Spec.ExportTo, e.Namespace)
	for _, host := range o.Spec.Hosts {
		if hosts.Valid(host) {
			e.hosts = append(e.hosts, host)
		}
	}
	for _, p := range o.Spec.Ports {
		e.ports = append(e.ports, policy.Port{Number: p.Number})
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
