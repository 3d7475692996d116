package variant

// How Services find the workloads they select, and the other way round. Both
// go through lists by label, so that an event or an admission touches only
// what shares a label with it.

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// post enters a workload in the list of each of its labels, with its place in
// the list, so that unpost need not search lists of thousands.
func (i *Index) post(w *workload) {
	w.places = make([]int32, len(w.labels))
	for n, l := range w.labels {
		key := namespacedLabel{w.Namespace, l}
		w.places[n] = int32(len(i.postings[key])) //nolint:gosec // No namespace holds 2^31 workloads.
		i.postings[key] = append(i.postings[key], w)
	}
}

func (i *Index) unpost(w *workload) {
	for n, l := range w.labels {
		key := namespacedLabel{w.Namespace, l}
		list := i.postings[key]
		last := list[len(list)-1]
		list[w.places[n]] = last
		last.places[slices.Index(last.labels, l)] = w.places[n]
		list[len(list)-1] = nil
		if len(list) == 1 {
			delete(i.postings, key)
			continue
		}
		i.postings[key] = list[:len(list)-1]
	}
	w.places = nil
}

// workloads yields those of a namespace that can run pods with all these labels.
// Labels that controllers generate are asked of pods only.
func (i *Index) workloads(namespace string, want labels) []*workload {
	declared := want.declared()
	var shortest []*workload
	for n, l := range declared {
		list := i.postings[namespacedLabel{namespace, l}]
		if n == 0 || len(list) < len(shortest) {
			shortest = list
		}
	}
	var found []*workload
	for _, w := range shortest {
		need := declared
		if w.kind == KindPod {
			need = want
		}
		if w.labels.contain(need) {
			found = append(found, w)
		}
	}
	return found
}

// selectors returns the services of a namespace that select pods with these
// labels; those of a template lack what controllers add.
func (i *Index) selectors(namespace string, have labels, template bool) []*service {
	var found []*service
	for _, l := range have {
		for _, s := range i.selecting[namespacedLabel{namespace, l}] {
			want := s.selector
			if template {
				want = want.declared()
			}
			if have.contain(want) {
				found = append(found, s)
			}
		}
	}
	return found
}

// indexLabel picks the label under which a service is listed: one that
// templates have and that few other services select.
func (i *Index) indexLabel(s *service) (namespacedLabel, bool) {
	candidates := s.selector.declared()
	if len(candidates) == 0 {
		candidates = s.selector
	}
	var best namespacedLabel
	for n, l := range candidates {
		key := namespacedLabel{s.Namespace, l}
		if n == 0 || len(i.selecting[key]) < len(i.selecting[best]) {
			best = key
		}
	}
	return best, len(candidates) > 0
}

func (i *Index) changeService(old, s *service, t *touched) {
	if old != nil {
		for _, l := range old.selector {
			removeFrom(i.selecting, namespacedLabel{old.Namespace, l}, old)
		}
		i.touchService(old.NamespacedName, t, anyMirror)
	}
	if s != nil {
		if key, ok := i.indexLabel(s); ok {
			i.selecting[key] = append(i.selecting[key], s)
		}
		i.touchService(s.NamespacedName, t, anyMirror)
	}
}

// aliveSince is when the workload was last deployed, or scaled up from 0. Of one
// that is seen for the first time only its age tells; a young one may stand in
// for one of the same name that was just deleted.
func (i *Index) aliveSince(old, w *workload) time.Time {
	now := i.opts.Clock.Now()
	switch {
	case old != nil && old.alive():
		return old.since
	case old == nil && !w.since.IsZero() && !i.within(w.since, now):
		return w.since
	default:
		return now
	}
}

func (i *Index) changeWorkload(old, w *workload, t *touched) {
	if old != nil {
		i.unlist(old, t)
		i.changeRollout(old, -1, t)
	}
	if w != nil {
		w.since = i.aliveSince(old, w)
		i.changeRollout(w, 1, t)
		i.list(w, t)
	}
	if w == nil {
		w = old
	}
	// Rollouts take their labels from the workload they refer to.
	for _, follower := range i.followers[w.id] {
		i.unlist(follower, t)
		follower.labels = i.rolloutLabels(follower.rollout)
		i.list(follower, t)
	}
}

func (i *Index) list(w *workload, t *touched) {
	if w.controlled {
		return
	}
	i.post(w)
	for _, s := range i.selectors(w.Namespace, w.labels, w.kind != KindPod) {
		i.touchService(s.NamespacedName, t, anyMirror)
	}
}

func (i *Index) unlist(w *workload, t *touched) {
	if w.controlled {
		return
	}
	i.unpost(w)
	for _, s := range i.selectors(w.Namespace, w.labels, w.kind != KindPod) {
		i.touchService(s.NamespacedName, t, anyMirror)
	}
}

func (i *Index) changeRollout(w *workload, by int, t *touched) {
	r := w.rollout
	if r == nil {
		return
	}
	for _, key := range r.routes {
		if i.managed[key] += by; i.managed[key] == 0 {
			delete(i.managed, key)
		}
		t.set().add(key)
	}
	switch {
	case r.ref == id{}:
		w.labels = r.own
	case by > 0:
		i.followers[r.ref] = append(i.followers[r.ref], w)
		w.labels = i.rolloutLabels(r)
	default:
		removeFrom(i.followers, r.ref, w)
	}
}

// rolloutLabels are the labels of a Rollout's pods. The template it refers to
// has at least those of the Rollout's selector.
func (i *Index) rolloutLabels(r *rollout) labels {
	if ref, ok := i.objects[r.ref.kind][r.ref.NamespacedName].(*workload); ok {
		return ref.labels
	}
	return r.own
}

// changePod follows a pod: as a workload when nothing else runs it, and as a
// member of subsets in any case.
func (i *Index) changePod(old, p *workload, t *touched) {
	if old != nil {
		i.unlist(old, t)
	}
	if p != nil {
		i.list(p, t)
	}
	if old != nil && p != nil && slices.Equal(old.labels, p.labels) {
		return
	}
	for _, sl := range i.listing[podName(old, p)] {
		if old != nil {
			i.lose(sl.of(), old.labels)
			i.touchService(sl.of(), t, subsetMirror)
		}
		if p != nil {
			i.touchService(sl.of(), t, subsetMirror)
		}
	}
}

func podName(old, p *workload) types.NamespacedName {
	if p != nil {
		return p.NamespacedName
	}
	return old.NamespacedName
}

// podLabels returns the labels of a pod, false when it is not known.
func (i *Index) podLabels(name types.NamespacedName) (labels, bool) {
	p, ok := i.objects[KindPod][name].(*workload)
	if !ok {
		return nil, false
	}
	return p.labels, true
}

// removeFrom deletes v from the list of key, and the list with its last item.
func removeFrom[K, V comparable](lists map[K][]V, key K, v V) {
	list := lists[key]
	if removeItem(&list, v); len(list) == 0 {
		delete(lists, key)
		return
	}
	lists[key] = list
}

// removeItem deletes v from a list whose order has no meaning.
func removeItem[V comparable](list *[]V, v V) {
	l := *list
	if at := slices.Index(l, v); at >= 0 {
		l[at] = l[len(l)-1]
		clear(l[len(l)-1:])
		*list = l[:len(l)-1]
	}
}
