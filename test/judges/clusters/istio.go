package clusters

// Random clusters with a mesh. Names are few, so that objects meet; values are mostly right, so that most
// clusters say something.

import (
	"fmt"
	"slices"
	"strings"
)

const domain = ".svc.cluster.local"

// The namespaces of a mesh: of the services, of another team, of clients, Istio's root, and of the gateway's pods.
const (
	Prod    = "prod"
	Team    = "team"
	Client  = "client"
	Root    = "istio-system"
	Ingress = "ingress"
)

// Namespaces are all of them.
var Namespaces = []string{Prod, Team, Client, Root, Ingress}

// Apps are the values of the label app that clients of a mesh have, where there are any.
var Apps = []string{"client", "worker"}

// GatewayLabels select the pods of the gateway.
var GatewayLabels = map[string]string{"istio": "gw"}

// port is a port of a Service.
type port struct {
	name           string
	number, target int
}

// service is a Service that destinations may name. One without ports is absent.
type service struct {
	namespace, name string
	ports           []port
}

func (s service) host() string { return s.name + "." + s.namespace + domain }

// mesh makes one cluster.
type mesh struct {
	Maker
	cluster  Cluster
	services []service
	// endpoints counts the addresses of pods, addresses those of Services.
	endpoints, addresses int
	// roots counts the VirtualServices with hosts.
	roots int
}

// Mesh returns a random cluster with a mesh, and VirtualServices.
func (m Maker) Mesh() Cluster {
	b := &mesh{Maker: m}
	for _, name := range []string{"shop", "shop-v1", "shop-v2", "shop-v3", "shop-v4"} {
		b.service(Prod, name)
	}
	for _, name := range []string{"shop-v2", "audit"} {
		b.service(Team, name)
	}
	for range m.IntN(5) {
		b.destinationRule()
	}
	for range m.IntN(4) - 1 {
		b.serviceEntry()
	}
	b.gateways()
	b.clients()
	if m.OneIn(6) {
		b.add(object("networking.istio.io/v1", "Sidecar", Client, "sidecar",
			Object{"egress": []any{Object{"hosts": []any{Pick(m, "prod/shop.prod.svc.cluster.local", "prod/*", "./*")}}}}))
	}
	b.routes()
	return b.cluster.clone()
}

func (b *mesh) add(o Object) { b.cluster.Objects = append(b.cluster.Objects, o) }

// service adds a Service with its pods and endpoints, one that is an alias, or none.
func (b *mesh) service(namespace, name string) {
	s := service{namespace: namespace, name: name}
	defer func() { b.services = append(b.services, s) }()
	if name != "shop" && b.OneIn(6) {
		return // absent
	}
	s.ports = Pick(b.Maker, []port{{"http", 80, 8080}}, []port{{"http", 80, 8080}}, []port{{"http", 80, 8080}, {"http-b", 8081, 8081}},
		[]port{{"http", 7070, 8080}}, []port{{"http", 7070, 8080}, {"http-b", 8081, 8081}})
	if name == "shop" {
		s.ports = []port{{"http", 80, 8080}, {"http-b", 8081, 8081}}[:1+b.IntN(2)]
	}
	b.addresses++
	spec := Object{"clusterIP": fmt.Sprint("10.0.0.", b.addresses), "ports": s.portList("targetPort")}
	switch {
	case name != "shop" && b.OneIn(12):
		spec = Object{"type": "ExternalName", "ports": s.portList("targetPort"), "externalName": Pick(b.Maker, "shop-v1.prod"+domain,
			"shop-v1.prod"+domain, "shop-v3.prod"+domain, "api.example.com", "real.example.com", "shop-v1.prod"+domain+".")}
		if b.OneIn(6) {
			delete(spec, "ports")
		}
		b.add(object("v1", "Service", namespace, name, spec))
		return
	case b.OneIn(12): // no selector: somebody else writes its endpoints
	default:
		spec["selector"] = Object{"app": name}
		if b.OneIn(5) {
			spec["selector"] = Object{"app": name, "version": Pick(b.Maker, "v1", "v2")}
		}
	}
	b.add(object("v1", "Service", namespace, name, spec))
	b.pods(s, spec)
}

