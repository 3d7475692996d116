// Package faulty has variants that misbehave, each in its own way. Tests and benchmarks send copies to them
// to show that the primary does not notice.
package faulty

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// Fine is the answer of a variant that works.
const Fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Fault is a variant's handling of one connection, until the context ends or the connection is closed.
type Fault func(ctx context.Context, conn net.Conn)

// Faults are all faults by name; None is a variant that works. A nil fault accepts no connection, and the
// variant Gone does not even listen.
var Faults = map[string]Fault{
	None:                     answering(func(conn net.Conn) error { return write(conn, Fine) }),
	"a hangs after accept":   func(ctx context.Context, _ net.Conn) { <-ctx.Done() },
	"b never accepts":        nil,
	"c resets in the middle": reset,
	"d drips":                drip,
	"e sends an endless body": func(_ context.Context, conn net.Conn) {
		if ReadHead(bufio.NewReader(conn)) == nil {
			endless(conn)
		}
	},
	"f answers 500": answering(func(conn net.Conn) error {
		return write(conn, "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno")
	}),
	"g closes at random": answering(func(conn net.Conn) error {
		if rand.IntN(3) == 0 { //nolint:gosec // no secret
			return io.EOF
		}
		return write(conn, Fine)
	}),
	Gone: nil,
}

// Names of the two entries of Faults that are not faults of a connection.
const (
	None = "none"
	Gone = "h is gone"
)

// ReadHead reads a head to its empty line. It returns the reader's error.
func ReadHead(in *bufio.Reader) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// ReadAnswer reads an answer whose body has that many bytes. An answer other than 200 is an error.
func ReadAnswer(in *bufio.Reader, body int) error {
	status, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("answered %q", status)
	}
	if err := ReadHead(in); err != nil {
		return err
	}
	_, err = in.Discard(body)
	return err
}

func write(conn net.Conn, text string) error {
	_, err := io.WriteString(conn, text)
	return err
}

// answering calls each after every request of a connection, until it returns an error.
func answering(each func(conn net.Conn) error) Fault {
	return func(_ context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		for ReadHead(in) == nil && each(conn) == nil {
		}
	}
}

func reset(_ context.Context, conn net.Conn) {
	if ReadHead(bufio.NewReader(conn)) == nil {
		_ = write(conn, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf")
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
}

func drip(ctx context.Context, conn net.Conn) {
	if ReadHead(bufio.NewReader(conn)) != nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, c := range []byte(Fine) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := conn.Write([]byte{c}); err != nil {
			return
		}
	}
}

func endless(conn net.Conn) {
	// A larger buffer would cost the variant megabytes for each copy, and the proxy nothing.
	_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	err := write(conn, "HTTP/1.1 200 OK\r\n\r\n")
	for piece := make([]byte, 16<<10); err == nil; {
		_, err = conn.Write(piece)
	}
}

// Serve gives every connection of l to the fault until the context ends; then it closes them and l. With a
// nil fault it accepts none.
func Serve(ctx context.Context, l net.Listener, fault Fault) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	if fault == nil {
		<-ctx.Done()
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			fault(ctx, conn)
		})
	}
}
