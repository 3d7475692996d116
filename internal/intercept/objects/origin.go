package objects

// The origin: the Service that keeps the selector of a Service's author while proxies stand in front of it.

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Origin returns the Service that keeps the original selector: proxies send to it the requests that are meant
// for the Service itself. Every origin of a namespace owns the objects that the proxies there share, so that
// they go with the last one.
func (p *Parent) Origin() *corev1.Service {
	o := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: p.meta(wellknown.OriginName(p.Service.Name), p.self()),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: p.Original,
			TrafficDistribution: p.Service.Spec.TrafficDistribution,
			IPFamilies:          p.Service.Spec.IPFamilies, IPFamilyPolicy: p.Service.Spec.IPFamilyPolicy,
		},
	}
	if p.Report.Address != "" {
		// Proxies read this Service anyway, and learn of another CA at once, without a rollout.
		text, _ := json.Marshal(p.Report) // two strings
		o.Annotations = map[string]string{wellknown.ReportAnnotation: string(text)}
	}
	for i := range p.Service.Spec.Ports {
		from := &p.Service.Spec.Ports[i]
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{
			Name: from.Name, Protocol: corev1.ProtocolTCP, AppProtocol: from.AppProtocol, Port: from.Port, TargetPort: from.TargetPort,
		})
	}
	return o
}
