package objects

// How many proxies a Service gets, and their resources: by the flags of serve, or by annotations of the
// Service.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// settingsPrefix begins the annotations of a Service that are settings of its proxies.
const settingsPrefix = wellknown.Prefix + "proxy-"

// The annotations of a Service that win over the Config of serve.
const (
	ReplicasAnnotation    = settingsPrefix + "replicas"     // a number
	MaxReplicasAnnotation = settingsPrefix + "max-replicas" // a number
	ResourcesAnnotation   = settingsPrefix + "resources"    // JSON of a container's resources

	AccessLogAnnotation      = settingsPrefix + "access-log"       // json, common or none
	MetricsPerRuleAnnotation = settingsPrefix + "metrics-per-rule" // true or false
	ReasonHeaderAnnotation   = settingsPrefix + "reason-header"    // true or false
	TrustedHopsAnnotation    = settingsPrefix + "trusted-hops"     // a number, or none
	ProxyProtocolAnnotation  = settingsPrefix + "protocol"         // in, out, in-out or none
	CertificatesAnnotation   = settingsPrefix + "tls-certificates" // PORT=SECRET, between commas
	AffinityCookieAnnotation = settingsPrefix + "affinity-cookie"  // the name of a cookie
)

// CookieName matches the names of cookies that are taken.
var CookieName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// MaxTrustedHops bounds the proxies before those of a Service that are believed.
const MaxTrustedHops = 100

// MaxReplicas bounds the proxies of one Service: the right to write a Service should not allow to fill a
// cluster.
const MaxReplicas = 100

// Config describes the proxies of a Service. The zero value is not valid; see DefaultConfig.
type Config struct {
	// Image is the image that they run.
	Image string `json:"image,omitempty"`
	// PullPolicy is that of the image, the cluster's default when empty.
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
	// Replicas is their number.
	Replicas int32 `json:"replicas,omitempty"`
	// MaxReplicas is their greatest number under load, by a HorizontalPodAutoscaler. Unless it is more than
	// Replicas there is no HorizontalPodAutoscaler.
	MaxReplicas int32 `json:"maxReplicas,omitempty"`
	// Resources are those of each proxy.
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
	// AccessLog is the format of their access log, on standard output: json, common, or none, the default.
	AccessLog string `json:"accessLog,omitempty"`
	// MetricsPerRule makes metrics for each rule and mirror.
	MetricsPerRule bool `json:"metricsPerRule,omitempty"`
	// ReasonHeader tells clients the reason of errors that are a proxy's own; true by default.
	ReasonHeader *bool `json:"reasonHeader,omitempty"`
	// TrustedHops, if set, makes proxies write X-Forwarded-For, -Proto and -Host, and believe as many proxies before them.
	TrustedHops *int32 `json:"trustedHops,omitempty"`
	// ProxyProtocol is where connections begin with a header of PROXY protocol: in (those of clients), out (those that are
	// passed through), in-out, or none, the default.
	ProxyProtocol string `json:"proxyProtocol,omitempty"`
	// Certificates are those with which proxies terminate TLS. Only a Service has them.
	Certificates []Certificate `json:"-"`
	// AffinityCookie is the cookie with which clients stay with an endpoint, empty for none. It has no default, since it
	// belongs to an application.
	AffinityCookie string `json:"-"`
}

// DefaultConfig returns a Config that is complete but for the image.
func DefaultConfig() Config {
	return Config{
		Replicas: 2,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
	}
}

// Validate returns every fault, with field paths below path.
func (c *Config) Validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if c.Replicas < 1 || c.Replicas > MaxReplicas {
		errs = append(errs, field.Invalid(path.Child("replicas"), c.Replicas, fmt.Sprintf("must be from 1 to %d", MaxReplicas)))
	}
	if c.MaxReplicas < 0 || c.MaxReplicas > MaxReplicas {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), c.MaxReplicas, fmt.Sprintf("must be from 0 to %d", MaxReplicas)))
	}
	if !slices.Contains(accessLogs, c.AccessLog) && c.AccessLog != "" {
		errs = append(errs, field.NotSupported(path.Child("accessLog"), c.AccessLog, accessLogs))
	}
	if hops := ptr.Deref(c.TrustedHops, 0); hops < 0 || hops > MaxTrustedHops {
		errs = append(errs, field.Invalid(path.Child("trustedHops"), hops, fmt.Sprintf("must be from 0 to %d", MaxTrustedHops)))
	}
	if !slices.Contains(proxyProtocols, c.ProxyProtocol) && c.ProxyProtocol != "" {
		errs = append(errs, field.NotSupported(path.Child("proxyProtocol"), c.ProxyProtocol, proxyProtocols))
	}
	return errs
}

// none is the value of an annotation that takes a setting of serve's away.
const none = "none"

