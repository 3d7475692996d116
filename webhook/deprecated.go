package webhook

// The calls that tests of routes used before there was webhooktest. They stay for one release.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/manifest"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook/internal/play"
)

// FromYAML returns a Gate whose cluster is made of plain manifests, in YAML or JSON. Objects without a
// namespace are in "default". Manifests have no status, so a workload with replicas counts as ready unless an
// EndpointSlice of its Service is given.
//
// Deprecated: use webhooktest.New.
func FromYAML(opts Options, manifests ...[]byte) (*Gate, error) {
	index, err := variant.FromYAML(offline(opts), manifests...)
	if err != nil {
		return nil, err
	}
	return New(snapshots{index}, opts), nil
}

// FromObjects is FromYAML for typed or unstructured objects.
//
// Deprecated: use webhooktest.New.
func FromObjects(opts Options, objects ...runtime.Object) (*Gate, error) {
	anys := make([]any, len(objects))
	for i, o := range objects {
		anys[i] = o
	}
	index, err := variant.FromObjects(offline(opts), anys...)
	if err != nil {
		return nil, err
	}
	return New(snapshots{index}, opts), nil
}

func offline(opts Options) variant.Options {
	return variant.Options{ClusterDomain: opts.ClusterDomain, AssumeReady: true}
}

// snapshots resolves from an index alone, without a live read.
type snapshots struct{ index *variant.Index }

func (s snapshots) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	return s.index.Snapshot(rt), nil
}

// Admission is the result of one write.
//
// Deprecated: use webhooktest.Result.
type Admission struct {
	// Object is the object as it would be stored, in JSON; nil when it is denied.
	Object []byte
	// Warnings are shown to the author of the write.
	Warnings []string
	// Denied is why the write is refused, nil when it is not. It is a *errors.StatusError with one cause for
	// each finding.
	Denied error
}

// Admit plays the write of one route, YAML or JSON, through both handlers, as the API server does: mutate,
// then validate the result. old is the stored route that an update replaces, nil for a create. It is an error
// when one of them is no route, or when they are not the same route.
//
// Deprecated: use webhooktest.Cluster.Apply.
func (g *Gate) Admit(ctx context.Context, object, old []byte) (Admission, error) {
	isRoute := func(raw []byte) error {
		_, err := route.Decode(raw, route.Options{ClusterDomain: g.opts.ClusterDomain, Namespace: metav1.NamespaceDefault})
		return err
	}
	return playWrite(ctx, object, old, isRoute, g.Mutator(), g.Validator())
}

// Admit plays the write of one Service, YAML or JSON, as the API server does. old is the stored Service that
// an update replaces, nil for a create. It is an error when one of them is no Service, or when they are not
// the same Service.
//
// Deprecated: the selectors of Services are an internal matter, and webhooktest has no call for them.
func (s *Services) Admit(ctx context.Context, object, old []byte) (Admission, error) {
	isService := func(raw []byte) error { return json.Unmarshal(raw, &corev1.Service{}) }
	return playWrite(ctx, object, old, isService, s.Mutator(), nil)
}

func playWrite(ctx context.Context, object, old []byte, check func([]byte) error, mutator, validator admission.Handler) (Admission, error) {
	raw, err := one(object, check)
	if err != nil {
		return Admission{}, fmt.Errorf("object: %w", err)
	}
	var oldRaw []byte
	if old != nil {
		if oldRaw, err = one(old, check); err != nil {
			return Admission{}, fmt.Errorf("old object: %w", err)
		}
	}
	req, err := play.Request(raw, oldRaw)
	if err != nil {
		return Admission{}, err
	}
	out, err := play.Write(ctx, req, mutator, validator)
	return Admission{out.Stored, out.Warnings, out.Denied}, err
}

// one returns the only object in a text as JSON, checked.
func one(text []byte, check func([]byte) error) ([]byte, error) {
	objects, err := manifest.Objects(text)
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, errors.New("must be exactly one object")
	}
	return objects[0], check(objects[0])
}
