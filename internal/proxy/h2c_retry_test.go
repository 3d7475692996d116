// Requests that a backend of HTTP/2 has not processed, and calls of gRPC.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// framed is a backend that speaks HTTP/2 frame by frame.
type framed struct {
	*http2.Framer
	conn net.Conn
	body map[uint32][]byte
}

// frames starts a backend that calls answer when a stream has ended, or if early when it begins, with the bytes
// of its body.
func frames(t *testing.T, early bool, answer func(b *framed, stream uint32, body string)) string {
	t.Helper()
	return serveConns(t, func(ctx context.Context, conn net.Conn) {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
			return
		}
		b := &framed{Framer: http2.NewFramer(conn, conn), conn: conn, body: map[uint32][]byte{}}
		_ = b.WriteSettings()
		for {
			f, err := b.ReadFrame()
			if err != nil {
				return
			}
			b.take(f, early, answer)
		}
	})
}

func (b *framed) take(f http2.Frame, early bool, answer func(b *framed, stream uint32, body string)) {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = b.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = b.WritePing(true, f.Data)
		}
	case *http2.HeadersFrame:
		if early || f.StreamEnded() {
			answer(b, id, "")
		}
	case *http2.DataFrame:
		b.body[id] = append(b.body[id], f.Data()...)
		if n := uint32(len(f.Data())); n > 0 {
			_ = b.WriteWindowUpdate(0, n)
			_ = b.WriteWindowUpdate(id, n)
		}
		if f.StreamEnded() && !early {
			answer(b, id, string(b.body[id]))
		}
	}
}

// fine answers a stream with 200 and a body.
func (b *framed) fine(stream uint32, body string) {
	var head bytes.Buffer
	_ = hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = b.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head.Bytes(), EndHeaders: true})
	for ; len(body) > 10_000; body = body[10_000:] {
		_ = b.WriteData(stream, false, []byte(body[:10_000]))
	}
	_ = b.WriteData(stream, true, []byte(body))
}

// unprocessed are the ways in which a backend says that it has not processed a request, and another that leaves
// it open.
var unprocessed = map[string]func(b *framed, stream uint32){
	"REFUSED_STREAM": func(b *framed, stream uint32) { _ = b.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
	"GOAWAY":         func(b *framed, _ uint32) { _ = b.WriteGoAway(0, http2.ErrCodeNo, nil) },
}

// A request that a backend has certainly not processed is sent again, whatever its method and with its whole
// body, to the only endpoint or to another one.
func TestUnprocessedIsSentAgain(t *testing.T) {
	for name, refuse := range unprocessed {
		for _, early := range []bool{false, true} {
			for _, others := range []bool{false, true} {
				for _, size := range []int{0, 2, 40_000} {
					t.Run(fmt.Sprint(name, " early ", early, " others ", others, " size ", size), func(t *testing.T) {
						sendAgain(t, refuse, early, others, strings.Repeat("x", size))
					})
				}
			}
		}
	}
}

func sendAgain(t *testing.T, refuse func(b *framed, stream uint32), early, others bool, body string) {
	var tries atomic.Int32
	echo := func(b *framed, stream uint32, body string) { b.fine(stream, body) }
	addresses := []string{frames(t, false, echo)}
	if others {
		addresses = append(addresses, frames(t, early, func(b *framed, stream uint32, _ string) { refuse(b, stream) }))
	} else {
		addresses[0] = frames(t, false, func(b *framed, stream uint32, body string) {
			if tries.Add(1) == 1 {
				refuse(b, stream)
				return
			}
			b.fine(stream, body)
		})
	}
	variant := record(t, "")
	table := overH2C(one("", variant.addr))
	table.Services["primary"][80] = spec.Port{Protocol: "h2c", Endpoints: endpoints(addresses...).Endpoints}
	s := start(t, table, nil)
	for range 8 {
		status, back := ask(t, client(t), http.MethodPost, "http://"+s.addr+"/", body)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, body, back)
	}
	eventually(t, func() bool { return len(variant.got()) == 8 }, "each request is copied once")
	for _, copied := range variant.got() {
		_, copiedBody, _ := strings.Cut(copied, "\r\n\r\n")
		assert.Equal(t, body, copiedBody)
	}
}

// The body of a call may still be on its way when its stream is refused: the rest follows on the next attempt.
func TestRefusedWhileSending(t *testing.T) {
	var tries atomic.Int32
	seen := make(chan struct{}, 1)
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	refusing := frames(t, true, func(b *framed, stream uint32, _ string) {
		tries.Add(1)
		_ = b.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		select {
		case seen <- struct{}{}:
		default:
		}
	})
	table := overH2C(one(""))
	table.Services["primary"][80] = spec.Port{Protocol: "h2c", Endpoints: endpoints(refusing, backend).Endpoints}
	s := start(t, table, nil)
	for tries.Load() == 0 {
		body, sending := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/", body)
		require.NoError(t, err)
		go func() {
			_, _ = io.WriteString(sending, "one ")
			select {
			case <-seen:
			case <-time.After(50 * time.Millisecond): // the other endpoint was chosen
			}
			_, _ = io.WriteString(sending, "two")
			_ = sending.Close()
		}()
		resp, err := clientH2C(t, 1<<20).Do(req)
		require.NoError(t, err)
		back, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, "200 one two", fmt.Sprint(resp.StatusCode, " ", string(back)))
	}
}

