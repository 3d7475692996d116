package h1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// peer is a backend or a variant whose sockets take few bytes until it reads.
type peer struct {
	accepted atomic.Int64
	bodies   chan string
	// then, if set, is called after every answer.
	then func(conn net.Conn)
}

// newPeer starts a peer and returns its endpoint, too.
func newPeer(t *testing.T, then func(net.Conn)) (*peer, *upstream.Endpoint) {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			assert.NoError(t, syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048))
		})
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &peer{bodies: make(chan string, 8), then: then}
	pool := upstream.NewPool(&upstream.Pool{})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { faulty.Serve(ctx, l, p.serve) })
	wg.Go(func() { pool.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return p, pool.Endpoint(l.Addr().String(), nil)
}

func (p *peer) serve(_ context.Context, conn net.Conn) {
	p.accepted.Add(1)
	for in := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		p.bodies <- string(body)
		if _, err := io.WriteString(conn, faulty.Fine); err != nil {
			return
		}
		if p.then != nil {
			p.then(conn)
		}
	}
}

// next returns the body of the next request.
func (p *peer) next(t *testing.T) string {
	t.Helper()
	select {
	case body := <-p.bodies:
		return body
	case <-time.After(10 * time.Second):
		require.Fail(t, "no request arrived")
		return ""
	}
}

// outcomes receives the outcome of each copy: its status, or the reason why it was dropped.
type outcomes chan string

func (o outcomes) Dropped(why shadow.Reason) { o <- string(why) }

func (o outcomes) Answered(a *shadow.Answered) { o <- http.StatusText(a.Status) }

// queue returns a queue that sends copies to one endpoint.
func queue(endpoint *upstream.Endpoint, limits *Limits) *shadow.Queue {
	return shadow.NewQueue(&shadow.Config{
		Limits:    routing.Limits{MaxInFlight: 8, Queue: 8, Budget: 1 << 20},
		Endpoints: upstream.Set{endpoint}, Sender: NewSender(limits),
	})
}

// mirrored submits a copy of a request, and overwrites the buffer of the request afterwards.
func mirrored(t *testing.T, to *shadow.Queue, observer outcomes, timeout time.Duration, body string) {
	t.Helper()
	out := &message.Outgoing{Request: &message.Request{Method: "POST", Length: int64(len(body))}, Target: "/", Authority: "a"}
	out.Fields = []message.Field{{Name: "Content-Length", Value: itoa(len(body))}}
	c := to.Admit(out, &routing.Mirror{MaxBody: 1 << 20, Timeout: timeout}, observer, nil, time.Now())
	require.NotNil(t, c)
	buf := []byte(body)
	if len(buf) > 0 {
		require.True(t, c.Borrow(buf))
	}
	c.Submit()
	for i := range buf {
		buf[i] = '!'
	}
}

// idleConn waits until a connection is idle and takes it.
func idleConn(t *testing.T, endpoint *upstream.Endpoint) upstream.Idle {
	t.Helper()
	var conn upstream.Idle
	require.Eventually(t, func() bool { conn = endpoint.Take(); return conn != nil }, 10*time.Second, time.Millisecond)
	return conn
}

// A copy leaves at once as far as the socket takes it; the rest of it outlives the request.
func TestCopyOutlivesItsRequest(t *testing.T) {
	read := make(chan struct{}, 1)
	defer close(read)
	p, endpoint := newPeer(t, func(net.Conn) { <-read })
	to, done := queue(endpoint, &Limits{}), make(outcomes, 8)
	mirrored(t, to, done, time.Minute, "")
	assert.Empty(t, p.next(t))
	assert.Equal(t, "OK", <-done)
	for _, size := range []int{10, 5000, 64 << 10, 71 << 10, 200 << 10} {
		conn := idleConn(t, endpoint)
		require.NoError(t, conn.(*senderConn).Conn.(*net.TCPConn).SetWriteBuffer(2048))
		require.True(t, endpoint.Put(conn, time.Now()))
		body := strings.Repeat("abcdefgh", size/8)
		begin := time.Now()
		mirrored(t, to, done, time.Minute, body)
		assert.Less(t, time.Since(begin), 5*time.Second, "Submit does not wait for a variant that does not read")
		read <- struct{}{}
		assert.Equal(t, body, p.next(t), "the copy of %d bytes is as they were", size)
		assert.Equal(t, "OK", <-done)
	}
	assert.EqualValues(t, 1, p.accepted.Load(), "there is one connection for all copies")
	require.Eventually(t, func() bool { return to.Held() == 0 }, 10*time.Second, time.Millisecond, "copies still hold bytes")
}

// A copy is never sent on a connection that the variant has ended, nor answered by bytes that arrived before
// it.
func TestCopyAfterEnd(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"closes":        func(conn net.Conn) { _ = conn.Close() },
		"closes half":   func(conn net.Conn) { _ = conn.(*net.TCPConn).CloseWrite() },
		"answers twice": func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 8)
			p, endpoint := newPeer(t, func(conn net.Conn) { then(conn); ended <- struct{}{} })
			to, done := queue(endpoint, &Limits{}), make(outcomes, 8)
			for i := range 3 {
				mirrored(t, to, done, time.Minute, "")
				assert.Empty(t, p.next(t))
				assert.Equal(t, "OK", <-done, i)
				<-ended
			}
			assert.EqualValues(t, 3, p.accepted.Load())
		})
	}
}

// A deadline that passes while a connection is idle belongs to the copy before, and ends nothing.
func TestCopyAfterIdleDeadline(t *testing.T) {
	p, endpoint := newPeer(t, nil)
	to, done := queue(endpoint, &Limits{}), make(outcomes, 8)
	for range 3 {
		mirrored(t, to, done, 200*time.Millisecond, "")
		assert.Empty(t, p.next(t))
		assert.Equal(t, "OK", <-done)
		<-time.After(300 * time.Millisecond)
	}
	assert.EqualValues(t, 1, p.accepted.Load(), "there is one connection for all copies")
}

// A copy that is not answered in time is dropped with its connection, even if that has carried copies before.
func TestCopyTimeout(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	p, endpoint := newPeer(t, func(net.Conn) { <-stop })
	to, done := queue(endpoint, &Limits{}), make(outcomes, 8)
	mirrored(t, to, done, time.Minute, "")
	assert.Empty(t, p.next(t))
	assert.Equal(t, "OK", <-done)
	mirrored(t, to, done, 50*time.Millisecond, "")
	assert.Equal(t, string(shadow.Timeout), <-done)
	assert.Nil(t, endpoint.Take())
	assert.EqualValues(t, 1, p.accepted.Load())
}
