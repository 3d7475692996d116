package variant

// Readiness: which pods of a Service have ready endpoints, and which had until
// just now.

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// endpoints is what all EndpointSlices of one Service say.
type endpoints struct {
	slices []*slice
	// lost are the endpoints that stopped being ready less than the grace ago,
	// oldest first.
	lost []loss
}

// loss remembers the labels of a pod that was ready: the pod itself may be gone
// by the time somebody asks for its subset.
type loss struct {
	labels labels
	at     time.Time
}

type lossOf struct {
	service types.NamespacedName
	at      time.Time
}

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

func (i *Index) changeSlice(old, s *slice, t *touched) {
	if old != nil && s != nil && old.service != s.service {
		i.changeSlice(old, nil, t)
		old = nil
	}
	service := serviceOfEither(old, s)
	e := i.endpoints[service]
	if e == nil {
		e = &endpoints{}
		i.endpoints[service] = e
	}
	readyBefore, totalBefore := e.count()
	if old != nil {
		removeItem(&e.slices, old)
		for _, pod := range old.ready {
			removeFrom(i.listing, types.NamespacedName{Namespace: old.Namespace, Name: pod}, old)
		}
	}
	if s != nil {
		e.slices = append(e.slices, s)
		for _, pod := range s.ready {
			name := types.NamespacedName{Namespace: s.Namespace, Name: pod}
			i.listing[name] = append(i.listing[name], s)
		}
	}
	ready, total := e.count()
	changed := i.compareReady(service, old, s)
	if old == nil && s != nil {
		i.recall(service, s)
	}
	if s != nil {
		s.unready = nil
	}
	i.tidy(service)

	switch {
	case (readyBefore == 0) != (ready == 0), (totalBefore == 0) != (total == 0) && ready == readyBefore:
		i.touchService(service, t, anyMirror)
	case changed:
		i.touchService(service, t, subsetMirror)
	}
}

func serviceOfEither(old, s *slice) types.NamespacedName {
	if s != nil {
		return s.of()
	}
	return old.of()
}

// compareReady tells whether an EndpointSlice gained or lost ready endpoints, and
// remembers what was lost.
func (i *Index) compareReady(service types.NamespacedName, old, s *slice) (changed bool) {
	gone := difference(old, s)
	for _, pod := range gone {
		known, _ := i.podLabels(types.NamespacedName{Namespace: service.Namespace, Name: pod})
		i.lose(service, known)
	}
	var before, after int32
	if old != nil {
		before = old.anonymous
	}
	if s != nil {
		after = s.anonymous
	}
	if after < before {
		i.lose(service, nil)
	}
	return after != before || len(gone) > 0 || len(difference(s, old)) > 0
}

// difference returns the pods that are ready in a and not in b.
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

// recall takes the pods of a slice that is seen for the first time for lost when
// they became unready less than the grace ago: whoever starts in the middle of
// somebody else's restart decides as those who saw it begin.
func (i *Index) recall(service types.NamespacedName, s *slice) {
	now := i.opts.Clock.Now()
	if s.changed.After(now) || !i.within(s.changed, now) {
		return
	}
	for _, pod := range s.unready {
		known, _ := i.podLabels(types.NamespacedName{Namespace: service.Namespace, Name: pod})
		i.loseAt(service, known, s.changed)
	}
}

// lose remembers that a ready endpoint of the Service went away.
func (i *Index) lose(service types.NamespacedName, pod labels) {
	i.loseAt(service, pod, i.opts.Clock.Now())
}

func (i *Index) loseAt(service types.NamespacedName, pod labels, at time.Time) {
	e := i.endpoints[service]
	if i.opts.Grace < 0 || e == nil {
		return
	}
	e.lost = append(e.lost, loss{labels: pod, at: at})
	i.losses = append(i.losses, lossOf{service: service, at: at})
}

// forget drops the losses whose grace is over.
func (i *Index) forget() {
	now := i.opts.Clock.Now()
	n := 0
	for ; n < len(i.losses) && !i.within(i.losses[n].at, now); n++ {
		service := i.losses[n].service
		if e := i.endpoints[service]; e != nil && len(e.lost) > 0 {
			if e.lost = e.lost[1:]; len(e.lost) == 0 {
				e.lost = nil
			}
			i.tidy(service)
		}
	}
	if i.losses = i.losses[n:]; len(i.losses) == 0 {
		i.losses = nil
	}
}

func (i *Index) within(at, now time.Time) bool { return now.Sub(at) < i.opts.Grace }

// tidy drops what is known of a Service without slices and losses.
func (i *Index) tidy(service types.NamespacedName) {
	if e := i.endpoints[service]; e != nil && len(e.slices) == 0 && len(e.lost) == 0 {
		delete(i.endpoints, service)
	}
}
