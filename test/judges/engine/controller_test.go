package engine

// A controller of Gateways, as small as the tests permit: it reads everything a few times a second, writes the proxy's
// file, and then the status of Gateways and routes. Each Gateway has an address of its own in the sandbox.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	controllerName = "mirrorgate.test/engine"
	className      = "engine"
)

// world has all objects of one reading.
type world struct {
	namespaces corev1.NamespaceList
	services   corev1.ServiceList
	slices     discoveryv1.EndpointSliceList
	secrets    corev1.SecretList
	gateways   gatewayv1.GatewayList
	http       gatewayv1.HTTPRouteList
	grpc       gatewayv1.GRPCRouteList
	grants     gatewayv1.ReferenceGrantList
}

type controller struct {
	client    client.Client
	dir       string
	addresses map[string]string // of Gateways
	written   string
}

// control runs the controller and the proxy until the test ends.
func control(t *testing.T, api client.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &controller{client: api, dir: t.TempDir(), addresses: map[string]string{}}
	require.NoError(t, c.write((&model{}).config()))
	proxy := exec.CommandContext(ctx, filepath.Join(work, "mirrorgate"), "proxy", "--config", c.file())
	log, err := os.Create(filepath.Join(t.TempDir(), "proxy.log"))
	require.NoError(t, err)
	proxy.Stdout, proxy.Stderr = log, log
	require.NoError(t, proxy.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := c.step(ctx); err != nil && ctx.Err() == nil {
				t.Logf("The controller: %v", err)
			}
			<-tick.C
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = proxy.Wait()
		if t.Failed() {
			text, err := os.ReadFile(log.Name())
			assert.NoError(t, err)
			t.Logf("The proxy, at its end:\n%s", text[max(0, len(text)-10_000):])
		}
	})
}

func (c *controller) file() string { return filepath.Join(c.dir, "proxy.yaml") }

// write writes the proxy's file if it is another.
func (c *controller) write(config any) error {
	text, err := json.MarshalIndent(config, "", " ") // JSON is YAML
	if err != nil || string(text) == c.written {
		return err
	}
	c.written = string(text)
	next := c.file() + ".next"
	return errors.Join(os.WriteFile(next, text, 0o600), os.Rename(next, c.file()))
}

func (c *controller) step(ctx context.Context) error {
	var w world
	for _, list := range []client.ObjectList{&w.namespaces, &w.services, &w.slices, &w.secrets, &w.gateways, &w.http, &w.grpc, &w.grants} {
		if err := c.client.List(ctx, list); err != nil {
			return err
		}
	}
	m := &model{world: &w, addresses: c.addresses, dir: c.dir}
	for i := range w.gateways.Items {
		g := &w.gateways.Items[i]
		if g.Spec.GatewayClassName != className {
			continue
		}
		if err := c.address(ctx, g); err != nil {
			return err
		}
		m.gateway(g)
	}
	routes := m.routes()
	for i := range routes {
		m.attach(&routes[i])
	}
	return errors.Join(c.write(m.config()), c.report(ctx, m, routes))
}

// address gives a Gateway an address.
func (c *controller) address(ctx context.Context, g *gatewayv1.Gateway) error {
	name := g.Namespace + "/" + g.Name
	if c.addresses[name] != "" {
		return nil
	}
	address := fmt.Sprintf("10.251.0.%d", len(c.addresses)+1)
	if out, err := exec.CommandContext(ctx, "ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
		return fmt.Errorf("ip address add: %w: %s", err, out)
	}
	c.addresses[name] = address
	return nil
}

// report writes the status of Gateways and routes, where it is another.
func (c *controller) report(ctx context.Context, m *model, routes []route) error {
	for _, l := range m.gateways {
		before := l.gateway.Status.DeepCopy()
		l.status()
		if !reflect.DeepEqual(before, &l.gateway.Status) {
			if err := c.client.Status().Update(ctx, l.gateway); err != nil {
				return err
			}
		}
	}
	for i := range routes {
		r := &routes[i]
		if reflect.DeepEqual(r.status.Parents, r.parents) {
			continue
		}
		r.status.Parents = r.parents
		if err := c.client.Status().Update(ctx, r.object); err != nil {
			return err
		}
	}
	return nil
}

// model is the routing table that is made of a world.
type model struct {
	*world
	addresses map[string]string
	dir       string
	gateways  []*gateway
	backends  map[string]map[string]any // ports of services, by their names in the table
}

type gateway struct {
	gateway   *gatewayv1.Gateway
	address   string
	listeners []*listener
}

type listener struct {
	*gatewayv1.Listener
	routes   []any
	attached int32
	tls      map[string]any
}

