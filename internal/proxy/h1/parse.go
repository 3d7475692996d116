// Parsing of message heads, strict by choice: a head that two parsers could read differently is refused,
// because the next hop may read it the other way (RFC 9112 section 11).

package h1

import (
	"strconv"
	"strings"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// refusal is the error of a message that is refused. status is the status of the answer to the client (502 if
// the message is a backend's answer), detail the reason.
type refusal struct {
	status int
	detail string
}

func (e *refusal) Error() string { return e.detail }

// StatusCode returns the status of the client's answer.
func (e *refusal) StatusCode() int { return e.status }

func bad(detail string) *refusal { return &refusal{status: 400, detail: detail} }

var (
	errLine        = bad("malformed request line")
	errVersionForm = bad("malformed HTTP version")
	errVersion     = &refusal{status: 505, detail: "HTTP version not supported"}
	errMethod      = bad("malformed method")
	errTarget      = bad("malformed request target")
	errFieldName   = bad("malformed header name")
	errFieldValue  = bad("forbidden byte in header value")
	errFold        = bad("folded header line")
	errLineEnd     = bad("line does not end in CR LF")
	errTooMany     = &refusal{status: 431, detail: "too many header fields"}
	errHeadSize    = &refusal{status: 431, detail: "header fields too large"}
	errTargetSize  = &refusal{status: 414, detail: "request target too long"}
	errHost        = bad("malformed Host")
	errHostMissing = bad("no Host")
	errHostTwice   = bad("more than one Host")
	errHostTarget  = bad("Host differs from the request target")
	errLength      = bad("malformed Content-Length")
	errLengthTwice = bad("more than one Content-Length")
	errLengthTE    = bad("both Content-Length and Transfer-Encoding")
	errTE          = bad("malformed Transfer-Encoding")
	errTECoding    = &refusal{status: 501, detail: "transfer coding not supported"}
	errTEVersion   = bad("Transfer-Encoding in HTTP/1.0")
	errConnectBody = bad("CONNECT with a body")
	errStatusLine  = bad("malformed status line")
)

// framing is the part of the fields that concerns the body and the connection.
type framing struct {
	length    int64 // of Content-Length; -1 without one
	chunked   bool
	close     bool          // Connection: close
	keepAlive bool          // Connection: keep-alive
	upgrade   bool          // Connection: upgrade, with an Upgrade field
	expect    bool          // Expect: 100-continue
	hopByHop  bool          // some field is for this hop alone
	keepIdle  time.Duration // timeout of Keep-Alive; 0 without one
	hosts     int
	host      string
	protocol  string // of Upgrade
}

// line cuts the first line off b. ok is false if the line does not end in CR LF.
func line(b string) (first, rest string, ok bool) {
	end := strings.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return "", "", false
	}
	return b[:end-1], b[end+1:], true
}

// parseRequest reads a whole head, its last empty line included, into req.
func parseRequest(head string, req *message.Request, f *framing, limits *Limits) error {
	first, rest, ok := line(head)
	if !ok {
		return errLineEnd
	}
	if err := requestLine(first, req); err != nil {
		return err
	}
	if len(req.Target) > limits.Target {
		return errTargetSize
	}
	var err error
	if req.Fields, err = f.parse(rest, req.Fields, req.Minor, limits); err != nil {
		return err
	}
	if err := parseRequestTarget(req, f); err != nil {
		return err
	}
	req.HopByHop, req.Expect, req.Upgrade = f.hopByHop, f.expect, ""
	if f.upgrade {
		req.Upgrade = f.protocol
	}
	if req.Method == "CONNECT" {
		if f.chunked || f.length > 0 {
			return errConnectBody
		}
		req.Upgrade = "CONNECT"
	}
	switch {
	case f.chunked:
		req.Length = message.Unknown
	case f.length > 0:
		req.Length = f.length
	default:
		req.Length = 0
	}
	return nil
}

func requestLine(b string, req *message.Request) error {
	end := strings.IndexByte(b, ' ')
	if end <= 0 || !message.ValidToken(b[:end]) {
		return errMethod
	}
	req.Method = b[:end]
	b = b[end+1:]
	end = strings.LastIndexByte(b, ' ')
	if end <= 0 {
		return errLine
	}
	version := b[end+1:]
	if len(version) != 8 || version[:5] != "HTTP/" || version[6] != '.' || !digit(version[5]) || !digit(version[7]) {
		return errVersionForm
	}
	req.Major, req.Minor = int(version[5]-'0'), int(version[7]-'0')
	if req.Major != 1 || req.Minor > 1 {
		return errVersion
	}
	req.Target = b[:end]
	if !message.ValidTarget(req.Target) {
		return errTarget
	}
	return nil
}

