// Package gate is mirrorgate's admission as the judges call it: the webhooks and the decision behind them, over
// the objects of a cluster that is not there.
package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/patch"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// Gate admits routes in one cluster.
type Gate struct {
	index *variant.Index
	gate  *webhook.Gate
}

// New returns a Gate for a cluster that holds the objects of the manifests, routes among them.
func New(manifests ...[]byte) (*Gate, error) {
	index, err := variant.FromYAML(variant.Options{Grace: -1}, manifests...)
	if err != nil {
		return nil, err
	}
	return &Gate{index, webhook.New(snapshots{index}, webhook.Options{})}, nil
}

type snapshots struct{ index *variant.Index }

// Resolve is called by the webhooks.
func (s snapshots) Resolve(_ context.Context, rt *route.Route) (policy.Snapshot, error) {
	return s.index.Snapshot(rt), nil
}

// Mutate returns a route in JSON as the mutating webhook makes it.
func (g *Gate) Mutate(ctx context.Context, raw []byte) ([]byte, error) {
	req, err := request(raw)
	if err != nil {
		return nil, err
	}
	resp := g.gate.Mutator().Handle(ctx, req)
	if !resp.Allowed {
		return nil, fmt.Errorf("the mutating webhook denies: %s", resp.Result.Message)
	}
	return patch.Apply(raw, resp.Patches)
}

// Validate returns the denial of the validating webhook, "" when it admits the route.
func (g *Gate) Validate(ctx context.Context, raw []byte) (denial string, err error) {
	req, err := request(raw)
	if err != nil {
		return "", err
	}
	if resp := g.gate.Validator().Handle(ctx, req); !resp.Allowed {
		return resp.Result.Message, nil
	}
	return "", nil
}

// request is the creation of a route.
func request(raw []byte) (admission.Request, error) {
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return admission.Request{}, err
	}
	gvk := meta.GroupVersionKind()
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind(gvk),
		Resource:  metav1.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: strings.ToLower(gvk.Kind) + "s"},
		Namespace: meta.Namespace, Name: meta.Name, Operation: admissionv1.Create,
		Object: runtime.RawExtension{Raw: raw},
	}}, nil
}

// Mirror is the decision about one mirror.
type Mirror struct {
	// Path is the field path of the mirror.
	Path string `json:"path"`
	// Parked reports whether the mirror belongs parked, and Reason why.
	Parked bool   `json:"parked"`
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// Mirrors returns the decisions about the mirrors of a route.
func (g *Gate) Mirrors(raw []byte) ([]Mirror, error) {
	rt, err := route.Decode(raw, route.Options{})
	if err != nil {
		return nil, err
	}
	decision, err := policy.Decide(rt, g.index.Snapshot(rt), policy.Config{})
	if err != nil {
		return nil, err
	}
	var mirrors []Mirror
	for _, v := range decision.Verdicts {
		mirrors = append(mirrors, Mirror{v.Mirror.Path, v.Park, string(v.Reason), v.Detail})
	}
	return mirrors, nil
}
