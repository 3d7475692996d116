package webhooktest

// Readiness: Pods and EndpointSlices that stand for the workloads for which SetReady was called.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// SetReady makes a workload ready, or unready: the endpoint of its pod in all Services that select it. For a
// Service it does the same to the workloads that the Service selects, or to the endpoint of a Service without
// a selector. It is an error when the object is not there, when a Service selects no workload, and when one
// of the Services has EndpointSlices of its own, since these say what is ready.
func (c *Cluster) SetReady(kind, namespace, name string, ready bool) error {
	k := key{kind, namespace, name}
	o, stored := c.objects[k]
	if !stored {
		return fmt.Errorf("set ready: there is no %s", k)
	}
	targets := []key{k}
	if kind == kindService {
		s, err := service(o)
		if err != nil {
			return err
		}
		if len(s.Spec.Selector) > 0 {
			if targets = c.selected(s); len(targets) == 0 {
				return fmt.Errorf("set ready: %s selects no workload", k)
			}
		}
	} else if _, hasPods := c.podLabels(k); !hasPods {
		return fmt.Errorf("set ready: %s is no workload with pods", k)
	}
	if own := c.ownSlice(targets); own != "" {
		return fmt.Errorf("set ready: %s has an EndpointSlice of its own, which says what is ready", own)
	}
	// Endpoints that were assumed to be ready must be there before they become unready, as in a cluster.
	for _, target := range targets {
		if _, known := c.ready[target]; !known {
			c.ready[target] = true
		}
	}
	if err := c.playEndpoints(); err != nil {
		return err
	}
	for _, target := range targets {
		c.ready[target] = ready
	}
	return c.playEndpoints()
}

// playEndpoints brings the Pods and EndpointSlices in the index in line with the objects and their readiness.
func (c *Cluster) playEndpoints() error {
	pods, endpointSlices, err := c.endpoints()
	if err != nil {
		return err
	}
	// Pods come before the EndpointSlices that name them, and go after them.
	for _, wanted := range []map[key][]byte{pods, endpointSlices} {
		for k, raw := range wanted {
			if bytes.Equal(c.played[k], raw) {
				continue
			}
			if err := c.index.Load(raw); err != nil {
				return err
			}
			c.played[k] = raw
		}
	}
	for _, kind := range []string{kindEndpointSlice, kindPod} {
		for k := range c.played {
			if k.kind == kind && pods[k] == nil && endpointSlices[k] == nil {
				delete(c.played, k)
				c.index.Delete(indexed[kind], k.namespace, k.name)
			}
		}
	}
	return nil
}

// endpoints returns the Pods and EndpointSlices of the Services that SetReady was called for, in JSON.
func (c *Cluster) endpoints() (pods, endpointSlices map[key][]byte, err error) {
	pods, endpointSlices = map[key][]byte{}, map[key][]byte{}
	if len(c.ready) == 0 {
		return pods, endpointSlices, nil
	}
	wasSet := func(k key) bool { _, set := c.ready[k]; return set }
	for k, o := range c.objects {
		if k.kind != kindService {
			continue
		}
		s, err := service(o)
		if err != nil {
			return nil, nil, err
		}
		selected := c.selected(s)
		if c.hasSlice(k) || !wasSet(k) && !slices.ContainsFunc(selected, wasSet) {
			continue
		}
		for _, w := range selected {
			if pod := c.pod(w); w.kind != kindPod {
				if pods[key{kindPod, pod.Namespace, pod.Name}], err = json.Marshal(pod); err != nil {
					return nil, nil, err
				}
			}
		}
		slice := c.endpointSlice(s, selected)
		if endpointSlices[key{kindEndpointSlice, slice.Namespace, slice.Name}], err = json.Marshal(slice); err != nil {
			return nil, nil, err
		}
	}
	return pods, endpointSlices, nil
}

