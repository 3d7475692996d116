package dataplane

// From objects to records of Services and EndpointSlices. No record keeps its object in memory.

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Name is the name of an object with its namespace.
type Name = types.NamespacedName

func nameOf(o metav1.Object) Name { return Name{Namespace: o.GetNamespace(), Name: o.GetName()} }

// service is the record of a Service, as a parent and as a backend.
type service struct {
	ports []corev1.ServicePort
	label string
	// refused is why no proxy can stand in front of it.
	refused string
	// swapped is set if its selector leads to its proxies.
	swapped bool
	selects selects
	// parent is the Service that it is the origin of.
	parent   string
	external bool
	// affinity is spec.sessionAffinity.
	affinity string
	// terminates are the ports, by number, whose TLS proxies are to terminate.
	terminates map[int]bool
	// families are those of its addresses, the preferred first.
	families []corev1.IPFamily
	// report is the value of wellknown.ReportAnnotation.
	report string
	// asks is a digest of the parts on which the objects in front of it depend, and the table does not.
	asks uint64
}

func fromService(o *corev1.Service) *service {
	s := objects.Read(o)
	var terminates map[int]bool
	certificates, _ := objects.ParseCertificates(o.Annotations[objects.CertificatesAnnotation]) // an Event tells the fault
	for _, c := range certificates {
		if terminates == nil {
			terminates = map[int]bool{}
		}
		terminates[c.Port] = true
	}
	return &service{
		terminates: terminates,
		ports:      slices.Clone(o.Spec.Ports),
		label:      o.Labels[wellknown.Label],
		refused:    intercept.Refused(s),
		swapped:    intercept.LeadsToProxies(o.Name, o.Spec.Selector),
		parent:     o.Labels[wellknown.ParentLabel],
		selects:    selects{maps.Clone(o.Spec.Selector), o.Annotations[wellknown.SelectorAnnotation]},
		external:   o.Spec.Type == corev1.ServiceTypeExternalName,
		affinity:   string(o.Spec.SessionAffinity),
		families:   slices.Clone(o.Spec.IPFamilies),
		report:     o.Annotations[wellknown.ReportAnnotation],
		asks:       digest(o),
	}
}

var digestSeed = maphash.MakeSeed()

// digest returns the asks of a Service: its labels, its settings for proxies, and where its endpoints should be.
func digest(o *corev1.Service) uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	write := func(text string) {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		write(key)
		write(o.Labels[key])
	}
	for _, key := range slices.Sorted(maps.Keys(o.Annotations)) {
		if objects.AsksFor(key) {
			write(key)
			write(o.Annotations[key])
		}
	}
	write(ptr.Deref(o.Spec.TrafficDistribution, ""))
	return h.Sum64()
}

// equal reports whether both make the same table. The selector does not matter, since its effect is in the endpoints,
// and neither does asks.
func (s *service) equal(other *service) bool {
	if other == nil {
		return false
	}
	same := *s
	same.selects, same.asks = other.selects, other.asks
	return reflect.DeepEqual(&same, other)
}

// selects is the selector of a stored Service, and the value of its wellknown.SelectorAnnotation.
type selects struct {
	selector map[string]string
	recorded string
}

func (s *selects) equal(other *selects) bool {
	return s.recorded == other.recorded && maps.Equal(s.selector, other.selector)
}

// original is the selector that the author of the Service means.
func (s *selects) original(name string) map[string]string {
	return intercept.Stored(&intercept.Service{
		Name: name, Selector: s.selector, Annotations: map[string]string{wellknown.SelectorAnnotation: s.recorded},
	})
}

func isTCP(p *corev1.ServicePort) bool { return intercept.IsTCP(string(p.Protocol)) }

func targetPort(p *corev1.ServicePort) int { return wellknown.TargetPort(p.Port, p.TargetPort) }

// port returns the Service's port of that number, nil if there is none. Of two with one number, the one that
// carries TCP counts.
func (s *service) port(number int) *corev1.ServicePort {
	var found *corev1.ServicePort
	for i := range s.ports {
		if p := &s.ports[i]; int(p.Port) == number && (found == nil || isTCP(p)) {
			found = p
		}
	}
	return found
}

// slice is the record of an EndpointSlice.
type slice struct {
	service   Name
	family    corev1.IPFamily
	ports     []slicePort
	endpoints []endpoint
}

type slicePort struct {
	name   string
	number uint16
}

type endpoint struct {
	address netip.Addr
	state   state
	// zones are those whose clients the endpoint is for, between commas; empty if there is no hint.
	zones string
}

