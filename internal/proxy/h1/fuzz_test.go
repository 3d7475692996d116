package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

var limits = func() *Limits { l := Limits{}.Defaulted(); return &l }()

// FuzzRequest requires that the standard library reads a request that h1 accepts and sends on as the same
// single request.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 010\r\n\r\n",
		"POST http://a/x HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\nConnection: x, Host\r\nx: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		end := headEnd(data, 0)
		if end == 0 {
			return
		}
		var req message.Request
		var fr framing
		if err := parseRequest(buffer.View(data[:end]), &req, &fr, limits); err != nil {
			var refused *refusal
			require.ErrorAs(t, err, &refused)
			return
		}
		if req.Authority == "" {
			req.Authority = "x"
		}
		wire := message.AppendRequest(nil, &message.Outgoing{Request: &req, Target: req.Target, Authority: req.Authority})
		assert.Equal(t, len(wire), headEnd(wire, 0), "the bytes sent are one head")
		if strings.ContainsAny(req.Target, "%") || req.Method == "CONNECT" {
			return // the standard library refuses bad escapes, h1 passes them on
		}
		again, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return // it is stricter in places
		}
		assert.Equal(t, req.Method, again.Method)
		assert.Equal(t, req.Target, again.RequestURI)
		assert.Equal(t, req.Length, again.ContentLength)
		if req.Length == message.Unknown {
			assert.Equal(t, []string{"chunked"}, again.TransferEncoding)
		}
		assert.True(t, strings.EqualFold(req.Authority, again.Host), "%q %q", req.Authority, again.Host)
	})
}

// FuzzResponse requires that the standard library reads a response that h1 accepts with the same status and
// length.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
		"HTTP/1.0 204\r\n\r\n",
		"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(seed), "GET")
	}
	f.Fuzz(func(t *testing.T, data []byte, method string) {
		end := headEnd(data, 0)
		if end == 0 {
			return
		}
		var resp message.Response
		var fr framing
		if _, err := parseResponse(buffer.View(data[:end]), &resp, &fr, method, limits); err != nil {
			return
		}
		again, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data[:end])), &http.Request{Method: method})
		if err != nil || again.StatusCode < 200 {
			return
		}
		defer again.Body.Close()
		assert.Equal(t, resp.Status, again.StatusCode)
		if method != "HEAD" && method != "CONNECT" && !resp.Bodyless {
			assert.Equal(t, resp.Length, again.ContentLength)
		}
	})
}

// pieces is a connection that delivers its bytes in pieces of at most size bytes.
type pieces struct {
	net.Conn
	data []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.size, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

// FuzzChunks requires that the standard library decodes a body that h1 accepts to the same bytes, and that
// the pieces in which a body arrives make no difference.
func FuzzChunks(f *testing.F) {
	for _, seed := range []string{
		"3\r\nabc\r\n0\r\n\r\n", "1;x=y\r\na\r\n0\r\nA: b\r\n\r\n", "00a\r\n0123456789\r\n0\r\n\r\nrest", "1\r\na", "fffffffffffffff\r\n",
	} {
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(255))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		got, rest, err := decode(data, int(size)+1)
		whole, wholeRest, wholeErr := decode(data, len(data)+1)
		assert.Equal(t, wholeErr == nil, err == nil, "%v %v", wholeErr, err)
		if err != nil {
			return
		}
		assert.Equal(t, string(whole), string(got))
		assert.Equal(t, wholeRest, rest, "the body ends at the same byte")
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err == nil {
			assert.Equal(t, string(want), string(got))
		}
	})
}

// decode reads a chunked body in pieces of that size, and returns it and how many bytes follow it.
func decode(data []byte, size int) (body []byte, rest int, err error) {
	conn := &pieces{data: bytes.Clone(data), size: size}
	in := &reader{}
	in.init(conn)
	b := bodyOf(in)
	for {
		p, err := b.Next()
		body = append(body, p...)
		if errors.Is(err, io.EOF) {
			rest := in.buffered() + len(conn.data)
			in.free()
			return body, rest, nil
		}
		if err != nil {
			in.free()
			return nil, 0, err
		}
	}
}

func bodyOf(in *reader) *body {
	b := &body{in: in, limits: limits}
	b.reset(message.Unknown, false)
	return b
}