// What may have been processed is not sent twice: a stream with another error, or with a body that is too long
// to keep.
func TestProcessedIsNotSentAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		code http2.ErrCode
		body string
	}{
		"INTERNAL_ERROR":                   {http2.ErrCodeInternal, "x"},
		"PROTOCOL_ERROR":                   {http2.ErrCodeProtocol, "x"},
		"REFUSED_STREAM after a long body": {http2.ErrCodeRefusedStream, strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			s := start(t, overH2C(one(frames(t, false, func(b *framed, stream uint32, _ string) {
				tries.Add(1)
				_ = b.WriteRSTStream(stream, tt.code)
			}))), nil)
			status, _ := ask(t, client(t), http.MethodPost, "http://"+s.addr+"/", tt.body)
			assert.Equal(t, http.StatusBadGateway, status)
			assert.EqualValues(t, 1, tries.Load())
		})
	}
}

// Another endpoint answers an idempotent request without a body whose connection ended before an answer, and a
// request without a connection, as over HTTP/1.1.
func TestOtherEndpointOfH2C(t *testing.T) {
	ends := frames(t, true, func(b *framed, _ uint32, _ string) { _ = b.conn.Close() })
	alive := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive") })
	table := overH2C(one(""))
	table.Services["primary"][80] = spec.Port{Protocol: "h2c", Endpoints: endpoints(ends, alive, refused(t)).Endpoints}
	s := start(t, table, nil)
	for range 30 {
		status, body := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
		assert.Equal(t, "200 alive", fmt.Sprint(status, " ", body))
	}
	require.Positive(t, s.counter(t, "retries_total"))
}

// Errors of the proxy's own are statuses of gRPC to a client of gRPC, in the head alone.
func TestGRPCErrors(t *testing.T) {
	slow := one(serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	slow.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: "50ms"}
	anywhere := refused(t)
	without, nowhere := one(anywhere), one(anywhere)
	without.Services["primary"] = spec.Service{80: {Protocol: "h2c"}}
	nowhere.Listeners[0].Rules[0].Matches = []spec.Match{{Method: http.MethodPut}}
	missing := one(anywhere)
	missing.Listeners[0].Rules[0].BackendRefs[0].Name = "missing"
	for name, tt := range map[string]struct {
		table   *spec.Table
		content string
		status  int
		grpc    string
	}{
		"no connection":       {overH2C(one(refused(t))), "application/grpc", 200, "14"},
		"no endpoint":         {without, "application/grpc+proto", 200, "14"},
		"no rule":             {nowhere, "application/grpc;x=y", 200, "12"},
		"no backend":          {missing, "Application/GRPC", 200, "14"},
		"timeout":             {overH2C(slow), "application/grpc", 200, "4"},
		"another media type":  {overH2C(one(refused(t))), "application/grpcx", 502, ""},
		"gRPC-Web over HTTP":  {overH2C(one(refused(t))), "application/grpc-web", 502, ""},
		"an ordinary request": {overH2C(one(refused(t))), "", 502, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tt.table, &proxy.Options{})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+"/pkg.Svc/M", strings.NewReader("12345"))
			require.NoError(t, err)
			req.Header.Set("Content-Type", tt.content)
			resp, err := clientH2C(t, 1<<20).Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, tt.status, resp.StatusCode)
			assert.Equal(t, tt.grpc, resp.Header.Get("Grpc-Status"))
			if tt.grpc != "" {
				assert.Equal(t, "application/grpc", resp.Header.Get("Content-Type"))
				assert.Contains(t, resp.Header.Get("Grpc-Message"), "mirrorgate: ")
				assert.Empty(t, body)
			}
		})
	}
}

// A backend that fails while the client still sends is answered with 502: the client has not failed.
func TestBackendFailsWhileClientSends(t *testing.T) {
	for name, table := range map[string]*spec.Table{
		"http": one(serveConns(t, func(_ context.Context, conn net.Conn) {
			_, _ = conn.Read(make([]byte, 100))
			_ = conn.(*net.TCPConn).SetLinger(0)
		})),
		"h2c": overH2C(one(frames(t, true, func(b *framed, stream uint32, _ string) {
			_ = b.WriteRSTStream(stream, http2.ErrCodeInternal)
		}))),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, start(t, table, nil).addr)
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n0123456789")
			require.NoError(t, err)
			status, _, err := answer(bufio.NewReader(conn))
			require.NoError(t, err)
			assert.Equal(t, http.StatusBadGateway, status)
		})
	}
}
