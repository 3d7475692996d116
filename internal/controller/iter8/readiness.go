package iter8

// Whether a variant is ready: every object that is named for it exists, is not being deleted, and is ready if
// it is of a kind that can be.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
)

// unreadyAtFirst are the kinds that are not ready before a condition of this type reports it. An object of
// any other kind is ready until a condition reports that it is not.
var unreadyAtFirst = map[schema.GroupResource]string{
	{Group: "serving.kserve.io", Resource: "inferenceservices"}: "Ready",
	{Resource: "pods"}: "Ready",
}

// resolve finds the kinds of resources, and needs them to be watched.
func (s *namespaceState) resolve(resources []documents.Resource) ([]schema.GroupVersionResource, *problem) {
	found := make([]schema.GroupVersionResource, len(resources))
	for i, r := range resources {
		gvr, err := s.run.kinds.find(r.Type)
		switch {
		case err != nil && !meta.IsNoMatchError(err) && !errors.Is(err, errScope):
			s.recheckIn(time.Second)
			return nil, problemf("", "discover %q: %v", r.Type, err)
		case err != nil:
			return nil, problemf("UnknownResource", "%s: %q is not a namespaced resource of this cluster: %v", r.Path, r.Type, err)
		}
		found[i] = gvr
		s.needed[gvr] = true
	}
	return found, nil
}

// checkListed fails unless the objects of all kinds are listed.
func (s *namespaceState) checkListed(kinds []schema.GroupVersionResource) *problem {
	for _, gvr := range kinds {
		listed, err := s.watches.listed(gvr)
		switch {
		case listed:
		case err != nil:
			return cannotWatch(gvr, err)
		default:
			return problemf("", "%s are being listed", gvr.GroupResource())
		}
	}
	return nil
}

// ready reports whether all resources of a variant are ready, and if not, why.
func (s *namespaceState) ready(resources []documents.Resource, kinds []schema.GroupVersionResource, now time.Time) (ready bool, why string) {
	for i, r := range resources {
		o := s.watches.get(kinds[i], r.Name)
		switch {
		case o == nil:
			return false, r.String() + " does not exist"
		case o.DeletionTimestamp != nil:
			return false, r.String() + " is being deleted"
		case o.scaledToZero:
			return false, r.String() + " is scaled to 0"
		case !s.readyOrInGrace(o.UID, o.isReady(kinds[i].GroupResource()), now):
			return false, r.String() + " is not ready"
		}
	}
	return true, ""
}

func (o *watched) isReady(kind schema.GroupResource) bool {
	if o.scales {
		return o.readyReplicas > 0
	}
	for _, name := range []string{"Ready", "Available"} {
		if i := slices.IndexFunc(o.conditions, func(c condition) bool { return strings.EqualFold(c.name, name) }); i >= 0 {
			return o.conditions[i].isTrue
		}
	}
	return unreadyAtFirst[kind] == ""
}

// readiness is that of an object which was ready.
type readiness struct {
	// lost is the time at which it became unready, zero while it is ready.
	lost time.Time
	// pass is the latest reconciliation in which a document named the object.
	pass int
}

// readyOrInGrace reports whether an object counts as ready: it is, or was less than the grace ago.
func (s *namespaceState) readyOrInGrace(uid types.UID, ready bool, now time.Time) bool {
	r := s.readiness[uid]
	if r == nil {
		if ready {
			s.readiness[uid] = &readiness{pass: s.pass}
		}
		return ready
	}
	r.pass = s.pass
	if ready {
		r.lost = time.Time{}
		return true
	}
	if r.lost.IsZero() {
		r.lost = now
	}
	if left := s.run.opts.Grace - now.Sub(r.lost); left > 0 {
		s.recheckIn(left)
		return true
	}
	delete(s.readiness, uid)
	return false
}

// annotatedWeight returns the weight that an annotation of a version's first resource sets, nil for none.
func (s *namespaceState) annotatedWeight(resources []documents.Resource, kinds []schema.GroupVersionResource) (*uint32, error) {
	if len(resources) == 0 {
		return nil, nil
	}
	o := s.watches.get(kinds[0], resources[0].Name)
	if o == nil {
		return nil, nil
	}
	text, ok := o.Annotations[documents.WeightAnnotation]
	if !ok {
		return nil, nil
	}
	w, err := documents.ParseWeight(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", resources[0], err)
	}
	return &w, nil
}
