package intercept

// Objects of ours: by server-side apply, and never over what is not ours.

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// manager is the field manager of objects of ours.
const manager = "mirrorgate-proxy"

// Objects are those of an API server.
type Objects interface {
	// Get returns nil if there is no such object.
	Get(ctx context.Context, of schema.GroupVersionResource, name Name) (*unstructured.Unstructured, error)
	List(ctx context.Context, of schema.GroupVersionResource, labels string) ([]unstructured.Unstructured, error)
	Apply(ctx context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error)
	// Delete deletes an object as it was read; one that is gone is no error.
	Delete(ctx context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured) error
}

// NewObjects returns those of an API server.
func NewObjects(client dynamic.Interface) Objects { return apiObjects{client} }

type apiObjects struct{ client dynamic.Interface }

func (s apiObjects) Get(ctx context.Context, of schema.GroupVersionResource, name Name) (*unstructured.Unstructured, error) {
	o, err := s.client.Resource(of).Namespace(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, err
}

func (s apiObjects) List(ctx context.Context, of schema.GroupVersionResource, labels string) ([]unstructured.Unstructured, error) {
	list, err := s.client.Resource(of).List(ctx, metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (s apiObjects) Apply(ctx context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	return s.client.Resource(of).Namespace(o.GetNamespace()).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: manager, Force: true})
}

func (s apiObjects) Delete(ctx context.Context, of schema.GroupVersionResource, o *unstructured.Unstructured) error {
	uid := o.GetUID()
	err := s.client.Resource(of).Namespace(o.GetNamespace()).Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// The resources that are ours.
var (
	deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	servicesOf   = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	accounts     = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	roleBindings = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
	budgets      = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
	scalers      = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
)

// foreignError is an object with a name of ours that is somebody else's.
type foreignError struct {
	kind string
	name Name
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s %s is not mirrorgate's; it is left alone, and no proxy can be made", e.kind, e.name)
}

// apply makes an object of ours as it should be and returns it.
func (c *Controller) apply(ctx context.Context, of schema.GroupVersionResource, o runtime.Object, manager string) (*unstructured.Unstructured, error) {
	u, err := encode(o)
	if err != nil {
		return nil, err
	}
	name := Name{Namespace: u.GetNamespace(), Name: u.GetName()}
	have, err := c.objects.Get(ctx, of, name)
	if err != nil {
		return nil, err
	}
	if have != nil && !ours(have, u) {
		return nil, &foreignError{u.GetKind(), name}
	}
	after, err := c.objects.Apply(ctx, of, u, manager)
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w", u.GetKind(), name, err)
	}
	return after, nil
}

// encode leaves out what nobody set.
func encode(o runtime.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	return &unstructured.Unstructured{Object: content}, nil
}

// ours says whether an object is one that we made for the same.
func ours(have, want *unstructured.Unstructured) bool {
	labels := have.GetLabels()
	for key, value := range want.GetLabels() {
		if labels[key] != value {
			return false
		}
	}
	return labels[wellknown.ManagedByLabel] == wellknown.ManagedBy
}
