package variant

// A Survey reads a cluster once, for a command that ends after its answer. It lists and gets objects, watches
// nothing, and works with the permissions that it has: a variant whose objects it may not read is Unknown.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

var errNoRoutes = errors.New("the cluster has none of the kinds HTTPRoute, GRPCRoute and VirtualService: install the CRDs of the Gateway API or of Istio")

// Survey is the state of a cluster at one time. It is not safe for concurrent use.
type Survey struct {
	index    *Index
	cluster  *Cluster
	sources  map[Kind]feed.Source
	resolver *Resolver
	// unread are the errors, by namespace, of listing Services, workloads and endpoints; unreadReadiness are
	// those of the kinds without which a ready variant cannot be seen.
	unread, unreadReadiness map[string]error
	// around are the namespaces that ListAround has listed, nil before the first call.
	around map[string]bool
}

// NewSurvey returns an empty Survey of the kinds that the cluster serves. It fails when the cluster serves no
// kind of route.
func NewSurvey(ctx context.Context, config *rest.Config, opts Options, log logr.Logger) (*Survey, error) {
	s := &Survey{index: NewIndex(opts), sources: map[Kind]feed.Source{}, unread: map[string]error{}, unreadReadiness: map[string]error{}}
	var err error
	if s.cluster, err = NewCluster(config, s.index, log); err != nil {
		return nil, err
	}
	s.resolver = NewResolver(s.index, s, func() bool { return true })
	for kind := range kindCount {
		if !kind.Optional() {
			s.sources[kind] = s.cluster.source(kind, kinds[kind].Versions[0])
			continue
		}
		version, err := s.cluster.client.Served(ctx, kinds[kind])
		if err != nil {
			return nil, err
		}
		if version != "" {
			s.sources[kind] = s.cluster.source(kind, version)
		}
	}
	if !slices.ContainsFunc(routeKinds, s.has) {
		return nil, errNoRoutes
	}
	return s, nil
}

var routeKinds = []Kind{KindHTTPRoute, KindGRPCRoute, KindVirtualService}

// farReaching are the kinds whose objects have an effect on routes of other namespaces: hosts, subsets, and the
// gateways to which routes are bound.
var farReaching = []Kind{KindServiceEntry, KindDestinationRule, KindIstioGateway, KindGateway, KindGatewayClass, KindMirrorLimit}

func (s *Survey) has(kind Kind) bool { return s.sources[kind] != nil }

// List lists the routes of a namespace, "" for all, and the objects behind their mirrors. The error joins the
// errors of the kinds of routes that could not be listed; routes of the other kinds are there all the same.
func (s *Survey) List(ctx context.Context, namespace string) error {
	var failures []error
	for _, kind := range routeKinds {
		failures = append(failures, s.list(ctx, kind, namespace))
	}
	far := map[Kind]bool{} // listed in all namespaces
	if namespace != "" {
		for _, kind := range farReaching {
			far[kind] = s.list(ctx, kind, "") == nil // a user who may not has those of the namespaces below
		}
	}
	namespaces := map[string]bool{}
	for rt := range s.index.Routes() {
		namespaces[namespace] = true
		for m := range mirrors(rt) {
			if namespace != "" && m.Target.IsService() {
				namespaces[m.Target.Namespace] = true
			}
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		for kind := range KindHTTPRoute {
			if far[kind] {
				continue
			}
			if err := s.list(ctx, kind, ns); err != nil {
				s.noteUnread(kind, ns, err)
			}
		}
	}
	return errors.Join(failures...)
}

// noteUnread notes that a kind could not be listed in a namespace. It ignores the kinds behind KindRollout,
// which the Resolver reads again if it needs them.
func (s *Survey) noteUnread(kind Kind, namespace string, err error) {
	if kind <= KindRollout && kind != KindNamespace {
		s.unread[namespace] = errors.Join(s.unread[namespace], err)
	}
	if kind == KindEndpointSlice || kind == KindPod {
		s.unreadReadiness[namespace] = errors.Join(s.unreadReadiness[namespace], err)
	}
}

// list puts all objects of a kind in a namespace into the Index.
func (s *Survey) list(ctx context.Context, kind Kind, namespace string) error {
	if !s.has(kind) {
		return nil
	}
	query := Query{Kind: kind, Namespace: namespace}
	switch {
	case kind == KindNamespace:
		query = Query{Kind: kind, Name: namespace}
	case kind.ClusterScoped():
		query.Namespace = ""
	}
	records, err := readPages(ctx, s.sources[kind], query, math.MaxInt)
	if err == nil {
		err = s.index.Upsert(records...)
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", kind.Resource(), serverMessage(err))
	}
	return nil
}

// serverMessage returns the message of the API server in an error, without the request; another error as it
// is.
func serverMessage(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return errors.New(status.Status().Message)
	}
	return err
}

