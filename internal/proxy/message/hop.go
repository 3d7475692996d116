// Fields that are meant for one hop (RFC 9110 section 7.6.1).

package message

// hop holds the names of the fields that the Connection fields of one message list. The zero hop lists none.
type hop struct {
	named [8]string
	n     int
	// more are names beyond those that named has room for.
	more []string
}

// hopOf reads the Connection fields. It ignores names of fields that frame or route the message:
// whoever could take Host or Content-Length away from the next hop could change what it reads.
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

// strips says whether a field of that name ends here. TE is kept by its value, see keepTE.
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

// HopByHop says whether a field of that name never goes on. The length decides first: hardly any
// field gets as far as a comparison.
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

// keepTE says whether the request asked for trailers, the one member of TE that may go on.
func keepTE(fields []Field) bool {
	for i := range fields {
		if Is(fields[i].Name, "te") {
			for token := range func(yield func(string) bool) { Tokens(fields[i].Value, yield) } {
				if Is(token, "trailers") {
					return true
				}
			}
		}
	}
	return false
}

func frames(name string) bool {
	return Is(name, "host") || Is(name, "content-length") || Is(name, "transfer-encoding") ||
		Is(name, "te") || Is(name, "close") || Is(name, "keep-alive") || Is(name, "upgrade")
}

// TrailerForbidden says whether a trailer of that name is dropped: it would frame, route or
// authenticate a message that was already acted upon (RFC 9110 section 6.5.1).
func TrailerForbidden(name string) bool {
	switch {
	case HopByHop(name), Is(name, "host"), Is(name, "content-length"), Is(name, "trailer"),
		Is(name, "authorization"), Is(name, "cookie"), Is(name, "set-cookie"), Is(name, "content-encoding"),
		Is(name, "content-type"), Is(name, "content-range"), Is(name, "expect"), Is(name, "max-forwards"):
		return true
	}
	return false
}
