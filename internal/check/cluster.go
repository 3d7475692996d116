package check

// The checks of the cluster itself: what mirrorgate needs, and what may stand in its way.

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// minKubernetes is the oldest version that docs/install.md names.
const minKubernetes = "1.34"

func (v *View) kubernetesVersion(context.Context) (found findings, err error) {
	info, err := v.Client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("the API server does not answer: %w", err)
	}
	have, err := version.ParseGeneric(info.GitVersion)
	if err != nil {
		found.add(Warning, fmt.Sprintf("the API server's version %q cannot be read", info.GitVersion), "")
	} else if have.LessThan(version.MustParseGeneric(minKubernetes)) {
		found.add(Error, fmt.Sprintf("Kubernetes %s is older than %s", info.GitVersion, minKubernetes), "upgrade the cluster")
	}
	return found, nil
}

// kind is a kind of object, and how to get it.
type kind struct{ group, resource, name, install string }

// kinds are the kinds of routes, and the kind by which subsets are found.
var kinds = []kind{
	{route.GatewayGroup, "httproutes", "HTTPRoute", "install the Gateway API, 1.0 or newer"},
	{route.GatewayGroup, "grpcroutes", "GRPCRoute", "install the Gateway API, 1.1 or newer"},
	{route.IstioGroup, "virtualservices", "VirtualService", "install Istio's CRDs, 1.22 or newer"},
	{route.IstioGroup, "destinationrules", "DestinationRule", "install Istio's CRDs, 1.22 or newer"},
}

// served returns the versions in which a resource is served.
func (v *View) served(group, resource string) (versions []string, err error) {
	key := kind{group: group, resource: resource}
	if versions, known := v.versions[key]; known {
		return versions, nil
	}
	groups, err := v.Client.Discovery().ServerGroups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups.Groups {
		if g.Name != group {
			continue
		}
		for _, gv := range g.Versions {
			list, err := v.Client.Discovery().ServerResourcesForGroupVersion(gv.GroupVersion)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource }) {
				versions = append(versions, gv.Version)
			}
		}
	}
	v.versions[key] = versions
	return versions, nil
}

func (v *View) routeKinds(context.Context) (found findings, err error) {
	gated := 0
	for _, k := range kinds {
		versions, err := v.served(k.group, k.resource)
		switch {
		case err != nil:
			return found, err
		case len(versions) == 0:
		case !slices.Contains(versions, "v1"):
			found.add(Warning, fmt.Sprintf("%s is served as %s alone, and mirrorgate gates v1", k.name, strings.Join(versions, ", ")), k.install)
		case k.resource != "destinationrules":
			gated++
		}
	}
	if gated == 0 {
		found.add(Error, "the cluster serves neither HTTPRoute, GRPCRoute nor VirtualService as v1", "install the CRDs of the Gateway API or of Istio")
	}
	return found, nil
}

var customResourceDefinitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// mirrorPercent looks into the schemas: a CRD that does not know the field drops it, and everything is copied.
func (v *View) mirrorPercent(ctx context.Context) (found findings, err error) {
	for _, k := range kinds[:2] {
		crd, err := v.Objects.Resource(customResourceDefinitions).Get(ctx, k.resource+"."+k.group, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return found, err
		}
		if mirror := mirrorSchema(crd); mirror != nil && (mirror["percent"] == nil || mirror["fraction"] == nil) {
			found.add(Warning, fmt.Sprintf("the CRD of %s drops the percentage of a mirror, so that every request is copied", k.name),
				"install the Gateway API 1.3 or newer, or 1.2 in the experimental channel")
		}
	}
	return found, nil
}

// mirrorSchema returns the properties of requestMirror in v1 of a CRD, nil where there are none.
func mirrorSchema(crd *unstructured.Unstructured) map[string]any {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, entry := range versions {
		one, _ := entry.(map[string]any)
		if one["name"] != "v1" {
			continue
		}
		properties, _, _ := unstructured.NestedMap(one, "schema", "openAPIV3Schema", "properties", "spec", "properties", "rules", "items",
			"properties", "filters", "items", "properties", "requestMirror", "properties")
		return properties
	}
	return nil
}

var gatewayClasses = schema.GroupVersionResource{Group: route.GatewayGroup, Version: "v1", Resource: "gatewayclasses"}

// gatewayClasses reads the features that each controller claims; one that claims none is no finding.
func (v *View) gatewayClasses(ctx context.Context) (found findings, err error) {
	list, err := v.Objects.Resource(gatewayClasses).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		features := supportedFeatures(&list.Items[i])
		name := list.Items[i].GetName()
		switch {
		case len(features) == 0:
		case !features["HTTPRouteRequestMirror"]:
			found.add(Warning, fmt.Sprintf("GatewayClass %s does not claim RequestMirror: its Gateways may ignore mirrors, or refuse their routes", name),
				"take another GatewayClass for routes with mirrors, or a newer version of its controller")
		case !features["HTTPRouteRequestPercentageMirror"]:
			found.add(Warning, fmt.Sprintf("GatewayClass %s does not claim percentages of mirrors: it may copy every request", name),
				"take another GatewayClass for routes with mirrors, or a newer version of its controller")
		}
	}
	return found, nil
}

func supportedFeatures(class *unstructured.Unstructured) map[string]bool {
	entries, _, _ := unstructured.NestedSlice(class.Object, "status", "supportedFeatures")
	features := map[string]bool{}
	for _, entry := range entries {
		switch e := entry.(type) {
		case string:
			features[e] = true
		case map[string]any:
			name, _ := e["name"].(string)
			features[name] = true
		}
	}
	return features
}

