package routing

// Checks of the settings by which the certificates of backends are verified.

import (
	"net"
	"net/url"
	"regexp"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// certified matches the name of a host, or a wildcard for all names below one.
var certified = regexp.MustCompile(`^(\*\.)?[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?)*$`)

// backendTLS checks the settings of TLS to a backend.
func (c *compiler) backendTLS(s *spec.BackendTLS, at string) {
	system := s.WellKnownCACertificates
	switch {
	case system != "" && system != "System":
		c.invalid(at+".wellKnownCACertificates", system, "must be System")
	case system == "" && s.CAFile == "" && s.CA == "" && s.Fault == "":
		c.invalid(at, nil, "must have caFile, or wellKnownCACertificates: System")
	case system != "" && s.CAFile != "":
		c.invalid(at+".wellKnownCACertificates", system, "must not be beside caFile")
	}
	if net.ParseIP(s.Hostname) == nil && (s.Hostname == "" || s.Hostname[0] == '*' || !certified.MatchString(s.Hostname)) {
		c.invalid(at+".hostname", s.Hostname, "must be the name of a host, as the backend's certificate has it")
	}
	for i, name := range s.SubjectAltNames {
		c.altName(index(at, "subjectAltNames", i), &name)
	}
}

func (c *compiler) altName(at string, name *spec.SubjectAltName) {
	switch name.Type {
	case "Hostname":
		if !certified.MatchString(name.Hostname) || name.URI != "" {
			c.invalid(at+".hostname", name.Hostname, "must be the name of a host, which may begin with *., and stand alone")
		}
	case "URI":
		if u, err := url.Parse(name.URI); err != nil || u.Scheme == "" || name.Hostname != "" {
			c.invalid(at+".uri", name.URI, "must be an absolute URI, like spiffe://cluster.local/ns/shop/sa/web, and stand alone")
		}
	default:
		c.invalid(at+".type", name.Type, "must be Hostname or URI")
	}
}
