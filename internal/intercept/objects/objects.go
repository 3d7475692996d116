// Package objects makes the objects that stand in front of a Service: the Deployment of its proxies, and
// everything that belongs to it.
package objects

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Parent is a Service that gets proxies.
type Parent struct {
	Service *corev1.Service
	// Original is the selector that its author means.
	Original map[string]string
	Config   Config
	// Report is where the proxies report to.
	Report wellknown.ReportTarget
}

func (p *Parent) meta(name string, owner metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: p.Service.Namespace, Name: name,
		Labels:          map[string]string{wellknown.ManagedByLabel: wellknown.ManagedBy, wellknown.ParentLabel: wellknown.ParentValue(p.Service.Name)},
		OwnerReferences: []metav1.OwnerReference{owner},
	}
}

func (p *Parent) self() metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: p.Service.Name, UID: p.Service.UID}
}

// Account returns the identity of all proxies of the namespace.
func (p *Parent) Account(origin metav1.OwnerReference) *corev1.ServiceAccount {
	a := &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: p.meta(wellknown.ProxyAccount, origin)}
	delete(a.Labels, wellknown.ParentLabel)
	return a
}

// Binding returns the RoleBinding that lets the proxies read in their own namespace.
func (p *Parent) Binding(origin metav1.OwnerReference) *rbacv1.RoleBinding {
	b := p.Grant(p.Service.Namespace)
	b.ObjectMeta = p.meta(wellknown.ProxyAccount, origin)
	delete(b.Labels, wellknown.ParentLabel)
	return b
}

// Grant returns the RoleBinding that lets them read in a namespace that permits references from theirs.
func (p *Parent) Grant(namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: wellknown.GrantName(p.Service.Namespace),
			Labels: map[string]string{wellknown.ManagedByLabel: wellknown.ManagedBy, wellknown.SourceLabel: p.Service.Namespace},
		},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: wellknown.ProxyAccount},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: wellknown.ProxyAccount, Namespace: p.Service.Namespace}},
	}
}

// Budget returns the PodDisruptionBudget that keeps a drain of nodes from evicting more than one proxy at a
// time.
func (p *Parent) Budget(origin metav1.OwnerReference) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: policyv1.SchemeGroupVersion.String(), Kind: "PodDisruptionBudget"},
		ObjectMeta: p.meta(wellknown.ProxyName(p.Service.Name), origin),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             new(intstr.FromInt32(1)),
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
			Selector:                   p.Deployment().Spec.Selector,
		},
	}
}

// Scaled reports whether the number of proxies follows the load.
func (p *Parent) Scaled() bool { return p.Config.MaxReplicas > p.Config.Replicas }

// Scaler returns the HorizontalPodAutoscaler of the proxies.
func (p *Parent) Scaler(origin metav1.OwnerReference) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: autoscalingv2.SchemeGroupVersion.String(), Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: p.meta(wellknown.ProxyName(p.Service.Name), origin),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
				APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment", Name: wellknown.ProxyName(p.Service.Name),
			},
			MinReplicas: &p.Config.Replicas, MaxReplicas: p.Config.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{
					Name:   corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(80))},
				},
			}},
		},
	}
}
