// Requests and answers on their way through the proxy, most of them over HTTP/1.1.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Answers that two clients could read differently, or that are no answer: the client gets the status, and the
// connection is not used again.
func TestAnswers(t *testing.T) {
	const fine = faulty.Fine
	for _, tt := range []struct {
		name, answer string
		want         int
	}{
		{"fine", fine, 200},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200},
		{"until close", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", 200},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200},
		{"chunks with padded sizes", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \t \r\nok\r\n0   \r\n\r\n", 200},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + fine, 200},
		{"nonsense", "nonsense\r\n\r\n", 502},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n", 502},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 502},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", 502},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", 502},
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 502},
		{"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 502},
		{"space before colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 502},
		{"folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 502},
		{"NUL", "HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 2\r\n\r\nok", 502},
		{"unasked switch", "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 502},
		{"head too large", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", 502},
		{"endless interim", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100) + fine, 502},
		{"more than it should", fine + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backend := record(t, tt.answer)
			s, c := start(t, one(backend.addr), nil), client(t)
			for range 3 {
				status, body := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
				assert.Equal(t, tt.want, status)
				if tt.want == 200 {
					assert.Equal(t, "ok", body)
				}
			}
		})
	}
}

// A body that is cut short does not look complete to the client.
func TestTruncatedAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nok",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, one(record(t, answer).addr), nil)
			conn := dial(t, s.addr)
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil {
				defer resp.Body.Close()
				_, err = io.ReadAll(resp.Body)
			}
			assert.Error(t, err)
		})
	}
}

// stream returns n bytes, the same ones for every call.
func stream(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
}

// Bodies of sizes around those of the buffers arrive whole, with and without a length, in both directions and
// in copies.
func TestBodies(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	var mu sync.Mutex
	copies := map[string][]byte{}
	variant := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			mu.Lock()
			copies[r.Header.Get("Id")] = body
			mu.Unlock()
		}
	})
	s := start(t, one(addr, variant), nil)
	c := client(t)
	sent := 0
	for _, size := range []int64{0, 1, 100, 3900, 4000, 4090, 4095, 4096, 4097, 5000, 16 << 10, 60 << 10, 65535, 65536, 65537, 200 << 10, 1 << 20} {
		for _, path := range []string{"/length", "/chunked"} {
			id := fmt.Sprint(path, size)
			want, err := io.ReadAll(stream(size))
			require.NoError(t, err)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+path, io.MultiReader(bytes.NewReader(want)))
			require.NoError(t, err)
			req.Header.Set("Id", id)
			if path == "/length" {
				req.ContentLength = size
			}
			resp, err := c.Do(req)
			require.NoError(t, err, id)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err, id)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.True(t, bytes.Equal(want, got), id)
			sent++
			eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(copies) == sent }, "copy of %s", id)
			require.True(t, bytes.Equal(want, copies[id]), "copy of %s", id)
		}
	}
}

// A body of 1 GiB, with and without a length, passes without being held in memory.
func TestHugeUpload(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n)
	})
	s := start(t, one(addr, addr), nil)
	c := client(t)
	stop := make(chan struct{})
	peak := make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	for _, length := range []int64{size, -1} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.addr+"/", io.LimitReader(zeros{}, size))
		require.NoError(t, err)
		req.ContentLength = length
		resp, err := c.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, fmt.Sprint(size), string(body))
	}
	close(stop)
	assert.Less(t, <-peak, uint64(64<<20), "the most heap in use, client and backends included")
	assert.InDelta(t, 2, s.counter(t, "shadows_dropped_total", "reason", "too_large"), 0)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Interim responses, trailers and Expect are passed on.
func TestInterimAndTrailers(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		w.Header().Set("X-Got", r.Trailer.Get("X-Mine"))
		_, _ = io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
	})
	s := start(t, one(addr), nil)
	var hints []string
	continued := 0
	trace := &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, header.Get("Link")))
			return nil
		},
		Got100Continue: func() { continued++ },
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, "http://"+s.addr+"/", io.MultiReader(strings.NewReader("hello")))
	require.NoError(t, err)
	req.Header.Set("Expect", "100-continue")
	req.Trailer = http.Header{"X-Mine": {"mine"}}
	c := client(t)
	c.Transport.(*http.Transport).ExpectContinueTimeout = 20 * time.Second
	resp, err := c.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, "body", string(body))
	assert.Equal(t, []string{"103</a>", "100"}, hints)
	assert.Equal(t, 1, continued)
	assert.Equal(t, "mine", resp.Header.Get("X-Got"))
	assert.Equal(t, fmt.Sprintf("%x", sha256.Sum256([]byte("hello"))), resp.Trailer.Get("X-Sum"))
}

