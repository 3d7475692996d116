package webhook

// The gate without a cluster, for unit tests of routes and policies.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/patch"
)

// FromYAML returns a Gate whose cluster is made of plain manifests: Services,
// workloads, DestinationRules and so on, in one or several YAML or JSON
// documents. Objects without a namespace are in "default". Manifests have no
// status, so a workload with replicas counts as ready unless an EndpointSlice of
// its Service is given. It needs no cluster, network or clock.
func FromYAML(opts Options, manifests ...[]byte) (*Gate, error) {
	index, err := variant.FromYAML(offline(opts), manifests...)
	if err != nil {
		return nil, err
	}
	return New(snapshots{index}, opts), nil
}

// FromObjects is FromYAML for typed or unstructured objects.
func FromObjects(opts Options, objects ...runtime.Object) (*Gate, error) {
	var anys []any
	for _, o := range objects {
		anys = append(anys, o)
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

func (s snapshots) Resolve(_ context.Context, doc *route.Route) (policy.Snapshot, error) {
	return s.index.Snapshot(doc), nil
}

// Admission is what a Gate makes of one write.
type Admission struct {
	// Object is the route as it would be stored, in JSON; nil when it is denied.
	Object []byte
	// Warnings are what the author of the write is told.
	Warnings []string
	// Denied says why the write is refused, nil when it is not. It is a
	// *errors.StatusError with one cause for each finding.
	Denied error
}

// Admit plays the write of one route, YAML or JSON, through both handlers, as
// the API server does: mutate, then validate the result. old is the stored route
// that an update replaces, nil for a create. The error tells of input that is no
// route.
func (g *Gate) Admit(ctx context.Context, object, old []byte) (Admission, error) {
	req, err := g.request(object, old)
	if err != nil {
		return Admission{}, err
	}
	resp := g.Mutator().Handle(ctx, req)
	stored, err := patch.Apply(req.Object.Raw, resp.Patches)
	if err != nil {
		return Admission{}, err
	}
	out := Admission{Warnings: resp.Warnings}
	req.Object.Raw = stored
	verdict := g.Validator().Handle(ctx, req)
	for _, w := range verdict.Warnings {
		if !slices.Contains(out.Warnings, w) {
			out.Warnings = append(out.Warnings, w)
		}
	}
	if verdict.Allowed {
		out.Object = stored
	} else {
		out.Denied = &apierrors.StatusError{ErrStatus: *verdict.Result}
	}
	return out, nil
}

// request builds the admission request that the API server would send.
func (g *Gate) request(object, old []byte) (admission.Request, error) {
	raw, err := oneDocument(object)
	if err != nil {
		return admission.Request{}, fmt.Errorf("object: %w", err)
	}
	doc, err := route.Decode(raw, route.Options{ClusterDomain: g.opts.ClusterDomain, Namespace: metav1.NamespaceDefault})
	if err != nil {
		return admission.Request{}, fmt.Errorf("object: %w", err)
	}
	gv, err := schema.ParseGroupVersion(doc.APIVersion)
	if err != nil {
		return admission.Request{}, fmt.Errorf("object: %w", err)
	}
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: string(doc.Kind)},
		Resource:  metav1.GroupVersionResource{Group: gv.Group, Version: gv.Version, Resource: doc.Kind.Resource()},
		Namespace: doc.Namespace,
		Name:      doc.Name,
		Operation: admissionv1.Create,
		Object:    runtime.RawExtension{Raw: raw},
	}}
	if old != nil {
		req.Operation = admissionv1.Update
		if req.OldObject.Raw, err = oneDocument(old); err != nil {
			return admission.Request{}, fmt.Errorf("old object: %w", err)
		}
	}
	return req, nil
}

// oneDocument converts YAML to JSON and refuses a second document, which would
// otherwise go unjudged.
func oneDocument(text []byte) ([]byte, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	doc, err := reader.Read()
	if err != nil {
		return nil, err
	}
	if _, err := reader.Read(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return yaml.YAMLToJSON(doc)
}
