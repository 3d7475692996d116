// Heads of requests: header blocks become requests, or the reason for which they are refused (RFC 9113 section 8).

package streams

import (
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// mostParts is how many frames a header block may have.
const mostParts = 32

// refusal is the error of a request that is refused while its body arrives.
type refusal struct{ detail string }

func (e *refusal) Error() string { return e.detail }

// StatusCode returns the status for logs and metrics; the client gets RST_STREAM.
func (e *refusal) StatusCode() int { return http.StatusBadRequest }

var (
	errLength   = &refusal{"the body does not have the length of Content-Length"}
	errTrailers = &refusal{"malformed trailers"}
)

// pseudo are the pseudo-header fields that a head has had.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoPath
	pseudoAuthority
)

// head collects the fields of one header block.
type head struct {
	conn *conn
	// to is the stream whose head or trailers it is; nil drops the fields, which are decoded for the table alone.
	to       *stream
	trailers bool
	seen     pseudo
	regular  bool // a field that is no pseudo-header field has come
	hosts    int
	host     string
	length   int64    // of Content-Length; -1 without one
	crumbs   []string // the values of cookie after the first
	cookie   int      // the index of that field, plus 1
	size     int
	// malformed heads are answered with RST_STREAM, others that are refused with a status.
	malformed bool
	status    int
}

func (c *conn) takeHeaders(f frame, p []byte) error {
	if f.stream == 0 {
		return &connError{codeProtocol, "HEADERS without a stream"}
	}
	p, err := unpad(f, p)
	if err != nil {
		return err
	}
	if f.has(flagPriority) {
		if len(p) < 5 {
			return &connError{codeFrameSize, "HEADERS without room for a priority"}
		}
		if binary.BigEndian.Uint32(p)&maxWindow == f.stream {
			return &connError{codeProtocol, "a stream that depends on itself"}
		}
		p = p[5:]
	}
	if f.has(flagEndHeaders) {
		return c.side.takeBlock(f.stream, f.flags, p)
	}
	c.block, c.blockOf, c.blockFlags, c.blockParts, c.blockSince = append(c.block[:0], p...), f.stream, f.flags, 1, time.Now()
	return nil
}

