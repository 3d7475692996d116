package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/cert"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/status"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/webhook"
)

const system = "mirrorgate-system"

// world is a cluster that a test may break before it is asked.
type world struct {
	version              string
	resources            []*metav1.APIResourceList
	crd, class, policy   *unstructured.Unstructured
	mutating             *admissionregistrationv1.MutatingWebhookConfiguration
	validating           *admissionregistrationv1.ValidatingWebhookConfiguration
	service              *corev1.Service
	slice                *discoveryv1.EndpointSlice
	deployment, proxies  *appsv1.Deployment
	pod                  *corev1.Pod
	lease                *coordinationv1.Lease
	secret               *corev1.Secret
	probe                *corev1.Namespace
	parent               *corev1.Service
	others               []runtime.Object
	routes               []status.Route
	routesErr, deniesErr error
	now                  time.Time
	program              string
	forbidden            map[string]bool // the resource of a list or get that is refused
	mayNotCreate         string
	away                 bool
}

// newCA makes a certificate that is its own CA.
func newCA() []byte {
	ca, _, err := cert.GenerateSelfSignedCertKeyWithFixtures("mirrorgate.mirrorgate-system.svc", nil, nil, "")
	if err != nil {
		panic(err)
	}
	return ca
}

// theCA is made once, because that takes long.
var theCA = sync.OnceValue(newCA)

// healthy is a cluster in which all is well.
func healthy(t *testing.T) *world {
	t.Helper()
	ca := theCA()
	m, v, err := manifests.Webhooks(manifests.Routes()...)
	require.NoError(t, err)
	for i := range m.Webhooks {
		m.Webhooks[i].ClientConfig.CABundle = ca
	}
	for i := range v.Webhooks {
		v.Webhooks[i].ClientConfig.CABundle, v.Webhooks[i].FailurePolicy = ca, new(admissionregistrationv1.Fail)
	}
	name := metav1.ObjectMeta{Namespace: system, Name: "mirrorgate"}
	labels := map[string]string{"app.kubernetes.io/name": "mirrorgate"}
	now := time.Now()
	return &world{
		version: "v1.36.3", program: "1.2.3", now: now,
		resources: []*metav1.APIResourceList{
			{GroupVersion: "gateway.networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "httproutes"}, {Name: "grpcroutes"}, {Name: "gatewayclasses"}}},
			{GroupVersion: "networking.istio.io/v1", APIResources: []metav1.APIResource{{Name: "virtualservices"}, {Name: "destinationrules"}}},
		},
		crd: crd("percent", "fraction", "backendRef"), class: class("HTTPRouteRequestMirror", "HTTPRouteRequestPercentageMirror"),
		policy:   policy(v1alpha1.ConditionAccepted, metav1.ConditionTrue, "the policy applies to the target"),
		mutating: m, validating: v,
		service: &corev1.Service{ObjectMeta: name, Spec: corev1.ServiceSpec{Selector: labels}},
		slice: &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "mirrorgate"}},
			Endpoints:  []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		},
		deployment: &appsv1.Deployment{
			ObjectMeta: name, Status: appsv1.DeploymentStatus{ReadyReplicas: 2},
			Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "mirrorgate", Image: "r.example:5000/mirrorgate:v1.2.3", Args: []string{"serve", "--leader-elect", "--log-format=json"},
				}}}},
			},
		},
		pod:   &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "mirrorgate-a", Labels: labels}},
		lease: &coordinationv1.Lease{ObjectMeta: name, Spec: coordinationv1.LeaseSpec{HolderIdentity: new("mirrorgate-a"), RenewTime: &metav1.MicroTime{Time: now}}},
		secret: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "mirrorgate-self-tls"}, Data: map[string][]byte{"tls.crt": ca},
		},
		probe:  &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mirrorgate-probe"}},
		routes: []status.Route{{Kind: route.HTTPRoute, Namespace: "shop", Name: "web", AsDecided: true}, {Kind: route.HTTPRoute, Namespace: "old", Name: "web", OptedOut: true}},
		parent: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{"mirrorgate.dev/selector": "{}"}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "mirrorgate-web"}},
		},
		proxies: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "web-mirrorgate-proxy",
				Labels: map[string]string{"app.kubernetes.io/managed-by": "mirrorgate", "mirrorgate.dev/parent": "web"},
			},
			Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}, Status: appsv1.DeploymentStatus{ReadyReplicas: 2},
		},
		forbidden: map[string]bool{},
	}
}

