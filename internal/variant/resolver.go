package variant

// The Resolver stands between admission and caches that may lag: an object that they lack is read live before
// a mirror is parked or denied over it. An object that they have is taken as it is.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

var (
	errNotSynced    = errors.New("caches are not synced")
	errTooManyReads = errors.New("more reads needed than one decision may cost")
)

const (
	// maxReads bounds the number of live reads for one route; variants that would need more stay Unknown.
	// parallelReads bounds how many of them run at a time.
	maxReads      = 32
	parallelReads = 8
	// readTimeout bounds the time of all live reads for one route. The webhooks time out after 2 and 3 s, and
	// the validating one resolves a route twice.
	readTimeout = time.Second
	// maxRounds bounds how often an answer may lead to another query: Service, DestinationRule, workload.
	maxRounds = 4
)

// Resolver finds out the state of a route's variants.
type Resolver struct {
	index  *Index
	live   Reader
	synced func() bool
}

// NewResolver returns a Resolver that answers from index and confirms through live that objects are missing.
// It fails while synced returns false: the index is not complete then.
func NewResolver(index *Index, live Reader, synced func() bool) *Resolver {
	return &Resolver{index: index, live: live, synced: synced}
}

// Resolve returns the state of everything that a decision about the route depends on. A target whose absence
// could not be confirmed is Unknown. It fails while the index is not complete.
func (r *Resolver) Resolve(ctx context.Context, rt *route.Route) (policy.Snapshot, error) {
	if !r.synced() {
		return policy.Snapshot{}, errNotSynced
	}
	// Reads that take too long fail, and their targets stay Unknown: such an answer is better than none.
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	v := view{base: r.index}
	failed := map[Query]error{}
	for range maxRounds {
		snap, open := v.evaluate(rt, failed)
		if len(open) == 0 {
			return snap, nil
		}
		if v.live == nil { // most decisions need no live read
			v.live, v.covered = NewIndex(r.index.opts), map[Query]bool{}
		}
		r.read(ctx, &v, open, failed)
	}
	snap, _ := v.evaluate(rt, failed)
	return snap, nil
}

// evaluate returns a snapshot of the view, and the open queries: while they are unanswered, the snapshot is
// not reliable.
func (v *view) evaluate(rt *route.Route, failed map[Query]error) (snap policy.Snapshot, open []Query) {
	v.base.mu.RLock()
	defer v.base.mu.RUnlock()
	snap = v.snapshot(rt)
	seen := map[Query]bool{}
	need := func(q Query) {
		// One more than can be read says that some cannot.
		if !v.covered[q] && !seen[q] && len(open) <= maxReads {
			seen[q] = true
			open = append(open, q)
		}
	}
	v.confirmOwner(rt, &snap, failed, need)
	for n, m := range activeFirst(rt) {
		v.letOthers(n)
		for _, q := range v.confirming(rt, m, snap.Variants[m.Target]) {
			err, ok := failed[q]
			if !ok && v.exhausted && !v.covered[q] {
				err, ok = errTooManyReads, true
			}
			if ok {
				// All other fields are empty: an unconfirmed fact must not deny the write.
				snap.Variants[m.Target] = policy.Variant{
					Reason: policy.VariantUnknown,
					Detail: fmt.Sprintf("%s of %q could not be looked up: %v", q.Kind, m.Target.Name, err),
				}
			} else {
				need(q)
			}
		}
	}
	return snap, open
}

// confirmOwner asks for the owner that a route claims and that the caches lack. While it cannot be read the
// claim holds, so that a tool's route is not rearranged behind its back.
func (v *view) confirmOwner(rt *route.Route, snap *policy.Snapshot, failed map[Query]error, need func(Query)) {
	o := claimedOwner(rt)
	if o == nil || snap.ManagedBy != "" {
		return
	}
	q := ownerQuery(o, rt.Namespace)
	if _, ok := failed[q]; ok || v.exhausted && !v.covered[q] {
		snap.ManagedBy = wellknown.OwnerTool(o.Group, o.Kind)
		return
	}
	need(q)
}

// activeFirst returns a route's mirrors in the order in which they are confirmed. Parked mirrors come last:
// when the mirrors need more live reads than one decision may cost, the active ones are parked first and the
// next decision on the route gets further.
func activeFirst(rt *route.Route) (ordered []*route.Mirror) {
	for _, parked := range []bool{false, true} {
		for m := range mirrors(rt) {
			if m.Parked == parked {
				ordered = append(ordered, m)
			}
		}
	}
	return ordered
}

// read answers queries by live reads into the view. The errors of failed reads come into failed.
func (r *Resolver) read(ctx context.Context, v *view, queries []Query, failed map[Query]error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, parallelReads)
	)
	budget := maxReads - len(v.covered) - len(failed)
	for n, q := range queries {
		if n >= budget {
			v.exhausted = true
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			objs, err := r.live.Read(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = v.live.addLive(objs)
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

// addLive adds objects that were read live. Any pod among them stands for the workload that runs it.
func (i *Index) addLive(objs []any) error {
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if w, ok := rec.(*workload); ok {
			w.controlled = false
		}
		if rec != nil {
			i.update(func(a *affected) { i.put(rec, a) })
		}
	}
	return nil
}