// An answer before the body was read reaches the client, and its connection is closed.
func TestEarlyAnswer(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "no", http.StatusRequestEntityTooLarge)
	})
	s := start(t, one(addr), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	assert.True(t, resp.Close)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, "no\n", string(body))
	_, err = in.ReadByte()
	assert.ErrorIs(t, err, io.EOF)
}

// Events reach the client while the response is open, and a client that leaves ends it.
func TestEventStream(t *testing.T) {
	next, gone := make(chan string), make(chan struct{})
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for event := range next {
			if _, err := io.WriteString(w, event); err != nil {
				break
			}
			w.(http.Flusher).Flush()
			if r.Context().Err() != nil {
				break
			}
		}
		close(gone)
	})
	s := start(t, one(addr), nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/", http.NoBody)
	require.NoError(t, err)
	resp, err := client(t).Do(req)
	require.NoError(t, err)
	in := bufio.NewReader(resp.Body)
	for i := range 5 {
		event := fmt.Sprintf("data: %d\n", i)
		next <- event
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, event, line)
	}
	require.NoError(t, resp.Body.Close())
	for {
		select {
		case next <- "more\n":
		case <-gone:
			return
		case <-time.After(10 * time.Second):
			require.Fail(t, "the backend still sends")
		}
	}
}

// After an upgrade bytes pass in both directions, and the end of one direction is passed on as such.
func TestUpgrade(t *testing.T) {
	seen := make(chan string, 1)
	backend := serveConns(t, func(_ context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		all, _ := io.ReadAll(in)
		_, _ = conn.Write(bytes.ToUpper(all))
		seen <- req.Header.Get("Upgrade") + " " + req.Header.Get("Connection")
	})
	variant := record(t, "")
	s := start(t, one(backend, variant.addr), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade, TE\r\nTE: trailers\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	assert.Equal(t, "echo", resp.Header.Get("Upgrade"))
	_, err = io.WriteString(conn, strings.Repeat("world", 10000))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	back, err := io.ReadAll(in)
	require.NoError(t, err)
	assert.Equal(t, "hello "+strings.Repeat("WORLD", 10000), string(back))
	assert.Equal(t, "echo TE, Upgrade", <-seen)
	assert.Empty(t, variant.got(), "upgrades are not mirrored")
}

// A request with a body may ask for another protocol, as that of docker exec does. The whole body goes to the
// backend before a byte of that protocol, also if the backend switches early.
func TestUpgradeWithBody(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, size := range []int{2, 200_000} {
			for _, framing := range []string{"length", "chunks"} {
				t.Run(fmt.Sprint(framing, " ", size, " early ", early), func(t *testing.T) {
					upgradeWithBody(t, early, framing == "chunks", strings.Repeat("x", size))
				})
			}
		}
	}
}

