package routing

// Rewrites and redirects: what filters do to the request target.

import (
	"strconv"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Rewrite changes host and path of a request on its way to a backend. The zero Rewrite
// changes nothing.
type Rewrite struct {
	// Hostname replaces the Host; empty keeps it.
	Hostname string
	path     pathModifier
}

// HasPath says whether the path changes at all.
func (w *Rewrite) HasPath() bool { return w.path.kind != keepPath }

// AppendPath appends the path of the request to the backend, made of the one that was
// sent. The query is not part of it and stays.
func (w *Rewrite) AppendPath(dst []byte, path string) []byte { return w.path.append(dst, path) }

// then returns the rewrite that does the same as w and after it next. Filters that both
// change the path do not add up: a prefix is that of the match, so the later one wins.
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

// Redirect answers a request with another place to ask.
type Redirect struct {
	// Status is 301, 302, 303, 307 or 308.
	Status int

	scheme   string
	hostname string
	port     int
	path     pathModifier
}

// AppendLocation appends the value of Location for a request that came in at l. Like the
// specification says: what the filter does not name stays as in the request, but for the
// port, which is that of the named scheme, or else of the listener; 80 and 443 are left
// out where they go without saying.
func (d *Redirect) AppendLocation(dst []byte, l *Listener, r *Request) []byte {
	scheme, port := d.scheme, d.port
	if port == 0 {
		switch scheme {
		case "":
			port = l.Port
		case "http":
			port = 80
		case "https":
			port = 443
		}
	}
	if scheme == "" {
		scheme = l.Scheme()
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

// pathModifier is HTTPPathModifier of the specification. What is no path ("*" of OPTIONS,
// nothing of CONNECT) stays as it is.
type pathModifier struct {
	kind pathKind
	// value for a prefix is without the slash at its end, which is to be ignored.
	value string
	// match is the prefix that the rule matched, also without.
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
