package routing

// Matches of calls of gRPC. The path of a call is /SERVICE/METHOD, so that they become entries beside those of paths.

import (
	"cmp"
	"regexp"

	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Patterns from the schema of GRPCRoute.
var (
	serviceName = regexp.MustCompile(`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`)
	methodName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
)

// anyName is a regular expression for a part of a call's path.
const anyName = "[^/]+"

// call compiles a match of calls into e, as match does.
func (c *compiler) call(e *entry, s *spec.CallMatch, at string) func(**paths) {
	switch s.Type {
	case "", "Exact":
		if s.Service != "" && !serviceName.MatchString(s.Service) {
			c.invalid(at+".service", s.Service, "must be the name of a gRPC service, like package.Service")
			return nil
		}
		if s.Method != "" && !methodName.MatchString(s.Method) {
			c.invalid(at+".method", s.Method, "must be the name of a gRPC method")
			return nil
		}
	case "RegularExpression":
		if s.Service != "" && c.regex(at+".service", s.Service) == nil || s.Method != "" && c.regex(at+".method", s.Method) == nil {
			return nil
		}
	default:
		c.invalid(at+".type", s.Type, "must be Exact or RegularExpression")
		return nil
	}
	e.service, e.call = len(s.Service), len(s.Method)
	switch {
	case s.Service == "" && s.Method == "":
		return e.under("", "")
	case s.Type == "RegularExpression":
		e.path = c.regex(at, "/(?:"+cmp.Or(s.Service, anyName)+")/(?:"+cmp.Or(s.Method, anyName)+")")
	case s.Service == "":
		e.path = c.regex(at, "/"+anyName+"/"+s.Method)
	case s.Method == "":
		return e.under("PathPrefix", "/"+s.Service)
	default:
		return e.under("Exact", "/"+s.Service+"/"+s.Method)
	}
	if e.path == nil {
		return nil
	}
	return e.under("", "")
}