func (c *conn) takeContinuation(f frame, p []byte) error {
	if c.blockOf == 0 {
		return &connError{codeProtocol, "CONTINUATION without HEADERS"}
	}
	c.blockParts++
	limits := c.limits
	switch {
	case len(c.block)+len(p) > 2*limits.Head, c.blockParts > mostParts:
		return &connError{codeExcess, "header block too long"}
	case time.Since(c.blockSince) > limits.HeadTimeout:
		return &connError{codeNo, "a header block does not arrive in time"}
	}
	c.block = append(c.block, p...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	of := c.blockOf
	c.blockOf = 0
	err := c.side.takeBlock(of, c.blockFlags, c.block)
	c.block = nil
	return err
}

// decode decodes a header block for a stream, or for none.
func (c *conn) decode(block []byte, to *stream, trailers bool) error {
	c.head = head{conn: c, to: to, trailers: trailers, length: -1}
	return c.decodeBlock(block)
}

func (c *conn) decodeBlock(block []byte) error {
	if _, err := c.decoder.Write(block); err != nil {
		return &connError{codeCompression, err.Error()}
	}
	if err := c.decoder.Close(); err != nil {
		return &connError{codeCompression, err.Error()}
	}
	return nil
}

// takeRequestBlock takes a whole header block of a client: a request or trailers.
func (c *conn) takeRequestBlock(id uint32, flags uint8, block []byte) error {
	if len(block) > 2*c.limits.Head {
		return &connError{codeExcess, "header block too long"}
	}
	c.mu.Lock()
	known, lastID, ignored := c.streams[id], c.lastID, c.goAway && id > c.goAwayID
	was := id <= lastID && c.wasReset(id)
	full := c.running >= mostStreams
	c.mu.Unlock()
	switch {
	case id%2 == 0:
		return &connError{codeProtocol, "a stream with an even number"}
	case ignored, was:
		return c.decode(block, nil, false)
	case known != nil:
		return c.takeTrailers(known, id, flags, block)
	case id <= lastID:
		return &connError{codeStreamClosed, "HEADERS on a stream that has ended"}
	case full:
		return c.refuseStream(id, block)
	}
	return c.takeRequest(id, flags, block)
}

// refuseStream refuses a stream that is one too many.
func (c *conn) refuseStream(id uint32, block []byte) error {
	if err := c.decode(block, nil, false); err != nil {
		return err
	}
	c.mu.Lock()
	c.lastID = id
	c.resetStream(id, nil, codeRefused)
	c.mu.Unlock()
	return c.spend(priceReset)
}

// takeTrailers takes the block after a body. The stream may have ended meanwhile, but is not used again before the
// connection's goroutine has seen that.
func (c *conn) takeTrailers(s *flow, id uint32, flags uint8, block []byte) error {
	trailing := &stream{}
	if err := c.decode(block, trailing, true); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[id] != s {
		return nil
	}
	switch {
	case s.remoteClosed:
		c.resetStream(id, s, codeStreamClosed)
	case flags&flagEndStream == 0, c.head.malformed, c.head.status != 0:
		s.malformed = errTrailers
		c.resetStream(id, s, codeProtocol)
	default:
		s.trailers = trailing.x.Request.Fields
		c.keep(s, nil, true)
	}
	return nil
}

// takeRequest begins the exchange of a request.
func (c *conn) takeRequest(id uint32, flags uint8, block []byte) error {
	s := c.server.idle.take()
	s.reset(c, id)
	err := c.decode(block, s, false)
	h := &c.head
	if err == nil {
		h.finish(flags&flagEndStream != 0)
	}
	ended := flags&flagEndStream != 0 && err == nil
	if err != nil || h.malformed {
		if err == nil {
			c.mu.Lock()
			c.lastID = id
			c.resetStream(id, nil, codeProtocol)
			c.mu.Unlock()
			c.server.core.Refused(&s.x, http.StatusBadRequest)
			err = c.spend(priceReset)
		}
		s.clear()
		c.server.idle.put(s)
		return err
	}
	s.status, s.left, s.remoteClosed = h.status, h.length, ended
	s.patient = core.IsGRPC(&s.x.Request)
	c.server.running.Add(1)
	if !c.open(s) {
		s.clear()
		c.server.idle.put(s)
		c.server.running.Done()
		return nil
	}
	if ended {
		s.begin <- struct{}{}
	} else {
		c.ready = append(c.ready, s)
	}
	return nil
}

// open adds a stream, unless the client was told to open no more: then it sends the request elsewhere.
func (c *conn) open(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goAway && s.id > c.goAwayID {
		return false
	}
	c.lastID = s.id
	c.running++
	s.window = c.initialWindow
	c.streams[s.id] = &s.flow
	return true
}

// field takes one field from the decoder.
func (h *head) field(f hpack.HeaderField) {
	s := h.to
	if s == nil || h.malformed || h.status != 0 {
		return
	}
	limits := h.conn.limits
	r := &s.x.Request
	h.size += len(f.Name) + len(f.Value)
	switch {
	case f.Name == "":
		h.malformed = true
	case f.Name[0] == ':':
		h.pseudo(r, f.Name, f.Value)
	case !message.ValidToken(f.Name) || hasUpper(f.Name):
		h.malformed = true
	case !message.ValidValue(f.Value):
		h.refuse(http.StatusBadRequest)
	case h.size > limits.Head || len(r.Fields) >= limits.Fields:
		h.refuse(http.StatusRequestHeaderFieldsTooLarge)
	case h.trailers:
		if !message.TrailerForbidden(f.Name) {
			r.Fields = append(r.Fields, message.Field{Name: f.Name, Value: message.Trim(f.Value)})
		}
	default:
		h.regular = true
		h.add(r, f.Name, message.Trim(f.Value))
	}
}

// refuse answers the request with a status; the first reason counts.
func (h *head) refuse(status int) {
	if h.status == 0 {
		h.status = status
	}
}

func hasUpper(name string) bool {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return true
		}
	}
	return false
}