// parse reads the fields of a head into the given slice, and sets f from those that concern framing or the
// connection.
func (f *framing) parse(head string, fields []message.Field, minor int, limits *Limits) ([]message.Field, error) {
	*f = framing{length: -1}
	fields, err := parseFields(head, fields[:0], limits.Fields)
	if err != nil {
		return fields, err
	}
	for i := range fields {
		if err := f.note(&fields[i]); err != nil {
			return fields, err
		}
	}
	return fields, f.check(minor)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// parseFields appends the fields of b, which ends with the empty line. most is the most fields there may be.
func parseFields(b string, fields []message.Field, most int) ([]message.Field, error) {
	for {
		end := strings.IndexByte(b, '\n')
		if end < 1 || b[end-1] != '\r' {
			return fields, errLineEnd
		}
		if end == 1 {
			return fields, nil
		}
		current := b[:end-1]
		b = b[end+1:]
		if current[0] == ' ' || current[0] == '\t' {
			return fields, errFold
		}
		colon := strings.IndexByte(current, ':')
		if colon <= 0 || !message.ValidToken(current[:colon]) {
			return fields, errFieldName
		}
		value := message.Trim(current[colon+1:])
		if !message.ValidValue(value) {
			return fields, errFieldValue
		}
		if len(fields) == most {
			return fields, errTooMany
		}
		fields = append(fields, message.Field{Name: current[:colon], Value: value})
	}
}

// note evaluates a field if it concerns framing or the connection. The length of its name decides first, so
// that most fields cost one comparison.
func (f *framing) note(field *message.Field) error {
	name := field.Name
	switch len(name) {
	case 4:
		if message.Is(name, "host") {
			f.hosts++
			f.host = field.Value
		}
	case 6:
		if message.Is(name, "expect") {
			f.expect = message.Is(field.Value, "100-continue")
		}
	case 14:
		if message.Is(name, "content-length") {
			return f.contentLength(field)
		}
		f.hopByHop = f.hopByHop || message.HopByHop(name)
	case 2, 7, 10, 16, 17, 18, 19:
		if message.HopByHop(name) {
			f.hopByHop = true
			return f.noteHopByHop(field)
		}
	}
	return nil
}

func (f *framing) noteHopByHop(field *message.Field) error {
	switch {
	case message.Is(field.Name, "connection"):
		f.connection(field.Value)
	case message.Is(field.Name, "upgrade"):
		if f.protocol != "" {
			f.protocol = "," // two fields are a list, whatever they contain (RFC 9110 section 5.3)
		} else {
			f.protocol = field.Value
		}
	case message.Is(field.Name, "transfer-encoding"):
		return f.transferEncoding(field.Value)
	case message.Is(field.Name, "keep-alive"):
		f.keepAliveFor(field.Value)
	}
	return nil
}

// keepAliveFor reads after how many seconds without use the peer closes the connection, as in "timeout=5, max=100".
func (f *framing) keepAliveFor(value string) {
	for token := range func(yield func(string) bool) { message.Tokens(value, yield) } {
		name, seconds, _ := strings.Cut(token, "=")
		if n, err := strconv.ParseUint(message.Trim(seconds), 10, 16); err == nil && n > 0 && message.Is(message.Trim(name), "timeout") {
			f.keepIdle = time.Duration(n) * time.Second
		}
	}
}

func (f *framing) connection(value string) {
	for token := range func(yield func(string) bool) { message.Tokens(value, yield) } {
		switch {
		case message.Is(token, "close"):
			f.close = true
		case message.Is(token, "keep-alive"):
			f.keepAlive = true
		case message.Is(token, "upgrade"):
			f.upgrade = true
		}
	}
}

// contentLength accepts one field of digits that fits in 63 bits. Leading zeros are cut off, because another
// parser may read them as octal.
func (f *framing) contentLength(field *message.Field) error {
	if f.length >= 0 {
		return errLengthTwice
	}
	value := field.Value
	for len(value) > 1 && value[0] == '0' {
		value = value[1:]
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return errLength
	}
	f.length = int64(n) // it has 63 bits
	field.Value = value
	return nil
}

func (f *framing) transferEncoding(value string) error {
	if f.chunked {
		return errTE
	}
	if message.Is(value, "chunked") {
		f.chunked = true
		return nil
	}
	if comma := strings.LastIndexByte(value, ','); message.ValidToken(value) ||
		comma > 0 && message.Is(message.Trim(value[comma+1:]), "chunked") {
		return errTECoding
	}
	return errTE
}

func (f *framing) check(minor int) error {
	switch {
	case f.chunked && f.length >= 0:
		return errLengthTE
	case f.chunked && minor == 0:
		return errTEVersion
	}
	f.upgrade = f.upgrade && minor > 0 && passable(f.protocol)
	f.expect = f.expect && minor > 0
	return nil
}

// passable reports whether an upgrade to the value of the Upgrade field may be passed on: it must name one
// protocol, so that the agreed protocol is known, and none that would hide HTTP requests from the proxy.
func passable(protocol string) bool {
	name, version, versioned := strings.Cut(protocol, "/")
	if !message.ValidToken(name) || versioned && !message.ValidToken(version) {
		return false
	}
	for _, hiding := range [...]string{"h2", "h2c", "h3", "http", "tls"} {
		if message.Is(name, hiding) {
			return false
		}
	}
	return true
}