func upgradeWithBody(t *testing.T, early, chunks bool, body string) {
	const switching = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	backend := serveConns(t, func(_ context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if early {
			_, _ = io.WriteString(conn, switching)
		}
		got, _ := io.ReadAll(req.Body)
		if !early {
			_, _ = io.WriteString(conn, switching)
		}
		_, _ = fmt.Fprintf(conn, "%s %d ", req.Header.Get("Upgrade"), len(got))
		_, _ = io.Copy(conn, in)
	})
	conn := dial(t, start(t, one(backend), nil).addr)
	framed := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	if chunks {
		framed = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
	request := "POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + framed
	for _, piece := range []string{request[:len(request)-1], request[len(request)-1:]} {
		_, err := io.WriteString(conn, piece)
		require.NoError(t, err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	_, err = io.WriteString(conn, "after")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	back, err := io.ReadAll(in)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("tcp %d after", len(body)), string(back))
}

// A backend that switches to another protocol than the requested one gets no tunnel, and the client a 502.
func TestUpgradeToAnother(t *testing.T) {
	for fields, want := range map[string]int{
		"Upgrade: Echo/1\r\n":                    101,
		"":                                       502,
		"Upgrade:\r\n":                           502,
		"Upgrade: echo\r\n":                      502,
		"Upgrade: h2c\r\n":                       502,
		"Upgrade: echo/1, h2c\r\n":               502,
		"Upgrade: echo/1\r\nUpgrade: h2c\r\n":    502,
		"Upgrade: echo/1\r\nUpgrade: echo/1\r\n": 502,
	} {
		t.Run(fields, func(t *testing.T) {
			backend := record(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: close, upgrade\r\n"+fields+"\r\n")
			s := start(t, one(backend.addr), nil)
			back := talk(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n")
			assert.Equal(t, []int{want}, statuses(t, back, http.MethodGet))
		})
	}
}

// A connection on which unrequested bytes arrived, or which the backend has closed, is not used again: not
// even a POST notices.
func TestStaleConnections(t *testing.T) {
	for behaviour, misbehave := range map[string]func(net.Conn) error{
		"late bytes": func(conn net.Conn) error {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			return err
		},
		"closed": func(conn net.Conn) error { return conn.Close() },
	} {
		t.Run(behaviour, func(t *testing.T) {
			answered, misbehaved := make(chan struct{}), make(chan error)
			backend := serveConns(t, func(ctx context.Context, conn net.Conn) {
				in := bufio.NewReader(conn)
				req, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, faulty.Fine)
				select { // apart from the answer, but before the client's next request
				case <-answered:
				case <-ctx.Done():
					return
				}
				misbehaved <- misbehave(conn)
				_, _ = io.Copy(io.Discard, in)
			})
			s := start(t, one(backend), nil)
			c := client(t)
			for range 6 {
				status, body := ask(t, c, http.MethodPost, "http://"+s.addr+"/", "x")
				require.Equal(t, "200 ok", fmt.Sprint(status, " ", body))
				answered <- struct{}{}
				require.NoError(t, <-misbehaved)
			}
		})
	}
}

// A backend that ends resets connections that it has accepted and not read. A request that may be repeated
// goes to another endpoint, also if the connection was new; a POST does not.
func TestBackendThatEndsGetsNoRetry(t *testing.T) {
	ends := serveConns(t, func(_ context.Context, conn net.Conn) {
		_, _ = bufio.NewReader(conn).ReadString('\n')
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	alive := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "alive") })
	table := one("")
	table.Services["primary"] = spec.Service{80: endpoints(ends, alive)}
	s := start(t, table, nil)
	c := client(t)
	for range 30 {
		status, body := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		assert.Equal(t, "200 alive", fmt.Sprint(status, " ", body))
	}
	require.Positive(t, s.counter(t, "retries_total"))
	eventually(t, func() bool {
		status, _ := ask(t, c, http.MethodPost, "http://"+s.addr+"/", "x")
		return status == http.StatusBadGateway
	}, "a POST to the backend that ends is answered with 502, not sent again")

	// Without another endpoint there is one attempt.
	table.Services["primary"] = spec.Service{80: endpoints(ends)}
	table.Listeners[0].Address = "127.0.0.1:0"
	require.NoError(t, s.Apply(setup(t, table)))
	before := s.counter(t, "retries_total")
	status, _ := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusBadGateway, status)
	assert.InDelta(t, 1, s.counter(t, "retries_total")-before, 0, "one retry looked for another endpoint")
}

// With HalfClose, a client that has closed only its sending half gets its answer.
func TestHalfClosedClient(t *testing.T) {
	release := make(chan struct{})
	addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, "late")
	})
	s := start(t, one(addr), &proxy.Options{Limits: h1.Limits{HalfClose: true}})
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the request is in flight")
	close(release)
	back, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(back), "late")
}

// A connection that has been idle for almost as long as the backend allows is not used again: the backend may close it
// while a request is on its way, which then cannot be repeated.
func TestKeepAliveOfABackend(t *testing.T) {
	for keep, want := range map[string]int32{"": 1, "timeout=1, max=100": 2} {
		var conns atomic.Int32
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n"
		if keep != "" {
			answer += "Keep-Alive: " + keep + "\r\n"
		}
		backend := serveConns(t, func(_ context.Context, conn net.Conn) {
			conns.Add(1)
			for in := bufio.NewReader(conn); ; {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer+"\r\nok")
			}
		})
		s := start(t, one(backend), nil)
		for range 2 {
			status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
			assert.Equal(t, http.StatusOK, status)
			<-time.After(700 * time.Millisecond)
		}
		assert.Equal(t, want, conns.Load(), keep)
	}
}

// When a connect fails, another endpoint is tried, whatever the method.
func TestConnectRetry(t *testing.T) {
	dead := refused(t)
	alive := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	table := one("")
	table.Services["primary"] = spec.Service{80: endpoints(dead, alive)}
	s := start(t, table, nil)
	c := client(t)
	for range 30 {
		status, _ := ask(t, c, http.MethodPost, "http://"+s.addr+"/", "x")
		assert.Equal(t, http.StatusOK, status)
	}
	table.Services["primary"] = spec.Service{80: endpoints(dead)}
	table.Listeners[0].Address = "127.0.0.1:0"
	require.NoError(t, s.Apply(setup(t, table)))
	status, _ := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusBadGateway, status)
}

