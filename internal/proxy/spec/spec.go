// Package spec holds the types of the routing table as it is written: the fields of Gateway API's HTTPRoute,
// with an extension for mirrors under the key mirrorgate. Files and HTTPRoutes are decoded into these types,
// and package routing compiles them.
package spec

// Table is a complete routing table: listeners with their rules, and services with their endpoints.
type Table struct {
	// Listeners are the addresses at which requests arrive.
	Listeners []Listener `json:"listeners"`
	// Services are the backends, by name.
	Services map[string]Service `json:"services"`
}

// Listener is an address at which requests arrive, with the rules for them.
type Listener struct {
	// Name defaults to the address.
	Name string `json:"name"`
	// Address is host:port; an empty host means every address.
	Address string `json:"address"`
	// Port is the port that clients connect to, if it is not that of Address (behind a Service, for example).
	Port int `json:"port"`
	// H2C accepts HTTP/2 without TLS, by prior knowledge. Default true.
	H2C *bool `json:"h2c"`
	// ProxyProtocol makes every connection begin with a header of PROXY protocol, version 2, that has the client's
	// address. Others are closed.
	ProxyProtocol bool `json:"proxyProtocol"`
	// TLS, if set, makes the listener terminate TLS.
	TLS *TLS `json:"tls"`
	// SessionAffinity chooses endpoints by the client's address: ClientIP, or None (the default).
	SessionAffinity string `json:"sessionAffinity"`
	// AffinityCookie, if set, is the name of a cookie that clients get, with which they stay at an endpoint.
	AffinityCookie string `json:"affinityCookie"`
	// Forwarded, if set, tells backends who the client is, in X-Forwarded-For, -Proto and -Host.
	Forwarded *Forwarded `json:"forwarded"`
	// TCP, if set, forwards TCP connections to a service; then there are no rules.
	TCP *Passthrough `json:"tcp"`
	// Otherwise, if set, makes the listener look at the first bytes of a connection: one that is not HTTP is
	// forwarded to this service.
	Otherwise *Passthrough `json:"otherwise"`
	// Rules for all host names. Use Routes for rules with host names.
	Rules []Rule `json:"rules"`
	// Routes are rules with host names.
	Routes []Route `json:"routes"`
}

// Forwarded is how the fields X-Forwarded-For, -Proto and -Host are written.
type Forwarded struct {
	// TrustedHops is the number of proxies in front of this one whose fields are believed. Everything that somebody
	// else may have written in these fields is removed.
	TrustedHops int `json:"trustedHops"`
}

// TLS names the PEM files of a certificate and its key.
type TLS struct {
	// CertFile is the PEM file of the certificate and its chain.
	CertFile string `json:"certFile"`
	// KeyFile is the PEM file of its key.
	KeyFile string `json:"keyFile"`
	// MinVersion is 1.2, the default, or 1.3.
	MinVersion string `json:"minVersion"`
	// ALPN are the protocols that are offered: h2 and http/1.1 (the default), or one of them.
	ALPN []string `json:"alpn"`
}

// Passthrough is the port of a service that TCP connections are forwarded to.
type Passthrough struct {
	// Name is the name of the service.
	Name string `json:"name"`
	// Port is the port of the service.
	Port int `json:"port"`
	// ProxyProtocol makes every connection to the service begin with such a header.
	ProxyProtocol bool `json:"proxyProtocol"`
}

// Route is the spec of an HTTPRoute, without parentRefs.
type Route struct {
	// Name is the name in messages.
	Name string `json:"name"`
	// Source is the object that the route was made from, like HTTPRoute/web; a file has none.
	Source string `json:"-"`
	// Hostnames are the host names for which the rules are. Empty means all.
	Hostnames []string `json:"hostnames"`
	// Ports are the ports in Host (or :authority) for which the rules are; without a port there, it is that of
	// the scheme. Empty means all. A port that no route of the listener has counts as the listener's.
	Ports []int `json:"ports"`
	// Rules are the rules, of which the most specific match holds.
	Rules []Rule `json:"rules"`
}

// Rule is HTTPRouteRule.
type Rule struct {
	Name        string       `json:"name"`
	Matches     []Match      `json:"matches"`
	Filters     []Filter     `json:"filters"`
	BackendRefs []BackendRef `json:"backendRefs"`
	Timeouts    *Timeouts    `json:"timeouts"`
}

