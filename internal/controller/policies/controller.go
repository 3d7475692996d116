// Package policies is the clock of MirrorPolicies. The leader decides which step of a ramp is the current one, when a policy
// has expired and when its mirrors stop, and writes it to the policy's status. The status is the only memory: admission on every replica reads
// it there, in dry runs too, and a leader that comes later goes on from it. What follows for the routes, the controller of
// mirrors sees in the same caches.
package policies

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	k8sevents "k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/limits"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Index is the controller's view of the cluster.
type Index interface {
	// Route returns a route with mirrors, or nil.
	Route(route.Key) *route.Route
	Snapshot(*route.Route) policy.Snapshot
	// Policies yields all MirrorPolicies, PoliciesFor those for some routes.
	Policies() iter.Seq[types.NamespacedName]
	PoliciesFor([]route.Key) []types.NamespacedName
	// Stops returns the targets that stop by themselves.
	Stops() []variant.Stop
}

// Client reads MirrorPolicies from the API server, and writes their status.
type Client interface {
	// Get returns a policy, nil when there is none.
	Get(ctx context.Context, name types.NamespacedName) (*v1alpha1.MirrorPolicy, error)
	// WriteStatus writes the status of a policy. It is a conflict if the policy was written since it was read.
	WriteStatus(ctx context.Context, p *v1alpha1.MirrorPolicy) error
}

// Options configure a Controller.
type Options struct {
	Policy policy.Config
	// HasSynced reports whether the index is complete; nil means that it always is.
	HasSynced func() bool
	// Clock is the real clock when nil.
	Clock clock.PassiveClock
	// Counters are the sums of the reports of proxies, nil where there are none.
	Counters Counters
	// Serves reports whether proxies of mirrorgate serve a route, and whether something else may serve it too; nil where there
	// are none.
	Serves func(route.Key) (ours, others bool)
	// CheckCopy returns why proxies cannot use copy settings; nil where there are none.
	CheckCopy func(*v1alpha1.Copy) error
	// Prometheus answers queries; nil where the operator has set none.
	Prometheus *Prometheus
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
	// Recorder writes Events about policies; nil for none.
	Recorder k8sevents.EventRecorder
	Log      logr.Logger
}

// Controller writes the status of MirrorPolicies.
type Controller struct {
	loop   *loop.Loop[types.NamespacedName]
	index  Index
	client Client
	opts   Options
	// watch and queries look for evidence that stops mirrors.
	watch   *watch
	queries *queries
	events  events.Reporter
	stops   *prometheus.CounterVec
}

// New returns a controller over an index.
func New(index Index, client Client, opts Options) *Controller {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	c := &Controller{index: index, client: client, opts: opts, watch: newWatch(opts.Counters), events: events.NewReporter(opts.Recorder, "Policy")}
	c.queries = &queries{prometheus: opts.Prometheus, total: newQueryMetric(opts.Registry), changed: func(key watchKey) { c.loop.Add(key.policy) }, found: func(key watchKey, e evidence) {
		c.watch.add(key, e)
		c.loop.Add(key.policy)
	}}
	c.stops = newStopMetric(opts.Registry)
	c.loop = loop.New("policies", c, loop.Options[types.NamespacedName]{
		Keys: index.Policies, HasSynced: opts.HasSynced, Workers: 2, Log: opts.Log, LogKey: "policy",
	})
	return c
}

// Start runs the controller until ctx ends; it may be started again then.
func (c *Controller) Start(ctx context.Context) error {
	c.watch.forget()
	var polls sync.WaitGroup
	defer polls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	polls.Go(func() { c.poll(ctx, func() { c.Sample() }) })
	polls.Go(func() { c.poll(ctx, func() { c.Ask(ctx) }) })
	return c.loop.Start(ctx)
}

// poll calls f every samplePoll until ctx ends.
func (c *Controller) poll(ctx context.Context, f func()) {
	tick := time.NewTicker(samplePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.opts.HasSynced == nil || c.opts.HasSynced() {
				f()
			}
		}
	}
}

// Sample reads the counters, and queues the policies whose mirrors have to stop.
func (c *Controller) Sample() { c.loop.Add(c.watch.sample(c.index.Stops(), c.opts.Clock.Now())...) }

