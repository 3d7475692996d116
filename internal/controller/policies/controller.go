// Package policies is the clock of MirrorPolicies. The leader decides which step of a ramp is the current one and when a
// policy has expired, and writes it to the policy's status. The status is the only memory: admission on every replica reads
// it there, in dry runs too, and a leader that comes later goes on from it. What follows for the routes, the controller of
// mirrors sees in the same caches.
package policies

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
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
	Log   logr.Logger
}

// Controller writes the status of MirrorPolicies.
type Controller struct {
	loop   *loop.Loop[types.NamespacedName]
	index  Index
	client Client
	opts   Options
}

// New returns a controller over an index.
func New(index Index, client Client, opts Options) *Controller {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	c := &Controller{index: index, client: client, opts: opts}
	c.loop = loop.New("policies", c, loop.Options[types.NamespacedName]{
		Keys: index.Policies, HasSynced: opts.HasSynced, Workers: 2, Log: opts.Log, LogKey: "policy",
	})
	return c
}

// Start runs the controller until ctx ends; it may be started again then.
func (c *Controller) Start(ctx context.Context) error { return c.loop.Start(ctx) }

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
		c.log(name, before, &p.Status)
	}
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

// log logs the steps and ends that a status brings.
func (c *Controller) log(name types.NamespacedName, before, after *v1alpha1.MirrorPolicyStatus) {
	was := map[v1alpha1.TargetRef]v1alpha1.TargetStatus{}
	for _, t := range before.Targets {
		was[t.TargetRef] = t
	}
	for _, t := range after.Targets {
		if b := was[t.TargetRef]; !equality.Semantic.DeepEqual(b.Step, t.Step) || b.Expired.IsZero() != t.Expired.IsZero() {
			c.opts.Log.Info("The share that a MirrorPolicy allows has changed", "policy", name.String(), "target", t.TargetRef.Kind+" "+t.TargetRef.Name,
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