// Routes yields the listed routes that have to do with mirrors, in no order.
func (s *Survey) Routes() iter.Seq[*route.Route] { return s.index.Routes() }

// Unread returns the errors, by namespace ("" for all), of listing Services, workloads and endpoints.
func (s *Survey) Unread() map[string]error { return s.unread }

// Resolve returns the state of everything that a decision about a route depends on. An object that was not
// found is read once more. A variant is Unknown if it does not seem ready and endpoints or pods could not be
// listed.
func (s *Survey) Resolve(ctx context.Context, rt *route.Route) (policy.Snapshot, error) {
	snap, err := s.resolver.Resolve(ctx, rt)
	for target, v := range snap.Variants {
		err := errors.Join(s.unreadReadiness[""], s.unreadReadiness[target.Namespace])
		if err != nil && (v.State == policy.Present || v.Reason == policy.WorkloadNotFound) {
			snap.Variants[target] = policy.Variant{Reason: policy.VariantUnknown, Detail: err.Error()}
		}
	}
	return snap, err
}

// ListAround lists the objects of some namespaces, and those of all whose effect reaches other namespaces. It is
// for manifests that are loaded on top of them, by Load.
func (s *Survey) ListAround(ctx context.Context, namespaces ...string) {
	namespaces = slices.DeleteFunc(slices.Clone(namespaces), func(ns string) bool { return s.around[ns] })
	if s.around != nil && len(namespaces) == 0 {
		return // lint judges corrected files by the same cluster
	}
	if s.around == nil {
		s.around = map[string]bool{}
	}
	for _, ns := range namespaces {
		s.around[ns] = true
	}
	for kind := range kindCount {
		if slices.Contains(farReaching, kind) && (s.list(ctx, kind, "") == nil || kind.ClusterScoped()) {
			continue // those of the namespaces are among them
		}
		for _, ns := range namespaces {
			err := s.list(ctx, kind, ns)
			if err == nil || kind > KindReferenceGrant || kind == KindNamespace {
				continue // the other kinds do not make a variant ready
			}
			s.unread[ns] = errors.Join(s.unread[ns], err)
			if kind == KindEndpointSlice || kind == KindPod {
				s.unreadReadiness[ns] = err
			}
		}
	}
}

// Load adds an object in JSON, in place of the cluster's object of that name.
func (s *Survey) Load(raw []byte) error { return s.index.Load(raw) }

// Snapshot returns the state of everything that a decision about a route depends on, after ListAround. A variant
// is Unknown if endpoints or pods could not be listed, and one that does not seem ready if another kind could not.
func (s *Survey) Snapshot(rt *route.Route) policy.Snapshot {
	snap := s.index.Snapshot(rt)
	for target, v := range snap.Variants {
		err := s.unread[target.Namespace]
		if s.unreadReadiness[target.Namespace] != nil || (err != nil && v.State != policy.Ready) {
			v.State, v.Reason, v.Detail = policy.Unknown, policy.VariantUnknown, err.Error()
			snap.Variants[target] = v
		}
	}
	return snap
}

// Read implements Reader.
func (s *Survey) Read(ctx context.Context, q Query) ([]any, error) {
	if !s.has(q.Kind) {
		return nil, nil
	}
	return readPages(ctx, s.sources[q.Kind], q, maxPages)
}