// Ask asks the queries that are due.
func (c *Controller) Ask(ctx context.Context) { c.queries.run(ctx, c.index.Stops(), c.opts.Clock.Now) }

// Notify takes the routes that an event may concern.
func (c *Controller) Notify(keys []route.Key) {
	if c.loop.Running() {
		c.loop.Add(c.index.PoliciesFor(keys)...)
	}
}

// Reconcile brings the status of a policy up to date. The policy is read from the API server, because its status decides
// which step is next, and a cache may lag behind this leader or the one before.
func (c *Controller) Reconcile(ctx context.Context, name types.NamespacedName) (reconcile.Result, error) {
	p, err := c.client.Get(ctx, name)
	if p == nil || err != nil || p.DeletionTimestamp != nil {
		return reconcile.Result{}, err
	}
	now := c.opts.Clock.Now()
	before := p.Status.DeepCopy()
	targets, next := make([]v1alpha1.TargetStatus, len(p.Spec.TargetRefs)), time.Time{}
	for i, ref := range p.Spec.TargetRefs {
		is, err := c.observe(p, ref)
		if err != nil {
			return reconcile.Result{}, err
		}
		key := watchKey{name, route.Key{Kind: route.Kind(ref.Kind), Namespace: p.Namespace, Name: ref.Name}, ref.SectionName}
		is.against = c.watch.evidence(key, p.Annotations[v1alpha1.AnnotationResume])
		is.unprogrammed, is.known = c.unprogrammed(&p.Spec, key, is.active, now)
		var change time.Time
		if targets[i], change = advance(p, ref, is, now); !change.IsZero() && (next.IsZero() || change.Before(next)) {
			next = change
		}
	}
	p.Status.Targets = targets
	if !equality.Semantic.DeepEqual(*before, p.Status) {
		if err := c.client.WriteStatus(ctx, p); err != nil {
			return reconcile.Result{}, err
		}
		c.tell(p, before)
	}
	c.watch.drop(name)
	if next.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: max(next.Sub(now), time.Millisecond)}, nil
}

// observe returns the state of a target in the cluster.
func (c *Controller) observe(p *v1alpha1.MirrorPolicy, ref v1alpha1.TargetRef) (observed, error) {
	rt := c.index.Route(route.Key{Kind: route.Kind(ref.Kind), Namespace: p.Namespace, Name: ref.Name})
	if rt == nil {
		return observed{}, nil
	}
	snap := c.index.Snapshot(rt)
	d, err := policy.Decide(rt, snap, c.opts.Policy)
	if err != nil {
		return observed{}, err
	}
	reasons := map[*route.Mirror]policy.Reason{}
	for _, v := range d.Verdicts {
		reasons[v.Mirror] = v.Reason
	}
	var is observed
	if l := limits.Shortest(snap.Scope.Limits); l != nil {
		is.most = l.MaxDuration
	}
	for r, m := range rt.Every {
		if ref.SectionName != "" && r.Name != ref.SectionName {
			continue
		}
		is.found = true
		is.active = is.active || !m.Parked || reasons[m] == policy.RampStep
	}
	for _, other := range snap.Scope.Policies {
		if other.Section == ref.SectionName {
			if other.Name != p.Name {
				is.older = other.Name
			}
			break
		}
	}
	return is, nil
}

// unprogrammed returns the parts of a policy that have no effect, with why, and whether that is known yet.
func (c *Controller) unprogrammed(spec *v1alpha1.MirrorPolicySpec, key watchKey, active bool, now time.Time) (faults []string, known bool) {
	if spec.Copy != nil {
		if fault := c.copies(spec.Copy, key.route); fault != "" {
			faults = append(faults, "copy: "+fault)
		}
	}
	stop := spec.Stop
	if stop == nil {
		return faults, true
	}
	if stop.ErrorPercent != nil {
		reported, sure := c.watch.reported(key, now)
		if !sure || !reported && !active { // nobody reports a parked mirror
			return nil, false
		}
		if !reported {
			faults = append(faults, "stop.errorPercent: no proxy of mirrorgate reports copies of this route; other data planes need stop.query")
		}
	}
	if fault := c.queries.faultOf(key); stop.Query != nil && fault != "" {
		faults = append(faults, "stop.query: "+fault)
	}
	return faults, true
}

