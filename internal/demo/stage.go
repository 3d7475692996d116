package demo

// The stage is the namespace of a play: it changes the objects there and watches them.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// fieldManager is the demo's in managedFields; ownerLabel marks its namespace.
const (
	fieldManager = "mirrorgate-demo"
	ownerLabel   = "app.kubernetes.io/managed-by"
)

// stage acts on the objects of the documents as kubectl would.
type stage struct {
	namespace string
	client    kubernetes.Interface
	dynamic   dynamic.Interface
	mapper    meta.RESTMapper
	documents manifests
	watcher   *watcher
	// applied are the objects that the play has applied, last what the API server answered to the latest
	// route.
	applied []*unstructured.Unstructured
	last    *unstructured.Unstructured
}

func newStage(config *rest.Config, namespace string, documents manifests) (*stage, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &stage{
		namespace: namespace, client: client, dynamic: objects, documents: documents,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
	}, nil
}

// open creates the namespace, which must be new.
func (s *stage) open(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: s.namespace, Labels: map[string]string{ownerLabel: fieldManager},
	}}
	_, err := s.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return &obstacle{
			fmt.Sprintf("the namespace %s exists already, and the demo wants one of its own", s.namespace),
			"choose another with --namespace or, if an earlier demo left it behind:\nkubectl delete namespace " + s.namespace,
		}
	}
	return err
}

// close removes the namespace and returns when it is gone.
func (s *stage) close(ctx context.Context) error {
	namespaces := s.client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("the namespace %q is left behind: %w", s.namespace, err)
	}
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := namespaces.Get(ctx, s.namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		return fmt.Errorf("the namespace %q is still being removed: %w", s.namespace, err)
	}
	return nil
}

// resource returns where objects like this one are stored.
func (s *stage) resource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	return s.dynamic.Resource(mapping.Resource).Namespace(s.namespace), nil
}

func (s *stage) applyFile(ctx context.Context, file string) error {
	return s.store("apply", file, func(resource dynamic.ResourceInterface, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager})
	})
}

func (s *stage) createFile(ctx context.Context, file string) error {
	return s.store("create", file, func(resource dynamic.ResourceInterface, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return resource.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	})
}

// store writes the objects of a file and remembers them.
func (s *stage) store(verb, file string, write func(dynamic.ResourceInterface, *unstructured.Unstructured) (*unstructured.Unstructured, error)) error {
	for _, object := range s.documents[file] {
		resource, err := s.resource(object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", verb, named(object), err)
		}
		answer, err := write(resource, object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", verb, named(object), err)
		}
		s.applied = slices.DeleteFunc(s.applied, func(known *unstructured.Unstructured) bool { return named(known) == named(object) })
		s.applied = append(s.applied, object)
		if isRoute(object) {
			s.last = answer
		}
	}
	return nil
}

// dryRun returns the object that would be stored.
func (s *stage) dryRun(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	resource, err := s.resource(object)
	if err != nil {
		return nil, err
	}
	return resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, DryRun: []string{metav1.DryRunAll}})
}

// scale sets the replicas of a Deployment as kubectl does: in its subresource.
func (s *stage) scale(ctx context.Context, deployment, replicas string) error {
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%s}}`, replicas)
	_, err := s.client.AppsV1().Deployments(s.namespace).Patch(ctx, deployment, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: fieldManager}, "scale")
	return err
}

// deleteNamed deletes an object that the play has applied.
func (s *stage) deleteNamed(ctx context.Context, name string) error {
	for _, object := range s.applied {
		if named(object) == name {
			return s.delete(ctx, object, metav1.DeletePropagationBackground)
		}
	}
	return errors.New("was not applied")
}

func (s *stage) delete(ctx context.Context, object *unstructured.Unstructured, how metav1.DeletionPropagation) error {
	resource, err := s.resource(object)
	if err != nil {
		return err
	}
	err = resource.Delete(ctx, object.GetName(), metav1.DeleteOptions{PropagationPolicy: &how})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// clear removes the objects that the play has applied and waits until its pods are gone, so that the next
// play finds the namespace empty.
func (s *stage) clear(ctx context.Context) error {
	for _, object := range slices.Backward(s.applied) {
		how := metav1.DeletePropagationBackground
		if object.GetKind() == "Deployment" {
			how = metav1.DeletePropagationForeground // it goes after its pods
		}
		if err := s.delete(ctx, object, how); err != nil {
			return fmt.Errorf("delete %s: %w", named(object), err)
		}
	}
	s.applied, s.last = nil, nil
	_, err := s.watcher.await(ctx, func(f facts) bool { return f.objects == 0 }, nil)
	return err
}

// ready asks the API server whether a pod of variant 2 is a ready endpoint of the Service.
func (s *stage) ready(ctx context.Context, service string) (bool, error) {
	list, err := s.dynamic.Resource(slicesResource).Namespace(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.Items, func(slice unstructured.Unstructured) bool {
		return serves(&slice, service)
	}), nil
}

// warnings passes the API server's warnings to the function in the request's context, so that those of
// watches are dropped.
type warnings struct{}

type warningKey struct{}

func withWarnings(ctx context.Context, show func(string)) context.Context {
	return context.WithValue(ctx, warningKey{}, show)
}

func (warnings) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if show, ok := ctx.Value(warningKey{}).(func(string)); ok {
		show(text)
	}
}
