package variant

// The resolver stands between admission and caches that may lag: what they do
// not know yet is looked up live before a mirror is parked or denied over it.
// What they do know is believed.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

// ErrNotSynced is returned while the Index does not know the whole cluster yet.
var ErrNotSynced = errors.New("caches are not synced")

var errTooManyReads = errors.New("more reads needed than one decision may cost")

const (
	// maxReads bounds the live reads for one route; what would need more stays
	// Unknown. parallelReads bounds those under way at a time.
	maxReads      = 32
	parallelReads = 8
	// readTime bounds all live reads for one route. The webhooks time out after 2
	// and 3 s, and the validating one resolves a route twice.
	readTime = time.Second
	// maxRounds bounds how often an answer may raise the next question: Service,
	// DestinationRule, workload.
	maxRounds = 4
)

// Reader reads objects from the API server, past the caches. An object that is
// not there, or a kind that the cluster does not have, is no error. The objects
// are of the types that Index.Upsert takes.
type Reader interface {
	Read(ctx context.Context, q Query) ([]any, error)
}

// Resolver finds out the state of a route's variants.
type Resolver struct {
	index  *Index
	live   Reader
	synced func() bool
}

// NewResolver returns a Resolver that answers from index, once synced says that
// it is complete, and confirms through live what the index does not have.
func NewResolver(index *Index, live Reader, synced func() bool) *Resolver {
	return &Resolver{index: index, live: live, synced: synced}
}

// Resolve returns the state of everything that a decision about the route
// depends on. A target whose absence could not be confirmed is Unknown.
func (r *Resolver) Resolve(ctx context.Context, doc *route.Route) (policy.Snapshot, error) {
	if !r.synced() {
		return policy.Snapshot{}, ErrNotSynced
	}
	// Reads that take too long fail, and their targets stay Unknown: an answer
	// that says so beats none.
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	v := view{base: r.index}
	failed := map[Query]error{}
	for range maxRounds {
		snap, questions := v.ask(doc, failed)
		if len(questions) == 0 {
			return snap, nil
		}
		if v.live == nil { // most decisions need no live read
			v.live, v.covered = NewIndex(r.index.opts), map[Query]bool{}
		}
		r.answer(ctx, &v, questions, failed)
	}
	snap, open := v.ask(doc, failed)
	for key, back := range v.ways {
		if slices.ContainsFunc(back.over, func(q Query) bool { return slices.Contains(open, q) }) {
			delete(snap.Loops, key)
		}
	}
	return snap, nil
}

// ask returns what is known, and the queries without which it cannot be relied
// on.
func (v *view) ask(doc *route.Route, failed map[Query]error) (policy.Snapshot, []Query) {
	v.base.mu.RLock()
	defer v.base.mu.RUnlock()
	snap := v.snapshot(doc)
	var open []Query
	asked := map[Query]bool{}
	question := func(q Query) {
		if !v.covered[q] && !asked[q] {
			asked[q] = true
			open = append(open, q)
		}
	}
	for _, m := range activeFirst(doc) {
		key := m.Target.WithoutPort()
		for _, q := range v.ways[key].over {
			if _, ok := failed[q]; ok {
				delete(snap.Loops, key) // as below: it must deny nothing
			} else {
				question(q)
			}
		}
		variant := snap.Variants[key]
		for _, q := range v.doubts(doc, m, variant) {
			if err, ok := failed[q]; ok {
				// Only this: a fact that is not confirmed must deny nothing.
				variant = policy.Variant{
					Reason: policy.VariantUnknown,
					Detail: fmt.Sprintf("%s of %q could not be looked up: %v", q.Kind, m.Target.Name, err),
				}
				snap.Variants[key] = variant
			} else {
				question(q)
			}
		}
	}
	return snap, open
}

// activeFirst returns a route's mirrors in the order in which they are looked up:
// when there are more than one decision may ask about, those that are parked
// already can wait, so that the next decision on the route gets further.
func activeFirst(doc *route.Route) []*route.Mirror {
	all := slices.Collect(mirrors(doc))
	slices.SortStableFunc(all, func(a, b *route.Mirror) int {
		switch {
		case a.Parked == b.Parked:
			return 0
		case b.Parked:
			return -1
		default:
			return 1
		}
	})
	return all
}