func crd(properties ...string) *unstructured.Unstructured {
	mirror := map[string]any{}
	for _, p := range properties {
		mirror[p] = map[string]any{}
	}
	schema := map[string]any{"properties": map[string]any{"requestMirror": map[string]any{"properties": mirror}}}
	for _, at := range []string{"items filters", "items rules", "spec"} {
		words := strings.Fields(at)
		inner := any(schema)
		if words[0] == "items" {
			inner = map[string]any{"items": schema}
		}
		schema = map[string]any{"properties": map[string]any{words[len(words)-1]: inner}}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "httproutes.gateway.networking.k8s.io"},
		"spec": map[string]any{"versions": []any{map[string]any{"name": "v1", "schema": map[string]any{"openAPIV3Schema": schema}}}},
	}}
}

func class(features ...string) *unstructured.Unstructured {
	list := []any{}
	for _, f := range features {
		list = append(list, map[string]any{"name": f})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": map[string]any{"name": "mesh"},
		"status": map[string]any{"supportedFeatures": list},
	}}
}

// policy is a MirrorPolicy with one target, about which it has a condition.
func policy(condition string, is metav1.ConditionStatus, message string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "mirrorgate.dev/v1alpha1", "kind": "MirrorPolicy", "metadata": map[string]any{"namespace": "shop", "name": "ramp"},
		"status": map[string]any{"targets": []any{map[string]any{
			"targetRef":  map[string]any{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"},
			"conditions": []any{map[string]any{"type": condition, "status": string(is), "message": message}},
		}}},
	}}
}

// view returns what the checks see of the world.
func (w *world) view() *View {
	var objects []runtime.Object
	add := func(there bool, o runtime.Object) {
		if there {
			objects = append(objects, o)
		}
	}
	add(w.mutating != nil, w.mutating)
	add(w.validating != nil, w.validating)
	add(w.service != nil, w.service)
	add(w.slice != nil, w.slice)
	add(w.deployment != nil, w.deployment)
	add(w.proxies != nil, w.proxies)
	add(w.pod != nil, w.pod)
	add(w.lease != nil, w.lease)
	add(w.secret != nil, w.secret)
	add(w.probe != nil, w.probe)
	add(w.parent != nil, w.parent)
	client := fake.NewClientset(append(objects, w.others...)...)
	client.Resources = w.resources
	client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &apiversion.Info{GitVersion: w.version}
	refuse := func(action clienttesting.Action) (bool, runtime.Object, error) {
		if w.away {
			return true, nil, errors.New("connection refused")
		}
		resource := action.GetResource()
		if w.forbidden[resource.Resource] {
			return true, nil, apierrors.NewForbidden(resource.GroupResource(), "", errors.New("no right"))
		}
		return false, nil, nil
	}
	client.PrependReactor("*", "*", refuse)
	client.AddProxyReactor("pods", func(clienttesting.Action) (bool, rest.ResponseWrapper, error) {
		return true, answer("[+]ping ok\n[-]caches failed: reason withheld\n"), nil
	})
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = review.Spec.ResourceAttributes.Resource != w.mayNotCreate
		return true, review, nil
	})
	dynamic := fakedynamic.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		customResourceDefinitions: "CustomResourceDefinitionList", gatewayClasses: "GatewayClassList", mirrorPolicies: "MirrorPolicyList",
	}, w.crd, w.class, w.policy)
	dynamic.PrependReactor("*", "*", refuse)
	return &View{
		Client: client, Objects: dynamic, Version: w.program, Now: func() time.Time { return w.now },
		Routes: func(context.Context) ([]status.Route, error) { return w.routes, w.routesErr },
		Denies: func(context.Context, string, string) (bool, error) { return w.deniesErr == nil, w.deniesErr },
	}
}

