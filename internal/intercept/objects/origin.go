package objects

// The origin: the Service that keeps the selector of a Service's author while proxies stand in front of it.

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Origin returns the Service that keeps the original selector: proxies send to it the requests that are meant
// for the Service itself. Every origin of a namespace owns the objects that the proxies there share, so that
// they go with the last one. It has the labels of the Service, so that whatever looks for endpoints by these, like the
// scrapers of Prometheus, finds the pods of the application there.
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
	o.Annotations = scraping(p.Service.Annotations)
	if p.Report.Address != "" {
		// Proxies read this Service anyway, and learn of another CA at once, without a rollout.
		text, _ := json.Marshal(p.Report) // two strings
		o.Annotations[wellknown.ReportAnnotation] = string(text)
	}
	for i := range p.Service.Spec.Ports {
		from := &p.Service.Spec.Ports[i]
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{
			Name: from.Name, Protocol: corev1.ProtocolTCP, AppProtocol: from.AppProtocol, Port: from.Port, TargetPort: from.TargetPort,
		})
	}
	for key, value := range p.Service.Labels {
		if _, own := o.Labels[key]; !own && !strings.HasPrefix(key, wellknown.Prefix) {
			o.Labels[key] = value
		}
	}
	return o
}

// scraping returns the annotations by which many configurations of Prometheus are told what to scrape.
func scraping(annotations map[string]string) map[string]string {
	found := map[string]string{}
	for key, value := range annotations {
		if strings.HasPrefix(key, scrapingPrefix) {
			found[key] = value
		}
	}
	return found
}

const scrapingPrefix = "prometheus.io/"

// AsksFor reports whether an annotation of a Service has an effect on the objects that stand in front of it.
func AsksFor(annotation string) bool {
	return strings.HasPrefix(annotation, settingsPrefix) || strings.HasPrefix(annotation, scrapingPrefix)
}
