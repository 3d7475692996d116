package variant

// Readiness: which pods of a Service have ready endpoints, and which lost them less than the grace ago.

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// endpoints are all EndpointSlices of one Service.
type endpoints struct {
	slices []*slice
	// lost are the endpoints that stopped being ready less than the grace ago, oldest first.
	lost []loss
}

// loss is an endpoint that stopped being ready at some ports. It has the labels of the pod, because the pod may
// be gone when a decision needs to know whether it belonged to a subset.
type loss struct {
	labels labels
	ports  []string
	at     time.Time
}

// serviceLoss is when a Service lost an endpoint.
type serviceLoss struct {
	service types.NamespacedName
	at      time.Time
}

// count returns the number of ready endpoints and of all endpoints.
func (e *endpoints) count() (ready, total int32) {
	if e == nil {
		return 0, 0
	}
	for _, s := range e.slices {
		ready += int32(len(s.ready)) + s.anonymous //nolint:gosec // An EndpointSlice has at most 1000 endpoints.
		total += s.total
	}
	return ready, total
}

func (i *Index) changeSlice(old, s *slice, a *affected) {
	if old != nil && s != nil && old.service != s.service {
		i.changeSlice(old, nil, a)
		old = nil
	}
	service := cmp.Or(s, old).of()
	e := i.endpoints[service]
	if e == nil {
		e = &endpoints{}
		i.endpoints[service] = e
	}
	readyBefore, totalBefore := e.count()
	if old != nil {
		e.slices = removeItem(e.slices, old)
		for _, pod := range old.ready {
			removeFrom(i.slicesByPod, types.NamespacedName{Namespace: old.Namespace, Name: pod}, old)
		}
	}
	if s != nil {
		e.slices = append(e.slices, s)
		for _, pod := range s.ready {
			addTo(i.slicesByPod, types.NamespacedName{Namespace: s.Namespace, Name: pod}, s)
		}
	}
	ready, total := e.count()
	i.recount(service, a)
	changed := i.compareReady(service, old, s)
	if s != nil {
		if old == nil {
			i.recordEarlierLosses(service, s)
		}
		s.unready = nil
	}
	i.dropIfEmpty(service)

	switch {
	case (readyBefore == 0) != (ready == 0), (totalBefore == 0) != (total == 0) && ready == readyBefore,
		!slices.Equal(portsOf(old), portsOf(s)):
		i.affectService(service, a, byService)
	case changed:
		// The slices of a Service may have different ports, so that any mirror may have lost its last endpoint.
		i.affectService(service, a, i.sensitive(e))
	}
}

// sensitive returns the naming of the mirrors whose state may depend on single endpoints of a Service.
func (i *Index) sensitive(e *endpoints) naming {
	for _, s := range e.slices {
		if !slices.Equal(s.ports, e.slices[0].ports) {
			return byService
		}
	}
	return bySubset
}

// portsOf returns the names of a slice's ports, nil for no slice.
func portsOf(s *slice) []string {
	if s == nil {
		return nil
	}
	return s.ports
}

// compareReady reports whether an EndpointSlice gained or lost ready endpoints, and records the losses.
func (i *Index) compareReady(service types.NamespacedName, old, s *slice) (changed bool) {
	now := i.opts.Clock.Now()
	lost := difference(old, s)
	for _, pod := range lost {
		i.recordPodLoss(service, pod, old.ports, now)
	}
	var before, after int32
	if old != nil {
		before = old.anonymous
	}
	if s != nil {
		after = s.anonymous
	}
	if after < before {
		i.recordLoss(service, loss{ports: old.ports, at: now})
	}
	if old != nil && s != nil {
		i.recordPortLosses(service, old, s, now)
	}
	return after != before || len(lost) > 0 || len(difference(s, old)) > 0
}

// recordPortLosses records that ready endpoints of a slice no longer serve some of its ports.
func (i *Index) recordPortLosses(service types.NamespacedName, old, s *slice, now time.Time) {
	gone := slices.DeleteFunc(slices.Clone(old.ports), func(port string) bool { return slices.Contains(s.ports, port) })
	if len(gone) == 0 {
		return
	}
	for _, pod := range old.ready {
		i.recordPodLoss(service, pod, gone, now)
	}
	if old.anonymous > 0 {
		i.recordLoss(service, loss{ports: gone, at: now})
	}
}

