// Long answers, which go from socket to socket inside the kernel.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/h1"
)

// long is the body of a long answer.
var long = func() []byte {
	source := rand.NewChaCha8([32]byte{})
	body := make([]byte, 3<<20)
	_, _ = source.Read(body)
	return body
}()

// speaks starts a backend that answers each request with a head, and then calls send. It counts its
// connections.
func speaks(t *testing.T, length int, send func(conn net.Conn) error) (addr string, conns *atomic.Int64) {
	t.Helper()
	conns = &atomic.Int64{}
	addr = serveConns(t, func(_ context.Context, conn net.Conn) {
		conns.Add(1)
		in := bufio.NewReader(conn)
		for faulty.ReadHead(in) == nil {
			if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", length); err != nil || send(conn) != nil {
				return
			}
		}
	})
	return addr, conns
}

// answered sends a request on a connection and returns the body, as far as it arrived.
func answered(t *testing.T, conn net.Conn, in *bufio.Reader) ([]byte, error) {
	t.Helper()
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.EqualValues(t, len(long), resp.ContentLength)
	return io.ReadAll(resp.Body)
}

// write writes the pieces one by one.
func write(conn net.Conn, pieces ...[]byte) error {
	for _, p := range pieces {
		if _, err := conn.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// The bytes of a long answer in pieces arrive, and both connections can be used for the next request.
func TestLongAnswers(t *testing.T) {
	addr, conns := speaks(t, len(long), func(conn net.Conn) error {
		for at := 0; at < len(long); at += 1 << 20 {
			if err := write(conn, long[at:at+100], long[at+100:at+(1<<20)]); err != nil {
				return err
			}
		}
		return nil
	})
	s := start(t, one(addr, addr), nil)
	conn := dial(t, s.addr)
	in := bufio.NewReader(conn)
	for range 4 {
		body, err := answered(t, conn, in)
		require.NoError(t, err)
		require.True(t, bytes.Equal(long, body))
	}
	assert.InDelta(t, 4*len(long), s.counter(t, "body_bytes_total", "direction", "sent"), 0)
	eventually(t, func() bool { return s.counter(t, "shadows_in_flight") == 0 }, "the copies have ended")
	if runtime.GOOS == "linux" {
		assert.Positive(t, pipes(t), "the answers went through a pipe")
	}
	assert.LessOrEqual(t, conns.Load(), int64(1+4), "one connection is for the primary, and one for each copy, whose answer is broken off")
}

// A client that reads slowly gets the whole answer, which is more than sockets hold.
func TestLongAnswerToASlowClient(t *testing.T) {
	const times = 16
	addr, _ := speaks(t, times*len(long), func(conn net.Conn) error {
		return write(conn, slices.Repeat([][]byte{long}, times)...)
	})
	s := start(t, one(addr), nil)
	conn := dial(t, s.addr)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 1 }, "the exchange is under way")
	body := make([]byte, len(long))
	for range times {
		_, err := io.ReadFull(resp.Body, body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(long, body))
	}
}

// A client that leaves in the middle of a long answer ends the exchange.
func TestClientLeavesALongAnswer(t *testing.T) {
	broken := make(chan error, 1)
	addr, _ := speaks(t, 1<<40, func(conn net.Conn) error {
		for {
			if err := write(conn, long); err != nil {
				broken <- err
				return err
			}
		}
	})
	s := start(t, one(addr), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	eventually(t, func() bool { return len(broken) == 1 }, "the backend's connection is broken off")
	eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 }, "the exchange has ended")
}

// When a backend ends or falls silent in the middle of a long answer, the client does not take the part for
// the whole.
func TestLongAnswerThatIsBrokenOff(t *testing.T) {
	silence := time.Second // also bounds the wait for the head
	for name, after := range map[string]func(conn net.Conn) error{
		"ended":  func(net.Conn) error { return io.EOF },
		"reset":  func(conn net.Conn) error { _ = conn.(*net.TCPConn).SetLinger(0); return io.EOF },
		"silent": func(conn net.Conn) error { _, err := conn.Read(make([]byte, 1)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			half := len(long) / 2
			addr, _ := speaks(t, len(long), func(conn net.Conn) error {
				if err := write(conn, long[:half]); err != nil {
					return err
				}
				return after(conn)
			})
			s := start(t, one(addr), &proxy.Options{Limits: h1.Limits{BackendTimeout: silence}})
			for range 3 { // the next answer has no bytes of the one before
				conn := dial(t, s.addr)
				body, err := answered(t, conn, bufio.NewReader(conn))
				require.Error(t, err)
				require.LessOrEqual(t, len(body), half)
				require.True(t, bytes.Equal(long[:len(body)], body))
			}
		})
	}
}

// A client that reads slowly gets every byte of an answer that its backend broke off, and notices that bytes are
// missing.
func TestSlowReaderOfATruncatedAnswer(t *testing.T) {
	for name, head := range map[string]string{
		"length": "Content-Length: 1000000\r\n\r\n", "chunks": "Transfer-Encoding: chunked\r\n\r\nf4240\r\n",
	} {
		for _, size := range []int{10, 100_000} {
			ended := make(chan struct{})
			backend := serveConns(t, func(_ context.Context, conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1000))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head+strings.Repeat("x", size))
				_ = conn.Close()
				close(ended)
			})
			s := start(t, one(backend), nil)
			conn := dial(t, s.addr)
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			require.NoError(t, err)
			<-ended
			eventually(t, func() bool { return s.counter(t, "requests_in_flight") == 0 && s.counter(t, "connections") == 0 }, "the proxy has closed")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
			_ = resp.Body.Close()
			assert.Len(t, body, size, name)
		}
	}
}

// When the backend of a long answer pauses, each piece leaves at once and is not held back for the next one.
// The answer goes on after a long pause.
func TestLongAnswerWithPauses(t *testing.T) {
	const head, piece, pieces = 40 << 10, 1000, 10
	next := make(chan struct{})
	defer close(next)
	addr, _ := speaks(t, len(long), func(conn net.Conn) error {
		err := write(conn, long[:head])
		for at := head; err == nil && at < head+pieces*piece; at += piece {
			<-next
			err = write(conn, long[at:at+piece])
		}
		return io.EOF
	})
	s := start(t, one(addr), nil)
	conn := dial(t, s.addr)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body := make([]byte, head+pieces*piece)
	_, err = io.ReadFull(resp.Body, body[:head])
	require.NoError(t, err)
	soonest, silent := time.Hour, time.Now()
	eventually(t, func() bool { return time.Since(silent) > 1200*time.Millisecond }, "the pause is longer than the proxy waits at a time")
	for at := head; at < len(body); at += piece {
		now := time.Now()
		next <- struct{}{}
		_, err = io.ReadFull(resp.Body, body[at:at+piece])
		require.NoError(t, err)
		soonest = min(soonest, time.Since(now))
	}
	assert.True(t, bytes.Equal(long[:len(body)], body))
	assert.Less(t, soonest, 20*time.Millisecond, "no piece came at once: the kernel holds one back for 200 ms if more is announced")
}

// pipes returns how many pipes have both ends in this process.
func pipes(t *testing.T) int {
	t.Helper()
	const fds = "/proc/self/fd"
	all, err := os.ReadDir(fds)
	require.NoError(t, err)
	ends := map[string]int{}
	for _, fd := range all {
		if to, err := os.Readlink(fds + "/" + fd.Name()); err == nil && len(fd.Name()) > 1 && strings.HasPrefix(to, "pipe:") {
			ends[to]++
		}
	}
	both := 0
	for _, n := range ends {
		both += n / 2
	}
	return both
}