// endpointSlice returns the endpoints of a Service: one for each workload, or one of its own where it has no
// selector. A workload for which SetReady was not called is ready.
func (c *Cluster) endpointSlice(s *corev1.Service, workloads []key) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: kindEndpointSlice},
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name + "-webhooktest", Namespace: s.Namespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name},
		},
	}
	for _, p := range s.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(p.Name)})
	}
	if len(s.Spec.Selector) == 0 {
		ready := c.ready[key{kindService, s.Namespace, s.Name}]
		slice.Endpoints = []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}
	}
	for _, w := range workloads {
		ready, set := c.ready[w]
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Conditions: discoveryv1.EndpointConditions{Ready: new(ready || !set)},
			TargetRef:  &corev1.ObjectReference{Kind: kindPod, Namespace: w.namespace, Name: c.pod(w).Name},
		})
	}
	return slice
}

func service(o object) (*corev1.Service, error) {
	var s corev1.Service
	if err := json.Unmarshal(o.raw, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", o.key, err)
	}
	return &s, nil
}

// selected returns the workloads with pods that a Service selects, sorted.
func (c *Cluster) selected(s *corev1.Service) []key {
	if len(s.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var found []key
	for k := range c.objects {
		if set, hasPods := c.podLabels(k); hasPods && k.namespace == s.Namespace && selector.Matches(set) {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, key.compare)
	return found
}

// podLabels returns the labels of a workload's pods. It is false for an object that has none.
func (c *Cluster) podLabels(k key) (labels.Set, bool) {
	o := c.objects[k]
	switch k.kind {
	case kindPod:
		return o.labels, true
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout":
	default:
		return nil, false
	}
	var w struct {
		Spec struct {
			Replicas *int32                 `json:"replicas"`
			Template corev1.PodTemplateSpec `json:"template"`
			// A Rollout may take the template of another workload.
			WorkloadRef struct{ Kind, Name string } `json:"workloadRef"`
		} `json:"spec"`
	}
	if json.Unmarshal(o.raw, &w) != nil || w.Spec.Replicas != nil && *w.Spec.Replicas == 0 {
		return nil, false
	}
	if ref := w.Spec.WorkloadRef; ref.Name != "" {
		other := c.objects[key{ref.Kind, k.namespace, ref.Name}]
		_ = json.Unmarshal(other.raw, &w) // one that is not there has no labels
	}
	return w.Spec.Template.Labels, true
}

// pod returns the one pod of a workload. A ReplicaSet controls it, so that it is no workload of its own.
func (c *Cluster) pod(workload key) *metav1.PartialObjectMetadata {
	set, _ := c.podLabels(workload)
	pod := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: kindPod},
		ObjectMeta: metav1.ObjectMeta{Name: workload.name, Namespace: workload.namespace, Labels: set},
	}
	if workload.kind != kindPod {
		pod.Name += "-" + strings.ToLower(workload.kind)
		controls := true
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "ReplicaSet", Name: workload.name, Controller: &controls,
		}}
	}
	return pod
}

// ownSlice names a Service of these workloads that has EndpointSlices in the manifests, "" when none has.
func (c *Cluster) ownSlice(workloads []key) string {
	for _, k := range slices.SortedFunc(maps.Keys(c.objects), key.compare) {
		if k.kind != kindService || !c.hasSlice(k) {
			continue
		}
		s, err := service(c.objects[k])
		concerned := func(w key) bool { return w == k || err == nil && slices.Contains(c.selected(s), w) }
		if slices.ContainsFunc(workloads, concerned) {
			return k.String()
		}
	}
	return ""
}

// hasSlice reports whether the manifests have an EndpointSlice of a Service.
func (c *Cluster) hasSlice(service key) bool {
	for k, o := range c.objects {
		if k.kind == kindEndpointSlice && k.namespace == service.namespace && o.labels[discoveryv1.LabelServiceName] == service.name {
			return true
		}
	}
	return false
}
