package main

// What serve can be told: defaults in the struct, then the config file, then
// flags; checked once, all errors together.

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// minCertLife leaves a renewal some seconds: certificates know no smaller unit.
const minCertLife = 5 * time.Second

// serveOptions are the flags of serve; the JSON names are the keys of its config
// file. Durations are as in "10s".
type serveOptions struct {
	Config                  string          `json:"-"`
	Kubeconfig              string          `json:"kubeconfig,omitempty"`
	Context                 string          `json:"context,omitempty"`
	WebhookURL              string          `json:"webhook-url,omitempty"`
	WebhookBind             string          `json:"webhook-bind,omitempty"`
	Routes                  []string        `json:"routes,omitempty"`
	Certs                   string          `json:"certs,omitempty"`
	CertDir                 string          `json:"cert-dir,omitempty"`
	CertNames               []string        `json:"cert-names,omitempty"`
	CertLife                metav1.Duration `json:"cert-life,omitzero"`
	Namespace               string          `json:"namespace,omitempty"`
	ProbeNamespace          string          `json:"probe-namespace,omitempty"`
	FailurePolicy           string          `json:"failure-policy,omitempty"`
	MetricsBind             string          `json:"metrics-bind,omitempty"`
	HealthBind              string          `json:"health-bind,omitempty"`
	LeaderElect             bool            `json:"leader-elect,omitempty"`
	LeaderElectionNamespace string          `json:"leader-election-namespace,omitempty"`
	ClusterDomain           string          `json:"cluster-domain,omitempty"`
	RootNamespace           string          `json:"root-namespace,omitempty"`
	UnreadyGrace            metav1.Duration `json:"unready-grace,omitzero"`
	Resync                  metav1.Duration `json:"resync,omitzero"`
	Workers                 int             `json:"workers,omitempty"`
	Iter8                   bool            `json:"iter8,omitempty"`
	LogLevel                string          `json:"log-level,omitempty"`
	LogFormat               string          `json:"log-format,omitempty"`
	NoMesh                  bool            `json:"no-mesh,omitempty"`
	// Policy has no flags but --strict.
	Policy webhook.Policy `json:"policy,omitzero"`
	// Proxy is what proxies in front of Services are like; it has no flags but --proxy-image.
	Proxy objects.Config `json:"proxy,omitzero"`

	url  *url.URL
	host string
	port int
}

func defaultServeOptions() *serveOptions {
	return &serveOptions{
		ProbeNamespace: "mirrorgate-probe",
		Routes:         manifests.Routes(),
		Certs:          certsAuto,
		CertDir:        "/var/run/mirrorgate/certs",
		CertLife:       metav1.Duration{Duration: certs.DefaultLife},
		FailurePolicy:  string(admissionregistrationv1.Fail),
		MetricsBind:    ":8080",
		HealthBind:     ":8081",
		ClusterDomain:  "cluster.local",
		RootNamespace:  "istio-system",
		UnreadyGrace:   metav1.Duration{Duration: 10 * time.Second},
		Resync:         metav1.Duration{Duration: 10 * time.Minute},
		Workers:        8,
		LogLevel:       "info",
		LogFormat:      "text",
		Proxy:          objects.DefaultConfig(),
	}
}

