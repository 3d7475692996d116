// Package wellknown holds the names that the webhook, the controllers and the proxies agree about.
package wellknown

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// Label on a Service, or on its namespace, asks for a proxy in front of it; the Service's wins.
	Label = "mirrorgate.dev/proxy"
	// Enabled is the value of Label that does; any other means no.
	Enabled = "enabled"
	// ControllerName is ours in HTTPRoute.status.parents.
	ControllerName = "mirrorgate.dev/proxy"
	// ParentLabel is on every object of ours that belongs to one Service, with ParentValue of it.
	ParentLabel = "mirrorgate.dev/parent"
	// ServesAnnotation of a proxy pod is the JSON of what it listens for.
	ServesAnnotation = "mirrorgate.dev/serves"
	// SelectorAnnotation of a Service is the JSON of its own selector, while it has another one.
	SelectorAnnotation = "mirrorgate.dev/selector"
	// ProxyAccount is the ServiceAccount of a namespace's proxies, and its RoleBinding and the
	// ClusterRole of that.
	ProxyAccount = "mirrorgate-proxy"
	// Prefix begins the keys that are ours.
	Prefix = "mirrorgate.dev/"
	// FieldManager is the field manager of mirrorgate's writes to objects of others; admission recognizes them by it.
	FieldManager = "mirrorgate"
)

// OriginName is the name of the Service, in the same namespace, that keeps the original selector of
// a Service with a proxy in front of it.
func OriginName(service string) string { return short(service, "-mirrorgate-origin") }

// ProxyName is the name of the Deployment of a Service's proxies, and of what belongs to it.
func ProxyName(service string) string { return short(service, "-mirrorgate-proxy") }

// ParentValue is the value of ParentLabel for a Service.
func ParentValue(service string) string { return short(service, "") }

// GrantName is the name of the RoleBinding, in a namespace that grants references, for the proxies of
// another one.
func GrantName(namespace string) string { return short(ProxyAccount+"-"+namespace, "") }

// Sentinel is the value that every key of a Service's selector has while it leads to its proxies.
func Sentinel(service string) string { return short("mirrorgate-"+service, "") }

// short keeps a name with its suffix to what a DNS label and a label's value may hold: of one that
// is too long a hash tells it from others.
func short(name, suffix string) string {
	if len(name)+len(suffix) <= validation.DNS1035LabelMaxLength {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:4])
	return name[:validation.DNS1035LabelMaxLength-len(suffix)-len(hash)] + hash + suffix
}

// TargetPort is the number at which a proxy listens for a port of its Service: the target port, or
// one made of its name, which the proxy's container declares under that name. It depends on nothing
// else of the Service, since pods that run keep the ports they have.
func TargetPort(p *corev1.ServicePort) int {
	switch {
	case p.TargetPort.Type == intstr.String:
		h := fnv.New32a()
		_, _ = h.Write([]byte(p.TargetPort.StrVal))
		return namedPorts + int(h.Sum32()%10_000)
	case p.TargetPort.IntVal == 0:
		return int(p.Port)
	default:
		return int(p.TargetPort.IntVal)
	}
}

// namedPorts is where the numbers of named ports begin: below those that the kernel gives away.
const namedPorts = 20_000
