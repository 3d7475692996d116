// Hop-by-hop fields: fields for one connection only, which are not forwarded (RFC 9110 section 7.6.1).

package message

// hop holds the names of the fields that the Connection fields of one message list. The zero hop lists none.
type hop struct {
	named [8]string
	n     int
	// more holds the names that do not fit into named.
	more []string
}

// hopOf reads the Connection fields. It ignores the names of fields that frame or route the message: without
// Host or Content-Length the next hop could read a different message.
func hopOf(fields []Field) hop {
	var h hop
	for i := range fields {
		if !Is(fields[i].Name, "connection") {
			continue
		}
		for token := range func(yield func(string) bool) { Tokens(fields[i].Value, yield) } {
			if frames(token) {
				continue
			}
			if h.n < len(h.named) {
				h.named[h.n] = token
				h.n++
			} else {
				h.more = append(h.more, token)
			}
		}
	}
	return h
}

// strips reports whether the named field is not forwarded. Whether TE is forwarded depends on its value, see
// keepTE.
func (h *hop) strips(name string) bool {
	for _, token := range h.named[:h.n] {
		if EqualFold(token, name) {
			return true
		}
	}
	for _, token := range h.more {
		if EqualFold(token, name) {
			return true
		}
	}
	return HopByHop(name)
}

// HopByHop reports whether the named field is never forwarded. The length is checked first, so that few names
// have to be compared.
func HopByHop(name string) bool {
	switch len(name) {
	case 2:
		return Is(name, "te")
	case 7:
		return Is(name, "upgrade")
	case 10:
		return Is(name, "connection") || Is(name, "keep-alive")
	case 14:
		return Is(name, "http2-settings")
	case 16:
		return Is(name, "proxy-connection")
	case 17:
		return Is(name, "transfer-encoding")
	case 19:
		return Is(name, "proxy-authorization")
	case 18:
		return Is(name, "proxy-authenticate")
	}
	return false
}

// keepTE reports whether TE has the member trailers, the only one that may be forwarded. Over HTTP/1.1 the client
// must name TE in Connection as well; if not, the field comes from somebody who is not the client (RFC 9110
// section 10.1.4).
func keepTE(r *Request) bool {
	named := r.Major != 1
	trailers := false
	for i := range r.Fields {
		f := &r.Fields[i]
		trailers = trailers || Is(f.Name, "te") && lists(f.Value, "trailers")
		named = named || Is(f.Name, "connection") && lists(f.Value, "te")
	}
	return trailers && named
}

// lists reports whether a comma-separated list has an element, which is given in lower case.
func lists(value, element string) bool {
	for token := range func(yield func(string) bool) { Tokens(value, yield) } {
		if Is(token, element) {
			return true
		}
	}
	return false
}

// frames reports whether hopOf ignores the named field.
func frames(name string) bool {
	return Is(name, "host") || Is(name, "content-length") || Is(name, "transfer-encoding") ||
		Is(name, "te") || Is(name, "close") || Is(name, "keep-alive") || Is(name, "upgrade")
}

// TrailerForbidden reports whether the named field is dropped from trailers: it would frame, route or
// authenticate a message that has already been processed (RFC 9110 section 6.5.1).
func TrailerForbidden(name string) bool {
	switch {
	case HopByHop(name), Is(name, "host"), Is(name, "content-length"), Is(name, "trailer"),
		Is(name, "authorization"), Is(name, "cookie"), Is(name, "set-cookie"), Is(name, "content-encoding"),
		Is(name, "content-type"), Is(name, "content-range"), Is(name, "expect"), Is(name, "max-forwards"):
		return true
	}
	return false
}