// pseudo takes a pseudo-header field.
func (h *head) pseudo(r *message.Request, name, value string) {
	var which pseudo
	switch name {
	case ":method":
		which, r.Method = pseudoMethod, value
	case ":scheme":
		which = pseudoScheme
	case ":path":
		which, r.Target = pseudoPath, value
	case ":authority":
		which, r.Authority = pseudoAuthority, value
	}
	if which == 0 || h.seen&which != 0 || h.regular || h.trailers {
		h.malformed = true
	}
	h.seen |= which
	if len(r.Target) > h.conn.limits.Target {
		h.refuse(http.StatusRequestURITooLong)
	} else if h.size > h.conn.limits.Head {
		h.refuse(http.StatusRequestHeaderFieldsTooLarge)
	}
}

// add takes a field that is not a pseudo-header field.
func (h *head) add(r *message.Request, name, value string) {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		h.malformed = true
		return
	case "te":
		h.malformed = h.malformed || value != "trailers"
	case "host":
		h.hosts++
		h.host = value
		return
	case "content-length":
		n, ok := parseLength(value)
		if !ok || h.length >= 0 {
			h.malformed = true
		}
		h.length = n
	case "cookie":
		if h.cookie > 0 {
			h.crumbs = append(h.crumbs, value)
			return
		}
		h.cookie = len(r.Fields) + 1
	case "expect":
		r.Expect = message.EqualFold(value, "100-continue")
	}
	r.HopByHop = r.HopByHop || message.HopByHop(name)
	r.Fields = append(r.Fields, message.Field{Name: name, Value: value})
}

// parseLength parses a Content-Length of at most 18 digits.
func parseLength(value string) (n int64, ok bool) {
	if value == "" || len(value) > 18 {
		return 0, false
	}
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// finish checks a head as a whole.
func (h *head) finish(ended bool) {
	r := &h.to.x.Request
	r.Major, r.Minor, r.Upgrade = 2, 0, ""
	if h.hosts > 0 && h.seen&pseudoAuthority == 0 {
		r.Authority = h.host
	}
	r.Path, r.Query, _ = strings.Cut(r.Target, "?")
	if len(h.crumbs) > 0 { // HTTP/1.1 has one field of cookies (RFC 9113 section 8.2.3)
		field := &r.Fields[h.cookie-1]
		field.Value += "; " + strings.Join(h.crumbs, "; ")
	}
	switch {
	case h.length >= 0 && !ended:
		r.Length = h.length
	case ended:
		r.Length = 0
	default:
		r.Length = message.Unknown
	}
	needs := pseudoMethod | pseudoScheme | pseudoPath
	if r.Method == http.MethodConnect {
		needs = pseudoMethod | pseudoAuthority
		h.malformed = h.malformed || h.seen != needs
	}
	switch {
	case h.status != 0, h.malformed:
	case h.seen&needs != needs, ended && h.length > 0, r.Method != http.MethodConnect && r.Target == "":
		h.malformed = true
	case r.Method == http.MethodConnect:
		h.refuse(http.StatusNotImplemented)
	case !message.ValidToken(r.Method), !message.ValidHost(r.Authority), !message.ValidTarget(r.Target),
		r.Target[0] != '/' && (r.Target != "*" || r.Method != http.MethodOptions),
		h.hosts > 1, h.hosts == 1 && !message.EqualFold(h.host, r.Authority):
		h.refuse(http.StatusBadRequest)
	}
}

var errGone = errors.New("the client has ended the stream")
