// Connections that are passed through, and ports that change between that and rules.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// passing returns a table that passes connections through to these endpoints.
func passing(addresses ...string) *spec.Table {
	return &spec.Table{
		Listeners: []spec.Listener{{TCP: &spec.Passthrough{Name: "db", Port: 5432}}},
		Services:  map[string]spec.Service{"db": {5432: endpoints(addresses...)}},
	}
}

// speaker returns the address of a backend that greets with its name, and then calls then with the
// connection.
func speaker(t *testing.T, name string, then func(net.Conn)) string {
	t.Helper()
	return serveConns(t, func(_ context.Context, conn net.Conn) {
		_, _ = io.WriteString(conn, name+"\n")
		then(conn)
	})
}

// repeatBack sends all bytes back until their end, and then a line.
func repeatBack(conn net.Conn) {
	if _, err := io.Copy(conn, conn); err == nil {
		_, _ = io.WriteString(conn, "bye\n")
	}
}

// line reads a line.
func line(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	text, err := in.ReadString('\n')
	require.NoError(t, err)
	return text
}

// Bytes pass unchanged in both directions, a side that has ended its half still gets the bytes of the other,
// and connections and bytes are counted.
func TestPassthrough(t *testing.T) {
	s := start(t, passing(speaker(t, "hello", repeatBack)), nil)
	conn := dial(t, s.addr)
	in := bufio.NewReader(conn)
	assert.Equal(t, "hello\n", line(t, in), "the backend speaks first")
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\x00\xff\n")
	require.NoError(t, err)
	assert.Equal(t, "GET / HTTP/1.1\r\n", line(t, in))
	assert.Equal(t, "\x00\xff\n", line(t, in), "the bytes are not parsed")
	assert.InDelta(t, 1, s.counter(t, "passthrough_connections", "listener", "main"), 0)

	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than sockets hold
	got := make(chan []byte)
	go func() {
		back, _ := io.ReadAll(in)
		got <- back
	}()
	_, err = conn.Write(sent)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	back := <-got
	assert.True(t, bytes.Equal(append(sent, "bye\n"...), back), "%d bytes came back of %d", len(back), len(sent)+4)
	eventually(t, func() bool {
		return s.counter(t, "passthrough_connections_total", "listener", "main", "outcome", "ended") == 1
	}, "the end is counted")
	assert.InDelta(t, len(sent)+19, s.counter(t, "passthrough_bytes_total", "direction", "received"), 0)
	assert.InDelta(t, len(sent)+19+len("hello\nbye\n"), s.counter(t, "passthrough_bytes_total", "direction", "sent"), 0)
	assert.Zero(t, s.counter(t, "passthrough_connections"))
	assert.Zero(t, s.counter(t, "connections"), "the slot of the connection is free")
}

// A backend that ends its half first still gets the client's bytes.
func TestPassthroughHalfClosedByTheBackend(t *testing.T) {
	heard := make(chan string, 1)
	s := start(t, passing(speaker(t, "done", func(conn net.Conn) {
		_ = conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(conn)
		heard <- string(all)
	})), nil)
	conn := dial(t, s.addr)
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "done\n", string(all))
	_, err = io.WriteString(conn, "late")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	assert.Equal(t, "late", <-heard)
}