func (s service) portList(target string) []any {
	var list []any
	for _, p := range s.ports {
		list = append(list, Object{"name": p.name, "port": p.number, target: p.target})
	}
	return list
}

// pods adds the pods of a Service, and its endpoints as Kubernetes would write them.
func (b *mesh) pods(s service, spec Object) {
	var endpoints []any
	selector, selects := spec["selector"].(Object)
	for i := range Pick(b.Maker, 0, 1, 1, 1, 1, 2) {
		b.endpoints++
		ip, ready := fmt.Sprint("10.1.0.", b.endpoints), !b.OneIn(4)
		e := Object{"addresses": []any{ip}, "conditions": Object{"ready": ready}}
		if selects {
			version := Pick(b.Maker, "v1", "v2")
			if v, ok := selector["version"].(string); ok {
				version = v
			}
			name := fmt.Sprint(s.name, "-", i)
			b.add(pod(s.namespace, name, ip, Object{"app": s.name, "version": version}, ready))
			e["targetRef"] = Object{"kind": "Pod", "name": name, "namespace": s.namespace}
		}
		endpoints = append(endpoints, e)
	}
	ports := []any{}
	for _, p := range s.ports {
		if !b.OneIn(8) { // else the pods do not have the named port
			ports = append(ports, Object{"name": p.name, "port": p.target, "protocol": "TCP"})
		}
	}
	slice := object("discovery.k8s.io/v1", "EndpointSlice", s.namespace, s.name+"-x", nil)
	delete(slice, "spec")
	slice["metadata"].(Object)["labels"] = Object{"kubernetes.io/service-name": s.name}
	slice["addressType"], slice["ports"], slice["endpoints"] = "IPv4", ports, endpoints
	if len(endpoints) > 0 || b.OneIn(2) {
		b.add(slice)
	}
}

func pod(namespace, name, ip string, labels Object, ready bool) Object {
	o := object("v1", "Pod", namespace, name, Object{"containers": []any{Object{"name": "a", "image": "a"}}})
	o["metadata"].(Object)["labels"] = labels
	status := map[bool]string{true: "True", false: "False"}[ready]
	o["status"] = Object{
		"phase": "Running", "podIP": ip, "podIPs": []any{Object{"ip": ip}},
		"conditions": []any{Object{"type": "Ready", "status": status}},
	}
	return o
}

// destinationRule adds a DestinationRule.
func (b *mesh) destinationRule() {
	s := Pick(b.Maker, b.services...)
	namespace := Pick(b.Maker, s.namespace, s.namespace, s.namespace, Client, Root, Ingress, Team)
	host := s.host()
	switch {
	case namespace == s.namespace && b.OneIn(2):
		host = s.name
	case b.OneIn(4):
		host = Pick(b.Maker, "*", "*.local", "*.cluster.local", "*.svc.cluster.local", "*.prod.svc.cluster.local")
	case b.OneIn(12):
		host = s.name + "." + s.namespace
	}
	spec := Object{"host": host}
	if !b.OneIn(4) {
		first := b.IntN(2)
		spec["subsets"] = []any{
			Object{"name": "v1", "labels": Object{"version": "v1"}}, Object{"name": "v2", "labels": Object{"version": "v2"}},
		}[first : first+1+b.IntN(2-first)]
	}
	switch {
	case b.OneIn(6):
		spec["workloadSelector"] = Object{"matchLabels": Object{"app": Pick(b.Maker, Apps...)}}
	case b.OneIn(3):
		spec["exportTo"] = Pick(b.Maker, []any{"."}, []any{"*"}, []any{Client}, []any{".", Client}, []any{Ingress}, []any{Prod, Team})
	}
	if b.OneIn(3) {
		spec["trafficPolicy"] = Object{"loadBalancer": Object{"consistentHash": Object{"httpHeaderName": "x-user"}}}
	}
	b.add(object("networking.istio.io/v1", "DestinationRule", namespace, fmt.Sprint("rule-", len(b.cluster.Objects)), spec))
}

