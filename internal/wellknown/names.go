// Package wellknown holds the names and numbers that the webhook, the controllers and the proxies must agree
// on. It imports nothing that reaches a Kubernetes client, so that packages without one can use it.
package wellknown

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/fnv"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// Prefix begins every label and annotation of mirrorgate.
	Prefix = "mirrorgate.dev/"
	// Label on a Service, or on its namespace, requests a proxy in front of it; the Service's wins.
	Label = Prefix + "proxy"
	// Enabled is the value of Label that requests a proxy; any other value requests none.
	Enabled = "enabled"
	// ControllerName is mirrorgate's in HTTPRoute.status.parents.
	ControllerName = Prefix + "proxy"
	// ParentLabel is on every object of mirrorgate that belongs to one Service; ParentValue is its value.
	ParentLabel = Prefix + "parent"
	// SourceLabel is on a RoleBinding in a namespace that grants references: it holds the namespace of the
	// proxies that may read there.
	SourceLabel = Prefix + "proxies-of"
	// ServesAnnotation of a proxy pod is the JSON of the selector keys and ports that it serves.
	ServesAnnotation = Prefix + "serves"
	// SelectorAnnotation of a Service is the JSON of its author's selector, while it has another one.
	SelectorAnnotation = Prefix + "selector"
	// ReportAnnotation of an origin is the JSON of the ReportTarget of its Service's proxies.
	ReportAnnotation = Prefix + "report"
	// ManagedByLabel has the value ManagedBy on objects that mirrorgate creates.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of ManagedByLabel.
	ManagedBy = "mirrorgate"
	// FieldManager is the field manager of mirrorgate's writes. Admission recognizes touches by it.
	FieldManager = "mirrorgate"
	// ProxyAccount is the name of the ServiceAccount of a namespace's proxies, of its RoleBinding and of the
	// ClusterRole that this refers to.
	ProxyAccount = "mirrorgate-proxy"
)

const (
	// ZoneVariable is the environment variable with the zone of a proxy. It is no flag, so that proxies of another
	// version, which do not know it, start all the same.
	ZoneVariable = "MIRRORGATE_ZONE"
	// ReportTokenVariable is the environment variable with the file of the token with which a proxy reports.
	ReportTokenVariable = "MIRRORGATE_REPORT_TOKEN" //nolint:gosec // a name
	// ReportAudience is the audience of that token: it is of no use to anybody but mirrorgate's leader.
	ReportAudience = Prefix + "report"
	// AdminPort is the port at which a proxy answers probes and serves metrics by default.
	AdminPort = 15020
	// EndpointLag is how long a proxy serves on after SIGTERM, at least: until kube-proxy on every node no
	// longer sends connections to its pod.
	EndpointLag = 8 * time.Second
)

// ReportTarget is where a proxy reports its counters to.
type ReportTarget struct {
	// Address is HOST:PORT of the leader's Service; "" is nowhere.
	Address string `json:"address"`
	// CA are the certificates, in PEM, of which one must have signed that of the leader.
	CA string `json:"ca"`
}

// The API groups of the tools that rewrite routes and selectors themselves.
const (
	ArgoGroup    = "argoproj.io"
	FlaggerGroup = "flagger.app"
)

// OwnerTool returns the name of the tool that an owner of this group and kind belongs to, "" if it is none
// that rewrites routes and selectors itself.
func OwnerTool(group, kind string) string {
	switch {
	case group == FlaggerGroup && kind == "Canary":
		return "Flagger"
	case group == ArgoGroup && kind == "Rollout":
		return ArgoRollouts
	}
	return ""
}

// ArgoRollouts is the name of that tool in messages.
const ArgoRollouts = "Argo Rollouts"

// OriginName is the name of the Service, in the same namespace, that keeps the original selector of a Service
// with proxies in front of it.
func OriginName(service string) string { return short(service, "-mirrorgate-origin") }

// ProxyName is the name of the Deployment of a Service's proxies, and of the objects that belong to it.
func ProxyName(service string) string { return short(service, "-mirrorgate-proxy") }

// ParentValue is the value of ParentLabel for a Service.
func ParentValue(service string) string { return short(service, "") }

// GrantName is the name of the RoleBinding, in a namespace that grants references, for the proxies of another
// one.
func GrantName(namespace string) string { return short(ProxyAccount+"-"+namespace, "") }

// Sentinel is the value that every key of a Service's selector has while it leads to its proxies.
func Sentinel(service string) string { return short("mirrorgate-"+service, "") }

// short returns name and suffix, shortened to the length of a DNS label: a name that is too long gets a hash,
// so that it differs from other long names.
func short(name, suffix string) string {
	if len(name)+len(suffix) <= validation.DNS1035LabelMaxLength {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:4])
	return name[:validation.DNS1035LabelMaxLength-len(suffix)-len(hash)] + hash + suffix
}

// TargetPort returns the number at which a proxy listens for a Service's port with this target port. A named
// target port gets a number made of its name, which the proxy's container declares under that name; one that
// is 0 is the port itself. The number depends on nothing else, since the ports of a running pod cannot
// change.
func TargetPort(port int32, target intstr.IntOrString) int {
	switch {
	case target.Type == intstr.String:
		h := fnv.New32a()
		_, _ = h.Write([]byte(target.StrVal))
		return namedPorts + int(h.Sum32()%10_000)
	case target.IntVal == 0:
		return int(port)
	default:
		return int(target.IntVal)
	}
}

// namedPorts is where the numbers of named ports begin. They end below the kernel's ephemeral ports.
const namedPorts = 20_000