// noMesh adds the webhook of Services and, unless ready is nil, two replicas of `mirrorgate intercept`, of which so many
// are ready.
func (w *world) noMesh(ready *int32) {
	hook := w.mutating.Webhooks[0]
	hook.Name = "labelled.services.mutate.mirrorgate.dev"
	hook.ClientConfig.Service = &admissionregistrationv1.ServiceReference{Namespace: system, Name: "mirrorgate", Path: new(webhook.ServicesPath)}
	w.mutating.Webhooks = append(w.mutating.Webhooks, hook)
	if ready != nil {
		d := w.deployment.DeepCopy()
		d.Name = "mirrorgate-intercept"
		d.Spec.Selector.MatchLabels = map[string]string{"app.kubernetes.io/name": d.Name}
		d.Spec.Template.Labels = d.Spec.Selector.MatchLabels
		d.Status.ReadyReplicas = *ready
		w.others = append(w.others, d)
	}
}

// foreignHook is a webhook of somebody else that is called for everything.
func foreignHook(effects admissionregistrationv1.SideEffectClass, service string) *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "all.example.com", SideEffects: &effects, FailurePolicy: new(admissionregistrationv1.Fail),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: system, Name: service}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{"UPDATE"}, Rule: admissionregistrationv1.Rule{APIGroups: []string{"*"}, Resources: []string{"*"}},
			}},
		}},
	}
}

func TestAHealthyClusterHasNoFinding(t *testing.T) {
	for _, pre := range []bool{true, false} {
		results := Run(t.Context(), healthy(t).view(), pre)
		for _, r := range results {
			assert.Equal(t, OK, r.Level, "%+v", r)
			assert.Empty(t, r.Hint)
		}
		assert.Greater(t, len(results), 5)
	}
	w := healthy(t)
	w.others = append(w.others, foreignHook(admissionregistrationv1.SideEffectClassNoneOnDryRun, "mirrorgate"))
	assert.False(t, Fails(Run(t.Context(), w.view(), false), Warning), "a webhook of others that allows dry runs, and whose Service exists")
}

// A webhook of others is no fault where it is not called for writes of routes, or not in the namespaces that count.
func TestAWebhookThatIsNotCalledIsNoFault(t *testing.T) {
	exclude := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{probeNamespace}},
	}}
	for name, c := range map[string]struct {
		change func(*admissionregistrationv1.MutatingWebhook)
		faults int
	}{
		"as it is": {func(*admissionregistrationv1.MutatingWebhook) {}, 2},
		"for deletions alone": {func(w *admissionregistrationv1.MutatingWebhook) {
			w.Rules[0].Operations = []admissionregistrationv1.OperationType{"DELETE"}
		}, 0},
		"for objects of the cluster": {func(w *admissionregistrationv1.MutatingWebhook) {
			w.Rules[0].Scope = new(admissionregistrationv1.ClusterScope)
		}, 0},
		"in no namespace": {func(w *admissionregistrationv1.MutatingWebhook) {
			w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}, 0},
		"not in that of the dry runs": {func(w *admissionregistrationv1.MutatingWebhook) { w.NamespaceSelector = exclude }, 1},
	} {
		w := healthy(t)
		hook := foreignHook("Some", "gone")
		c.change(&hook.Webhooks[0])
		w.others = append(w.others, hook, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{corev1.LabelMetadataName: "shop"}}})
		w.probe.Labels = map[string]string{corev1.LabelMetadataName: probeNamespace}
		faults := 0
		for _, r := range Run(t.Context(), w.view(), false) {
			if r.Level != OK {
				faults++
			}
		}
		assert.Equal(t, c.faults, faults, name)
	}
}

// The chart may give the Deployment another name.
func TestTheDeploymentIsThatOfTheServicesPods(t *testing.T) {
	w := healthy(t)
	w.deployment.Name = "gate"
	assert.False(t, Fails(Run(t.Context(), w.view(), false), Warning))
	w.deployment.Spec.Template.Labels = map[string]string{"app": "other"}
	assert.True(t, Fails(Run(t.Context(), w.view(), false), Error))
}

// Replicas without an election have no Lease.
func TestNoElectionIsNoFault(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"serve", "--leader-elect", "--leader-elect=false"}} {
		w := healthy(t)
		w.lease = nil
		w.deployment.Spec.Template.Spec.Containers[0].Args = args
		assert.False(t, Fails(Run(t.Context(), w.view(), false), Warning), args)
	}
}

