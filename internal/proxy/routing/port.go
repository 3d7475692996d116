package routing

// Ports of services with their endpoints, to which requests and copies are sent.

import "github.com/mirrorgate/mirrorgate/internal/proxy/spec"

// Protocol is the protocol of a port's endpoints.
type Protocol uint8

const (
	// HTTP is HTTP/1.1.
	HTTP Protocol = iota
	// H2C is HTTP/2 without TLS and with prior knowledge, as gRPC servers use it.
	H2C
	// Auto is HTTP/2 for requests that arrived over HTTP/2, and HTTP/1.1 for others.
	Auto
)

// H2 reports whether a request, or its copy, is sent over HTTP/2. major is the version of HTTP over which it
// arrived.
func (p Protocol) H2(major int) bool { return p == H2C || p == Auto && major == 2 }

// String returns the protocol's name in the configuration.
func (p Protocol) String() string {
	return [...]string{"http", "h2c", "auto"}[p]
}

// Port is a port of a service: a set of interchangeable endpoints.
type Port struct {
	// Index is its place in [Table.Ports].
	Index int
	// Service is the service's name.
	Service string
	// Number is the port number of the service, not of an endpoint.
	Number   int
	Protocol Protocol
	// Ready are the initial addresses (host:port) of the endpoints that get requests. The data plane may
	// replace them while the table stays.
	Ready []string
	// Unready are the addresses of the other endpoints. They are known, so that idle connections to an
	// endpoint that is briefly unready are kept.
	Unready []string
	// TLS, if set, secures the connections to the endpoints.
	TLS *spec.BackendTLS
}

// Name returns the name of the port for metrics and logs, service:number.
func (p *Port) Name() string { return portName(p.Service, p.Number) }