// The timeouts of the rule, of a head, and of an idle connection hold.
func TestTimeouts(t *testing.T) {
	release := make(chan struct{})
	addr := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	table := one(addr)
	table.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: "50ms"}
	s := start(t, table, &proxy.Options{Limits: h1.Limits{HeadTimeout: 50 * time.Millisecond, IdleTimeout: 200 * time.Millisecond}})
	status, _ := ask(t, client(t), http.MethodGet, "http://"+s.addr+"/", "")
	assert.Equal(t, http.StatusGatewayTimeout, status)

	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost")
	require.NoError(t, err)
	back, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, []int{408}, statuses(t, string(back), "GET"))

	back, err = io.ReadAll(dial(t, s.addr))
	require.NoError(t, err)
	assert.Empty(t, back, "an idle connection ends without an answer")
}

// A silent backend is given up even if its rule has no timeout, but not while the client is sending.
func TestSilentBackend(t *testing.T) {
	limits := h1.Limits{BackendTimeout: 200 * time.Millisecond}
	hung := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "h")
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/upload" {
			<-r.Context().Done()
		}
	})
	s := start(t, one(hung), &proxy.Options{Limits: limits})
	assert.Equal(t, []int{504}, statuses(t, talk(t, s.addr, "GET /head HTTP/1.1\r\nHost: a\r\n\r\n"), "GET"))
	assert.Equal(t, []int{504}, statuses(t, talk(t, s.addr, "POST /head HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"), "POST"))
	cut := talk(t, s.addr, "GET /body HTTP/1.1\r\nHost: a\r\n\r\n")
	assert.True(t, strings.HasPrefix(cut, "HTTP/1.1 200 ") || cut == "", "%q", cut)

	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n")
	require.NoError(t, err)
	for range 7 {
		<-time.After(100 * time.Millisecond)
		_, err = io.WriteString(conn, "x")
		require.NoError(t, err)
	}
	status, _, err := answer(bufio.NewReader(conn))
	require.NoError(t, err)
	assert.Equal(t, 200, status)
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "all exchanges have ended")
}

// A backend may pause for longer than the interval at which the proxy checks whether the client is there.
func TestPause(t *testing.T) {
	backend := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, event := range []string{"one", "two"} {
			<-time.After(1200 * time.Millisecond)
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	status, body := ask(t, client(t), http.MethodGet, "http://"+start(t, one(backend), nil).addr+"/", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "onetwo", body)
}

// When a client resets its connection or its stream, or closes its connection, its request ends, whether the backend
// has begun to answer or not, and whether the rule has a timeout or not. With HalfClose, a client that closes its
// sending half gets its answer.
func TestClientGone(t *testing.T) {
	for _, protocol := range []string{"http", "h2c"} {
		for _, begun := range []bool{false, true} {
			for _, halfClose := range []bool{false, true} {
				for _, timeout := range []string{"", "1m"} {
					t.Run(fmt.Sprint(protocol, " begun ", begun, " halfClose ", halfClose, " timeout ", timeout), func(t *testing.T) {
						clientGone(t, protocol, timeout, begun, halfClose)
					})
				}
			}
		}
	}
}

func clientGone(t *testing.T, protocol, timeout string, begun, halfClose bool) {
	hung := make(chan struct{})
	release := sync.OnceFunc(func() { close(hung) })
	defer release()
	var received, brokenOff atomic.Int64
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		received.Add(1)
		if begun {
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-hung:
		case <-r.Context().Done():
			brokenOff.Add(1)
		}
	})
	table := one(backend)
	if protocol == "h2c" {
		overH2C(table)
	}
	if timeout != "" {
		table.Listeners[0].Rules[0].Timeouts = &spec.Timeouts{Request: timeout}
	}
	s := start(t, table, &proxy.Options{Limits: h1.Limits{HalfClose: halfClose}})
	reset, half := dial(t, s.addr), dial(t, s.addr)
	for _, conn := range []net.Conn{reset, half} {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan bool, 1)
	go func() { left <- works(ctx, clientH2C(t, 1<<20), "http://"+s.addr) }()
	eventually(t, func() bool { return received.Load() == 3 }, "the backend has all three requests")
	require.NoError(t, half.(*net.TCPConn).CloseWrite())
	require.NoError(t, reset.(*net.TCPConn).SetLinger(0))
	require.NoError(t, reset.Close())
	cancel()
	require.False(t, <-left)
	gone := int64(3)
	if halfClose {
		gone = 2
	}
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == float64(3-gone) }, "the exchanges of the clients that left have ended")
	eventually(t, func() bool { return brokenOff.Load() == gone }, "the backend has noticed that they left")
	if !begun {
		assert.InDelta(t, gone, s.counter(t, "requests_total", "code", "499"), 0)
	}
	if !halfClose {
		return
	}
	release()
	status, _, err := answer(bufio.NewReader(half))
	require.NoError(t, err)
	assert.Equal(t, 200, status)
}
