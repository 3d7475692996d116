package proxyserve

import (
	"cmp"
	"net"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mirrorgate/mirrorgate/internal/cli"
	"github.com/mirrorgate/mirrorgate/internal/intercept/objects"
	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

// Options are the options of proxy. The rules come from a file or from the routes of a Service.
type Options struct {
	// Config is the path of the file with listeners, rules and services.
	Config string
	// Service is the name of a Service to stand in front of, instead of Config.
	Service string
	// Namespace of the Service; by default that of the kubeconfig's context, or of the pod.
	Namespace string
	// Kubeconfig is the path of a kubeconfig; by default kubectl's files, or the pod's service account.
	Kubeconfig string
	// Context is a context of the kubeconfig, by default its current one.
	Context string
	// AdminBind is the address of /metrics, /healthz and /readyz for a Service; a file names its own.
	AdminBind string
	// AccessLog is the format of the access log for a Service, json or common; empty for none.
	AccessLog string
	// Zone is the zone of the proxy in front of a Service, for the hints of EndpointSlices; empty if it is not known.
	Zone string
	// TrustedHops, unless it is negative, makes the proxy of a Service tell backends who the client is, and is the number
	// of proxies before it that are believed.
	TrustedHops int
	// ProxyProtocol is where connections of a Service begin with a header of PROXY protocol: in, out, in-out, or empty for
	// none.
	ProxyProtocol string
	// Certificates are those of ports whose TLS the proxy of a Service terminates, each as PORT=FOLDER, with the files
	// tls.crt and tls.key in the folder.
	Certificates []string
	// ReportToken is the file of the token with which the proxy of a Service reports to mirrorgate's leader; "" for no reports.
	ReportToken string
	// AffinityCookie, if set, is the cookie with which clients of a Service stay with an endpoint.
	AffinityCookie string
	// MetricsPerRule makes metrics of a Service for each rule and mirror.
	MetricsPerRule bool
	// ReasonHeader tells the clients of a Service the reason of errors that are the proxy's own.
	ReasonHeader bool

	// H2 is what speaks HTTP/2 with clients, and BackendH2 with backends: own or nethttp.
	H2, BackendH2 string
	// DrainMin is how long the proxy goes on accepting connections after SIGTERM.
	DrainMin time.Duration
	// DrainTimeout bounds the requests that are under way after that.
	DrainTimeout time.Duration
	cli.Log

	// Version is mirrorgate's, for the user agent.
	Version string
}

// DefaultOptions returns the defaults of all flags.
func DefaultOptions() *Options {
	return &Options{AdminBind: ":" + strconv.Itoa(wellknown.AdminPort), ReasonHeader: true, TrustedHops: -1, H2: string(proxy.DefaultH2), BackendH2: string(proxy.DefaultBackendH2), DrainTimeout: 30 * time.Second, Log: cli.DefaultLog()}
}

// Validate checks all options at once. The paths of the errors are the flags' names, in the same order each
// time.
func (o *Options) Validate() field.ErrorList {
	var errs field.ErrorList
	switch {
	case o.Config == "" && o.Service == "":
		errs = append(errs, field.Required(field.NewPath("config"), "names the file with listeners, rules and services; or --service a Service of a cluster"))
	case o.Config != "" && o.Service != "":
		errs = append(errs, field.Forbidden(field.NewPath("service"), "cannot stand beside --config: the rules come from the cluster or from a file"))
	case o.Service != "":
		errs = append(errs, o.validateService()...)
	}
	for _, engine := range []struct{ flag, value string }{{"h2", o.H2}, {"h2-backends", o.BackendH2}} {
		if engine.value != "" {
			errs = append(errs, cli.OneOf(engine.flag, engine.value, string(proxy.OwnH2), string(proxy.NetHTTP))...)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"drain-min", o.DrainMin}, {"drain-timeout", o.DrainTimeout}} {
		if d.value < 0 {
			errs = append(errs, field.Invalid(field.NewPath(d.flag), d.value.String(), "must be 0 or more"))
		}
	}
	return append(errs, o.Log.Validate()...)
}

func (o *Options) validateService() field.ErrorList {
	errs := append(cli.Name("service", o.Service, validation.IsDNS1123Label),
		cli.Name("namespace", cmp.Or(o.Namespace, "default"), validation.IsDNS1123Label)...)
	if _, port, err := net.SplitHostPort(o.AdminBind); err != nil || port == "" {
		errs = append(errs, field.Invalid(field.NewPath("admin-bind"), o.AdminBind, "must be HOST:PORT, like :15020"))
	}
	if o.TrustedHops < -1 || o.TrustedHops > 100 {
		errs = append(errs, field.Invalid(field.NewPath("trusted-hops"), o.TrustedHops, "must be from -1 to 100"))
	}
	if o.AffinityCookie != "" && !objects.CookieName.MatchString(o.AffinityCookie) {
		errs = append(errs, field.Invalid(field.NewPath("affinity-cookie"), o.AffinityCookie, "must be the name of a cookie"))
	}
	if o.AccessLog != "" {
		errs = append(errs, cli.OneOf("access-log", o.AccessLog, "json", "common")...)
	}
	if o.ProxyProtocol != "" {
		errs = append(errs, cli.OneOf("proxy-protocol", o.ProxyProtocol, "in", "out", "in-out")...)
	}
	for _, text := range o.Certificates {
		if _, _, ok := certificate(text); !ok {
			errs = append(errs, field.Invalid(field.NewPath("certificate"), text, "must be PORT=FOLDER, like 443=/certificates/443"))
		}
	}
	return errs
}
