package dataplane

// The protocol of a Service's port: from its appProtocol, else from its name, else from the bytes that clients send.

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// protocol is the protocol of a port, as far as its Service tells it.
type protocol uint8

const (
	// unknown is for the bytes to tell.
	unknown protocol = iota
	// web is HTTP; its version is that of the client.
	web
	// http1 is HTTP/1.1.
	http1
	// h2c is HTTP/2 without TLS, as for gRPC.
	h2c
	// opaque is not HTTP, or HTTP that TLS hides.
	opaque
)

// String returns the protocol as spec.Port names it.
func (p protocol) String() string {
	switch p {
	case http1:
		return "http"
	case h2c:
		return "h2c"
	default:
		return "auto"
	}
}

// appProtocols are the values of appProtocol for HTTP, in lower case: those of Kubernetes (with its prefix), of the
// IANA registry of service names, and of meshes. Any other value is another protocol, or TLS.
var appProtocols = map[string]protocol{
	"http": http1, "http/1.1": http1, "http1": http1, "http-alt": http1, "www": http1, "www-http": http1, "ws": http1,
	"http2": h2c, "http/2": h2c, "h2c": h2c, "grpc": h2c,
	"grpc-web": web, // over either version
}

// names are the protocols that meshes read from the name of a port, up to its first hyphen. With any other name the
// bytes tell.
var names = map[string]protocol{
	"http": web, "ws": web, "http2": h2c, "h2c": h2c, "grpc": h2c,
	"https": opaque, "tls": opaque, "wss": opaque, "tcp": opaque, "udp": opaque,
	"mongo": opaque, "mysql": opaque, "redis": opaque, "postgres": opaque, "kafka": opaque, "amqp": opaque,
	"mqtt": opaque, "smtp": opaque, "ldap": opaque,
}

// declared returns the protocol that appProtocol declares; ok is false without one.
func declared(p *corev1.ServicePort) (found protocol, ok bool) {
	value := strings.ToLower(ptr.Deref(p.AppProtocol, ""))
	if value == "" {
		return unknown, false
	}
	found, known := appProtocols[strings.TrimPrefix(value, "kubernetes.io/")]
	if !known {
		return opaque, true
	}
	return found, true
}

// protocolOf returns the protocol of a port.
func protocolOf(p *corev1.ServicePort) protocol {
	if !isTCP(p) {
		return opaque
	}
	if found, ok := declared(p); ok {
		return found
	}
	name := strings.ToLower(p.Name)
	if strings.HasPrefix(name, "grpc-web") {
		return web
	}
	prefix, _, _ := strings.Cut(name, "-")
	return names[prefix]
}

// securedProtocols are the values of appProtocol for HTTP over TLS, in lower case, without the prefix of Kubernetes.
var securedProtocols = map[string]protocol{"https": web, "tls": web, "http/2+tls": h2c, "wss": http1}

// securedProtocol is backendProtocol of a port with a BackendTLSPolicy.
func securedProtocol(p *corev1.ServicePort) (found protocol, ok bool) {
	value := strings.TrimPrefix(strings.ToLower(ptr.Deref(p.AppProtocol, "")), "kubernetes.io/")
	if found, ok = securedProtocols[value]; ok {
		return found, isTCP(p)
	}
	return backendProtocol(p)
}

// terminates reports whether proxies terminate the TLS of a port of a parent.
func (x *Index) terminates(s *service, p *corev1.ServicePort) bool {
	of := s.terminates
	if x.opts.Parent != (Name{}) {
		of = x.opts.Certificates // a proxy has those that it was started with
	}
	return isTCP(p) && of[int(p.Port)]
}

// protocolOf returns the protocol of a port of a parent, behind the TLS that its proxies terminate.
func (x *Index) protocolOf(s *service, p *corev1.ServicePort) protocol {
	if x.terminates(s, p) {
		return web // ALPN chooses the version
	}
	return protocolOf(p)
}

// backendProtocol returns the protocol of a port to which a route leads. ok is false if appProtocol declares another
// one than HTTP; a name does not outweigh a route.
func backendProtocol(p *corev1.ServicePort) (found protocol, ok bool) {
	if found, ok = declared(p); !ok {
		if found = protocolOf(p); found == opaque {
			found = unknown
		}
	}
	return found, isTCP(p) && found != opaque
}