func (m *model) gateway(g *gatewayv1.Gateway) {
	out := &gateway{gateway: g, address: m.addresses[g.Namespace+"/"+g.Name]}
	for i := range g.Spec.Listeners {
		l := &listener{Listener: &g.Spec.Listeners[i]}
		if l.TLS != nil && len(l.TLS.CertificateRefs) > 0 {
			l.tls = m.certificate(g.Namespace, &l.TLS.CertificateRefs[0])
		}
		out.listeners = append(out.listeners, l)
	}
	m.gateways = append(m.gateways, out)
}

// certificate writes the files of a Secret, and returns the field that names them.
func (m *model) certificate(namespace string, ref *gatewayv1.SecretObjectReference) map[string]any {
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	for i := range m.secrets.Items {
		s := &m.secrets.Items[i]
		if s.Namespace != namespace || s.Name != string(ref.Name) {
			continue
		}
		base := filepath.Join(m.dir, s.Namespace+"."+s.Name)
		files := map[string]any{"certFile": base + ".crt", "keyFile": base + ".key"}
		for key, path := range map[string]string{corev1.TLSCertKey: base + ".crt", corev1.TLSPrivateKeyKey: base + ".key"} {
			if old, err := os.ReadFile(path); err != nil || string(old) != string(s.Data[key]) {
				_ = os.WriteFile(path, s.Data[key], 0o600)
			}
		}
		return files
	}
	return nil
}

// route is an HTTPRoute or a GRPCRoute.
type route struct {
	object  client.Object
	kind    string
	spec    gatewayv1.CommonRouteSpec
	hosts   []gatewayv1.Hostname
	rules   any // of the API's type
	status  *gatewayv1.RouteStatus
	parents []gatewayv1.RouteParentStatus
	served  []any // rules, in the words of the proxy's file
	fault   string
}

func (m *model) routes() (all []route) {
	for i := range m.http.Items {
		r := &m.http.Items[i]
		all = append(all, route{object: r, kind: "HTTPRoute", spec: r.Spec.CommonRouteSpec, hosts: r.Spec.Hostnames, rules: r.Spec.Rules, status: &r.Status.RouteStatus})
	}
	for i := range m.grpc.Items {
		r := &m.grpc.Items[i]
		all = append(all, route{object: r, kind: "GRPCRoute", spec: r.Spec.CommonRouteSpec, hosts: r.Spec.Hostnames, rules: r.Spec.Rules, status: &r.Status.RouteStatus})
	}
	slices.SortStableFunc(all, func(a, b route) int {
		if by := a.object.GetCreationTimestamp().Compare(b.object.GetCreationTimestamp().Time); by != 0 {
			return by
		}
		return strings.Compare(a.object.GetNamespace()+"/"+a.object.GetName(), b.object.GetNamespace()+"/"+b.object.GetName())
	})
	return all
}

// attach adds a route to the listeners that take it.
func (m *model) attach(r *route) {
	m.translate(r)
	for i := range r.spec.ParentRefs {
		ref := &r.spec.ParentRefs[i]
		g := m.parent(r, ref)
		if g == nil {
			continue
		}
		reason, taken := gatewayv1.RouteReasonNoMatchingParent, false
		for _, l := range g.listeners {
			if ref.SectionName != nil && *ref.SectionName != l.Name || ref.Port != nil && *ref.Port != l.Port {
				continue
			}
			if !m.allows(g, l, r) {
				reason = gatewayv1.RouteReasonNotAllowedByListeners
				continue
			}
			hosts, ok := intersect(l.Hostname, r.hosts)
			if !ok {
				reason = gatewayv1.RouteReasonNoMatchingListenerHostname
				continue
			}
			taken = true
			l.attached++
			l.routes = append(l.routes, map[string]any{
				"name":      fmt.Sprintf("%s %s/%s of %s %d", r.kind, r.object.GetNamespace(), r.object.GetName(), l.Name, i),
				"hostnames": hosts, "rules": r.served,
			})
		}
		r.report(ref, taken, reason)
	}
}

func (m *model) parent(r *route, ref *gatewayv1.ParentReference) *gateway {
	namespace := r.object.GetNamespace()
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	for _, g := range m.gateways {
		if (ref.Kind == nil || *ref.Kind == "Gateway") && g.gateway.Namespace == namespace && g.gateway.Name == string(ref.Name) {
			return g
		}
	}
	return nil
}

