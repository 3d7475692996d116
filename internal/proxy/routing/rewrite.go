package routing

// Rewrites and redirects: filters that change the host and the path of a request.

import (
	"cmp"
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Rewrite changes the host and the path of a request that is sent to a backend. The zero Rewrite changes
// nothing.
type Rewrite struct {
	// Hostname replaces the Host; empty keeps it.
	Hostname string
	path     pathModifier
}

// HasPath reports whether the path is changed.
func (w *Rewrite) HasPath() bool { return w.path.kind != keepPath }

// AppendPath appends the path of the request to the backend. path is that of the client's request, without
// the query.
func (w *Rewrite) AppendPath(dst []byte, path string) []byte { return w.path.append(dst, path) }

// then returns the rewrite that has the same effect as w followed by next. If both change the path, only next
// does: a prefix is that of the rule's match.
func (w *Rewrite) then(next *Rewrite) Rewrite {
	out := *w
	if next.Hostname != "" {
		out.Hostname = next.Hostname
	}
	if next.HasPath() {
		out.path = next.path
	}
	return out
}

// Redirect answers a request with another location.
type Redirect struct {
	// Status is 301, 302, 303, 307 or 308.
	Status int

	scheme   string
	hostname string
	port     int
	path     pathModifier
}

// AppendLocation appends the value of Location for a request that arrived at l. As Gateway API specifies,
// parts that the filter does not set are those of the request, except for the port: it is the default port of
// the filter's scheme, or else the listener's. Ports 80 and 443 are left out if they are the default of the
// scheme.
func (d *Redirect) AppendLocation(dst []byte, l *Listener, r *Request) []byte {
	scheme, port := cmp.Or(d.scheme, l.Scheme()), d.port
	if port == 0 {
		switch d.scheme {
		case "":
			port = l.Port
			if of := l.portOf(r); l.byPort[of] != nil {
				port = of
			}
		case "http":
			port = 80
		case "https":
			port = 443
		}
	}
	hostname := d.hostname
	if hostname == "" {
		hostname, _ = message.SplitPort(r.Host)
	}
	dst = append(append(append(dst, scheme...), "://"...), hostname...)
	implied := port == 0 || port == 80 && scheme == "http" || port == 443 && scheme == "https"
	if !implied {
		dst = strconv.AppendInt(append(dst, ':'), int64(port), 10)
	}
	dst = d.path.append(dst, r.Path)
	if r.RawQuery != "" {
		dst = append(append(dst, '?'), r.RawQuery...)
	}
	return dst
}

type pathKind uint8

const (
	keepPath pathKind = iota
	replaceFullPath
	replacePrefix
)

// pathModifier is Gateway API's HTTPPathModifier. It leaves targets without a path as they are: "*" of
// OPTIONS, and the empty path of CONNECT.
type pathModifier struct {
	kind pathKind
	// value is the replacement. For a prefix it has no final slash, which Gateway API ignores.
	value string
	// match is the prefix that the rule matched, without its final slash.
	match string
}

func (p *pathModifier) append(dst []byte, path string) []byte {
	if p.kind == keepPath || path == "" || path[0] != '/' || len(path) < len(p.match) {
		return append(dst, path...)
	}
	dst = append(dst, p.value...)
	if p.kind == replacePrefix {
		rest := path[len(p.match):]
		if p.value == "" && rest == "" {
			rest = "/"
		}
		dst = append(dst, rest...)
	}
	return dst
}
