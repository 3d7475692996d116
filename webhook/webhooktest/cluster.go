package webhooktest

// The Cluster: its objects, and the calls that change them.

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// Options are those of mirrorgate serve that concern decisions. The zero value is valid.
type Options struct {
	// Policy holds the operator's rules; the zero value has no limits. It is the key policy of serve's config
	// file.
	Policy webhook.Policy
	// ClusterDomain is the cluster's DNS domain, "cluster.local" when empty.
	ClusterDomain string
	// RootNamespace is Istio's root namespace, "istio-system" when empty.
	RootNamespace string
	// Namespace is the namespace of objects that name none, "default" when empty.
	Namespace string
	// Routes are the routes to look after, as in serve --routes: "gateway-api", "istio"; both when empty.
	// Others are stored as they are written.
	Routes []string
	// UnreadyGrace is how long a variant may be unready before its mirrors are parked. It is off when 0,
	// while the default of serve is 10 s. Time passes only by Advance.
	UnreadyGrace time.Duration
	// AssumeApplied takes Services, workloads, DestinationRules and ReferenceGrants that the cluster lacks as
	// applied and ready, as mirrorgate lint --variants-elsewhere does.
	AssumeApplied bool
	// AllowUnknownFields accepts fields that the kinds do not have in the versions that mirrorgate knows.
	AllowUnknownFields bool
}

// Cluster is a cluster with mirrorgate installed. It is not safe for concurrent use. Nothing happens in it
// but by its methods.
type Cluster struct {
	opts     Options
	selector labels.Selector // of the namespaces in which routes are admitted
	clock    *testingclock.FakePassiveClock
	index    *variant.Index
	gate     *webhook.Gate

	objects map[key]object
	ready   map[key]bool   // workloads, and Services without a selector, for which SetReady was called
	played  map[key][]byte // the Pods and EndpointSlices that stand for them
}

// New returns a Cluster that holds the objects of manifests. Routes among them are stored as they are
// written, as if mirrorgate had been installed later; Touch decides on them.
func New(opts Options, manifests ...[]byte) (*Cluster, error) {
	for _, routes := range opts.Routes {
		if _, known := routeGroups[routes]; !known {
			return nil, fmt.Errorf("option Routes: %q: must be one of %v", routes, slices.Sorted(maps.Keys(routeGroups)))
		}
	}
	if opts.UnreadyGrace < 0 {
		return nil, fmt.Errorf("option UnreadyGrace: %s: must be 0 or more", opts.UnreadyGrace)
	}
	opts.Namespace = cmp.Or(opts.Namespace, metav1.NamespaceDefault)
	selector, err := webhook.Namespaces()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		opts: opts, selector: selector,
		clock:   testingclock.NewFakePassiveClock(time.Unix(0, 0)),
		objects: map[key]object{}, ready: map[key]bool{}, played: map[key][]byte{},
	}
	c.index = variant.NewIndex(c.indexOptions())
	c.gate = webhook.New(variants{c}, webhook.Options{Policy: opts.Policy, ClusterDomain: opts.ClusterDomain})
	for _, text := range manifests {
		objects, err := c.read(text)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			if err := c.store(o); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// routeGroups are the API groups of the values of Options.Routes.
var routeGroups = map[string]string{manifests.GatewayAPI: route.GatewayGroup, manifests.Istio: route.IstioGroup}

func (c *Cluster) indexOptions() variant.Options {
	grace := c.opts.UnreadyGrace
	if grace == 0 {
		grace = -1 // none; 0 would be the default
	}
	return variant.Options{
		ClusterDomain: c.opts.ClusterDomain, RootNamespace: c.opts.RootNamespace, Namespace: c.opts.Namespace,
		Grace: grace, Clock: c.clock, AssumeReady: true,
	}
}

// variants resolves the variants of a route from the objects of a Cluster.
type variants struct{ *Cluster }

// Resolve is called by the webhooks.
func (v variants) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	snap := v.index.Snapshot(rt)
	if v.opts.AssumeApplied {
		snap.AssumeApplied()
	}
	return snap, nil
}

