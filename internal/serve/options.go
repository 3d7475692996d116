package serve

// The options of serve: defaults in the struct, then the config file, then the flags that cmd/mirrorgate
// binds to the fields. Validate checks them once and reports all errors together.

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/manifests"
	"github.com/mirrorgate/mirrorgate/webhook"
)

// minCertLife leaves a renewal a few seconds, because the times in a certificate have no smaller unit.
const minCertLife = 5 * time.Second

// Options are the options of serve. The JSON names are the keys of the config file and the names of the
// flags; durations are written like "10s".
type Options struct {
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
	// WebhookURL registers the webhooks by this URL; when it is empty, the webhook configurations are part of
	// the installation that the process belongs to.
	WebhookURL string `json:"webhook-url,omitempty"`
	// WebhookBind is, by default, the port of WebhookURL, or :9443.
	WebhookBind string `json:"webhook-bind,omitempty"`
	// Routes are components of the manifests: gateway-api, istio.
	Routes         []string        `json:"routes,omitempty"`
	Certs          string          `json:"certs,omitempty"`
	CertDir        string          `json:"cert-dir,omitempty"`
	CertNames      []string        `json:"cert-names,omitempty"`
	CertLife       metav1.Duration `json:"cert-life,omitzero"`
	Namespace      string          `json:"namespace,omitempty"`
	ProbeNamespace string          `json:"probe-namespace,omitempty"`
	FailurePolicy  string          `json:"failure-policy,omitempty"`
	// ReportBind is where the leader takes the reports of NoMesh's proxies; "0" for no reports.
	ReportBind  string `json:"report-bind,omitempty"`
	MetricsBind string `json:"metrics-bind,omitempty"`
	HealthBind  string `json:"health-bind,omitempty"`

	LeaderElect             bool   `json:"leader-elect,omitempty"`
	LeaderElectionNamespace string `json:"leader-election-namespace,omitempty"`

	ClusterDomain string          `json:"cluster-domain,omitempty"`
	RootNamespace string          `json:"root-namespace,omitempty"`
	UnreadyGrace  metav1.Duration `json:"unready-grace,omitzero"`
	Resync        metav1.Duration `json:"resync,omitzero"`
	Workers       int             `json:"workers,omitempty"`
	Iter8         bool            `json:"iter8,omitempty"`
	NoMesh        bool            `json:"no-mesh,omitempty"`
	// Intercept runs the proxies of NoMesh in this process; an installation has a process of its own for them.
	Intercept bool `json:"intercept"`
	// Policy has no flag but --strict.
	Policy webhook.Policy `json:"policy,omitzero"`
	// Prometheus answers the queries of MirrorPolicies; it has no flag.
	Prometheus Prometheus `json:"prometheus,omitzero"`
	// Proxy configures the proxies in front of Services; it has no flag but --proxy-image.
	Proxy objects.Config `json:"proxy,omitzero"`
	cli.Log

	// Version is mirrorgate's, for the user agent.
	Version string `json:"-"`
	// Clock is the clock of the machine. Certificates are checked against it.
	Clock clock.WithTicker `json:"-"`
}

// Prometheus is the operator's.
type Prometheus struct {
	// Address is its URL, like http://prometheus.monitoring:9090; "" for none, so that queries stop nothing.
	Address string `json:"address,omitempty"`
}

// DefaultOptions returns the defaults of all flags.
func DefaultOptions() *Options {
	return &Options{
		ProbeNamespace: "mirrorgate-probe",
		Routes:         manifests.Routes(),
		Certs:          certsAuto,
		CertDir:        "/var/run/mirrorgate/certs",
		CertLife:       metav1.Duration{Duration: certs.DefaultLife},
		FailurePolicy:  string(admissionregistrationv1.Fail),
		ReportBind:     ":9444",
		MetricsBind:    ":8080",
		HealthBind:     ":8081",
		ClusterDomain:  "cluster.local",
		RootNamespace:  "istio-system",
		UnreadyGrace:   metav1.Duration{Duration: 10 * time.Second},
		Resync:         metav1.Duration{Duration: 10 * time.Minute},
		Workers:        8,
		Intercept:      true,
		Proxy:          objects.DefaultConfig(),
		Log:            cli.DefaultLog(),
		Clock:          clock.RealClock{},
	}
}

// ReadFile sets the options that the YAML file at path names, and returns the line of each. Every key that is no
// option and every value that is none for its key is reported, with its line.
func (o *Options) ReadFile(path string) (lines map[string]int, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	return cli.Unmarshal(path, raw, o)
}

// Validate checks all options at once. The paths of the errors are the flags' names, in the same order each
// time.
func (o *Options) Validate() field.ErrorList {
	return slices.Concat(
		o.validateValues(),
		cli.Name("cluster-domain", o.ClusterDomain, validation.IsDNS1123Subdomain),
		cli.Name("root-namespace", o.RootNamespace, validation.IsDNS1123Label),
		cli.Name("namespace", cmp.Or(o.Namespace, "default"), validation.IsDNS1123Label),
		cli.Name("probe-namespace", cmp.Or(o.ProbeNamespace, "default"), validation.IsDNS1123Label),
		o.validateRoutes(),
		o.Proxy.Validate(field.NewPath("proxy")),
		cli.OneOf("certs", o.Certs, certsAuto, certsCertManager, certsSelf, certsFiles),
		cli.OneOf("failure-policy", o.FailurePolicy, "Fail", "Ignore"),
		o.Log.Validate(),
		o.validatePolicy(),
	)
}