// faults are made one at a time: each is found by the check of its name, at its level, with these words.
var faults = map[string]struct {
	make  func(*world)
	check string
	level Level
	words string
	pre   bool
}{
	"nothing answers":                   {func(w *world) { w.away = true }, "kubernetes-version", Error, "the API server does not answer: connection refused", false},
	"an old Kubernetes":                 {func(w *world) { w.version = "v1.29.4" }, "kubernetes-version", Error, "Kubernetes v1.29.4 is older than 1.34", true},
	"no kind of route":                  {func(w *world) { w.resources = nil }, "route-kinds", Error, "neither HTTPRoute, GRPCRoute nor VirtualService", true},
	"an old version of a kind":          {func(w *world) { w.resources[0].GroupVersion = "gateway.networking.k8s.io/v1beta1" }, "route-kinds", Warning, "HTTPRoute is served as v1beta1 alone", true},
	"a CRD without percent":             {func(w *world) { w.crd = crd("backendRef") }, "mirror-percent", Warning, "the CRD of HTTPRoute drops the percentage", true},
	"a class without mirrors":           {func(w *world) { w.class = class("HTTPRouteHostRewrite") }, "gateway-classes", Warning, "GatewayClass mesh does not claim RequestMirror", true},
	"a class without percentages":       {func(w *world) { w.class = class("HTTPRouteRequestMirror") }, "gateway-classes", Warning, "does not claim percentages", true},
	"a webhook with side effects":       {func(w *world) { w.others = append(w.others, foreignHook("Some", "mirrorgate")) }, "other-webhooks", Warning, "refuses every dry run", true},
	"a webhook whose Service went":      {func(w *world) { w.others = append(w.others, foreignHook("None", "gone")) }, "other-webhooks", Error, "its Service mirrorgate-system/gone does not exist", true},
	"a user without the rights":         {func(w *world) { w.mayNotCreate = "clusterroles" }, "permissions", Error, "you may not create clusterroles", true},
	"no installation":                   {func(w *world) { w.mutating, w.validating = nil, nil }, "webhooks-registered", Error, "no webhook of mirrorgate is registered", false},
	"no mutating configuration":         {func(w *world) { w.mutating = nil }, "webhooks-registered", Error, "no mutating webhook for gateway.networking.k8s.io", false},
	"no validating configuration":       {func(w *world) { w.validating = nil }, "webhooks-registered", Error, "no validating webhook for networking.istio.io", false},
	"a URL that is not reached":         {func(w *world) { w.mutating = nil; byURL(w) }, "webhooks-registered", Error, "the API server does not reach https://192.0.2.7:9443", false},
	"a second mirrorgate":               {second, "one-mirrorgate", Warning, "mirrorgate and mirrorgate-0123abcd decide about gateway.networking.k8s.io", false},
	"a webhook that is not reached":     {func(w *world) { w.deniesErr = errors.New("failed calling webhook: i/o timeout") }, "webhooks-answer", Error, "i/o timeout", false},
	"a dry run that another refuses":    {func(w *world) { w.deniesErr = refusal() }, "webhooks-answer", Error, `admission webhook "other" denied`, false},
	"a webhook that fails open":         {func(w *world) { w.validating.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore) }, "webhooks-fail-closed", Warning, "failure policy Ignore", false},
	"one of two fails open":             {openSecond, "webhooks-fail-closed", Warning, "failure policy Ignore", false},
	"no CA":                             {func(w *world) { w.mutating.Webhooks[0].ClientConfig.CABundle = nil }, "ca-bundle", Error, "has no CA bundle", false},
	"a CA that is no PEM":               {func(w *world) { w.mutating.Webhooks[0].ClientConfig.CABundle = []byte("x") }, "ca-bundle", Error, "does not contain any valid", false},
	"a CA that has expired":             {func(w *world) { later(w, 11*365*24*time.Hour) }, "ca-bundle", Error, "expired at", false},
	"no namespace for dry runs":         {func(w *world) { w.probe = nil }, "probe-namespace", Error, "does not exist", false},
	"dry runs that opted out":           {func(w *world) { w.probe.Labels = map[string]string{"mirrorgate.dev/admission": "disabled"} }, "probe-namespace", Error, "has opted out", false},
	"no Service":                        {func(w *world) { w.service = nil }, "endpoints", Error, "does not exist", false},
	"no endpoint":                       {func(w *world) { w.slice.Endpoints[0].Conditions.Ready = new(false) }, "endpoints", Error, "no replica is ready behind", false},
	"no Deployment":                     {func(w *world) { w.deployment = nil }, "replicas", Error, "does not exist", false},
	"no replica":                        {func(w *world) { w.deployment.Status.ReadyReplicas = 0 }, "replicas", Error, "0 of 2 replicas are ready", false},
	"a replica that is not ready":       {func(w *world) { w.deployment.Status.ReadyReplicas = 1 }, "replicas", Warning, "1 of 2 replicas are ready", false},
	"one replica":                       {func(w *world) { w.deployment.Spec.Replicas = new(int32(1)) }, "replicas", Warning, "there is one replica", false},
	"a certificate that has expired":    {func(w *world) { later(w, 366*24*time.Hour) }, "certificate", Error, "the certificate in Secret mirrorgate-system/mirrorgate-self-tls expired", false},
	"a certificate by another CA":       {func(w *world) { w.secret.Data["tls.crt"] = newCA() }, "certificate", Error, "does not trust the certificate", false},
	"a Secret without a certificate":    {func(w *world) { w.secret.Data = nil }, "certificate", Error, "no certificate that can be read", false},
	"no interception":                   {func(w *world) { w.noMesh(nil) }, "interception", Error, "mirrorgate-intercept does not exist", false},
	"an interception that is not ready": {func(w *world) { w.noMesh(new(int32(1))) }, "interception", Warning, "1 of 2 replicas are ready", false},
	"no lease":                          {func(w *world) { w.lease = nil }, "leader", Error, "no replica has ever led", false},
	"no leader":                         {func(w *world) { w.lease.Spec.HolderIdentity = new("") }, "leader", Error, "no replica leads", false},
	"a silent leader":                   {func(w *world) { w.lease.Spec.RenewTime.Time = w.now.Add(-time.Minute) }, "leader", Error, "the leader mirrorgate-a is silent", false},
	"another version":                   {func(w *world) { w.program = "1.3.0" }, "version", Warning, "the cluster runs v1.2.3, and this program is 1.3.0", false},
	"a mirror in the wrong place":       {func(w *world) { w.routes[0].AsDecided = false }, "routes", Warning, "1 of 2 routes have mirrors that are not where they should be: HTTPRoute shop/web", false},
	"routes that cannot be read":        {func(w *world) { w.routesErr = errors.New("no answer") }, "routes", Error, "no answer", false},
	"a policy in conflict":              {conflict, "policies", Warning, `MirrorPolicy shop/ramp does not apply to HTTPRoute web: MirrorPolicy "old" is older and has this target too`, false},
	"a Service in bypass":               {func(w *world) { w.parent.Spec.Selector = map[string]string{"app": "web"} }, "services", Warning, "1 Services lead past their proxies, so nothing is copied: shop/web", false},
	"a proxy that is not ready":         {func(w *world) { w.proxies.Status.ReadyReplicas = 1 }, "proxies", Warning, "1 of 2 proxies of Service shop/web are ready", false},
	"no right to list webhooks":         {func(w *world) { w.forbidden["validatingwebhookconfigurations"] = true }, "webhooks-registered", Unread, "not checked: validatingwebhookconfigurations", false},
	"no right to read the Secret":       {func(w *world) { w.forbidden["secrets"] = true }, "certificate", Unread, "not checked: secrets", false},
	"no right to read CRDs":             {func(w *world) { w.forbidden["customresourcedefinitions"] = true }, "mirror-percent", Unread, "not checked: customresourcedefinitions", true},
}