// Timeouts is HTTPRouteTimeouts.
type Timeouts struct {
	Request        string `json:"request"`
	BackendRequest string `json:"backendRequest"`
}

// Match is HTTPRouteMatch, extended by Call.
type Match struct {
	// Call, if set, takes the place of Path: it matches calls of gRPC.
	Call        *CallMatch   `json:"call"`
	Path        *PathMatch   `json:"path"`
	Method      string       `json:"method"`
	Headers     []ValueMatch `json:"headers"`
	QueryParams []ValueMatch `json:"queryParams"`
}

// CallMatch is GRPCMethodMatch: Exact (the default) or RegularExpression. An empty service or method means any.
type CallMatch struct {
	Type    string `json:"type"`
	Service string `json:"service"`
	Method  string `json:"method"`
}

// PathMatch is HTTPPathMatch: PathPrefix (the default), Exact or RegularExpression.
type PathMatch struct {
	Type  string  `json:"type"`
	Value *string `json:"value"`
}

// ValueMatch is HTTPHeaderMatch and HTTPQueryParamMatch: Exact (the default) or RegularExpression.
type ValueMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// BackendRef is HTTPBackendRef.
type BackendRef struct {
	Name string `json:"name"`
	Port int    `json:"port"`
	// Weight defaults to 1. A backend of weight 0 gets no requests.
	Weight  *int     `json:"weight"`
	Filters []Filter `json:"filters"`
}

// Filter is HTTPRouteFilter: a type, and the field of its name.
type Filter struct {
	Type                   string          `json:"type"`
	RequestHeaderModifier  *HeaderModifier `json:"requestHeaderModifier"`
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier"`
	RequestMirror          *RequestMirror  `json:"requestMirror"`
	RequestRedirect        *Redirect       `json:"requestRedirect"`
	URLRewrite             *URLRewrite     `json:"urlRewrite"`
}

// HeaderModifier is HTTPHeaderFilter.
type HeaderModifier struct {
	Set    []Header `json:"set"`
	Add    []Header `json:"add"`
	Remove []string `json:"remove"`
}

// Header is HTTPHeader.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Redirect is HTTPRequestRedirectFilter.
type Redirect struct {
	Scheme     string        `json:"scheme"`
	Hostname   string        `json:"hostname"`
	Path       *PathModifier `json:"path"`
	Port       *int          `json:"port"`
	StatusCode *int          `json:"statusCode"`
}

// URLRewrite is HTTPURLRewriteFilter.
type URLRewrite struct {
	Hostname string        `json:"hostname"`
	Path     *PathModifier `json:"path"`
}

// PathModifier is HTTPPathModifier: ReplaceFullPath or ReplacePrefixMatch.
type PathModifier struct {
	Type               string  `json:"type"`
	ReplaceFullPath    *string `json:"replaceFullPath"`
	ReplacePrefixMatch *string `json:"replacePrefixMatch"`
}

// RequestMirror is HTTPRequestMirrorFilter, extended by Mirrorgate. Without Percent and Fraction every
// request is copied.
type RequestMirror struct {
	BackendRef BackendRef `json:"backendRef"`
	Percent    *int       `json:"percent"`
	Fraction   *Fraction  `json:"fraction"`
	Mirrorgate Mirror     `json:"mirrorgate"`
}

// Fraction is Numerator divided by Denominator (default 100).
type Fraction struct {
	Numerator   int  `json:"numerator"`
	Denominator *int `json:"denominator"`
}