// foreign is a webhook of somebody else that is called for routes.
type foreign struct {
	configuration, name string
	client              admissionregistrationv1.WebhookClientConfig
	policy              *admissionregistrationv1.FailurePolicyType
	sideEffects         *admissionregistrationv1.SideEffectClass
	namespaces          *metav1.LabelSelector
}

func (v *View) otherWebhooks(ctx context.Context) (found findings, err error) {
	others, err := v.foreignWebhooks(ctx)
	if err != nil || len(others) == 0 {
		return nil, err
	}
	probe, err := webhook.ProbeNamespace(ctx, v.Client, probeNamespace)
	if err != nil {
		return nil, err
	}
	labelled, err := v.namespaceLabels(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range others {
		name := fmt.Sprintf("webhook %s of %s", w.name, w.configuration)
		called, err := w.calledIn(labelled)
		if err != nil {
			found.add(Warning, fmt.Sprintf("the namespaceSelector of %s cannot be read: %v", name, err), "")
			continue
		}
		if s := w.sideEffects; called(probe) && s != nil && *s != admissionregistrationv1.SideEffectClassNone && *s != admissionregistrationv1.SideEffectClassNoneOnDryRun {
			found.add(Warning, name+" is called for routes and has side effects, so the API server refuses every dry run of them",
				"exclude the namespace "+probe+" from it: mirrorgate proves by dry runs there that it denies")
		}
		s := w.client.Service
		if s == nil || w.policy == nil || *w.policy != admissionregistrationv1.Fail || !called("") {
			continue
		}
		if _, err := v.Client.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			found.add(Error, fmt.Sprintf("%s is called for routes, and its Service %s/%s does not exist: no mirror can move", name, s.Namespace, s.Name),
				"install its program again, or delete the configuration")
		}
	}
	return found, nil
}

// namespaceLabels returns the labels of each namespace, nil for a user who may not list them.
func (v *View) namespaceLabels(ctx context.Context) (map[string]labels.Set, error) {
	list, err := v.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	labelled := map[string]labels.Set{}
	for i := range list.Items {
		labelled[list.Items[i].Name] = list.Items[i].Labels
	}
	return labelled, nil
}

// calledIn returns a function that reports whether the webhook is called in a namespace, or in any for "". Without
// labels it always does.
func (w foreign) calledIn(labelled map[string]labels.Set) (func(namespace string) bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(cmp.Or(w.namespaces, &metav1.LabelSelector{})) // the API server's default selects all
	if err != nil {
		return nil, err
	}
	return func(namespace string) bool {
		if labelled == nil {
			return true
		}
		for name, set := range labelled {
			if (namespace == "" || name == namespace) && selector.Matches(set) {
				return true
			}
		}
		return false
	}, nil
}

func (v *View) foreignWebhooks(ctx context.Context) (others []foreign, err error) {
	api := v.Client.AdmissionregistrationV1()
	mutating, err := api.MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	validating, err := api.ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, c := range mutating.Items {
		for _, w := range c.Webhooks {
			if forRoutes(w.Name, w.Rules) {
				others = append(others, foreign{"MutatingWebhookConfiguration " + c.Name, w.Name, w.ClientConfig, w.FailurePolicy, w.SideEffects, w.NamespaceSelector})
			}
		}
	}
	for _, c := range validating.Items {
		for _, w := range c.Webhooks {
			if forRoutes(w.Name, w.Rules) {
				others = append(others, foreign{"ValidatingWebhookConfiguration " + c.Name, w.Name, w.ClientConfig, w.FailurePolicy, w.SideEffects, w.NamespaceSelector})
			}
		}
	}
	return others, nil
}

// forRoutes reports whether somebody else's webhook is called when kinds of routes are written.
func forRoutes(name string, rules []admissionregistrationv1.RuleWithOperations) bool {
	if strings.HasSuffix(name, ".mirrorgate.dev") {
		return false
	}
	return slices.ContainsFunc(rules, func(r admissionregistrationv1.RuleWithOperations) bool {
		if !slices.ContainsFunc(r.Operations, func(o admissionregistrationv1.OperationType) bool {
			return o == admissionregistrationv1.OperationAll || o == admissionregistrationv1.Create || o == admissionregistrationv1.Update
		}) || r.Scope != nil && *r.Scope == admissionregistrationv1.ClusterScope {
			return false
		}
		return slices.ContainsFunc(kinds[:3], func(k kind) bool {
			group := slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIGroups, k.group)
			return group && (slices.Contains(r.Resources, "*") || slices.Contains(r.Resources, "*/*") || slices.Contains(r.Resources, k.resource))
		})
	})
}

func (v *View) permissions(ctx context.Context) (found findings, err error) {
	for _, p := range []struct{ group, resource string }{
		{"", "namespaces"}, {"apps", "deployments"}, {"", "services"},
		{"rbac.authorization.k8s.io", "clusterroles"}, {"rbac.authorization.k8s.io", "clusterrolebindings"},
		{"admissionregistration.k8s.io", "mutatingwebhookconfigurations"}, {"admissionregistration.k8s.io", "validatingwebhookconfigurations"},
	} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "create", Group: p.group, Resource: p.resource},
		}}
		answer, err := v.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return found, err
		}
		if !answer.Status.Allowed {
			found.add(Error, fmt.Sprintf("you may not create %s in all namespaces", p.resource), "install mirrorgate as a cluster administrator")
		}
	}
	return found, nil
}
