// Package message holds the heads of HTTP messages, independent of the protocol version: header fields keep
// the order and the spelling in which they arrived.
//
// The strings of a received head share the buffer that the head was read into. They are valid until the
// exchange ends; code that keeps a string for longer must clone it.
package message

import "strings"

// Field is one header or trailer field: name and value as received, without the optional whitespace around
// the value (RFC 9110 section 5).
type Field struct{ Name, Value string }

// Unknown is the length of a body whose end is known only from its framing.
const Unknown int64 = -1

// Request is the head of a request.
type Request struct {
	Method string
	// Target is the request target exactly as sent (RFC 9112 section 3.2), or :path for HTTP/2.
	Target string
	// Path and Query are the parts of Target before and after the first "?". Path is "/" for an absolute form
	// without a path, "*" for the asterisk form and "" for the authority form.
	Path, Query string
	// Authority is the value of Host or :authority, with its port.
	Authority string
	// Fields are all header fields, including Host if it was sent.
	Fields []Field
	// Length is the body's length in bytes: 0 without a body, Unknown for a streamed one.
	Length int64
	// Minor is the minor version of HTTP/1; Major is 1 or 2.
	Major, Minor int
	// Upgrade is the protocol that the client requests for this connection: the value of Upgrade, or
	// "CONNECT". Such a request is never mirrored.
	Upgrade string
	// HopByHop reports whether some fields may be hop-by-hop. If not, all fields can be forwarded.
	HopByHop bool
	// Expect reports whether the client waits for a 100 before it sends the body.
	Expect bool
}

// Get implements routing.Header.
func (r *Request) Get(name string) (string, bool) {
	first := ""
	found := 0
	for i := range r.Fields {
		if Is(r.Fields[i].Name, name) {
			if found++; found == 1 {
				first = r.Fields[i].Value
			}
		}
	}
	if found < 2 {
		return first, found == 1
	}
	separator := ","
	if name == "cookie" {
		separator = "; "
	}
	var values []string
	for i := range r.Fields {
		if Is(r.Fields[i].Name, name) {
			values = append(values, r.Fields[i].Value)
		}
	}
	return strings.Join(values, separator), true
}

// Cookie returns the value of a cookie of the request.
func (r *Request) Cookie(name string) string {
	cookies, _ := r.Get("cookie")
	value, _ := Cookie(cookies, name)
	return value
}

// Cookie returns the value of a cookie in a field Cookie.
func Cookie(cookies, name string) (value string, ok bool) {
	for cookies != "" {
		var pair string
		pair, cookies, _ = strings.Cut(cookies, ";")
		if key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && key == name {
			return value, true
		}
	}
	return "", false
}

// Response is the head of a response.
type Response struct {
	Status int
	Reason string
	Fields []Field
	// Length is the body's length in bytes, or Unknown. It is 0 if Bodyless, regardless of Content-Length.
	Length int64
	// Bodyless reports whether the response cannot have a body: the answer to HEAD, 1xx, 204, 304.
	Bodyless bool
	// HopByHop reports whether some fields may be hop-by-hop.
	HopByHop bool
}

// Find returns the value of the first field with the given name, which must be in lower case.
func Find(fields []Field, name string) string {
	for i := range fields {
		if Is(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}

// Is reports whether name equals lower without regard to case. lower must be in lower case.
func Is(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if LowerByte(name[i]) != lower[i] {
			return false
		}
	}
	return true
}

// EqualFold reports whether two ASCII strings are equal without regard to case.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && LowerByte(a[i]) != LowerByte(b[i]) {
			return false
		}
	}
	return true
}

// LowerByte returns c in lower case if it is an ASCII letter, else c.
func LowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// Tokens yields every element of a comma-separated list, without whitespace and empty elements (RFC 9110
// section 5.6.1).
func Tokens(value string, yield func(string) bool) {
	for value != "" {
		var token string
		token, value, _ = strings.Cut(value, ",")
		if token = Trim(token); token != "" && !yield(token) {
			return
		}
	}
}

// Trim removes spaces and tabs from both ends.
func Trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// Idempotent reports whether a request with this method may be sent twice (RFC 9110 section 9.2.2).
func Idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
