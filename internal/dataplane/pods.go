package dataplane

// The pods of proxies: which of them a Service may lead to. The webhook of Services and the controller decide
// by the same View.

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mirrorgate/mirrorgate/internal/intercept"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// pod is the part of a proxy's pod that matters.
type pod struct {
	intercept.Proxy
	parent Name
	// serves is set while the pod is Ready and not terminating.
	serves bool
}

func fromPod(o *corev1.Pod) *pod {
	p := &pod{
		Proxy:  intercept.Proxy{Labels: o.Labels, Serves: intercept.ParseServes(o.Annotations[wellknown.ServesAnnotation])},
		parent: Name{Namespace: o.Namespace, Name: o.Labels[wellknown.ParentLabel]},
	}
	for i := range o.Status.Conditions {
		if c := &o.Status.Conditions[i]; c.Type == corev1.PodReady {
			p.serves = c.Status == corev1.ConditionTrue && o.DeletionTimestamp == nil
		}
	}
	return p
}

func (x *Index) putPod(name Name, p *pod, c *changes) {
	if old := x.pods[name]; old != nil {
		delete(x.pods, name)
		drop(x.proxies, old.parent, old)
		c.parents[old.parent] = true
	}
	if p != nil {
		x.pods[name] = p
		in(x.proxies, p.parent)[p] = struct{}{}
		c.parents[p.parent] = true
	}
}

// Pods returns how many pods of proxies a Service has, in whatever state.
func (x *Index) Pods(parent Name) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.proxies[parent])
}

// View returns the state of the cluster that concerns a Service as it would be stored.
func (x *Index) View(o *corev1.Service) intercept.View {
	name := nameOf(o)
	p := x.Parent(name)
	v := intercept.View{Wanted: intercept.Wants(objects.Read(o), p.Namespace, p.Routed), Primary: p.Primary, Origin: p.Origin}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for proxy := range x.proxies[name] {
		if proxy.serves {
			v.Proxies = append(v.Proxies, proxy.Proxy)
		}
	}
	return v
}

// Synced is an Index that answers once everything is known that was there when it began to be fed.
type Synced struct {
	*Index
	// HasSynced reports whether everything is known.
	HasSynced func() bool
}

// View is Index.View; it fails with intercept.ErrNotSynced before everything is known.
func (s Synced) View(o *corev1.Service) (intercept.View, error) {
	if !s.HasSynced() {
		return intercept.View{}, intercept.ErrNotSynced
	}
	return s.Index.View(o), nil
}
