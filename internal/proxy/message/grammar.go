// The grammar of heads (RFC 9110 section 5, RFC 9112 section 3). Both terminators check it: a request that
// arrives over HTTP/2 may be sent over HTTP/1.1, where an extra space or line feed would begin another
// request.

package message

import (
	"net/netip"
	"strings"
)

// Classes of bytes: the parts of a head in which a byte may occur.
const (
	inToken  = 1 << iota // RFC 9110 section 5.6.2
	inTarget             // visible or not ASCII, except "#"
	inValue              // field-vchar, obs-text, space and tab
	inHost               // uri-host and port; ValidHost checks brackets (RFC 3986 section 3.2.2)
)

var class = func() (table [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if alnum || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			table[c] |= inToken
		}
		if b > ' ' && b != 0x7f && b != '#' {
			table[c] |= inTarget
		}
		if b == '\t' || b >= ' ' && b != 0x7f {
			table[c] |= inValue
		}
		if alnum || strings.IndexByte("-._~%!$&'()*+;=:[]", b) >= 0 {
			table[c] |= inHost
		}
	}
	return table
}()

func all(b string, in uint8) bool {
	for i := range len(b) {
		if class[b[i]]&in == 0 {
			return false
		}
	}
	return true
}

// ValidToken reports whether s can be a method or the name of a field.
func ValidToken(s string) bool { return s != "" && all(s, inToken) }

// ValidTarget reports whether s can be a request target: every byte is visible or not ASCII.
func ValidTarget(s string) bool { return s != "" && all(s, inTarget) }

// ValidValue reports whether s can be the value of a field.
func ValidValue(s string) bool { return all(s, inValue) }

// ValidHost reports whether host is a registered name, an IPv4 address or a bracketed IPv6 address, each with
// an optional port.
func ValidHost(host string) bool {
	if len(host) == 0 || len(host) > 512 || !all(host, inHost) {
		return false
	}
	name, port := host, ""
	if host[0] == '[' {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		if address, err := netip.ParseAddr(host[1:end]); err != nil || !address.Is6() || address.Zone() != "" {
			return false
		}
		name, port = "", host[end+1:]
		if len(port) > 0 && port[0] != ':' {
			return false
		}
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 {
		if colon == 0 {
			return false
		}
		name, port = host[:colon], host[colon:]
	}
	if strings.ContainsAny(name, "[]") || len(port) > 6 {
		return false
	}
	for i, c := range []byte(port) {
		if i > 0 && !digit(c) {
			return false
		}
	}
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// SplitPort splits an authority into its host and its port. The port keeps its colon, and is empty if the
// authority has none. IPv6 literals keep their brackets.
func SplitPort(authority string) (host, port string) {
	for i := len(authority) - 1; i >= 0; i-- {
		switch c := authority[i]; {
		case c == ':':
			return authority[:i], authority[i:]
		case c < '0' || c > '9':
			return authority, ""
		}
	}
	return authority, ""
}
