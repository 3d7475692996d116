package routing

// Where requests can go: services, their ports and endpoints.

// Protocol is what the endpoints of a port speak.
type Protocol uint8

const (
	// HTTP is HTTP/1.1.
	HTTP Protocol = iota
	// H2C is HTTP/2 without TLS and with prior knowledge, as gRPC servers speak it.
	H2C
)

// String returns the word that configuration uses.
func (p Protocol) String() string {
	if p == H2C {
		return "h2c"
	}
	return "http"
}

// Port is one port of a service: a set of interchangeable endpoints.
type Port struct {
	// Index is its place in [Table.Ports].
	Index int
	// Service is the service's name.
	Service string
	// Number is the service's port, not that of an endpoint.
	Number   int
	Protocol Protocol
	// Ready are the addresses (host:port) of the endpoints that may get requests, at first: the
	// data plane may swap them for others while the table stays.
	Ready []string
	// Unready are those of the others: kept, so that a pool need not be thrown away
	// because an endpoint is away for a moment.
	Unready []string
}
