package variant

// A Survey is one look at a cluster, for a tool that does not stay. It lists and
// gets, watches nothing, and makes do with the rights that it has: what it may
// not read is Unknown, and said to be.

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

// ErrNoRoutes is returned for a cluster that has no kind of route.
var ErrNoRoutes = errors.New("the cluster has none of the kinds HTTPRoute, GRPCRoute and VirtualService: install the CRDs of the Gateway API or of Istio")

// Survey is one look at a cluster. It is not safe for concurrent use.
type Survey struct {
	index    *Index
	cluster  *Cluster
	sources  map[Kind]feed.Source
	resolver *Resolver
	// unread tells, by namespace, which Services, workloads and endpoints could
	// not be listed; blind, where that hides what is ready.
	unread, blind map[string]error
}

// NewSurvey finds out which kinds a cluster has.
func NewSurvey(ctx context.Context, config *rest.Config, opts Options, log logr.Logger) (*Survey, error) {
	s := &Survey{index: NewIndex(opts), sources: map[Kind]feed.Source{}, unread: map[string]error{}, blind: map[string]error{}}
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
		return nil, ErrNoRoutes
	}
	return s, nil
}

var routeKinds = []Kind{KindHTTPRoute, KindGRPCRoute, KindVirtualService}

func (s *Survey) has(kind Kind) bool { return s.sources[kind] != nil }

// Look lists the routes of a namespace, "" for all, and whatever stands behind
// their mirrors. The error joins the kinds of routes that could not be listed,
// each with why; the others are there all the same.
func (s *Survey) Look(ctx context.Context, namespace string) error {
	var failures []error
	for _, kind := range routeKinds {
		failures = append(failures, s.list(ctx, kind, namespace))
	}
	namespaces := map[string]bool{}
	for doc := range s.index.Routes() {
		namespaces[namespace] = true
		for m := range mirrors(doc) {
			if namespace != "" && m.Target.IsService() {
				namespaces[m.Target.Namespace] = true
			}
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		for kind := range KindHTTPRoute {
			s.note(kind, ns, s.list(ctx, kind, ns))
		}
	}
	return errors.Join(failures...)
}

// note keeps what could not be listed. Of the other kinds the Resolver asks again
// when it matters, and pods stand for workloads.
func (s *Survey) note(kind Kind, namespace string, err error) {
	if err != nil && kind <= KindRollout {
		s.unread[namespace] = errors.Join(s.unread[namespace], err)
	}
	if err != nil && (kind == KindEndpointSlice || kind == KindPod) {
		s.blind[namespace] = errors.Join(s.blind[namespace], err)
	}
}

// list puts all objects of a kind in a namespace into the Index.
func (s *Survey) list(ctx context.Context, kind Kind, namespace string) error {
	if !s.has(kind) {
		return nil
	}
	records, err := readPages(ctx, s.sources[kind], Query{Kind: kind, Namespace: namespace}, math.MaxInt)
	if err == nil {
		err = s.index.Upsert(records...)
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", kind.Resource(), reason(err))
	}
	return nil
}

// reason is what an API server says about an error, without the request.
func reason(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return errors.New(status.Status().Message)
	}
	return err
}

// Routes yields the routes that Look found and mirrorgate has something to say
// about, in no order.
func (s *Survey) Routes() iter.Seq[*route.Route] { return s.index.Routes() }

// Unread tells, by namespace ("" for all), which Services, workloads and
// endpoints could not be listed there.
func (s *Survey) Unread() map[string]error { return s.unread }

// Resolve returns the state of everything that a decision about a route depends
// on. What was not found is looked up once more; a variant is Unknown where it is
// not seen to be ready and endpoints could not be read.
func (s *Survey) Resolve(ctx context.Context, doc *route.Route) (policy.Snapshot, error) {
	snap, err := s.resolver.Resolve(ctx, doc)
	for target, v := range snap.Variants {
		err := errors.Join(s.blind[""], s.blind[target.Namespace])
		if err != nil && (v.State == policy.Present || v.Reason == policy.WorkloadNotFound) {
			snap.Variants[target] = policy.Variant{Reason: policy.VariantUnknown, Detail: err.Error()}
		}
	}
	return snap, err
}

// Read implements Reader.
func (s *Survey) Read(ctx context.Context, q Query) ([]any, error) {
	if !s.has(q.Kind) {
		return nil, nil
	}
	return readPages(ctx, s.sources[q.Kind], q, maxPages)
}