// After a failed connect another endpoint is tried; if none works, the client sees a reset; and a reset by
// one side becomes a reset of the other.
func TestPassthroughFailures(t *testing.T) {
	reset := func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	refusing := refused(t)
	s := start(t, passing(refusing, speaker(t, "v1", reset)), nil)
	for range 20 {
		conn := dial(t, s.addr)
		in := bufio.NewReader(conn)
		require.Equal(t, "v1\n", line(t, in))
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
		_, err = in.ReadByte()
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	eventually(t, func() bool {
		return s.counter(t, "passthrough_connections_total", "outcome", "broken") == 20
	}, "every reset is counted")
	for outcome, addresses := range map[string][]string{"no_endpoint": nil, "connect": {refusing}} {
		require.NoError(t, s.SetEndpoints("db", 5432, addresses, nil))
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
		if err == nil { // otherwise the reset came at once
			_, err = conn.Read(make([]byte, 1))
			require.NoError(t, conn.Close())
		}
		require.ErrorIs(t, err, syscall.ECONNRESET, "the client sees a reset")
		assert.InDelta(t, 1, s.counter(t, "passthrough_connections_total", "outcome", outcome), 0)
	}
}

// An idle connection is broken off in time; one with traffic in one direction is not idle.
func TestPassthroughIdle(t *testing.T) {
	talkative := speaker(t, "v1", func(conn net.Conn) {
		for range 30 {
			<-time.After(50 * time.Millisecond)
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	s := start(t, passing(talkative), &proxy.Options{PassIdle: time.Second})
	conn := dial(t, s.addr)
	began := time.Now()
	all, err := io.ReadAll(conn)
	require.Error(t, err, "the connection is broken off, not ended")
	assert.Len(t, all, len("v1\n")+30)
	assert.Less(t, time.Since(began), 10*time.Second)
	eventually(t, func() bool { return s.counter(t, "passthrough_connections_total", "outcome", "idle") == 1 }, "the idle connection is counted")
}

// A change of endpoints concerns new connections; open ones stay.
func TestPassthroughEndpoints(t *testing.T) {
	s := start(t, passing(speaker(t, "1", repeatBack)), nil)
	first := dial(t, s.addr)
	in := bufio.NewReader(first)
	require.Equal(t, "1\n", line(t, in))
	require.NoError(t, s.SetEndpoints("db", 5432, []string{speaker(t, "2", repeatBack)}, nil))
	require.Equal(t, "2\n", line(t, bufio.NewReader(dial(t, s.addr))))
	_, err := io.WriteString(first, "still\n")
	require.NoError(t, err)
	assert.Equal(t, "still\n", line(t, in))
}

// Shutdown waits for connections that are passed through until its context ends.
func TestPassthroughShutdown(t *testing.T) {
	for name, waits := range map[string]bool{"ends": true, "broken off": false} {
		t.Run(name, func(t *testing.T) {
			s := proxy.New(&proxy.Options{})
			table := passing(speaker(t, "v1", repeatBack))
			table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
			require.NoError(t, s.Apply(setup(t, table)))
			address := s.Addr("main").String()
			conn := dial(t, address)
			in := bufio.NewReader(conn)
			require.Equal(t, "v1\n", line(t, in))
			s.Drain()
			another := dial(t, address)
			require.Equal(t, "v1\n", line(t, bufio.NewReader(another)), "a new connection is accepted")
			require.NoError(t, another.Close())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() { ended <- s.Shutdown(ctx) }()
			eventually(t, func() bool {
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
				if err == nil {
					_ = conn.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			}, "no connection is accepted any more")
			_, err := io.WriteString(conn, "still\n")
			require.NoError(t, err)
			require.Equal(t, "still\n", line(t, in))
			if waits {
				require.NoError(t, conn.Close())
				requireEnd(t, ended, nil)
				return
			}
			cancel()
			requireEnd(t, ended, context.Canceled)
			_, err = in.ReadByte()
			require.Error(t, err)
		})
	}
}

// A connection that is passed through ends between an answer and the next question, before Shutdown's bound. One whose
// backend has not answered is broken off then.
func TestPassthroughEndsInAPause(t *testing.T) {
	for name, c := range map[string]struct {
		bound time.Duration
		talk  func(t *testing.T, conn net.Conn, in *bufio.Reader) error // until the end of the connection
		want  error                                                     // of Shutdown
	}{
		"busy":       {8 * time.Second, converse, nil},
		"silent":     {8 * time.Second, listenOnly, nil},
		"unanswered": {time.Second, askInVain, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := proxy.New(&proxy.Options{})
			table := passing(speaker(t, "v1", answerAll))
			table.Listeners[0].Name, table.Listeners[0].Address = "main", "127.0.0.1:0"
			require.NoError(t, s.Apply(setup(t, table)))
			conn := dial(t, s.Addr("main").String())
			in := bufio.NewReader(conn)
			require.Equal(t, "v1\n", line(t, in))
			ctx, cancel := context.WithTimeout(t.Context(), c.bound)
			defer cancel()
			ended := make(chan error)
			go func() { ended <- s.Shutdown(ctx) }()
			err := c.talk(t, conn, in)
			requireEnd(t, ended, c.want)
			if c.want == nil {
				assert.ErrorIs(t, err, io.EOF, "the backend has ended the connection as it wants")
			} else {
				assert.ErrorIs(t, err, syscall.ECONNRESET)
			}
		})
	}
}

// converse asks a second after each answer.
func converse(t *testing.T, conn net.Conn, in *bufio.Reader) error {
	t.Helper()
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_ = conn.SetReadDeadline(time.Time{})
		_, err := io.WriteString(conn, "question\n")
		require.NoError(t, err)
		require.Equal(t, "answer\n", line(t, in))
	}
}

func listenOnly(_ *testing.T, _ net.Conn, in *bufio.Reader) error {
	_, err := in.ReadByte()
	return err
}

func askInVain(t *testing.T, conn net.Conn, in *bufio.Reader) error {
	t.Helper()
	_, err := io.WriteString(conn, "silence\n")
	require.NoError(t, err)
	_, err = in.ReadByte()
	return err
}

// answerAll answers questions, and nothing else, and ends when the client does.
func answerAll(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		asked, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if asked == "question\n" {
			_, _ = io.WriteString(conn, "answer\n")
		}
	}
}

// requireEnd waits for the error of a Shutdown.
func requireEnd(t *testing.T, ended <-chan error, want error) {
	t.Helper()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, want)
	case <-time.After(10 * time.Second):
		require.Fail(t, "Shutdown did not return")
	}
}