// state is how an endpoint may be used.
type state uint8

const (
	unready     state = iota
	terminating       // but still serving, so that it is better than none
	ready
)

// fromSlice returns nil for a slice that belongs to no Service.
func fromSlice(o *discoveryv1.EndpointSlice) *slice {
	s := &slice{service: Name{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}}
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4:
		s.family = corev1.IPv4Protocol
	case discoveryv1.AddressTypeIPv6:
		s.family = corev1.IPv6Protocol
	default:
		return nil
	}
	if s.service.Name == "" {
		return nil
	}
	for _, p := range o.Ports {
		number := ptr.Deref(p.Port, 0)
		if number < 1 || number > 65535 || ptr.Deref(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
			continue
		}
		s.ports = append(s.ports, slicePort{ptr.Deref(p.Name, ""), uint16(number)})
	}
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		// All addresses of an endpoint lead to the same pod; the API says to use the first.
		if address, err := netip.ParseAddr(e.Addresses[0]); err == nil {
			s.endpoints = append(s.endpoints, endpoint{address, stateOf(&e.Conditions), zonesOf(e.Hints)})
		}
	}
	return s
}

func zonesOf(hints *discoveryv1.EndpointHints) string {
	if hints == nil || len(hints.ForZones) == 0 {
		return ""
	}
	names := make([]string, len(hints.ForZones))
	for i := range hints.ForZones {
		names[i] = hints.ForZones[i].Name
	}
	return "," + strings.Join(names, ",") + ","
}

func stateOf(c *discoveryv1.EndpointConditions) state {
	switch {
	case ptr.Deref(c.Ready, true):
		return ready
	case ptr.Deref(c.Serving, false) && ptr.Deref(c.Terminating, false):
		return terminating
	}
	return unready
}

func (s *slice) equal(other *slice) bool {
	return other != nil && s.service == other.service && s.family == other.family &&
		slices.Equal(s.ports, other.ports) && slices.Equal(s.endpoints, other.endpoints)
}

// endpoints returns the endpoints of one port, by its name in the slices, of the first family that has usable
// ones. Terminating endpoints count as ready if there are no others, and those of other zones as unready if hints give
// every zone its own, as they do for kube-proxy. zone is that of the proxy, empty if it is not known.
func endpoints(from []*slice, families []corev1.IPFamily, port, zone string) []spec.Endpoint {
	var found map[netip.AddrPort]endpoint
	best := unready
	for _, family := range order(families) {
		of := gather(from, family, port)
		top := unready
		for _, e := range of {
			top = max(top, e.state)
		}
		if found == nil || top > best || len(found) == 0 {
			found, best = of, top
		}
	}
	least := max(best, terminating)
	hinted := hintsFor(zone, found, least)
	out := make([]spec.Endpoint, 0, len(found))
	for _, at := range slices.SortedFunc(maps.Keys(found), netip.AddrPort.Compare) {
		e := spec.Endpoint{Address: at.String()}
		if found[at].state < least || hinted && !isFor(found[at].zones, zone) {
			e.Ready = &never
		}
		out = append(out, e)
	}
	return out
}

func isFor(zones, zone string) bool { return strings.Contains(zones, ","+zone+",") }

// hintsFor reports whether the hints count in a zone: every usable endpoint has some, and one is for the zone.
func hintsFor(zone string, endpoints map[netip.AddrPort]endpoint, least state) bool {
	own := false
	for _, e := range endpoints {
		if e.state < least {
			continue
		}
		if zone == "" || e.zones == "" {
			return false
		}
		own = own || isFor(e.zones, zone)
	}
	return own
}

var never = false

// order returns the families of a Service and then the others, since a Service without a list has endpoints
// too.
func order(families []corev1.IPFamily) []corev1.IPFamily {
	out := slices.Clone(families)
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		if !slices.Contains(out, family) {
			out = append(out, family)
		}
	}
	return out
}

// gather merges slices. While they change, an endpoint may be in two of them.
func gather(from []*slice, family corev1.IPFamily, port string) map[netip.AddrPort]endpoint {
	out := map[netip.AddrPort]endpoint{}
	for _, s := range from {
		if s.family != family {
			continue
		}
		for _, p := range s.ports {
			if p.name != port {
				continue
			}
			for _, e := range s.endpoints {
				at := netip.AddrPortFrom(e.address, p.number)
				if known, ok := out[at]; !ok || e.state > known.state {
					out[at] = e
				}
			}
		}
	}
	return out
}
