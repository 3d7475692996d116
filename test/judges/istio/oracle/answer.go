package oracle

// Answers: the routes, clusters and endpoints that Istio computes for one proxy.

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/xds/endpoints"

	"github.com/mirrorgate/mirrorgate/test/judges/clusters"
)

// Proxy is who asks: the sidecar of a client, or a gateway.
type Proxy struct {
	Namespace string
	Labels    map[string]string
	Gateway   bool
}

func (w *World) node(p Proxy) *model.Proxy {
	node := &model.Proxy{
		Type: model.SidecarProxy, ID: "app." + p.Namespace, ConfigNamespace: p.Namespace, DNSDomain: p.Namespace + ".svc." + domain,
		Labels: p.Labels, IPAddresses: []string{"10.9.9.9"},
		Metadata: &model.NodeMetadata{IstioVersion: "1.31.0", Namespace: p.Namespace, Labels: p.Labels, ClusterID: clusterID},
	}
	node.IstioVersion = model.ParseIstioVersion(node.Metadata.IstioVersion)
	if p.Gateway {
		node.Type = model.Router
	}
	return w.setup(node)
}

// Routes returns the route configurations of these names that a proxy gets.
func (w *World) Routes(p Proxy, names []string) []*routev3.RouteConfiguration {
	return w.routes(w.node(p), names)
}

func (w *World) routes(node *model.Proxy, names []string) []*routev3.RouteConfiguration {
	resources, _ := w.gen.BuildHTTPRoutes(node, &model.PushRequest{Push: w.push}, names)
	var configurations []*routev3.RouteConfiguration
	for _, r := range resources {
		c := &routev3.RouteConfiguration{}
		if err := r.GetResource().UnmarshalTo(c); err != nil {
			panic(err)
		}
		configurations = append(configurations, c)
	}
	return configurations
}

// Normal returns route configurations as values that are equal if Envoy is told the same: the routes of each domain
// of each configuration. How Istio divides domains among virtual hosts varies from run to run and means nothing; the
// order of routes does.
func Normal(configurations []*routev3.RouteConfiguration) map[string]any {
	out := map[string]any{}
	for _, c := range configurations {
		domains := map[string]any{}
		for _, host := range c.GetVirtualHosts() {
			names := host.GetDomains()
			host.Name, host.Domains = "", nil
			for _, name := range names {
				domains[name] = plain(host) // one of its own for each, since Strip changes it
			}
		}
		c.VirtualHosts = nil
		out[c.GetName()] = map[string]any{"domains": domains, "configuration": plain(c)}
	}
	return out
}

// plain returns a message as decoded from JSON. protojson varies its spaces on purpose.
func plain(m proto.Message) any {
	text, err := protojson.Marshal(m)
	if err != nil {
		panic(err)
	}
	var value any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		panic(err)
	}
	return value
}

// Copy is one mirror as a proxy has it.
type Copy struct {
	// Share is the mirror's percentage, in millionths.
	Share uint32
	// Cluster is the name of the Envoy cluster that gets the copies.
	Cluster string
	// Known reports whether that cluster exists, and Ready whether it has a ready endpoint as well.
	Known, Ready bool
}

// Copies returns the mirrors of all routes that a proxy gets. Route configurations have these names.
func (w *World) Copies(p Proxy, names []string) []Copy {
	node := w.node(p)
	var copies []Copy
	for _, c := range w.routes(node, names) {
		for _, host := range c.GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				for _, m := range r.GetRoute().GetRequestMirrorPolicies() {
					copies = append(copies, Copy{Share: m.GetRuntimeFraction().GetDefaultValue().GetNumerator(), Cluster: m.GetCluster()})
				}
			}
		}
	}
	if len(copies) == 0 {
		return nil
	}
	known := w.clusters(node)
	for i := range copies {
		cluster := known[copies[i].Cluster]
		copies[i].Known, copies[i].Ready = cluster != nil, w.ready(node, cluster)
	}
	return copies
}

func (w *World) clusters(node *model.Proxy) map[string]*clusterv3.Cluster {
	known := map[string]*clusterv3.Cluster{}
	resources, _ := w.gen.BuildClusters(node, &model.PushRequest{Push: w.push})
	for _, r := range resources {
		c := &clusterv3.Cluster{}
		if err := r.GetResource().UnmarshalTo(c); err != nil {
			panic(err)
		}
		known[c.GetName()] = c
	}
	return known
}

// ready reports whether a cluster, nil for one that does not exist, has an endpoint that Envoy would use.
func (w *World) ready(node *model.Proxy, c *clusterv3.Cluster) bool {
	assignment := c.GetLoadAssignment()
	switch {
	case c == nil:
		return false
	case c.GetType() == clusterv3.Cluster_ORIGINAL_DST:
		return true // it goes where the client wanted to go
	case c.GetType() == clusterv3.Cluster_EDS:
		builder := endpoints.NewEndpointBuilder(c.GetName(), node, w.push)
		assignment = builder.BuildClusterLoadAssignment(w.index)
	}
	return slices.ContainsFunc(assignment.GetEndpoints(), func(l *endpointv3.LocalityLbEndpoints) bool {
		return slices.ContainsFunc(l.GetLbEndpoints(), func(e *endpointv3.LbEndpoint) bool {
			status := e.GetHealthStatus()
			return status == corev3.HealthStatus_HEALTHY || status == corev3.HealthStatus_UNKNOWN
		})
	})
}

// Parked is the subset that marks a mirror which is to be thought away.
const Parked = "parked-here"

// placeholder is the prefix of mirrorgate's placeholders.
const placeholder = "x-mirrorgate-parked-"

// Strip takes mirrorgate's placeholders out of normal route configurations, and the mirrors to the subset Parked.
// So no model of Istio's merge is needed to know what a route means without some of its mirrors.
func Strip(v any) {
	switch v := v.(type) {
	case map[string]any:
		strip(v, "requestHeadersToRemove", func(e any) bool {
			name, _ := e.(string)
			return strings.HasPrefix(name, placeholder)
		})
		strip(v, "requestMirrorPolicies", func(e any) bool {
			cluster, _ := clusters.At(e, "cluster").(string)
			return strings.Contains(cluster, "|"+Parked+"|")
		})
		for _, inner := range v {
			Strip(inner)
		}
	case []any:
		for _, inner := range v {
			Strip(inner)
		}
	}
}

// strip takes elements out of a list, and the list with its last element.
func strip(v map[string]any, key string, leave func(any) bool) {
	list, ok := v[key].([]any)
	if !ok {
		return
	}
	if list = slices.DeleteFunc(list, leave); len(list) == 0 {
		delete(v, key)
	} else {
		v[key] = list
	}
}
