// Heads as the proxy sends them: without hop-by-hop fields, with the configured edits, and otherwise
// unchanged.

package message

import "strconv"

// Outgoing is the head of a request that is sent to a backend or, as a copy, to a variant.
type Outgoing struct {
	*Request
	// Target and Authority replace those of the request.
	Target, Authority string
	// Edits may be nil.
	Edits *HeaderEdits
	// Forwarded, if set, replaces the fields of that kind.
	Forwarded *Forwarded
	// Shadow makes the request a copy: with the Marker, and without Expect, because its body is complete
	// already.
	Shadow bool
}

// Each yields the fields to send, including Host, and Content-Length if the client sent it. It never yields
// Transfer-Encoding: the sender frames the body.
func (o *Outgoing) Each(yield func(name, value string) bool) {
	var connection hop
	if o.HopByHop {
		connection = hopOf(o.Fields)
	}
	edited := o.Edits != nil && !o.Edits.empty()
	host := false
	for i := range o.Fields {
		name, value := o.Fields[i].Name, o.Fields[i].Value
		switch {
		case len(name) == 4 && Is(name, "host"):
			if host = true; !yield(name, o.Authority) {
				return
			}
			continue
		case o.HopByHop && connection.strips(name),
			edited && o.Edits.drops(name) && !framing(name),
			o.Forwarded != nil && o.Forwarded.replaces(name),
			o.Shadow && len(name) == 6 && Is(name, "expect"):
			continue
		}
		if !yield(name, value) {
			return
		}
	}
	if !host && !yield("Host", o.Authority) {
		return
	}
	o.added(yield, edited)
}

// keepsTE reports whether the request is sent with TE.
func (o *Outgoing) keepsTE() bool { return o.HopByHop && keepTE(o.Request) }

// added yields the fields that the proxy adds.
func (o *Outgoing) added(yield func(name, value string) bool, edited bool) {
	if o.keepsTE() && !yield("TE", "trailers") {
		return
	}
	if o.Forwarded != nil && !o.Forwarded.each(o.Edits, yield) {
		return
	}
	if edited {
		for _, f := range o.Edits.Add {
			if !framing(f.Name) && !yield(f.Name, f.Value) {
				return
			}
		}
	}
	if o.Shadow {
		yield(Marker, "1")
	}
}

// framing reports whether a field frames or routes the message. Edits cannot change such a field.
func framing(name string) bool {
	switch len(name) {
	case 4:
		return Is(name, "host")
	case 14:
		return Is(name, "content-length")
	}
	return HopByHop(name)
}

// AppendRequest appends the head in HTTP/1.1's wire format. For a body of unknown length it adds
// "Transfer-Encoding: chunked".
func AppendRequest(dst []byte, o *Outgoing) []byte {
	dst = append(append(append(append(dst, o.Method...), ' '), o.Target...), " HTTP/1.1\r\n"...)
	for name, value := range o.Each {
		dst = AppendField(dst, name, value)
	}
	upgrades := o.Upgrade != "" && o.Method != "CONNECT"
	switch te := o.keepsTE(); {
	case te && upgrades:
		dst = append(dst, "Connection: TE, Upgrade\r\n"...)
	case te:
		dst = append(dst, "Connection: TE\r\n"...)
	case upgrades:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	}
	if upgrades {
		dst = AppendField(dst, "Upgrade", o.Upgrade)
	}
	if o.Length == Unknown {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// AppendField appends one header line.
func AppendField(dst []byte, name, value string) []byte {
	return append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
}

// Reply is the head of a response that is sent to the client.
type Reply struct {
	*Response
	// Edits may be nil.
	Edits *HeaderEdits
}

// Each yields the fields to send: without Transfer-Encoding and other hop-by-hop fields.
func (r *Reply) Each(yield func(name, value string) bool) {
	var connection hop
	if r.HopByHop {
		connection = hopOf(r.Fields)
	}
	edited := r.Edits != nil && !r.Edits.empty()
	for i := range r.Fields {
		name := r.Fields[i].Name
		if r.HopByHop && connection.strips(name) || edited && r.Edits.drops(name) && !framing(name) {
			continue
		}
		if !yield(name, r.Fields[i].Value) {
			return
		}
	}
	if !edited {
		return
	}
	for _, f := range r.Edits.Add {
		if !framing(f.Name) && !yield(f.Name, f.Value) {
			return
		}
	}
}

// AppendStatus appends the status line.
func AppendStatus(dst []byte, status int, reason string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	return append(append(append(dst, ' '), reason...), "\r\n"...)
}