// serviceEntry adds a ServiceEntry for a host outside the cluster, or for that of a Service that is absent.
func (b *mesh) serviceEntry() {
	host := Pick(b.Maker, "api.example.com", "api.example.com", "*.example.com", "shop-v3.prod", "")
	if host == "" {
		host = "api.example.com"
		if i := slices.IndexFunc(b.services, func(s service) bool { return s.ports == nil }); i >= 0 {
			host = b.services[i].host()
		}
	}
	spec := Object{
		"hosts":    []any{host},
		"location": Pick(b.Maker, "MESH_EXTERNAL", "MESH_INTERNAL"), "resolution": "STATIC",
	}
	for i, number := range Pick(b.Maker, []int{80}, []int{80}, []int{7070}, []int{80, 8081}, []int{7070, 8081}) {
		spec["ports"] = append(List(spec, "ports"), Object{"number": number, "name": fmt.Sprint("http-", i), "protocol": "HTTP"})
	}
	if b.OneIn(2) {
		spec["exportTo"] = Pick(b.Maker, []any{"."}, []any{"*"}, []any{Client}, []any{Prod})
	}
	switch b.IntN(3) {
	case 0:
		spec["resolution"] = "DNS"
	case 1:
		spec["endpoints"] = []any{Object{"address": "10.2.0.1"}}
	default:
		spec["resolution"] = "NONE"
	}
	if strings.HasPrefix(host, "*") {
		spec["resolution"] = "NONE"
		delete(spec, "endpoints")
	}
	b.add(object("networking.istio.io/v1", "ServiceEntry", Pick(b.Maker, Prod, Team, Root), fmt.Sprint("entry-", len(b.cluster.Objects)), spec))
}

// Plain is the name of the client that runs in each namespace and that no selector matches.
const Plain = "plain"

// clients adds the pods of clients: one without the label app in each namespace, and others.
func (b *mesh) clients() {
	for _, namespace := range Namespaces {
		for _, app := range slices.Concat(Apps, []string{Plain}) {
			labels := Object{"app": app}
			if app == Plain {
				labels = Object{}
			} else if !b.OneIn(4) {
				continue
			}
			b.endpoints++
			b.add(pod(namespace, app, fmt.Sprint("10.1.0.", b.endpoints), labels, true))
		}
	}
}

// gateways adds a gateway's pod and Service, and Gateways that select it, in its own namespace and in another.
func (b *mesh) gateways() {
	b.endpoints++
	ip := fmt.Sprint("10.1.0.", b.endpoints)
	b.add(pod(Ingress, "gw", ip, Object{"istio": "gw"}, true))
	b.add(object("v1", "Service", Ingress, "gw", Object{
		"clusterIP": "10.0.1.1", "selector": Object{"istio": "gw"}, "ports": []any{Object{"name": "http", "port": 80, "targetPort": 8080}},
	}))
	slice := object("discovery.k8s.io/v1", "EndpointSlice", Ingress, "gw-x", nil)
	delete(slice, "spec")
	slice["metadata"].(Object)["labels"] = Object{"kubernetes.io/service-name": "gw"}
	slice["addressType"], slice["ports"] = "IPv4", []any{Object{"name": "http", "port": 8080, "protocol": "TCP"}}
	slice["endpoints"] = []any{Object{
		"addresses": []any{ip}, "conditions": Object{"ready": true}, "targetRef": Object{"kind": "Pod", "name": "gw", "namespace": Ingress},
	}}
	b.add(slice)
	for _, namespace := range []string{Ingress, Prod} {
		server := Object{"port": Object{"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": []any{"*"}}
		b.add(object("networking.istio.io/v1", "Gateway", namespace, "gw", Object{"selector": Object{"istio": "gw"}, "servers": []any{server}}))
	}
}