var (
	accessLogs     = []string{"json", "common", none}
	proxyProtocols = []string{"in", "out", "in-out", none}
)

// For returns the Config for a Service with these annotations. An annotation with a fault is reported and
// changes nothing.
func (c Config) For(annotations map[string]string) (Config, field.ErrorList) {
	var errs field.ErrorList
	path := field.NewPath("metadata", "annotations")
	number := func(key string, least int, into *int32) {
		text, ok := annotations[key]
		if !ok {
			return
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > MaxReplicas {
			errs = append(errs, field.Invalid(path.Key(key), text, fmt.Sprintf("must be a number from %d to %d", least, MaxReplicas)))
			return
		}
		*into = int32(n) //nolint:gosec // it is in bounds
	}
	if text, ok := annotations[AccessLogAnnotation]; ok && !slices.Contains(accessLogs, text) {
		errs = append(errs, field.NotSupported(path.Key(AccessLogAnnotation), text, accessLogs))
	} else if ok {
		c.AccessLog = text
	}
	errs = append(errs, c.connections(annotations, path)...)
	truth := func(key string, into *bool) {
		switch text, ok := annotations[key]; {
		case !ok:
		case text != "true" && text != "false":
			errs = append(errs, field.NotSupported(path.Key(key), text, []string{"true", "false"}))
		default:
			*into = text == "true"
		}
	}
	truth(MetricsPerRuleAnnotation, &c.MetricsPerRule)
	reason := ptr.Deref(c.ReasonHeader, true)
	if truth(ReasonHeaderAnnotation, &reason); reason != ptr.Deref(c.ReasonHeader, true) {
		c.ReasonHeader = &reason
	}
	number(ReplicasAnnotation, 1, &c.Replicas)
	number(MaxReplicasAnnotation, 0, &c.MaxReplicas)
	if annotations[TrustedHopsAnnotation] == none {
		c.TrustedHops = nil
	} else {
		hops := ptr.Deref(c.TrustedHops, -1)
		if number(TrustedHopsAnnotation, 0, &hops); hops >= 0 {
			c.TrustedHops = &hops
		}
	}
	switch text, ok := annotations[AffinityCookieAnnotation]; {
	case ok && !CookieName.MatchString(text):
		errs = append(errs, field.Invalid(path.Key(AffinityCookieAnnotation), text, "must be the name of a cookie"))
	case ok:
		c.AffinityCookie = text
	}
	return c, append(errs, c.resources(annotations, path)...)
}

// resources reads the annotation with the resources of a proxy's container.
func (c *Config) resources(annotations map[string]string, path *field.Path) field.ErrorList {
	text, ok := annotations[ResourcesAnnotation]
	if !ok {
		return nil
	}
	var r corev1.ResourceRequirements
	strict := json.NewDecoder(bytes.NewReader([]byte(text)))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&r); err != nil {
		return field.ErrorList{field.Invalid(path.Key(ResourcesAnnotation), text, "must be JSON of a container's resources: "+err.Error())}
	}
	c.Resources = r
	return nil
}

// connections reads the annotations that say how connections begin.
func (c *Config) connections(annotations map[string]string, path *field.Path) (errs field.ErrorList) {
	if text, ok := annotations[ProxyProtocolAnnotation]; ok && !slices.Contains(proxyProtocols, text) {
		errs = append(errs, field.NotSupported(path.Key(ProxyProtocolAnnotation), text, proxyProtocols))
	} else if ok {
		c.ProxyProtocol = text
	}
	certificates, err := ParseCertificates(annotations[CertificatesAnnotation])
	if c.Certificates = certificates; err != nil {
		errs = append(errs, field.Invalid(path.Key(CertificatesAnnotation), annotations[CertificatesAnnotation], err.Error()))
	}
	return errs
}

// args returns the flags of a proxy that are not its defaults.
func (c *Config) args() (args []string) {
	if c.AccessLog != "" && c.AccessLog != none {
		args = append(args, "--access-log="+c.AccessLog)
	}
	if c.MetricsPerRule {
		args = append(args, "--metrics-per-rule")
	}
	if !ptr.Deref(c.ReasonHeader, true) {
		args = append(args, "--reason-header=false")
	}
	if c.AffinityCookie != "" {
		args = append(args, "--affinity-cookie="+c.AffinityCookie)
	}
	if c.TrustedHops != nil {
		args = append(args, "--trusted-hops="+strconv.Itoa(int(*c.TrustedHops)))
	}
	if c.ProxyProtocol != "" && c.ProxyProtocol != none {
		args = append(args, "--proxy-protocol="+c.ProxyProtocol)
	}
	for _, certificate := range c.Certificates {
		args = append(args, fmt.Sprintf("--certificate=%d=%s", certificate.Port, certificate.folder()))
	}
	return args
}
