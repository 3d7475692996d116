package variant

// Argo Rollouts: workloads that may take their template from another workload, and that name the routes which
// they rewrite.

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// gatewayPlugin is the traffic router plugin for Gateway API.
const gatewayPlugin = "argoproj-labs/gatewayAPI"

type rolloutObject struct {
	Spec struct {
		Replicas *int32 `json:"replicas"`
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		} `json:"template"`
		WorkloadRef *struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
		} `json:"workloadRef"`
		Strategy struct {
			Canary struct {
				TrafficRouting trafficRouting `json:"trafficRouting"`
			} `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
}

type trafficRouting struct {
	Istio struct {
		VirtualService  reference   `json:"virtualService"`
		VirtualServices []reference `json:"virtualServices"`
	} `json:"istio"`
	// Plugins have a schema each; only that of gatewayPlugin is read.
	Plugins map[string]json.RawMessage `json:"plugins"`
}

type gatewayRouting struct {
	Namespace  string      `json:"namespace"`
	HTTPRoute  string      `json:"httpRoute"`
	HTTPRoutes []reference `json:"httpRoutes"`
	GRPCRoute  string      `json:"grpcRoute"`
	GRPCRoutes []reference `json:"grpcRoutes"`
}

type reference struct {
	Name string `json:"name"`
}

func parseRollout(h *header, raw []byte) (record, error) {
	var o rolloutObject
	if err := unmarshal(raw, &o); err != nil {
		return nil, err
	}
	w := &workload{
		id:       h.id(KindRollout),
		idle:     ptr.Deref(o.Spec.Replicas, 1) == 0,
		deleting: h.Metadata.DeletionTimestamp != "",
		uid:      h.Metadata.UID,
	}
	routes, err := o.Spec.Strategy.Canary.TrafficRouting.routes(w.Namespace)
	if err != nil {
		return nil, err
	}
	w.rollout = &rollout{own: newLabels(o.Spec.Template.Metadata.Labels), routes: routes}
	if ref := o.Spec.WorkloadRef; ref != nil {
		w.rollout.own = newLabels(o.Spec.Selector.MatchLabels)
		if kind, ok := kindOf(groupOf(ref.APIVersion), ref.Kind); ok {
			w.rollout.ref = id{kind, types.NamespacedName{Namespace: w.Namespace, Name: ref.Name}}
		}
	}
	return w, nil
}

// routes returns the routes in a Rollout's own namespace that it rewrites. It may name routes of other
// namespaces, but counts only in its own: else its author could keep mirrors of others where they are.
func (t trafficRouting) routes(namespace string) ([]route.Key, error) {
	var keys []route.Key
	add := func(kind route.Kind, in string, names ...reference) {
		for _, n := range names {
			if n.Name != "" && in == namespace {
				keys = append(keys, route.Key{Kind: kind, Namespace: namespace, Name: n.Name})
			}
		}
	}
	for _, vs := range append(t.Istio.VirtualServices, t.Istio.VirtualService) {
		add(route.VirtualService, namespace, vs)
		// Argo Rollouts reads a dot as the separator of name and namespace.
		if fields := strings.Split(vs.Name, "."); len(fields) > 1 {
			add(route.VirtualService, fields[1], reference{fields[0]})
		}
	}
	if raw, ok := t.Plugins[gatewayPlugin]; ok {
		var plugin gatewayRouting
		if err := unmarshal(raw, &plugin); err != nil {
			return nil, fmt.Errorf("plugin %s: %w", gatewayPlugin, err)
		}
		in := cmp.Or(plugin.Namespace, namespace)
		add(route.HTTPRoute, in, append(plugin.HTTPRoutes, reference{plugin.HTTPRoute})...)
		add(route.GRPCRoute, in, append(plugin.GRPCRoutes, reference{plugin.GRPCRoute})...)
	}
	return keys, nil
}

// changeRollout enters a Rollout in the lists by route and by workloadRef when by is 1, and removes it when
// by is -1. It does nothing for other workloads.
func (i *Index) changeRollout(w *workload, by int, a *affected) {
	r := w.rollout
	if r == nil {
		return
	}
	for _, key := range r.routes {
		if i.managedRoutes[key] += by; i.managedRoutes[key] == 0 {
			delete(i.managedRoutes, key)
		}
		a.addRoute(key)
	}
	switch {
	case r.ref == id{}:
		w.labels = r.own
	case by > 0:
		addTo(i.rolloutsByRef, r.ref, w)
		w.labels = i.rolloutLabels(r)
	default:
		removeFrom(i.rolloutsByRef, r.ref, w)
	}
}

// rolloutLabels returns the labels of a Rollout's pods. The template of the workload that it refers to has at
// least the labels of the Rollout's selector.
func (i *Index) rolloutLabels(r *rollout) labels {
	if ref, ok := i.objects[r.ref.kind][r.ref.NamespacedName].(*workload); ok {
		return ref.labels
	}
	return r.own
}
