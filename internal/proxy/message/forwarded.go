// The fields that tell a backend who the client is, and over which hosts and protocols the request came.

package message

import (
	"net"
	"strings"
)

// Forwarded holds the values of X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
type Forwarded struct {
	For, Proto, Host string
}

// NewForwarded returns the values for a request that came from remote (host:port) to a listener of the given scheme.
// trusted is the number of proxies before this one that are believed: each of them has appended the address of its own
// client, so of the addresses in the request these many count, from the right; the others may be made up. Protocol
// and host are those that the first trusted proxy saw.
func NewForwarded(r *Request, remote, scheme string, trusted int) *Forwarded {
	f := &Forwarded{Proto: scheme, Host: strings.Clone(r.Authority)}
	if f.For, _, _ = net.SplitHostPort(remote); f.For == "" {
		f.For = remote
	}
	if trusted == 0 {
		return f
	}
	if hops := lastHops(r.Fields, trusted); hops != "" {
		f.For = hops + ", " + f.For
	}
	if proto := Find(r.Fields, "x-forwarded-proto"); EqualFold(proto, "http") || EqualFold(proto, "https") {
		f.Proto = strings.ToLower(proto)
	}
	if host := Find(r.Fields, "x-forwarded-host"); host != "" {
		f.Host = strings.Clone(host)
	}
	return f
}

// Client returns the address of the client that the first trusted proxy saw.
func (f *Forwarded) Client() string {
	client, _, _ := strings.Cut(f.For, ",")
	return strings.TrimSpace(client)
}

// lastHops returns the last n addresses of all X-Forwarded-For fields.
func lastHops(fields []Field, n int) string {
	var all []string
	for i := range fields {
		if Is(fields[i].Name, "x-forwarded-for") {
			Tokens(fields[i].Value, func(hop string) bool {
				all = append(all, hop)
				return true
			})
		}
	}
	return strings.Join(all[max(len(all)-n, 0):], ", ")
}

// replaces reports whether the named field is one of these.
func (f *Forwarded) replaces(name string) bool {
	switch len(name) {
	case len("x-forwarded-for"):
		return Is(name, "x-forwarded-for")
	case len("x-forwarded-host"):
		return Is(name, "x-forwarded-host")
	case len("x-forwarded-proto"):
		return Is(name, "x-forwarded-proto")
	}
	return false
}

// each yields the fields, except for those that edits drop or set.
func (f *Forwarded) each(edits *HeaderEdits, yield func(name, value string) bool) bool {
	for _, field := range [...]Field{{"X-Forwarded-For", f.For}, {"X-Forwarded-Proto", f.Proto}, {"X-Forwarded-Host", f.Host}} {
		if (edits == nil || !edits.drops(field.Name)) && !yield(field.Name, field.Value) {
			return false
		}
	}
	return true
}