// conflict gives the target of the policy to an older one.
func conflict(w *world) {
	w.policy = policy(v1alpha1.ConditionAccepted, metav1.ConditionFalse, `MirrorPolicy "old" is older and has this target too`)
}

// later lets time pass, and the leader renew its lease meanwhile.
func later(w *world, d time.Duration) {
	w.now = w.now.Add(d)
	w.lease.Spec.RenewTime.Time = w.now
}

func refusal() error {
	err := apierrors.NewForbidden(schema.GroupResource{Resource: "httproutes"}, "", errors.New("x"))
	err.ErrStatus.Message = `admission webhook "other" denied the request`
	return err
}

// byURL leaves the webhook of the proof alone.
func byURL(w *world) {
	w.validating.Webhooks = w.validating.Webhooks[:1]
	w.validating.Webhooks[0].Name = "reach.mirrorgate.dev"
	w.validating.Webhooks[0].Rules[0].APIGroups = []string{""}
	w.validating.Webhooks[0].ClientConfig.Service, w.validating.Webhooks[0].ClientConfig.URL = nil, new("https://192.0.2.7:9443/reach")
}

// second adds the registration of a process outside the cluster.
func second(w *world) {
	m := w.mutating.DeepCopy()
	m.Name = "mirrorgate-0123abcd"
	for i := range m.Webhooks {
		m.Webhooks[i].ClientConfig.Service, m.Webhooks[i].ClientConfig.URL = nil, new("https://192.0.2.7:9443/mutate")
	}
	w.others = append(w.others, m)
}

