package intercept

// Writes of mirrorgate's own objects: by server-side apply, and never over an object of somebody else.

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// manager is the field manager of mirrorgate's own objects.
const manager = "mirrorgate-proxy"

// Objects reads and writes the objects of an API server.
type Objects interface {
	// Get returns nil if there is no such object.
	Get(ctx context.Context, resource schema.GroupVersionResource, name Name) (*unstructured.Unstructured, error)
	List(ctx context.Context, resource schema.GroupVersionResource, labels string) ([]unstructured.Unstructured, error)
	Apply(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error)
	// Delete deletes the very object that was read; if it no longer exists, that is no error.
	Delete(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured) error
}

// NewObjects returns the Objects of an API server.
func NewObjects(client dynamic.Interface) Objects { return objectClient{client} }

type objectClient struct{ client dynamic.Interface }

func (c objectClient) Get(ctx context.Context, resource schema.GroupVersionResource, name Name) (*unstructured.Unstructured, error) {
	o, err := c.client.Resource(resource).Namespace(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return o, err
}

func (c objectClient) List(ctx context.Context, resource schema.GroupVersionResource, labels string) ([]unstructured.Unstructured, error) {
	list, err := c.client.Resource(resource).List(ctx, metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c objectClient) Apply(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	return c.client.Resource(resource).Namespace(o.GetNamespace()).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: manager, Force: true})
}

func (c objectClient) Delete(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured) error {
	uid := o.GetUID()
	err := c.client.Resource(resource).Namespace(o.GetNamespace()).Delete(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// The resources of mirrorgate's own objects.
var (
	deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	services     = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	accounts     = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	roleBindings = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
	budgets      = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
	scalers      = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
)

// foreignError reports an object of somebody else under a name that mirrorgate needs.
type foreignError struct {
	kind string
	name Name
}

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s %s is not mirrorgate's; it is left alone, and no proxy can be made", e.kind, e.name)
}

// apply applies one of mirrorgate's own objects and returns the stored one.
func (c *Controller) apply(ctx context.Context, resource schema.GroupVersionResource, o runtime.Object, manager string) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	delete(content, "status") // it is not mirrorgate's to set
	u := &unstructured.Unstructured{Object: content}
	name := Name{Namespace: u.GetNamespace(), Name: u.GetName()}
	have, err := c.objects.Get(ctx, resource, name)
	if err != nil {
		return nil, err
	}
	if have != nil && !ours(have, u.GetLabels()) {
		return nil, &foreignError{u.GetKind(), name}
	}
	after, err := c.objects.Apply(ctx, resource, u, manager)
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w", u.GetKind(), name, err)
	}
	return after, nil
}

// ours reports whether mirrorgate made an object, and it has those of the wanted labels that are mirrorgate's.
func ours(have *unstructured.Unstructured, want map[string]string) bool {
	labels := have.GetLabels()
	for key, value := range want {
		if strings.HasPrefix(key, wellknown.Prefix) && labels[key] != value {
			return false
		}
	}
	return labels[wellknown.ManagedByLabel] == wellknown.ManagedBy
}