// difference returns the pods that are ready in a and not in b. Both may be nil.
func difference(a, b *slice) []string {
	if a == nil {
		return nil
	}
	var pods []string
	for _, pod := range a.ready {
		if b != nil {
			if _, both := slices.BinarySearch(b.ready, pod); both {
				continue
			}
		}
		pods = append(pods, pod)
	}
	return pods
}

// recordEarlierLosses records the pods of a new EndpointSlice that became unready less than the grace ago, so
// that a replica that starts during a restart of the variant decides like the replicas that saw it begin.
func (i *Index) recordEarlierLosses(service types.NamespacedName, s *slice) {
	now := i.opts.Clock.Now()
	if s.changed.After(now) || !i.withinGrace(s.changed, now) {
		return
	}
	for _, pod := range s.unready {
		i.recordPodLoss(service, pod, s.ports, s.changed)
	}
}

func (i *Index) recordPodLoss(service types.NamespacedName, pod string, ports []string, at time.Time) {
	known, _ := i.podLabels(types.NamespacedName{Namespace: service.Namespace, Name: pod})
	i.recordLoss(service, loss{labels: known, ports: ports, at: at})
}

// recordLoss records that the Service lost a ready endpoint.
func (i *Index) recordLoss(service types.NamespacedName, l loss) {
	e := i.endpoints[service]
	if i.opts.Grace < 0 || e == nil {
		return
	}
	e.lost = append(e.lost, l)
	i.losses = append(i.losses, serviceLoss{service: service, at: l.at})
}

// expireLosses drops the losses whose grace is over.
func (i *Index) expireLosses() {
	now := i.opts.Clock.Now()
	n := 0
	for ; n < len(i.losses) && !i.withinGrace(i.losses[n].at, now); n++ {
		service := i.losses[n].service
		if e := i.endpoints[service]; e != nil && len(e.lost) > 0 {
			if e.lost = e.lost[1:]; len(e.lost) == 0 {
				e.lost = nil
			}
			i.dropIfEmpty(service)
		}
	}
	if i.losses = i.losses[n:]; len(i.losses) == 0 {
		i.losses = nil
	}
}

func (i *Index) withinGrace(at, now time.Time) bool { return now.Sub(at) < i.opts.Grace }

// dropIfEmpty drops the endpoints of a Service that has neither EndpointSlices nor losses.
func (i *Index) dropIfEmpty(service types.NamespacedName) {
	if e := i.endpoints[service]; e != nil && len(e.slices) == 0 && len(e.lost) == 0 {
		delete(i.endpoints, service)
	}
}

// ready reports whether the Service has a ready endpoint at one of the ports, and for a subset one whose pod has
// its labels.
func (v *view) ready(s *service, subsetLabels labels, ports *portSet) bool {
	e := v.endpoints(s.NamespacedName)
	if v.base.opts.AssumeReady && (e == nil || len(e.slices) == 0) {
		return len(s.selector) > 0
	}
	if e == nil {
		return false
	}
	for _, sl := range e.slices {
		if !ports.overlaps(sl.ports) {
			continue
		}
		if len(subsetLabels) == 0 && (sl.anonymous > 0 || len(sl.ready) > 0) {
			return true
		}
		for _, pod := range sl.ready {
			have, known := v.podLabels(types.NamespacedName{Namespace: s.Namespace, Name: pod})
			if known && have.contain(subsetLabels) {
				return true
			}
		}
	}
	return false
}

// inGrace reports whether the Service lost an endpoint at one of the ports less than the grace ago, and not
// before since, and notes in recheck for how long the grace lasts. The endpoint's pod must have the labels
// want: a pod that the selector matched only before an edit is no part of the variant. An endpoint whose pod's
// labels are not known counts, except for a subset.
func (v *view) inGrace(s *service, subsetLabels, want labels, ports *portSet, since time.Time) bool {
	now := v.base.opts.Clock.Now()
	for _, l := range slices.Backward(v.lost(s.NamespacedName)) {
		matches := ports.overlaps(l.ports) && (l.labels.contain(want) || (l.labels == nil && len(subsetLabels) == 0))
		if v.base.withinGrace(l.at, now) && !l.at.Before(since) && matches {
			left := v.base.opts.Grace - now.Sub(l.at)
			if v.recheck == 0 || left < v.recheck {
				v.recheck = left
			}
			return true
		}
	}
	return false
}