func (o *Options) validateValues() (errs field.ErrorList) {
	_, port := o.webhookAddress()
	for _, check := range []struct {
		flag  string
		value any
		valid bool
		rule  string
	}{
		{"webhook-url", o.WebhookURL, o.WebhookURL == "" || o.webhookURL() != nil, "must be https://HOST:PORT, without a path"},
		{"webhook-bind", cmp.Or(o.WebhookBind, o.WebhookURL), port > 0, "must be HOST:PORT or :PORT, with a port from 1 to 65535"},
		{"report-bind", o.ReportBind, isBind(o.ReportBind), "must be HOST:PORT, :PORT or 0"},
		{"metrics-bind", o.MetricsBind, isBind(o.MetricsBind), "must be HOST:PORT, :PORT or 0"},
		{"health-bind", o.HealthBind, isBind(o.HealthBind), "must be HOST:PORT, :PORT or 0"},
		{"prometheus.address", o.Prometheus.Address, o.Prometheus.Address == "" || o.prometheusURL() != nil, "must be http://HOST:PORT or https://HOST:PORT, with a path or without"},
		{"unready-grace", o.UnreadyGrace.Duration.String(), o.UnreadyGrace.Duration >= 0, "must be 0 or more"},
		{"resync", o.Resync.Duration.String(), o.Resync.Duration >= time.Second, "must be 1s or more"},
		{"workers", o.Workers, o.Workers >= 1 && o.Workers <= 1000, "must be from 1 to 1000"},
		{"cert-life", o.CertLife.Duration.String(), o.CertLife.Duration >= minCertLife, "must be 5s or more"},
		{"no-mesh", o.NoMesh, !o.NoMesh || slices.Contains(o.Routes, manifests.GatewayAPI), "needs gateway-api among --routes: proxies serve HTTPRoutes"},
	} {
		if !check.valid {
			errs = append(errs, field.Invalid(field.NewPath(check.flag), check.value, check.rule))
		}
	}
	return errs
}

// isBind reports whether address is one to listen at, or 0 for none.
func isBind(address string) bool {
	_, _, err := net.SplitHostPort(address)
	return address == "0" || err == nil
}

func (o *Options) validateRoutes() (errs field.ErrorList) {
	if len(o.Routes) == 0 {
		errs = append(errs, field.Required(field.NewPath("routes"), "names the kinds of routes to serve"))
	}
	for _, routes := range o.Routes {
		errs = append(errs, cli.OneOf("routes", routes, manifests.Routes()...)...)
	}
	if o.NoMesh && o.Intercept && o.Proxy.Image == "" && o.WebhookURL != "" {
		errs = append(errs, field.Required(field.NewPath("proxy-image"), "names the image that proxies run; only a pod can use its own"))
	}
	return errs
}

func (o *Options) validatePolicy() field.ErrorList {
	path := field.NewPath("policy")
	errs := validateLimits(path.Child("limits"), o.Policy.Limits)
	for _, namespace := range slices.Sorted(maps.Keys(o.Policy.Namespaces)) {
		at := path.Child("namespaces").Key(namespace)
		if msgs := validation.IsDNS1123Label(namespace); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, namespace, msgs[0]))
		}
		errs = append(errs, validateLimits(at, o.Policy.Namespaces[namespace])...)
	}
	return errs
}

func validateLimits(path *field.Path, l webhook.Limits) (errs field.ErrorList) {
	if p := l.MaxPercent; p != nil && (*p < 0 || *p > 100) {
		errs = append(errs, field.Invalid(path.Child("maxPercent"), *p, "must be from 0 to 100"))
	}
	if n := l.MaxMirrors; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("maxMirrors"), *n, "must be 0 or more"))
	}
	return errs
}

// prometheusURL is the parsed address of Prometheus, nil when it is empty or cannot be used.
func (o *Options) prometheusURL() *url.URL {
	u, err := url.Parse(o.Prometheus.Address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil
	}
	return u
}

// webhookURL is the parsed WebhookURL, nil when it is empty or cannot be used.
func (o *Options) webhookURL() *url.URL {
	u, err := url.Parse(o.WebhookURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil
	}
	return u
}

// webhookAddress is where the webhook server listens; the port is 0 when WebhookBind cannot be used.
func (o *Options) webhookAddress() (host string, port int) {
	bind := o.WebhookBind
	if u := o.webhookURL(); bind == "" && u != nil && u.Port() != "" {
		bind = ":" + u.Port()
	}
	if bind == "" {
		bind = ":9443"
	}
	host, text, err := net.SplitHostPort(bind)
	if port, convErr := strconv.Atoi(text); err == nil && convErr == nil && port >= 1 && port <= 65535 {
		return host, port
	}
	return "", 0
}

// components are the components of the manifests whose webhooks the process answers.
func (o *Options) components() []string {
	if o.NoMesh {
		return append(slices.Clone(o.Routes), manifests.NoMesh)
	}
	return o.Routes
}

// ignoredGroups are the API groups of the routes that are left alone.
func (o *Options) ignoredGroups() []string {
	var groups []string
	for _, api := range []struct{ component, group string }{{manifests.GatewayAPI, route.GatewayGroup}, {manifests.Istio, route.IstioGroup}} {
		if !slices.Contains(o.Routes, api.component) {
			groups = append(groups, api.group)
		}
	}
	return groups
}

// indexGrace is UnreadyGrace as variant.Options takes it, where 0 means the default and -1 none.
func (o *Options) indexGrace() time.Duration {
	if o.UnreadyGrace.Duration == 0 {
		return -1
	}
	return o.UnreadyGrace.Duration
}

// installationNamespace is the namespace of the installation: the option's, or that of the pod that the
// process runs in.
func (o *Options) installationNamespace() (string, error) {
	if o.Namespace != "" {
		return o.Namespace, nil
	}
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return "", fmt.Errorf("--namespace is not given, and not in a pod: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