func (o *serveOptions) bind(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig of the cluster to serve; in a cluster the service account is used")
	f.StringVar(&o.Context, "context", o.Context, "context of the kubeconfig, if not its current one")
	f.StringVar(&o.WebhookURL, "webhook-url", o.WebhookURL, "https://HOST:PORT at which the API server reaches this process; registers the webhooks while it runs")
	f.StringVar(&o.WebhookBind, "webhook-bind", o.WebhookBind, "address that the webhook server listens on (default the port of --webhook-url, or :9443)")
	f.StringSliceVar(&o.Routes, "routes", o.Routes, "the routes to look after: gateway-api (HTTPRoutes, GRPCRoutes), istio (VirtualServices); others are left alone, and need no rights")
	f.BoolVar(&o.NoMesh, "no-mesh", o.NoMesh, "put proxies in front of Services that ask for it with the label mirrorgate.dev/proxy: enabled; for a cluster without a mesh")
	f.StringVar(&o.Proxy.Image, "proxy-image", o.Proxy.Image, "image that they run, with --no-mesh; in a cluster the pod's own by default")
	f.StringVar(&o.Certs, "certs", o.Certs, "where the certificate comes from, without --webhook-url: auto, cert-manager, self or files")
	f.StringVar(&o.CertDir, "cert-dir", o.CertDir, "folder with tls.crt and tls.key, for --certs=files")
	f.StringSliceVar(&o.CertNames, "cert-names", o.CertNames, "names and IP addresses by which the API server calls, beside mirrorgate.NAMESPACE.svc")
	f.DurationVar(&o.CertLife.Duration, "cert-life", o.CertLife.Duration, "how long a certificate is good for; it is renewed at two thirds, its CA lives four times as long")
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace of the installation; in a cluster the pod's own by default")
	f.StringVar(&o.ProbeNamespace, "probe-namespace", o.ProbeNamespace, "namespace in which writes that must be denied are tried, in dry runs only")
	f.StringVar(&o.FailurePolicy, "failure-policy", o.FailurePolicy, "failure policy of the validating webhook once it is known to work: Fail or Ignore")
	f.StringVar(&o.MetricsBind, "metrics-bind", o.MetricsBind, "address of the Prometheus metrics; 0 for none")
	f.StringVar(&o.HealthBind, "health-bind", o.HealthBind, "address of /healthz and /readyz; 0 for none")
	f.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "elect a leader among the replicas: only it touches routes")
	f.StringVar(&o.LeaderElectionNamespace, "leader-election-namespace", o.LeaderElectionNamespace, "namespace of the leader's lease; in a cluster the pod's own by default")
	f.DurationVar(&o.UnreadyGrace.Duration, "unready-grace", o.UnreadyGrace.Duration, "how long a variant may be unready before its mirrors are parked; a restart should fit in")
	f.DurationVar(&o.Resync.Duration, "resync", o.Resync.Duration, "how often every route is looked at again")
	f.IntVar(&o.Workers, "workers", o.Workers, "routes touched at the same time")
	f.BoolVar(&o.Iter8, "iter8", o.Iter8, "serve Iter8's documents too: subjects, routing policies and routemaps; reads ConfigMaps by label, and applies routes")
	f.BoolVar(&o.Policy.Strict, "strict", o.Policy.Strict, "deny a mirror whose variant is not ready, in place of parking it")
	f.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
	f.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json")
	o.bindShared(f)
}

// bindShared binds what every verb that decides has to know of a cluster.
func (o *serveOptions) bindShared(f *pflag.FlagSet) {
	f.StringVar(&o.ClusterDomain, "cluster-domain", o.ClusterDomain, "DNS domain of the cluster")
	f.StringVar(&o.RootNamespace, "root-namespace", o.RootNamespace, "Istio's root namespace, whose DestinationRules hold everywhere")
	f.StringVar(&o.Config, "config", o.Config, "YAML file of serve: the same keys as its flags, and policy")
}

// load reads the config file, lets flags win over it, and checks the result.
func (o *serveOptions) load(flags *pflag.FlagSet) error {
	var set []func() error
	flags.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values := slices.Clone(list.GetSlice()) // setting a list again would add to it
			set = append(set, func() error { return list.Replace(values) })
			return
		}
		value := f.Value.String()
		set = append(set, func() error { return f.Value.Set(value) })
	})
	if o.Config != "" {
		raw, err := os.ReadFile(o.Config)
		if err != nil {
			return fmt.Errorf("--config: %w", err)
		}
		if err := yaml.UnmarshalStrict(raw, o); err != nil {
			return fmt.Errorf("--config %s: %w", o.Config, err)
		}
		for _, again := range set {
			if err := again(); err != nil {
				return err
			}
		}
	}
	if errs := o.Validate(); len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}

