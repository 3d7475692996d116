package variant

// How Services find the workloads that they select, and the other way round. Both use lists by label, so that
// an event or a decision visits only objects that share a label with it.

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/route"
)

// list enters a workload in the list of each of its labels, with its position there, so that unlist need not
// search lists of thousands. It affects the Services that select the workload. A controlled workload is not
// listed.
func (i *Index) list(w *workload, a *affected) {
	if w.controlled {
		return
	}
	w.places = make([]int32, len(w.labels))
	for n, l := range w.labels {
		key := namespacedLabel{w.Namespace, l}
		if len(i.workloadsByLabel[key]) == 0 {
			if i.namespacesOf[l] == nil {
				i.namespacesOf[l] = map[string]bool{}
			}
			i.namespacesOf[l][w.Namespace] = true
		}
		w.places[n] = int32(len(i.workloadsByLabel[key])) //nolint:gosec // No namespace holds 2^31 workloads.
		addTo(i.workloadsByLabel, key, w)
	}
	i.countPods(w, 1, a)
	i.affectSelected(w, a)
	i.affectSelecting(w, a)
}

// unlist undoes list.
func (i *Index) unlist(w *workload, a *affected) {
	if w.controlled {
		return
	}
	for n, l := range w.labels {
		key := namespacedLabel{w.Namespace, l}
		list := i.workloadsByLabel[key]
		last := list[len(list)-1]
		list[w.places[n]] = last
		last.places[slices.Index(last.labels, l)] = w.places[n]
		list[len(list)-1] = nil
		if len(list) == 1 {
			delete(i.workloadsByLabel, key)
			if delete(i.namespacesOf[l], w.Namespace); len(i.namespacesOf[l]) == 0 {
				delete(i.namespacesOf, l)
			}
			continue
		}
		i.workloadsByLabel[key] = list[:len(list)-1]
	}
	w.places = nil
	i.countPods(w, -1, a)
	i.affectSelected(w, a)
	i.affectSelecting(w, a)
}

// affectSelecting adds the Services that select the workload's pods.
func (i *Index) affectSelecting(w *workload, a *affected) {
	for _, l := range w.labels {
		for _, s := range i.servicesByLabel[namespacedLabel{w.Namespace, l}] {
			want := s.selector
			if w.kind != KindPod { // a template lacks the labels that controllers add
				want = want.declared()
			}
			if w.labels.contain(want) {
				i.affectService(s.NamespacedName, a, byService)
			}
		}
	}
}

// workloads returns the workloads of a namespace that can run pods with all these labels. Labels that
// controllers generate are required of pods only.
func (i *Index) workloads(namespace string, want labels) []*workload {
	declared := want.declared()
	var shortest []*workload
	for n, l := range declared {
		list := i.workloadsByLabel[namespacedLabel{namespace, l}]
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

// indexLabel returns the label under which a Service is listed: one that pod templates have and that few
// other Services select. It is false for a Service without a selector.
func (i *Index) indexLabel(s *service) (namespacedLabel, bool) {
	candidates := s.selector.declared()
	if len(candidates) == 0 {
		candidates = s.selector
	}
	var best namespacedLabel
	for n, l := range candidates {
		key := namespacedLabel{s.Namespace, l}
		if n == 0 || len(i.servicesByLabel[key]) < len(i.servicesByLabel[best]) {
			best = key
		}
	}
	return best, len(candidates) > 0
}

func (i *Index) changeService(old, s *service, a *affected) {
	if old != nil {
		for _, l := range old.selector {
			removeFrom(i.servicesByLabel, namespacedLabel{old.Namespace, l}, old)
		}
		i.fileAlias(old, false)
		i.affectService(old.NamespacedName, a, byService)
	}
	if s == nil {
		i.forgetCounts(old.NamespacedName)
	}
	if s != nil {
		i.fileAlias(s, true)
		if key, ok := i.indexLabel(s); ok {
			addTo(i.servicesByLabel, key, s)
		}
		i.affectService(s.NamespacedName, a, byService)
	}
	if old == nil || s == nil || !slices.Equal(old.ports, s.ports) {
		i.affectClients(i.fqdn(route.ServiceName(cmp.Or(s, old).NamespacedName)), a)
	}
}

// aliveSince returns when the workload was last deployed, or scaled up from 0. For a workload that is seen
// for the first time this is its creation, unless it is younger than the grace: such a workload may replace
// one of the same name that was just deleted.
func (i *Index) aliveSince(old, w *workload) time.Time {
	now := i.opts.Clock.Now()
	switch {
	case old != nil && old.alive():
		return old.since
	case old == nil && !w.since.IsZero() && !i.withinGrace(w.since, now):
		return w.since
	default:
		return now
	}
}

func (i *Index) changeWorkload(old, w *workload, a *affected) {
	if old != nil {
		i.unlist(old, a)
		i.changeRollout(old, -1, a)
		i.affectOwned(old.uid, a)
	}
	if w != nil {
		i.affectOwned(w.uid, a)
		w.since = i.aliveSince(old, w)
		i.changeRollout(w, 1, a)
		i.list(w, a)
	}
	// The Rollouts that refer to the workload take their labels from it.
	for _, follower := range i.rolloutsByRef[cmp.Or(w, old).id] {
		i.unlist(follower, a)
		follower.labels = i.rolloutLabels(follower.rollout)
		i.list(follower, a)
	}
}

// changePod follows a pod: as a workload if no other workload runs it, and as a member of subsets in any
// case.
func (i *Index) changePod(old, p *workload, a *affected) {
	if old != nil {
		i.unlist(old, a)
	}
	if p != nil {
		i.list(p, a)
	}
	if old != nil && p != nil && slices.Equal(old.labels, p.labels) {
		return
	}
	for _, s := range i.slicesByPod[cmp.Or(p, old).NamespacedName] {
		if old != nil {
			i.recordLoss(s.of(), loss{labels: old.labels, ports: s.ports, at: i.opts.Clock.Now()})
		}
		i.affectService(s.of(), a, bySubset)
		i.recount(s.of(), a)
	}
}

// podLabels returns the labels of a pod, false when it is not known.
func (i *Index) podLabels(name types.NamespacedName) (labels, bool) {
	p, ok := i.objects[KindPod][name].(*workload)
	if !ok {
		return nil, false
	}
	return p.labels, true
}