// Apply writes the objects of a manifest one by one, as kubectl apply does, and returns the results of the
// routes. A route that is denied is no error, and does not keep the others from being written. Nothing is
// written when the manifest has an error.
//
// A route is updated if one of its name is stored. As an apply does, it replaces the spec, and leaves
// mirrorgate's own annotations in place.
func (c *Cluster) Apply(ctx context.Context, manifest []byte) ([]Result, error) {
	objects, err := c.read(manifest)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, o := range objects {
		if !o.isRoute() {
			if err := c.store(o); err != nil {
				return results, err
			}
			continue
		}
		r, err := c.applyRoute(ctx, o)
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

// applyRoute writes a route through the webhooks, over the stored one.
func (c *Cluster) applyRoute(ctx context.Context, o object) (Result, error) {
	old := c.objects[o.key]
	for _, name := range []string{route.ParkedAnnotation, route.VariantsAnnotation} {
		_, written := o.annotations[name]
		if value, stored := old.annotations[name]; stored && !written {
			if err := o.annotate(name, value); err != nil {
				return Result{}, err
			}
		}
	}
	return c.write(ctx, o, "")
}

// Touch plays the controller: it touches every stored route whose mirrors are not as policy decides now, and
// admission decides on the route again. It returns the results of these routes, sorted by kind, namespace and
// name.
func (c *Cluster) Touch(ctx context.Context) ([]Result, error) {
	var results []Result
	for _, k := range slices.SortedFunc(maps.Keys(c.objects), key.compare) {
		if !k.isRoute() || !c.admits(k) {
			continue
		}
		rt := c.index.Route(route.Key{Kind: route.Kind(k.kind), Namespace: k.namespace, Name: k.name})
		if rt == nil {
			continue
		}
		snap, err := variants{c}.Resolve(ctx, rt)
		if err != nil {
			return results, err
		}
		decision, err := policy.Decide(rt, snap, c.opts.Policy)
		if err != nil {
			return results, err
		}
		if len(decision.Plan.Operations) == 0 {
			continue
		}
		o := c.objects[k]
		if err := o.annotate(route.VariantsAnnotation, policy.VariantsValue(rt, snap, decision)); err != nil {
			return results, err
		}
		r, err := c.write(ctx, o, webhook.FieldManager)
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

// Delete deletes an object. It is an error when there is none. A Namespace, GatewayClass or MirrorLimit is in
// namespace "".
func (c *Cluster) Delete(kind, namespace, name string) error {
	k := key{kind, namespace, name}
	if _, stored := c.objects[k]; !stored {
		return fmt.Errorf("delete: there is no %s", k)
	}
	delete(c.objects, k)
	delete(c.ready, k)
	if kind, indexed := indexed[kind]; indexed {
		c.index.Delete(kind, namespace, name)
	}
	return c.playEndpoints()
}

// Route returns a stored route in JSON, nil when there is none.
func (c *Cluster) Route(kind, namespace, name string) []byte {
	return c.objects[key{kind, namespace, name}].raw
}

// Advance lets time pass, so that Options.UnreadyGrace can end.
func (c *Cluster) Advance(d time.Duration) { c.clock.SetTime(c.clock.Now().Add(d)) }

// store keeps an object as it is.
func (c *Cluster) store(o object) error {
	if !c.ignored(o.key) {
		if err := c.index.Load(o.raw); err != nil {
			return err
		}
	}
	c.objects[o.key] = o
	return c.playEndpoints()
}

// admits reports whether the webhooks are called for a route.
func (c *Cluster) admits(k key) bool {
	set := labels.Set{}
	maps.Copy(set, c.objects[key{kindNamespace, "", k.namespace}].labels)
	set[corev1.LabelMetadataName] = k.namespace
	return !c.ignored(k) && c.selector.Matches(set)
}

// ignored reports whether the kind belongs to routes that are not looked after.
func (c *Cluster) ignored(k key) bool {
	kind, isIndexed := indexed[k.kind]
	if !isIndexed || len(c.opts.Routes) == 0 {
		return false
	}
	for name, group := range routeGroups {
		if kind.Group() == group {
			return !slices.Contains(c.opts.Routes, name)
		}
	}
	return false
}
