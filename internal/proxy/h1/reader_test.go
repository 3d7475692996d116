package h1

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var d net.Dialer
	a, err = d.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	b, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// After a body was skipped, the bytes that follow it can be read.
func TestSkip(t *testing.T) {
	a, b := pair(t)
	go func() {
		_, _ = a.Write(append(bytes.Repeat([]byte("x"), 200<<10), "next"...))
		_ = a.Close()
	}()
	conn := &clientConn{Conn: b, limits: limits}
	conn.in.init(b)
	conn.body.in, conn.body.limits = &conn.in, limits
	conn.body.reset(200<<10, false)
	require.NoError(t, conn.in.fill())
	complete, err := conn.discard(nil)
	require.NoError(t, err)
	assert.True(t, complete)
	rest := bytes.Clone(conn.in.buf[conn.in.r:conn.in.w])
	more, err := io.ReadAll(b)
	require.NoError(t, err)
	assert.Equal(t, "next", string(append(rest, more...)))
}

// A head keeps its bytes while a body of any size is read through the same reader, and an idle reader holds
// no buffer.
func TestHeadStays(t *testing.T) {
	for _, size := range []int{0, 1, 3000, 5000, 100 << 10} {
		a, b := pair(t)
		head := "POST / HTTP/1.1\r\nHost: a\r\n\r\n"
		go func() {
			_, _ = io.WriteString(a, head)
			_, _ = a.Write(bytes.Repeat([]byte("y"), size))
		}()
		in := &reader{}
		in.init(b)
		got, err := in.head(1000, nil)
		require.NoError(t, err)
		body := body{in: in, limits: limits}
		body.reset(int64(size), false)
		n := 0
		for {
			p, err := body.Next()
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			n += len(p)
			assert.Equal(t, head, string(got))
		}
		assert.Equal(t, size, n)
		in.release()
		assert.Nil(t, in.buf)
		assert.Nil(t, in.kept)
	}
}