func (m *model) allows(g *gateway, l *listener, r *route) bool {
	namespace := r.object.GetNamespace()
	from := gatewayv1.NamespacesFromSame
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.From != nil {
		from = *l.AllowedRoutes.Namespaces.From
	}
	switch from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(l.AllowedRoutes.Namespaces.Selector)
		return err == nil && slices.ContainsFunc(m.namespaces.Items, func(n corev1.Namespace) bool {
			return n.Name == namespace && selector.Matches(labels.Set(n.Labels))
		})
	}
	return namespace == g.gateway.Namespace
}

// intersect returns the host names for which a listener serves a route.
func intersect(of *gatewayv1.Hostname, hosts []gatewayv1.Hostname) (out []string, ok bool) {
	if of == nil || *of == "" {
		for _, h := range hosts {
			out = append(out, string(h))
		}
		return out, true
	}
	if len(hosts) == 0 {
		return []string{string(*of)}, true
	}
	for _, h := range hosts {
		switch l := string(*of); {
		case l == string(h), covers(l, string(h)):
			out = append(out, string(h))
		case covers(string(h), l):
			out = append(out, l)
		}
	}
	return out, len(out) > 0
}

// covers reports whether a wildcard stands for a name, or for all that another wildcard stands for.
func covers(wildcard, name string) bool {
	suffix, is := strings.CutPrefix(wildcard, "*")
	return is && strings.HasSuffix(name, suffix) && len(name) > len(suffix)+len("*")-1
}

func (r *route) report(ref *gatewayv1.ParentReference, taken bool, why gatewayv1.RouteConditionReason) {
	since := metav1.NewTime(r.object.GetCreationTimestamp().Time)
	condition := func(kind gatewayv1.RouteConditionType, is bool, reason string) metav1.Condition {
		status := metav1.ConditionFalse
		if is {
			status, reason = metav1.ConditionTrue, string(kind)
		}
		return metav1.Condition{Type: string(kind), Status: status, Reason: reason, ObservedGeneration: r.object.GetGeneration(), LastTransitionTime: since}
	}
	r.parents = append(r.parents, gatewayv1.RouteParentStatus{
		ParentRef: *ref, ControllerName: controllerName, Conditions: []metav1.Condition{
			condition(gatewayv1.RouteConditionAccepted, taken, string(why)),
			condition(gatewayv1.RouteConditionResolvedRefs, r.fault == "", r.fault),
		},
	})
}

// status fills in the status of a Gateway.
func (g *gateway) status() {
	at := g.gateway.CreationTimestamp
	conditions := func(types ...string) (out []metav1.Condition) {
		for _, kind := range types {
			out = append(out, metav1.Condition{
				Type: kind, Status: metav1.ConditionTrue, Reason: kind, ObservedGeneration: g.gateway.Generation, LastTransitionTime: at,
			})
		}
		return out
	}
	ip := gatewayv1.IPAddressType
	s := &g.gateway.Status
	s.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &ip, Value: g.address}}
	s.Conditions = conditions("Accepted", "Programmed")
	s.Listeners = nil
	group := gatewayv1.Group(gatewayv1.GroupName)
	for _, l := range g.listeners {
		s.Listeners = append(s.Listeners, gatewayv1.ListenerStatus{
			Name: l.Name, AttachedRoutes: l.attached, Conditions: conditions("Accepted", "Programmed", "ResolvedRefs"),
			SupportedKinds: []gatewayv1.RouteGroupKind{{Group: &group, Kind: "HTTPRoute"}, {Group: &group, Kind: "GRPCRoute"}},
		})
	}
}

// config returns the proxy's file: the listeners of a Gateway that share a port are one.
func (m *model) config() map[string]any {
	var all []any
	for _, g := range m.gateways {
		ports := map[int32]map[string]any{}
		for _, l := range g.listeners {
			if l.Protocol == gatewayv1.HTTPSProtocolType && l.tls == nil {
				continue // its certificate is to come
			}
			p := ports[l.Port]
			if p == nil {
				p = map[string]any{"name": fmt.Sprintf("%s/%s:%d", g.gateway.Namespace, g.gateway.Name, l.Port), "address": fmt.Sprintf("%s:%d", g.address, l.Port), "routes": []any{}}
				ports[l.Port] = p
			}
			p["routes"] = append(p["routes"].([]any), l.routes...)
			if l.tls != nil {
				p["tls"] = l.tls
			}
		}
		for _, port := range slices.Sorted(maps.Keys(ports)) {
			all = append(all, ports[port])
		}
	}
	if all == nil {
		all = append(all, map[string]any{"name": "none", "address": "127.0.0.1:0", "rules": []any{}})
	}
	return map[string]any{"listeners": all, "services": m.backends}
}
