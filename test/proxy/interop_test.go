// Clients and test suites from other projects: gRPC, WebSocket, h2spec, curl.

package interop_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	http2spec "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// gRPC's own interoperability tests pass, unary and streaming, with every call mirrored.
func TestGRPC(t *testing.T) {
	var copied atomic.Int64
	backend := func(count *atomic.Int64) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s := grpc.NewServer(grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			count.Add(1)
			return next(srv, stream)
		}))
		testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return l.Addr().String()
	}
	var answered atomic.Int64
	addr := start(t, table("h2c", backend(&answered), backend(&copied)), nil)
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c := testgrpc.NewTestServiceClient(conn)
	ctx := t.Context()
	// The library ends the process if one of these fails.
	interop.DoEmptyUnaryCall(ctx, c)
	interop.DoLargeUnaryCall(ctx, c)
	interop.DoClientStreaming(ctx, c)
	interop.DoServerStreaming(ctx, c)
	interop.DoPingPong(ctx, c)
	interop.DoEmptyStream(ctx, c)
	interop.DoTimeoutOnSleepingServer(ctx, c)
	interop.DoCancelAfterBegin(ctx, c)
	interop.DoCancelAfterFirstResponse(ctx, c)
	interop.DoCustomMetadata(ctx, c)
	interop.DoStatusCodeAndMessage(ctx, c)
	interop.DoSpecialStatusMessage(ctx, c)
	interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	interop.DoUnimplementedMethod(ctx, conn)
	assert.Positive(t, answered.Load())
	require.Eventually(t, func() bool { return copied.Load() > 0 }, 10*time.Second, 10*time.Millisecond, "no stream was mirrored")
}

// A WebSocket passes through, with compressed frames and the closing handshake.
func TestWebSocket(t *testing.T) {
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(1 << 20)
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	certificate, roots := identity(t)
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			get := certificate
			if scheme == "ws" {
				get = nil
			}
			addr := start(t, table("http", echo, echo), get)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}}
			t.Cleanup(transport.CloseIdleConnections)
			c, resp, err := websocket.Dial(t.Context(), scheme+"://"+addr, &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: transport}, CompressionMode: websocket.CompressionContextTakeover,
			})
			require.NoError(t, err)
			if resp.Body != nil {
				defer resp.Body.Close()
			}
			c.SetReadLimit(1 << 20)
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, 300000} {
				sent := strings.Repeat("x", size)
				require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(sent)))
				_, got, err := c.Read(t.Context())
				require.NoError(t, err)
				assert.Len(t, got, size)
			}
			assert.NoError(t, c.Close(websocket.StatusNormalClosure, "bye"))
		})
	}
}

// exceptions are the cases of h2spec that fail, with the reason why that is right here.
var exceptions = map[string]string{
	"http2/3.5/2":     "the port speaks HTTP/1.1 too, which answers bytes that are neither with 400 before it closes",
	"http2/6.5.3/1":   "net/http treats a setting that is sent twice as an attack and closes",
	"http2/8.1.2.2/1": "net/http answers 400 instead of resetting the stream; nothing is forwarded",
	"http2/8.1.2.2/2": "net/http answers 400 instead of resetting the stream; nothing is forwarded",
}

// Of all cases of h2spec, against h2c with an HTTP/1.1 backend, only the exceptions fail.
func TestH2Spec(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("hello ", 100))
	}))
	proxied := start(t, table("http", addr, addr), nil)
	tcp, err := net.ResolveTCPAddr("tcp", proxied)
	require.NoError(t, err)
	c := &config.Config{Host: "127.0.0.1", Port: tcp.Port, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true}
	failed := map[string]bool{}
	passed := 0
	for _, group := range []*spec.TestGroup{generic.Spec(), http2spec.Spec(), hpack.Spec()} {
		group.Test(c)
		passed += group.PassedCount
		collect(group, failed)
	}
	assert.Greater(t, passed, 130)
	for id := range failed {
		assert.Contains(t, exceptions, id)
	}
}

// collect adds the cases of a group that failed.
func collect(group *spec.TestGroup, failed map[string]bool) {
	for i, test := range group.Tests {
		if test.Result != nil && test.Result.Failed {
			failed[group.ID()+"/"+strconv.Itoa(i+1)] = true
		}
	}
	for _, child := range group.Groups {
		collect(child, failed)
	}
}

// curl gets its answers in every version of HTTP, with and without TLS, from either kind of backend.
func TestCurl(t *testing.T) {
	echo := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-End")
		fmt.Fprintf(w, "%s %s %s %d %s", r.Proto, r.Method, r.RequestURI, len(body), r.Header.Get("X-Y"))
		w.Header().Set("X-End", "1")
	}))
	certificate, _ := identity(t)
	for _, tt := range []struct {
		name, protocol, want string
		secure               bool
		args                 []string
	}{
		{"1.1", "http", "HTTP/1.1 GET /a?b=%2f 0 z|1.1", false, []string{"--http1.1"}},
		{"1.0", "http", "HTTP/1.1 GET /a?b=%2f 0 z|1.1", false, []string{"--http1.0"}},
		{"1.1 upgrade offered", "http", "HTTP/1.1 GET /a?b=%2f 0 z|1.1", false, []string{"--http2"}},
		{"1.1 chunked", "http", "HTTP/1.1 POST /a?b=%2f 5 z|1.1", false, []string{"-H", "Transfer-Encoding: chunked", "-d", "hello"}},
		{"1.1 expect", "http", "HTTP/1.1 POST /a?b=%2f 5 z|1.1", false, []string{"-H", "Expect: 100-continue", "-d", "hello"}},
		{"1.1 to h2c", "h2c", "HTTP/2.0 GET /a?b=%2f 0 z|1.1", false, []string{"--http1.1"}},
		{"1.1 to h2c, expect", "h2c", "HTTP/2.0 POST /a?b=%2f 5 z|1.1", false, []string{"-H", "Expect: 100-continue", "-d", "hello"}},
		{"h2c", "http", "HTTP/1.1 GET /a?b=%2f 0 z|2", false, []string{"--http2-prior-knowledge"}},
		{"h2c post", "http", "HTTP/1.1 POST /a?b=%2f 5 z|2", false, []string{"--http2-prior-knowledge", "-d", "hello"}},
		{"h2c to h2c", "h2c", "HTTP/2.0 POST /a?b=%2f 5 z|2", false, []string{"--http2-prior-knowledge", "-d", "hello"}},
		{"h2", "http", "HTTP/1.1 GET /a?b=%2f 0 z|2", true, []string{"-k", "--http2"}},
		{"TLS, 1.1", "http", "HTTP/1.1 GET /a?b=%2f 0 z|1.1", true, []string{"-k", "--http1.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			get, scheme := certificate, "https://"
			if !tt.secure {
				get, scheme = nil, "http://"
			}
			addr := start(t, table(tt.protocol, echo, echo), get)
			args := append([]string{"-sS", "--max-time", "20", "-H", "X-Y: z", "-w", "|%{http_version}"}, tt.args...)
			out, err := exec.CommandContext(t.Context(), "curl", append(args, scheme+addr+"/a?b=%2f")...).CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Equal(t, tt.want, strings.Replace(string(out), "|1.0", "|1.1", 1))
		})
	}
}
