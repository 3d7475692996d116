package intercept

// Services that no proxy can stand in front of.

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Refused says why no proxy can stand in front of a Service, in words for its author; it is empty if
// one can.
func Refused(o *corev1.Service) string {
	s, selector := &o.Spec, Stored(o.Spec.Selector, o.Annotations[wellknown.SelectorAnnotation])
	switch {
	case s.Type == corev1.ServiceTypeExternalName:
		return "it is an ExternalName"
	case s.ClusterIP == corev1.ClusterIPNone:
		return "it is headless: its clients connect to pods, not to the Service"
	case len(selector) == 0:
		return "it has no selector that could lead to proxies"
	case o.Labels[wellknown.ParentLabel] != "":
		return "it is one of mirrorgate's own"
	case s.PublishNotReadyAddresses:
		return "it publishes addresses that are not ready"
	case ptr.Deref(s.InternalTrafficPolicy, "") == corev1.ServiceInternalTrafficPolicyLocal,
		s.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
		return "its traffic policy is Local, and a proxy may be on another node"
	}
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if strings.HasPrefix(key, wellknown.Prefix) || key == appsv1.DefaultDeploymentUniqueLabelKey {
			return fmt.Sprintf("its selector has the key %s, which proxies cannot carry", key)
		}
	}
	for _, p := range s.Ports {
		if !IsTCP(&p) {
			return fmt.Sprintf("its port %d is %s; a proxy carries TCP alone", p.Port, p.Protocol)
		}
	}
	if by := owner(o, selector); by != "" {
		return "its selector belongs to " + by
	}
	return ""
}

// owner names a tool that swaps selectors itself.
func owner(o *corev1.Service, selector map[string]string) string {
	_, selects := selector["rollouts-pod-template-hash"]
	_, managed := o.Annotations["argo-rollouts.argoproj.io/managed-by-rollouts"]
	if selects || managed {
		return "Argo Rollouts"
	}
	if slices.ContainsFunc(o.OwnerReferences, func(r metav1.OwnerReference) bool { return r.Kind == "Canary" }) {
		return "Flagger"
	}
	return ""
}

// IsTCP says whether a port carries TCP.
func IsTCP(p *corev1.ServicePort) bool { return p.Protocol == "" || p.Protocol == corev1.ProtocolTCP }
