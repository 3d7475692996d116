package variant

// A cluster for tests, and short ways to make its objects.

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/internal/feed"
	"github.com/mirrorgate/mirrorgate/internal/policy"
	"github.com/mirrorgate/mirrorgate/internal/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is an Index under test with its clock and the routes of its notifications.
type cluster struct {
	*Index
	t      *testing.T
	clock  *clocktesting.FakeClock
	events []string
}

func newCluster(t *testing.T, objs ...any) *cluster {
	t.Helper()
	c := &cluster{t: t, clock: clocktesting.NewFakeClock(time.Unix(1700000000, 0))}
	c.Index = NewIndex(Options{Clock: clock.PassiveClock(c.clock)})
	c.apply(objs...)
	c.Subscribe(func(keys []route.Key) {
		for _, key := range keys {
			c.events = append(c.events, key.String())
		}
	})
	return c
}

// apply adds objects to the Index. Strings are YAML.
func (c *cluster) apply(objs ...any) {
	c.t.Helper()
	for _, obj := range objs {
		if text, ok := obj.(string); ok {
			raw, err := yamlToJSON(text)
			require.NoError(c.t, err)
			require.NoError(c.t, c.Load(raw))
			continue
		}
		if rt, ok := obj.(*route.Route); ok {
			obj = textOf(rt)
		}
		require.NoError(c.t, c.Upsert(obj))
	}
}

// notified returns the routes of the notifications since the previous call.
func (c *cluster) notified() []string {
	events := c.events
	c.events = nil
	return events
}

func (c *cluster) variant(rt *route.Route) policy.Variant {
	c.t.Helper()
	for m := range mirrors(rt) {
		return c.Snapshot(rt).Variants[m.Target]
	}
	c.t.Fatal("the route has no mirror")
	return policy.Variant{}
}

func meta(name string) metav1.ObjectMeta {
	namespace, name, _ := strings.Cut(name, "/")
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// set parses "a=b,c=d".
func set(text string) map[string]string {
	labels := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(part, "="); ok {
			labels[key] = value
		}
	}
	return labels
}

func serviceOf(name, selector string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{
		Selector: set(selector), Ports: []corev1.ServicePort{{Name: "http", Port: 8000}},
	}}
}

func template(labels string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: set(labels)}}
}

func deployment(name, labels string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{
		Replicas: new(replicas), Template: template(labels),
	}}
}

func statefulSet(name, labels string) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: meta(name), Spec: appsv1.StatefulSetSpec{Template: template(labels)}}
}

// podOf returns a pod's metadata; owner is "apps/v1 ReplicaSet x" or "".
func podOf(name, labels, owner string) *metav1.PartialObjectMetadata {
	pod := &metav1.PartialObjectMetadata{ObjectMeta: meta(name)}
	pod.Labels = set(labels)
	if fields := strings.Fields(owner); len(fields) == 3 {
		pod.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: fields[0], Kind: fields[1], Name: fields[2], Controller: new(true),
		}}
	}
	return pod
}

const replicaSet = "apps/v1 ReplicaSet r"

// sliceOf returns an EndpointSlice. An endpoint is "pod", "!pod" if it is not ready, "?" and "!?" without a
// pod.
func sliceOf(name, service string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(name)}
	s.Labels = map[string]string{serviceLabel: service}
	s.Ports = []discoveryv1.EndpointPort{{Name: new("http")}}
	for _, text := range endpoints {
		pod, unready := strings.CutPrefix(text, "!")
		var e discoveryv1.Endpoint
		if unready {
			e.Conditions.Ready = new(false)
		}
		if pod != "?" {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pod}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func deleting[T metav1.Object](obj T) T {
	now := metav1.Now()
	obj.SetDeletionTimestamp(&now)
	return obj
}

// texts are the JSON objects from which the routes of the tests were decoded.
var texts sync.Map

func textOf(rt *route.Route) json.RawMessage {
	text, _ := texts.Load(rt)
	return text.(json.RawMessage)
}

func decode(object map[string]any) *route.Route {
	raw, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	rt, err := route.Decode(raw, route.Options{})
	if err != nil {
		panic(err)
	}
	texts.Store(rt, json.RawMessage(raw))
	return rt
}

func metaOf(name string) map[string]any {
	namespace, name, _ := strings.Cut(name, "/")
	return map[string]any{"namespace": namespace, "name": name}
}

// gatewayRoute returns a route in front of a Service that mirrors to other Services. Each name is
// namespace/name.
func gatewayRoute(kind route.Kind, name, serves string, targets ...string) *route.Route {
	var filters []any
	for _, target := range targets {
		ref := metaOf(target)
		ref["port"] = 8000
		filters = append(filters, map[string]any{
			"type": "RequestMirror", "requestMirror": map[string]any{"backendRef": ref},
		})
	}
	parent := metaOf(serves)
	parent["kind"], parent["group"] = "Service", ""
	return decode(map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": string(kind), "metadata": metaOf(name),
		"spec": map[string]any{
			"parentRefs": []any{parent},
			"rules":      []any{map[string]any{"filters": filters}},
		},
	})
}

func httpRoute(name, serves string, targets ...string) *route.Route {
	return gatewayRoute(route.HTTPRoute, name, serves, targets...)
}

// virtualService returns a VirtualService for a host that mirrors to the target "host" or "host#subset".
func virtualService(name, host, target string) *route.Route {
	to, subset, _ := strings.Cut(target, "#")
	mirror := map[string]any{"host": to}
	if subset != "" {
		mirror["subset"] = subset
	}
	return decode(map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metaOf(name),
		"spec": map[string]any{
			"hosts": []any{host},
			"http":  []any{map[string]any{"mirror": mirror}},
		},
	})
}

func yamlToJSON(text string) ([]byte, error) { return yaml.YAMLToJSON([]byte(text)) }

// ruleOf returns a DestinationRule with one subset; exportTo and labels are YAML.
func ruleOf(name, host, exportTo, subset, labels string) string {
	namespace, name, _ := strings.Cut(name, "/")
	return `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {namespace: ` + namespace + `, name: ` + name + `},
spec: {host: "` + host + `", exportTo: [` + exportTo + `], subsets: [{name: ` + subset + `, labels: {` + labels + `}}]}}`
}

// Replace makes objs all the objects of a kind, as a list does.
func (i *Index) Replace(kind Kind, objs ...any) error {
	var items []*feed.Item
	for _, obj := range objs {
		rec, err := i.toRecord(obj)
		if err != nil {
			return err
		}
		if rec != nil && rec.ident().kind == kind {
			name := rec.ident().NamespacedName
			items = append(items, &feed.Item{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}, Record: rec})
		}
	}
	i.sinkOf(kind).Replace(items)
	return nil
}