// copies returns why copy settings have no effect on a route, or not on all copies, "" if they have.
func (c *Controller) copies(settings *v1alpha1.Copy, key route.Key) string {
	ours, others := false, true
	if c.opts.Serves != nil {
		ours, others = c.opts.Serves(key)
	}
	switch {
	case !ours:
		return "no proxy of mirrorgate serves the route, and other data planes have no such settings"
	case c.opts.CheckCopy != nil && c.opts.CheckCopy(settings) != nil:
		return fmt.Sprintf("proxies cannot use it, and make no copies: %v", c.opts.CheckCopy(settings))
	case others:
		return "not all parents of the route are served by proxies of mirrorgate; the others have no such settings"
	}
	return ""
}

// tell logs the steps and ends that a status brings, and writes Events about stops.
func (c *Controller) tell(p *v1alpha1.MirrorPolicy, before *v1alpha1.MirrorPolicyStatus) {
	name, after := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, &p.Status
	about := &corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "MirrorPolicy", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
	was := map[v1alpha1.TargetRef]v1alpha1.TargetStatus{}
	for _, t := range before.Targets {
		was[t.TargetRef] = t
	}
	for _, t := range after.Targets {
		b, target := was[t.TargetRef], t.TargetRef.Kind+" "+t.TargetRef.Name
		switch {
		case t.Stopped != nil && (b.Stopped == nil || !b.Stopped.Time.Equal(&t.Stopped.Time)):
			c.stops.WithLabelValues(string(t.Stopped.Reason)).Inc()
			c.opts.Log.Info("Mirrors are stopped", "policy", name.String(), "target", target, "reason", string(t.Stopped.Reason), "message", t.Stopped.Message)
			c.events.Report(about, nil, corev1.EventTypeWarning, "MirrorsStopped", "the mirrors of %s are stopped: %s", target, cmp.Or(t.Stopped.Message, string(t.Stopped.Reason)))
		case t.Stopped == nil && b.Stopped != nil:
			c.opts.Log.Info("Mirrors are resumed", "policy", name.String(), "target", target)
			c.events.Report(about, nil, corev1.EventTypeNormal, "MirrorsResumed", "the mirrors of %s are resumed", target)
		}
		if b := was[t.TargetRef]; !equality.Semantic.DeepEqual(b.Step, t.Step) || b.Expired.IsZero() != t.Expired.IsZero() {
			c.opts.Log.Info("The share that a MirrorPolicy allows has changed", "policy", name.String(), "target", target,
				"percent", t.Percent, "expired", !t.Expired.IsZero())
		}
	}
}

// restClient is a Client of a real API server.
type restClient struct{ rest rest.Interface }

// NewClient returns a Client for an API server.
func NewClient(config *rest.Config) (Client, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.WarningHandler = rest.NoWarnings{}
	config.QPS = -1 // the API server's priority and fairness limits the rate
	c, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return restClient{c}, nil
}

func path(name types.NamespacedName) string {
	return fmt.Sprintf("/apis/%s/namespaces/%s/mirrorpolicies/%s", v1alpha1.GroupVersion, name.Namespace, name.Name)
}

// Get implements Client.
func (c restClient) Get(ctx context.Context, name types.NamespacedName) (*v1alpha1.MirrorPolicy, error) {
	result := c.rest.Get().AbsPath(path(name)).Do(ctx)
	if err := result.Error(); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, err
	}
	var p v1alpha1.MirrorPolicy
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("read MirrorPolicy %s: %w", name, err)
	}
	return &p, nil
}

// WriteStatus implements Client.
func (c restClient) WriteStatus(ctx context.Context, p *v1alpha1.MirrorPolicy) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion},
		"status":   p.Status,
	})
	if err != nil {
		return err
	}
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	err = c.rest.Patch(types.MergePatchType).AbsPath(path(name), "status").Param("fieldManager", wellknown.FieldManager).Body(body).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil // it is gone
	}
	return err
}
