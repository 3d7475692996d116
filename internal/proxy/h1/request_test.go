package h1

import (
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

func itoa(n int) string { return strconv.Itoa(n) }

// arrived is a body that has arrived in one piece.
type arrived struct {
	body string
	read bool
}

func (a *arrived) Next() ([]byte, error) {
	if a.read || a.body == "" {
		return nil, io.EOF
	}
	a.read = true
	return []byte(a.body), nil
}
func (a *arrived) Ready() bool               { return true }
func (a *arrived) Whole() bool               { return true }
func (a *arrived) Trailers() []message.Field { return nil }

// exchange sends one request and requires that it is answered with 200 and "ok".
func exchange(t *testing.T, client *Client, endpoint *upstream.Endpoint, body string, deadline time.Time) {
	t.Helper()
	sent := 0
	out := message.Outgoing{Request: &message.Request{Method: "POST", Length: int64(len(body))}, Target: "/", Authority: "a"}
	out.Fields = []message.Field{{Name: "Content-Length", Value: itoa(len(body))}}
	answer, err := client.Send(endpoint, &core.Send{
		Out: out, Body: &arrived{body: body}, Now: time.Now(), Deadline: deadline,
		Sent: func() { sent++ }, Gone: func() bool { return false }, Interrupt: func() {},
	})
	require.NoError(t, err)
	assert.Equal(t, 1, sent)
	assert.Equal(t, 200, answer.Head().Status)
	p, err := answer.Next()
	require.NoError(t, err)
	assert.Equal(t, "ok", string(p))
	_, err = answer.Next()
	require.ErrorIs(t, err, io.EOF)
	assert.True(t, answer.Finish(true))
}

// A request of which the socket takes only a part is sent to its end, with and without a time limit.
func TestRequestInParts(t *testing.T) {
	read := make(chan struct{}, 1)
	defer close(read)
	p, endpoint := newPeer(t, func(net.Conn) { <-read })
	client := NewClient(&Limits{})
	exchange(t, client, endpoint, "", time.Time{})
	assert.Empty(t, p.next(t))
	for _, size := range []int{10, 5000, 64 << 10, 200 << 10} {
		for _, deadline := range []time.Time{{}, time.Now().Add(time.Minute)} {
			conn := idleConn(t, endpoint)
			require.NoError(t, conn.(*clientConn).Conn.(*net.TCPConn).SetWriteBuffer(2048))
			require.True(t, endpoint.Put(conn, time.Now()))
			body := strings.Repeat("abcdefgh", size/8)
			later := time.AfterFunc(20*time.Millisecond, func() { read <- struct{}{} })
			exchange(t, client, endpoint, body, deadline)
			later.Stop()
			assert.Equal(t, body, p.next(t), "the backend gets the %d bytes as they were", size)
		}
	}
	assert.EqualValues(t, 1, p.accepted.Load(), "there is one connection for all requests")
}

// A request is never sent on a connection that the backend has ended, nor answered by bytes that arrived
// before it.
func TestRequestAfterEnd(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"closes":        func(conn net.Conn) { _ = conn.Close() },
		"closes half":   func(conn net.Conn) { _ = conn.(*net.TCPConn).CloseWrite() },
		"answers twice": func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n") },
	} {
		for _, body := range []string{"", "abc"} {
			t.Run(name+body, func(t *testing.T) {
				ended := make(chan struct{}, 8)
				p, endpoint := newPeer(t, func(conn net.Conn) { then(conn); ended <- struct{}{} })
				for range 3 {
					exchange(t, NewClient(&Limits{}), endpoint, body, time.Time{})
					assert.Equal(t, body, p.next(t))
					<-ended
				}
				assert.EqualValues(t, 3, p.accepted.Load())
			})
		}
	}
}

// A deadline that has passed and belongs to an earlier request does not keep the next request from being
// sent.
func TestRequestAfterDeadline(t *testing.T) {
	p, endpoint := newPeer(t, nil)
	client := NewClient(&Limits{})
	for i := range 4 {
		deadline := time.Time{}
		if i%2 == 0 {
			deadline = time.Now().Add(200 * time.Millisecond)
		}
		exchange(t, client, endpoint, "", deadline)
		assert.Empty(t, p.next(t))
		<-time.After(250 * time.Millisecond)
	}
	assert.EqualValues(t, 1, p.accepted.Load(), "there is one connection for all requests")
}
