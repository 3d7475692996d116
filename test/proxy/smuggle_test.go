// Attacks by HTTP/2 on a backend that speaks HTTP/1.1.

package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
)

// A request that HTTP/2 can carry and HTTP/1.1 cannot does not become a second or another request on its way
// to a backend that speaks HTTP/1.1.
func TestDowngrade(t *testing.T) {
	for name, tt := range map[string]struct {
		fields []string // name, value
		body   string
		fine   bool
		early  bool // the backend may answer before it has the whole request
	}{
		"fine":                 {fields: []string{"x", "y"}, fine: true},
		"method with a line":   {fields: []string{":method", "GET / HTTP/1.1\r\nHost: evil\r\n\r\nGET"}},
		"method with a space":  {fields: []string{":method", "GET /evil"}},
		"path with a space":    {fields: []string{":path", "/ HTTP/1.1\r\nX: y"}},
		"path with a blank":    {fields: []string{":path", "/a b"}},
		"path without slash":   {fields: []string{":path", "evil"}},
		"path absolute":        {fields: []string{":path", "http://evil/"}},
		"path empty":           {fields: []string{":path", ""}},
		"authority with line":  {fields: []string{":authority", "a\r\nX: y"}},
		"authority with user":  {fields: []string{":authority", "u@a"}},
		"value with a line":    {fields: []string{"x", "y\r\nevil: 1"}},
		"value with LF":        {fields: []string{"x", "y\nevil: 1"}},
		"value with NUL":       {fields: []string{"x", "y\x00"}},
		"name with a colon":    {fields: []string{"x: y\r\nevil", "1"}},
		"name with a space":    {fields: []string{"x ", "1"}},
		"name in upper case":   {fields: []string{"X-Upper", "1"}},
		"transfer-encoding":    {fields: []string{"transfer-encoding", "chunked"}, body: "0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"},
		"connection":           {fields: []string{"connection", "close"}},
		"two content-lengths":  {fields: []string{"content-length", "1", "content-length", "2"}, body: "a"},
		"content-length short": {fields: []string{":method", "POST", "content-length", "1"}, body: "aGET /evil HTTP/1.1\r\n\r\n"},
		"content-length long":  {fields: []string{":method", "POST", "content-length", "100"}, body: "a", early: true},
		"content-length sign":  {fields: []string{":method", "POST", "content-length", "+1"}, body: "a"},
		"another host":         {fields: []string{"host", "evil"}},
		"CONNECT":              {fields: []string{":method", "CONNECT"}},
	} {
		t.Run(name, func(t *testing.T) {
			backend := newTap(t)
			addr := start(t, table("http", backend.addr, backend.addr), nil)
			status := request(t, addr, tt.fields, tt.body)
			if tt.fine {
				assert.Equal(t, "200", status)
				return
			}
			if !tt.early {
				assert.NotEqual(t, "200", status)
			}
			seen := backend.bytes()
			assert.NotContains(t, seen, "evil", "the backend got %q", seen)
			assert.NotContains(t, seen, "X: y")
		})
	}
}

// request sends one request frame by frame and returns the status of its answer, or "" if it got none.
func request(t *testing.T, addr string, fields []string, body string) string {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	framer := http2.NewFramer(conn, bufio.NewReader(conn))
	framer.AllowIllegalWrites = true
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, framer.WriteSettings())
	head := []string{":method", "GET", ":path", "/", ":scheme", "http", ":authority", "a"}
	var rest []string
	for i := 0; i < len(fields); i += 2 {
		replaced := false
		for j := 0; j < len(head); j += 2 {
			if head[j] == fields[i] {
				head[j+1], replaced = fields[i+1], true
			}
		}
		if !replaced {
			rest = append(rest, fields[i], fields[i+1])
		}
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	head = append(head, rest...)
	for i := 0; i < len(head); i += 2 {
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: head[i], Value: head[i+1]}))
	}
	require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == "",
	}))
	if body != "" {
		_ = framer.WriteData(1, true, []byte(body))
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// tap is a backend that keeps every byte and answers after every empty line.
type tap struct {
	addr string
	mu   sync.Mutex
	seen []byte
}

func newTap(t *testing.T) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &tap{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() { faulty.Serve(t.Context(), l, b.serve) })
	t.Cleanup(wg.Wait)
	return b
}

func (b *tap) serve(_ context.Context, conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.seen = append(b.seen, buf[:n]...)
		b.mu.Unlock()
		for range bytes.Count(buf[:n], []byte("\r\n\r\n")) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

func (b *tap) bytes() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.seen)
}