// openSecond adds the validating webhooks of such a process, which fail open.
func openSecond(w *world) {
	v := w.validating.DeepCopy()
	v.Name = "mirrorgate-0123abcd"
	for i := range v.Webhooks {
		v.Webhooks[i].FailurePolicy = new(admissionregistrationv1.Ignore)
	}
	w.others = append(w.others, v)
}

// A Secret that an earlier source of certificates left is no fault, since the API server trusts the other one.
func TestALeftoverCertificateIsNoFault(t *testing.T) {
	w := healthy(t)
	left := w.secret.DeepCopy()
	left.Data = map[string][]byte{corev1.TLSCertKey: newCA()}
	w.others = append(w.others, left)
	w.secret.Name = certs.IssuedSecret
	for _, r := range Run(t.Context(), w.view(), false) {
		assert.Equal(t, OK, r.Level, "%+v", r)
	}
}

func TestEachFaultIsFound(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			w := healthy(t)
			fault.make(w)
			results := Run(t.Context(), w.view(), fault.pre)
			var texts []string
			for _, r := range results {
				if r.Check != fault.check || r.Level != fault.level {
					continue
				}
				texts = append(texts, r.Text)
				assert.Equal(t, "https://github.com/mirrorgate/mirrorgate/blob/main/docs/check.md#"+r.Check, r.Docs)
			}
			assert.Contains(t, strings.Join(texts, "\n"), fault.words, "%+v", results)
			assert.Equal(t, fault.level == Error, Fails(results, Error), "%+v", results)
			assert.Equal(t, fault.level != Unread, Fails(results, Warning))
		})
	}
}

// Every check has a fault in the table, and a heading in the document that its findings link to.
func TestEveryCheckIsTestedAndDescribed(t *testing.T) {
	text, err := os.ReadFile("../../docs/check.md")
	require.NoError(t, err)
	tested := map[string]bool{}
	for _, fault := range faults {
		tested[fault.check] = true
	}
	for _, c := range checks() {
		assert.Contains(t, string(text), "\n### "+c.name+"\n")
		assert.True(t, tested[c.name], c.name)
	}
	assert.Len(t, checks(), strings.Count(string(text), "\n### "))
}

// answer is what a pod answers with status 500.
type answer string

func (a answer) DoRaw(context.Context) ([]byte, error) { return []byte(a), errors.New("status 500") }

func (a answer) Stream(context.Context) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// The pods that are not ready are asked which of their parts is not.
func TestUnreadyPodsAreAsked(t *testing.T) {
	w := healthy(t)
	w.deployment.Status.ReadyReplicas = 1
	v := w.view()
	var b strings.Builder
	require.NoError(t, WriteText(&b, Run(t.Context(), v, false)))
	assert.Contains(t, b.String(), "‼ replicas: 1 of 2 replicas are ready; not ready: mirrorgate-a: caches\n    hint: ")
	assert.Contains(t, b.String(), "✓ leader: a leader moves mirrors\n")
	assert.Contains(t, b.String(), "ok, 0 not checked, 1 warnings, 0 errors\n")
	b.Reset()
	require.NoError(t, WriteJSON(&b, Run(t.Context(), v, false)))
	assert.Contains(t, b.String(), `"ok": true`)
}

func TestNames(t *testing.T) {
	var many []string
	for i := range 7 {
		many = append(many, fmt.Sprint(i))
	}
	assert.Equal(t, "0, 1, 2, 3, 4, …", shorten(many))
}