// Mirror holds the settings of a mirror that HTTPRoute does not have.
type Mirror struct {
	// Keyed samples by a header or a cookie, so that all requests of a session are copied or none.
	Keyed *Keyed `json:"keyed"`
	// ShadowHost appends -shadow to the host. Default true.
	ShadowHost *bool `json:"shadowHost"`
	// Headers are edits of the copy only.
	Headers *HeaderModifier `json:"headers"`
	// Methods are the methods of requests that are copied. Empty means all.
	Methods []string `json:"methods"`
	// MaxPerSecond is the most copies of the mirror in a second, in bursts of as many. The default is no bound.
	MaxPerSecond *int `json:"maxPerSecond"`
	// MaxBody is the largest body that is copied, as a size like 1Mi, the default.
	MaxBody Size `json:"maxBody"`
	// Timeout of a copy, as a duration like 10s, the default.
	Timeout string `json:"timeout"`
	// Compare answers of variant and primary by status and latency. The default is comparison of the file.
	Compare *bool `json:"compare"`

	// The following fields are limits of the target. All mirrors that send to the target share them.

	// MaxInFlight is the number of copies that are under way at once. Default 128.
	MaxInFlight *int `json:"maxInFlight"`
	// Queue is the number of further copies that are queued. Default 512.
	Queue *int `json:"queue"`
	// Budget is the size of all copies together, queued and under way. Default 64Mi.
	Budget Size `json:"budget"`
	// Penalty sets after how many failures the target gets no copies, and for how long.
	Penalty *Penalty `json:"penalty"`
}

// Size is a number of bytes, like 65536, 64Ki or 64KiB.
type Size string

// Keyed names the header or the cookie that identifies the session of a request.
type Keyed struct {
	// Header is the name of the header that identifies the session, if no cookie does.
	Header string `json:"header"`
	// Cookie is the name of the cookie that identifies the session, if no header does.
	Cookie string `json:"cookie"`
	// Seed selects the sessions: mirrors with equal seeds and percentages copy the same ones. The default is
	// the name of the target.
	Seed string `json:"seed"`
}

// Penalty sets after how many failures in a row a target gets no copies, and for how long. The defaults are
// 100ms after 3 failures and 1s after 20.
type Penalty struct {
	// Failures in a row after which the target gets no copies for Pause. Default 3.
	Failures *int `json:"failures"`
	// Pause is that time. Default 100ms.
	Pause string `json:"pause"`
	// LongFailures in a row after which it gets none for LongPause. Default 20.
	LongFailures *int `json:"longFailures"`
	// LongPause is that time. Default 1s.
	LongPause string `json:"longPause"`
}

// Service is the ports of a service by number.
type Service map[int]Port

// Port is a port of a service with its endpoints.
type Port struct {
	// Protocol is http (the default), h2c, or auto: HTTP/2 for requests that arrive over HTTP/2, else HTTP/1.1.
	Protocol string `json:"protocol"`
	// Endpoints are the servers behind the port.
	Endpoints []Endpoint `json:"endpoints"`
	// TLS, if set, secures every connection to the endpoints; auto then leaves the version of HTTP to ALPN where an
	// endpoint does not speak that of the request.
	TLS *BackendTLS `json:"tls"`
}

// BackendTLS is the validation of BackendTLSPolicy: which certificates of a backend are accepted.
type BackendTLS struct {
	// CAFile names a PEM file with the certificates of the authorities that are trusted. CA are those of the file.
	CAFile string `json:"caFile"`
	CA     string `json:"-"`
	// WellKnownCACertificates, if it is System, trusts the authorities of the system in place of CAFile.
	WellKnownCACertificates string `json:"wellKnownCACertificates"`
	// Hostname is the name that is asked for (SNI) and, without SubjectAltNames, verified.
	Hostname string `json:"hostname"`
	// SubjectAltNames are the names of which the certificate must have one.
	SubjectAltNames []SubjectAltName `json:"subjectAltNames"`
	// Fault, if set, is why no connection can be secured, so that none is opened.
	Fault string `json:"-"`
}

// SubjectAltName is a name in a certificate: of type Hostname or URI, with the field of that type.
type SubjectAltName struct {
	// Type is Hostname or URI.
	Type string `json:"type"`
	// Hostname is the name of type Hostname.
	Hostname string `json:"hostname"`
	// URI is the name of type URI.
	URI string `json:"uri"`
}

// Addresses returns the addresses of the endpoints that are ready, and those of the others.
func (p *Port) Addresses() (ready, unready []string) {
	for _, e := range p.Endpoints {
		if e.Ready == nil || *e.Ready {
			ready = append(ready, e.Address)
		} else {
			unready = append(unready, e.Address)
		}
	}
	return ready, unready
}

// Endpoint is the address of a server.
type Endpoint struct {
	// Address is host:port.
	Address string `json:"address"`
	// Ready defaults to true.
	Ready *bool `json:"ready"`
}