// doubts returns the queries that confirm what is not there, be it a reason to
// park or to deny.
func (v *view) doubts(doc *route.Route, m *route.Mirror, variant policy.Variant) []Query {
	var queries []Query
	name := types.NamespacedName(m.Target.Service())
	switch variant.Reason {
	case policy.ServiceNotFound:
		queries = append(queries, serviceQuery(name))
		if m.ShortHost {
			queries = append(queries, entriesQuery())
		}
	case policy.DestinationRuleNotFound:
		queries = append(queries, v.rulesQueries(doc, m)...)
	case policy.WorkloadNotFound:
		queries = append(queries, v.workloadQueries(doc, m)...)
	case policy.HostNotFound:
		if m.Target.Name != "*" {
			queries = append(queries, entriesQuery())
		}
	}
	if m.Target.Subset != "" && variant.HasDestinationRule && !slices.Contains(variant.Subsets, m.Target.Subset) {
		queries = append(queries, v.rulesQueries(doc, m)...)
	}
	if variant.ExternalName || lacksPort(variant, m.Target.Port) {
		queries = append(queries, serviceQuery(name))
	}
	if variant.Ungranted {
		queries = append(queries, grantsQuery(name.Namespace))
	}
	return queries
}

// rulesQueries ask for the DestinationRules that concern a mirror.
func (v *view) rulesQueries(doc *route.Route, m *route.Mirror) []Query {
	namespace := m.Target.Namespace
	if !m.Target.IsService() {
		if e := v.entry(covering(m.Target.Name), doc.Namespace); e != nil {
			namespace = e.Namespace
		}
	}
	var queries []Query
	for _, ns := range v.ruleNamespaces(namespace, doc.Namespace) {
		queries = append(queries, rulesQuery(ns))
	}
	return queries
}

// lacksPort tells whether a Service exists without the port that a mirror asks
// for, or leaves open which of several: a contradiction that would be denied.
func lacksPort(variant policy.Variant, port int32) bool {
	if !variant.Exists || variant.External {
		return false
	}
	if port == 0 {
		return len(variant.Ports) > 1
	}
	return !slices.ContainsFunc(variant.Ports, func(p policy.Port) bool { return p.Number == port })
}

// workloadQueries ask for what runs behind a mirror. Pods stand for workloads:
// they can be selected by label, and without one nothing is ready anyway.
func (v *view) workloadQueries(doc *route.Route, m *route.Mirror) []Query {
	name := types.NamespacedName(m.Target.Service())
	s := v.service(name)
	if s == nil {
		return nil
	}
	var of labels
	if m.Target.Subset != "" {
		rules := v.rulesFor(v.base.fqdn(m.Target.Service()), name.Namespace, doc.Namespace)
		_, of, _ = subsetsOf(rules, m.Target.Subset)
	}
	want, ok := s.selector.merge(of)
	switch {
	case !ok: // a contradiction that no workload can resolve
		return nil
	case len(want) == 0:
		return []Query{slicesQuery(name)}
	default:
		return []Query{slicesQuery(name), {Kind: KindPod, Namespace: name.Namespace, Selector: want.String()}}
	}
}

// answer reads what is asked for into the view.
func (r *Resolver) answer(ctx context.Context, v *view, questions []Query, failed map[Query]error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, parallelReads)
	)
	budget := maxReads - len(v.covered) - len(failed)
	for n, q := range questions {
		if n >= budget {
			mu.Lock()
			failed[q] = errTooManyReads
			mu.Unlock()
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			objs, err := r.live.Read(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = v.live.learn(objs)
			}
			if err != nil {
				failed[q] = err
				return
			}
			v.covered[q] = true
		})
	}
	wg.Wait()
}

// learn takes in objects that were read live. Any pod stands for the workload
// that runs it.
func (i *Index) learn(objs []any) error {
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if w, ok := rec.(*workload); ok {
			w.controlled = false
		}
		if rec != nil {
			i.update(func(t *touched) { i.put(rec, t) })
		}
	}
	return nil
}