// Validate checks everything at once; paths are the flags' names.
func (o *serveOptions) Validate() field.ErrorList {
	var errs field.ErrorList
	bad := func(name string, value any, why string) {
		errs = append(errs, field.Invalid(field.NewPath(name), value, why))
	}
	if o.WebhookURL != "" {
		u, err := url.Parse(o.WebhookURL)
		switch {
		case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			bad("webhook-url", o.WebhookURL, "must be https://HOST:PORT, without a path")
		default:
			o.url = u
			if o.WebhookBind == "" && u.Port() != "" {
				o.WebhookBind = ":" + u.Port()
			}
		}
	}
	if o.WebhookBind == "" {
		o.WebhookBind = ":9443"
	}
	host, port, err := net.SplitHostPort(o.WebhookBind)
	if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || n < 1 || n > 65535 {
		bad("webhook-bind", o.WebhookBind, "must be HOST:PORT or :PORT, with a port from 1 to 65535")
	} else {
		o.host, o.port = host, n
	}
	for name, address := range map[string]string{"metrics-bind": o.MetricsBind, "health-bind": o.HealthBind} {
		if _, _, err := net.SplitHostPort(address); address != "0" && err != nil {
			bad(name, address, "must be HOST:PORT, :PORT or 0")
		}
	}
	if msgs := validation.IsDNS1123Subdomain(o.ClusterDomain); len(msgs) > 0 {
		bad("cluster-domain", o.ClusterDomain, msgs[0])
	}
	if msgs := validation.IsDNS1123Label(o.RootNamespace); len(msgs) > 0 {
		bad("root-namespace", o.RootNamespace, msgs[0])
	}
	if o.UnreadyGrace.Duration < 0 {
		bad("unready-grace", o.UnreadyGrace.Duration.String(), "must be 0 or more")
	}
	if o.Resync.Duration < time.Second {
		bad("resync", o.Resync.Duration.String(), "must be 1s or more")
	}
	if o.Workers < 1 || o.Workers > 1000 {
		bad("workers", o.Workers, "must be from 1 to 1000")
	}
	if o.CertLife.Duration < minCertLife {
		bad("cert-life", o.CertLife.Duration.String(), "must be 5s or more")
	}
	for name, namespace := range map[string]string{"namespace": o.Namespace, "probe-namespace": o.ProbeNamespace} {
		if msgs := validation.IsDNS1123Label(namespace); namespace != "" && len(msgs) > 0 {
			bad(name, namespace, msgs[0])
		}
	}
	if len(o.Routes) == 0 {
		errs = append(errs, field.Required(field.NewPath("routes"), "names what there is to look after"))
	}
	for _, routes := range o.Routes {
		errs = append(errs, oneOf("routes", routes, manifests.Routes()...)...)
	}
	if o.NoMesh && !slices.Contains(o.Routes, manifests.GatewayAPI) {
		bad("no-mesh", o.NoMesh, "needs gateway-api among --routes: proxies serve HTTPRoutes")
	}
	if o.NoMesh && o.Proxy.Image == "" && o.WebhookURL != "" {
		errs = append(errs, field.Required(field.NewPath("proxy-image"), "names the image that proxies run; only a pod can use its own"))
	}
	errs = append(errs, o.Proxy.Validate(field.NewPath("proxy"))...)
	errs = append(errs, oneOf("certs", o.Certs, certsAuto, certsCertManager, certsSelf, certsFiles)...)
	errs = append(errs, oneOf("failure-policy", o.FailurePolicy, "Fail", "Ignore")...)
	errs = append(errs, oneOf("log-level", o.LogLevel, "debug", "info", "warn", "error")...)
	errs = append(errs, oneOf("log-format", o.LogFormat, "text", "json")...)
	return append(errs, o.validatePolicy()...)
}

func (o *serveOptions) validatePolicy() field.ErrorList {
	path := field.NewPath("policy")
	errs := validateLimits(path.Child("limits"), o.Policy.Limits)
	for namespace, limits := range o.Policy.Namespaces {
		at := path.Child("namespaces").Key(namespace)
		if msgs := validation.IsDNS1123Label(namespace); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, namespace, msgs[0]))
		}
		errs = append(errs, validateLimits(at, limits)...)
	}
	return errs
}

func validateLimits(path *field.Path, l webhook.Limits) field.ErrorList {
	var errs field.ErrorList
	if p := l.MaxPercent; p != nil && (*p < 0 || *p > 100) {
		errs = append(errs, field.Invalid(path.Child("maxPercent"), *p, "must be from 0 to 100"))
	}
	if n := l.MaxMirrors; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("maxMirrors"), *n, "must be 0 or more"))
	}
	return errs
}

func oneOf(name, value string, supported ...string) field.ErrorList {
	if slices.Contains(supported, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(field.NewPath(name), value, supported)}
}

// components are those of the manifests whose webhooks the process answers.
func (o *serveOptions) components() []string {
	if o.NoMesh {
		return append(slices.Clone(o.Routes), manifests.NoMesh)
	}
	return o.Routes
}

// without are the API groups of the routes that are left alone.
func (o *serveOptions) without() []string {
	var groups []string
	for name, group := range map[string]string{manifests.GatewayAPI: route.GatewayGroup, manifests.Istio: route.IstioGroup} {
		if !slices.Contains(o.Routes, name) {
			groups = append(groups, group)
		}
	}
	return groups
}

// grace is the unready grace as the index takes it: 0 would be its default.
func (o *serveOptions) grace() time.Duration {
	if o.UnreadyGrace.Duration == 0 {
		return -1
	}
	return o.UnreadyGrace.Duration
}

func (o *serveOptions) level() slog.Level { return logLevel(o.LogLevel) }

// logLevel reads a level that Validate has checked.
func logLevel(name string) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(name))
	return l
}

func (o *serveOptions) failurePolicy() admissionregistrationv1.FailurePolicyType {
	return admissionregistrationv1.FailurePolicyType(o.FailurePolicy)
}
