package dataplane

// From the Index to status.parents of routes and status.ancestors of policies.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	routes "github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// StatusWriter keeps mirrorgate's entries in the status of routes and policies as an Index has them. It patches
// the status alone, leaves the entries of other controllers as they are, and writes nothing where the entries
// are right already. Only one may run at a time: the leader's.
type StatusWriter struct {
	index     *Index
	hasSynced func() bool
	client    *feed.Client
	log       logr.Logger
	clock     clock.PassiveClock

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[RouteName] // nil while the writer does not run
	pace  map[RouteName]pace
}

// NewStatusWriter returns a writer that begins when hasSynced reports that the Index knows everything. It
// needs the verbs get on httproutes, grpcroutes and backendtlspolicies, and patch on their status.
func NewStatusWriter(config *rest.Config, index *Index, hasSynced func() bool, log logr.Logger) (*StatusWriter, error) {
	client, err := feed.NewClient(config)
	if err != nil {
		return nil, err
	}
	w := &StatusWriter{index: index, hasSynced: hasSynced, client: client, log: log, clock: clock.RealClock{}, pace: map[RouteName]pace{}}
	index.Subscribe(func(c *Change) { w.add(c.Routes...) })
	return w, nil
}

func (w *StatusWriter) add(names ...RouteName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		if w.queue != nil {
			w.queue.Add(name)
		}
	}
}

// workers is the number of routes that are written at once.
const workers = 4

// Start writes until ctx ends. It may be called again after that.
func (w *StatusWriter) Start(ctx context.Context) error {
	defer w.client.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !w.hasSynced() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[RouteName](200*time.Millisecond, time.Minute))
	w.mu.Lock()
	w.queue = queue
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.queue = nil
		w.mu.Unlock()
	}()
	w.add(w.index.Stale()...) // routes that an earlier leader did not write
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for w.next(ctx, queue) {
				continue
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	wg.Wait()
	return nil
}

// next writes the status of one route.
func (w *StatusWriter) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[RouteName]) bool {
	name, over := queue.Get()
	if over {
		return false
	}
	defer queue.Done(name)
	if !w.index.IsStale(name) {
		queue.Forget(name)
		return true
	}
	if wait := w.wait(name); wait > 0 {
		queue.AddAfter(name, wait)
		return true
	}
	err := w.write(ctx, name)
	switch {
	case err == nil:
		queue.Forget(name)
	case ctx.Err() != nil:
	case apierrors.IsConflict(err):
		queue.AddRateLimited(name) // somebody else wrote meanwhile, which needs no log line
	default:
		w.log.Error(err, "Cannot write the status of a route; trying again", "kind", name.Kind.String(), "namespace", name.Namespace, "name", name.Name.Name)
		queue.AddRateLimited(name)
	}
	return true
}

// write patches the status of a route that exists in the generation that the Index knows.
func (w *StatusWriter) write(ctx context.Context, name RouteName) error {
	live, err := w.get(ctx, name)
	if err != nil || live == nil {
		return err
	}
	wanted, generation := w.index.Status(name)
	if live.Metadata.Generation != generation {
		// The wanted status is about another spec. The event of the newer spec announces the route again, but
		// not if its status was right already for the older one.
		return apierrors.NewConflict(name.resource().At("v1").GroupResource(), name.Name.Name, errors.New("its new spec is not known yet"))
	}
	return w.patch(ctx, name, live, wanted)
}

// resource is the resource of a route.
func (r RouteName) resource() *feed.Kind {
	switch r.Kind {
	case KindGRPCRoute:
		return feed.GRPCRoutes
	case KindBackendTLSPolicy:
		return feed.BackendTLSPolicies
	default:
		return feed.HTTPRoutes
	}
}

// liveRoute has the fields of a route beside its spec.
type liveRoute struct {
	Metadata struct {
		Namespace       string    `json:"namespace"`
		Name            string    `json:"name"`
		UID             types.UID `json:"uid"`
		ResourceVersion string    `json:"resourceVersion"`
		Generation      int64     `json:"generation"`
	} `json:"metadata"`
	Status reported `json:"status"`
}

func (w *StatusWriter) request(verb string, name RouteName, subresources ...string) *rest.Request {
	return w.client.Verb(verb).AbsPath(feed.GroupPath(routes.GatewayGroup, w.index.version(name))).SetHeader("Accept", runtime.ContentTypeJSON).
		Namespace(name.Namespace).Resource(name.resource().Resource).Name(name.Name.Name).SubResource(subresources...)
}

// get returns a route, nil if it is gone.
func (w *StatusWriter) get(ctx context.Context, name RouteName) (*liveRoute, error) {
	raw, err := w.request("GET", name).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live := &liveRoute{}
	if err := json.Unmarshal(raw, live); err != nil {
		return nil, fmt.Errorf("%s %s: %w", name.Kind, name.Name, err)
	}
	return live, nil
}

// patch replaces mirrorgate's entries. It fails with a conflict if somebody has written the route meanwhile.
func (w *StatusWriter) patch(ctx context.Context, name RouteName, live *liveRoute, wanted []ParentStatus) error {
	before := live.Status.entries(name.Kind)
	field, most := name.Kind.field()
	parents, left, err := merge(name.Kind, before, wanted, metav1.NewTime(w.clock.Now().Truncate(time.Second)))
	if err != nil {
		return err
	}
	if left > 0 {
		w.log.Info("Some entries are not in the status, which holds no more", "most", most, "kind", name.Kind.String(), "namespace", name.Namespace, "name", name.Name.Name, "parents", left)
	}
	have, err := json.Marshal(before)
	if err != nil {
		return err
	}
	after, err := json.Marshal(parents)
	if err != nil || sameJSON(have, after) {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": live.Metadata.UID, "resourceVersion": live.Metadata.ResourceVersion},
		"status":   map[string]any{field: parents},
	})
	if err != nil {
		return err
	}
	err = w.request("PATCH", name, "status").SetHeader("Content-Type", string(types.MergePatchType)).
		Param("fieldManager", wellknown.FieldManager).Body(body).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		w.wrote(name)
	}
	return err
}

// pace is the recent writes of a route.
type pace struct {
	writes int
	last   time.Time
}

const (
	// freeWrites is the number of writes of one route in a row that are not delayed.
	freeWrites = 5
	// paceWindow is the pause after which earlier writes do not count any more, and the longest delay.
	paceWindow = time.Minute
)

// wait returns how long a route must not be written. Another controller may want another status, and without
// a delay both would overwrite each other without end.
func (w *StatusWriter) wait(name RouteName) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pace[name]
	apart := min(paceWindow/freeWrites*time.Duration(max(p.writes-freeWrites+1, 0)), paceWindow)
	return max(apart-w.clock.Since(p.last), 0)
}

func (w *StatusWriter) wrote(name RouteName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.Now()
	for other, p := range w.pace {
		if now.Sub(p.last) > paceWindow {
			delete(w.pace, other)
		}
	}
	w.pace[name] = pace{w.pace[name].writes + 1, now}
}
