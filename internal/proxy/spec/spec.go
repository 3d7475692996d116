// Package spec holds the routing table as it is written: in the words of Gateway API's
// HTTPRoute, with an extension for mirrors under the key mirrorgate. Package rules compiles
// it; files and HTTPRoutes are decoded into it.
package spec

// Table is everything the proxy serves.
type Table struct {
	Listeners []Listener         `json:"listeners"`
	Services  map[string]Service `json:"services"`
}

// Listener is a place that requests come in at.
type Listener struct {
	// Name defaults to the address.
	Name string `json:"name"`
	// Address is host:port; an empty host means every address.
	Address string `json:"address"`
	// Port is the one clients use, if it is another (behind a Service, say).
	Port int `json:"port"`
	// H2C accepts HTTP/2 without TLS, by prior knowledge. Default true.
	H2C *bool `json:"h2c"`
	// TLS, if set, is terminated here.
	TLS *TLS `json:"tls"`
	// SessionAffinity chooses endpoints by the client's address: ClientIP, or None (the default).
	SessionAffinity string `json:"sessionAffinity"`
	// TCP, if set, passes connections on as they are, instead of rules.
	TCP *Passthrough `json:"tcp"`
	// Rules for every host name. Use Routes for rules with names of their own.
	Rules  []Rule  `json:"rules"`
	Routes []Route `json:"routes"`
}

// TLS is a certificate and its key, as PEM files.
type TLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Passthrough is where connections lead that nobody looks into: a port of a service.
type Passthrough struct {
	Name string `json:"name"`
	Port int    `json:"port"`
}

// Route is the spec of an HTTPRoute, without parentRefs.
type Route struct {
	Name      string   `json:"name"`
	Hostnames []string `json:"hostnames"`
	Rules     []Rule   `json:"rules"`
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

// Match is HTTPRouteMatch.
type Match struct {
	Path        *PathMatch   `json:"path"`
	Method      string       `json:"method"`
	Headers     []ValueMatch `json:"headers"`
	QueryParams []ValueMatch `json:"queryParams"`
}

// PathMatch is HTTPPathMatch: PathPrefix (the default), Exact or RegularExpression.
type PathMatch struct {
	Type  string  `json:"type"`
	Value *string `json:"value"`
}

// ValueMatch is HTTPHeaderMatch and HTTPQueryParamMatch: Exact (the default) or
// RegularExpression.
type ValueMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// BackendRef is HTTPBackendRef.
type BackendRef struct {
	Name string `json:"name"`
	Port int    `json:"port"`
	// Weight defaults to 1; 0 gets nothing.
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

// RequestMirror is HTTPRequestMirrorFilter, with what we add to it. Without Percent and
// Fraction every request is copied.
type RequestMirror struct {
	BackendRef BackendRef `json:"backendRef"`
	Percent    *int       `json:"percent"`
	Fraction   *Fraction  `json:"fraction"`
	Mirrorgate Mirror     `json:"mirrorgate"`
}

// Fraction is Numerator of Denominator (default 100).
type Fraction struct {
	Numerator   int  `json:"numerator"`
	Denominator *int `json:"denominator"`
}

// Mirror is what HTTPRoute has no words for.
type Mirror struct {
	// Keyed samples by a header or a cookie, so that a session is copied whole.
	Keyed *Keyed `json:"keyed"`
	// ShadowHost appends -shadow to the host. Default true.
	ShadowHost *bool `json:"shadowHost"`
	// Headers are edits of the copy alone.
	Headers *HeaderModifier `json:"headers"`
	// Methods that are copied; empty means all.
	Methods []string `json:"methods"`
	// MaxBody is the largest body that is copied, as a size: 1Mi.
	MaxBody Size `json:"maxBody"`
	// Timeout of a copy, as a duration: 10s.
	Timeout string `json:"timeout"`
	// Compare answers of variant and primary by status and latency. Default: that of
	// the file.
	Compare *bool `json:"compare"`

	// What follows bounds the target and is shared by all mirrors that send to it.

	// MaxInFlight is how many copies are under way at once.
	MaxInFlight *int `json:"maxInFlight"`
	// Queue is how many more wait.
	Queue *int `json:"queue"`
	// Budget is how many bytes they may hold together, as a size.
	Budget  Size     `json:"budget"`
	Penalty *Penalty `json:"penalty"`
}

// Size is a number of bytes, as in 65536, 64Ki or 64KiB.
type Size string

// Keyed names the session of a request: by a header or by a cookie.
type Keyed struct {
	Header string `json:"header"`
	Cookie string `json:"cookie"`
	// Seed chooses which sessions: mirrors with equal seeds and percentages copy the
	// same. Defaults to the name of the target.
	Seed string `json:"seed"`
}

// Penalty is when a failing target is left alone, and for how long.
type Penalty struct {
	Failures     *int   `json:"failures"`
	Pause        string `json:"pause"`
	LongFailures *int   `json:"longFailures"`
	LongPause    string `json:"longPause"`
}

// Service is its ports.
type Service map[int]Port

// Port is the endpoints behind a port of a service.
type Port struct {
	// Protocol is http (the default) or h2c.
	Protocol  string     `json:"protocol"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Addresses are those of the endpoints that are ready, and of the others.
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

// Endpoint is where a server listens.
type Endpoint struct {
	// Address is host:port.
	Address string `json:"address"`
	// Ready defaults to true.
	Ready *bool `json:"ready"`
}
