package demo

// The simulated cluster: the objects of a document's manifests, and the pods and endpoints that a real
// cluster would add.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/mirrorgate/mirrorgate/internal/dataplane"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// cluster returns all objects but the route while variant 2 is in a state.
func (l *local) cluster(state policy.State) (objects []*unstructured.Unstructured, err error) {
	files := append([]string{l.play.plain}, l.play.first...)
	if state != policy.Absent {
		files = append(files, l.play.second...)
	}
	for _, file := range files {
		for _, object := range l.documents[path.Join(l.play.folder, file)] {
			if !isRoute(object) {
				object = object.DeepCopy()
				object.SetNamespace(metav1.NamespaceDefault)
				objects = append(objects, object)
			}
		}
	}
	var pods, endpoints []*unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() == "Deployment" {
			pods = append(pods, podOf(object))
		}
	}
	for _, object := range objects {
		selector, _, _ := unstructured.NestedStringMap(object.Object, "spec", "selector")
		for _, pod := range pods {
			if object.GetKind() != "Service" || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.GetLabels())) {
				continue
			}
			v, ready := l.one, true
			if strings.HasPrefix(pod.GetName(), variantTwo) {
				v, ready = l.two, state == policy.Ready
			}
			slices, err := sliceOf(object, pod, v, ready)
			if err != nil {
				return nil, err
			}
			endpoints = append(endpoints, slices...)
		}
	}
	return append(append(objects, pods...), endpoints...), nil
}

// podOf is the one pod of a Deployment.
func podOf(deployment *unstructured.Unstructured) *unstructured.Unstructured {
	template, _, _ := unstructured.NestedMap(deployment.Object, "spec", "template")
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetNamespace(metav1.NamespaceDefault)
	pod.SetName(deployment.GetName() + "-0")
	pod.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment.GetName(), Controller: new(true)}})
	return pod
}

// sliceOf makes a pod an endpoint of a Service, at the address of the variant that plays it.
func sliceOf(service, pod *unstructured.Unstructured, v *variant, ready bool) ([]*unstructured.Unstructured, error) {
	_, port, _ := net.SplitHostPort(v.address)
	return parse(fmt.Appendf(nil, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-%[2]s, namespace: default, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[3]s, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: %[4]t}, targetRef: {kind: Pod, name: %[2]s, namespace: default}}]
`, service.GetName(), pod.GetName(), port, ready))
}

// gateOf is the gate of a cluster with these objects.
func gateOf(objects []*unstructured.Unstructured) (*webhook.Gate, error) {
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return nil, err
	}
	return webhook.FromYAML(webhook.Options{}, raw) //nolint:staticcheck // webhooktest would bring its schemas into the program
}

// admit passes the write of a route through the gate, in place of old unless that is nil. It returns the
// route that is stored, and the warnings for its author.
func admit(ctx context.Context, gate *webhook.Gate, object, old *unstructured.Unstructured) (stored *unstructured.Unstructured, warnings []string, err error) {
	raw, err := object.MarshalJSON()
	if err != nil {
		return nil, nil, err
	}
	var oldRaw []byte
	if old != nil {
		if oldRaw, err = old.MarshalJSON(); err != nil {
			return nil, nil, err
		}
	}
	admission, err := gate.Admit(ctx, raw, oldRaw) //nolint:staticcheck // as above
	if err = errors.Join(err, admission.Denied); err != nil {
		return nil, nil, err
	}
	stored = &unstructured.Unstructured{}
	return stored, admission.Warnings, stored.UnmarshalJSON(admission.Object)
}

// feed makes objects all that the proxy knows of the cluster.
func feed(index *dataplane.Index, objects []*unstructured.Unstructured) error {
	all := make([]any, len(objects))
	var errs []error
	for i, object := range objects {
		all[i] = object
		if typed, err := scheme.Scheme.New(object.GroupVersionKind()); err == nil { // else it is a custom resource
			all[i] = typed
			errs = append(errs, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed))
		}
	}
	for _, kind := range []dataplane.Kind{dataplane.KindService, dataplane.KindEndpointSlice, dataplane.KindHTTPRoute} {
		errs = append(errs, index.Replace(kind, all...))
	}
	return errors.Join(errs...)
}
