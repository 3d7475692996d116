package iter8

// Whether a variant is there: every object named for it exists, is not being deleted, and is
// ready if it is of a kind that can be.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/internal/controller/loop"
	documents "github.com/mirrorgate/mirrorgate/internal/iter8"
)

// expects are kinds that say by a condition whether they are ready, from their start on. What
// any other kind says is believed when it says something.
var expects = map[schema.GroupResource]string{
	{Group: "serving.kserve.io", Resource: "inferenceservices"}: "Ready",
	{Resource: "pods"}: "Ready",
}

// problem is what keeps a document from being served: an Event, or nothing but a wait where
// there is no reason.
type problem struct {
	reason, note string
	// route is the one that it is about, nil for none.
	route *corev1.ObjectReference
}

func problemf(reason, format string, args ...any) *problem {
	return &problem{reason: reason, note: fmt.Sprintf(format, args...)}
}

// resolve finds the kinds of resources, and needs them to be watched.
func (s *namespaceState) resolve(resources []documents.Resource) ([]schema.GroupVersionResource, *problem) {
	found := make([]schema.GroupVersionResource, len(resources))
	for i, r := range resources {
		gvr, err := s.run.kinds.find(r.Type)
		switch {
		case err != nil && !meta.IsNoMatchError(err) && !errors.Is(err, errScope):
			s.again(loop.FirstRetry * 20)
			return nil, problemf("", "discover %q: %v", r.Type, err)
		case err != nil:
			return nil, problemf("UnknownResource", "%s: %q is no resource that this cluster has in namespaces: %v", r.Path, r.Type, err)
		}
		found[i] = gvr
		s.needed[gvr] = true
	}
	return found, nil
}

// known tells whether all kinds have been listed.
func (s *namespaceState) known(kinds []schema.GroupVersionResource) *problem {
	for _, gvr := range kinds {
		synced, err := s.watches.synced(gvr)
		switch {
		case synced:
		case err != nil:
			return problemf("CannotWatch", "%s cannot be watched: %v; docs/iter8.md has the rights that mirrorgate needs", gvr.GroupResource(), err)
		default:
			return problemf("", "%s are being listed", gvr.GroupResource())
		}
	}
	return nil
}

// there tells whether all of a variant's resources are, and if not, why.
func (s *namespaceState) there(resources []documents.Resource, kinds []schema.GroupVersionResource, now time.Time) (is bool, why string) {
	for i, r := range resources {
		t := s.watches.get(kinds[i], r.Name)
		switch {
		case t == nil:
			return false, r.String() + " does not exist"
		case t.DeletionTimestamp != nil:
			return false, r.String() + " is being deleted"
		case t.idle:
			return false, r.String() + " is scaled to 0"
		}
		if !s.endures(t.UID, t.isReady(kinds[i].GroupResource()), now) {
			return false, r.String() + " is not ready"
		}
	}
	return true, ""
}

func (t *watched) isReady(kind schema.GroupResource) bool {
	if t.scales {
		return t.ready > 0
	}
	for _, name := range []string{"Ready", "Available"} {
		if i := slices.IndexFunc(t.conditions, func(c condition) bool { return strings.EqualFold(c.kind, name) }); i >= 0 {
			return t.conditions[i].is
		}
	}
	return expects[kind] == ""
}

// readiness is that of an object which was ready.
type readiness struct {
	// lost is since when it is not, zero while it is.
	lost time.Time
	// look is the last in which somebody asked.
	look int
}

// endures tells whether an object counts as ready: it is, or was less than the grace ago.
func (s *namespaceState) endures(uid types.UID, ready bool, now time.Time) bool {
	r := s.readiness[uid]
	if r != nil {
		r.look = s.look
	}
	switch {
	case ready && r == nil:
		s.readiness[uid] = &readiness{look: s.look}
		return true
	case ready:
		r.lost = time.Time{}
		return true
	case r == nil:
		return false
	}
	if r.lost.IsZero() {
		r.lost = now
	}
	if left := s.run.opts.Grace - now.Sub(r.lost); left > 0 {
		s.again(left)
		return true
	}
	delete(s.readiness, uid)
	return false
}

// weight is what an annotation of a version's first resource says, nil for nothing.
func (s *namespaceState) weight(resources []documents.Resource, kinds []schema.GroupVersionResource) (*uint32, error) {
	if len(resources) == 0 {
		return nil, nil
	}
	t := s.watches.get(kinds[0], resources[0].Name)
	if t == nil {
		return nil, nil
	}
	text, ok := t.Annotations[documents.WeightAnnotation]
	if !ok {
		return nil, nil
	}
	w, err := documents.ParseWeight(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", resources[0], err)
	}
	return &w, nil
}