// Under load, a port changes fifty times between rules and passing through: no request fails, on new
// connections or open ones, and the address stays open all the time.
func TestPassthroughSwitch(t *testing.T) {
	backend := named(t, "v1")
	tables := func(i int) *spec.Table {
		if i%2 == 0 {
			table := one(backend)
			table.Listeners[0].Name = "main"
			return table
		}
		table := passing(backend)
		table.Listeners[0].Name = "main/tcp"
		return table
	}
	at := func(i int) *spec.Table {
		table := tables(i)
		table.Listeners[0].Address = "127.0.0.1:0"
		return table
	}
	s := start(t, at(0), nil)
	stop := busy(t, s.addr)
	for i := range 50 {
		require.NoError(t, s.Apply(setup(t, at(i+1))))
		c := client(t)
		status, body := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		assert.Equal(t, "v1", body)
		assert.Equal(t, 200, status)
		c.CloseIdleConnections()
	}
	stop()
}

// Connections that are open when a port changes go on as they were: one that is passed through stays so, and
// one between two requests is neither closed without notice nor answered by other rules; its next answer is
// its last.
func TestPassthroughSwitchKeepsConnections(t *testing.T) {
	db := speaker(t, "db", repeatBack)
	web := one(named(t, "v1"))
	s := start(t, web, nil)
	old := dial(t, s.addr)
	oldIn := bufio.NewReader(old)
	get := func(conn net.Conn, in *bufio.Reader) (status int, last bool) {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		status, last, err = answer(in)
		require.NoError(t, err)
		return status, last
	}
	status, last := get(old, oldIn)
	require.Equal(t, 200, status)
	require.False(t, last)
	fresh := dial(t, s.addr)
	eventually(t, func() bool { return s.counter(t, "connections") == 2 }, "both connections are accepted")

	through := passing(db)
	through.Listeners[0].Name, through.Listeners[0].Address = "main/tcp", "127.0.0.1:0"
	require.NoError(t, s.Apply(setup(t, through)))
	passed := dial(t, s.addr)
	passedIn := bufio.NewReader(passed)
	require.Equal(t, "db\n", line(t, passedIn))
	for _, conn := range []net.Conn{old, fresh} {
		status, last = get(conn, bufio.NewReader(conn))
		assert.Equal(t, 200, status)
		assert.True(t, last, "the answer asks the client to connect anew")
	}

	require.NoError(t, s.Apply(setup(t, web)))
	_, err := io.WriteString(passed, "still\n")
	require.NoError(t, err)
	assert.Equal(t, "still\n", line(t, passedIn))
	conn := dial(t, s.addr)
	status, last = get(conn, bufio.NewReader(conn))
	assert.Equal(t, 200, status)
	assert.False(t, last)
	require.NoError(t, passed.Close())
}

// A listener with rules and one that passes through need different names, because both have metrics for a
// while.
func TestPassthroughSwitchNeedsAName(t *testing.T) {
	s := start(t, one(named(t, "v1")), nil)
	through := passing("127.0.0.1:1")
	through.Listeners[0].Name, through.Listeners[0].Address = "main", "127.0.0.1:0"
	require.ErrorContains(t, s.Apply(setup(t, through)), "needs another name")
}
