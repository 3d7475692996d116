// Looking at the first bytes of a connection whose protocol is not known. They stay in the socket, so that the
// terminator that serves the connection reads it from its start.

package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

const (
	// clientFirst is how long a client may be silent before it is connected to an endpoint, because the server
	// may be the one that speaks first. From then on the one that speaks first decides.
	clientFirst = 100 * time.Millisecond
	// lineTimeout is how long the first line of a client may take once it has begun.
	lineTimeout = time.Second
)

// observed is a connection that is looked at.
type observed struct {
	*slotted
	web *web
	// backend is the endpoint's connection, nil if there is none; leave is called when it is closed.
	backend *net.TCPConn
	leave   func()
}

// detect serves a connection as HTTP if the client begins to speak it, and passes it through if it speaks anything
// else, or if the server speaks first.
func (w *web) detect(conn *slotted) {
	o := &observed{slotted: conn, web: w}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(w.retired, func() {
		defer close(interrupted)
		_ = conn.SetReadDeadline(past)
	})
	found := o.protocol()
	if !stop() {
		<-interrupted
	}
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case found == isHTTP || w.retired.Err() != nil: // the terminator of HTTP ends a connection without a request
		o.leaveBackend()
		w.h1.Serve(conn)
	case found == undecided:
		o.leaveBackend()
		_ = conn.Close()
	case o.backend != nil:
		w.opaque().pass(conn, o.backend, o.leave)
	default:
		w.opaque().serve(conn)
	}
}

func (o *observed) leaveBackend() {
	if o.backend != nil {
		_ = o.backend.Close()
		o.leave()
	}
}

// protocol finds out the protocol; it is undecided if nobody speaks for too long.
func (o *observed) protocol() verdict {
	options := &o.web.server.options
	o.within(clientFirst)
	n, err := o.wait(0)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && o.web.retired.Err() == nil {
		if o.backend, o.leave, err = o.web.opaque().open(o.slotted); err != nil {
			o.within(options.Limits.IdleTimeout)
		} else {
			o.within(options.PassIdle)
			if o.serverFirst() {
				return isOther
			}
		}
		if n, err = o.wait(0); n == 0 && err != nil {
			return undecided
		}
	}
	o.within(lineTimeout)
	for seen := 0; ; {
		next, err := o.wait(seen)
		line := buffer.Small()
		line = line[:o.peek(line)]
		found := judge(line, err != nil || next <= seen)
		buffer.Recycle(line)
		if found != undecided {
			return found
		}
		seen = next
	}
}

var past = time.Unix(1, 0)

// within bounds the following waits for the client.
func (o *observed) within(d time.Duration) {
	_ = o.SetReadDeadline(time.Now().Add(d))
	if o.web.retired.Err() != nil {
		_ = o.SetReadDeadline(past)
	}
}

// serverFirst waits until the client or the backend sends a byte or ends, and reports whether it was the backend.
func (o *observed) serverFirst() (spoke bool) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		if _, err := waitFor(o.backend, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			spoke = true
			_ = o.SetReadDeadline(past)
		}
	}()
	_, _ = o.wait(0)
	_ = o.backend.SetReadDeadline(past)
	<-heard
	_ = o.backend.SetReadDeadline(time.Time{})
	return spoke
}

func (o *observed) wait(seen int) (n int, err error) { return waitFor(o.TCPConn, seen) }

// peek returns how many bytes of those that have arrived it has copied to p.
func (o *observed) peek(p []byte) (n int) {
	if raw, err := o.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT) })
	}
	return max(n, 0)
}

// waitFor waits until more than seen bytes have arrived, or the end, and returns how many there are.
func waitFor(conn *net.TCPConn, seen int) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	p := buffer.Small()
	defer buffer.Recycle(p)
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, _, failed = syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if errors.Is(failed, syscall.EAGAIN) {
			n, failed = 0, nil
			return false
		}
		// Bytes that were there before are no news, and an event may be late: an end behind them shows when the time
		// for the line is over.
		return failed != nil || n == 0 || n > seen || n == len(p)
	})
	return max(n, 0), errors.Join(err, failed)
}

// verdict is the protocol of a connection, as far as it is known.
type verdict uint8

const (
	undecided verdict = iota
	isHTTP
	isOther
)

// methods are those of HTTP, and the beginning of HTTP/2's preface.
const methods = " GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PRI "

// judge looks at the bytes that a client has sent; last is set if no more follow in time. It takes for HTTP also
// lines that the parser of HTTP will refuse: a lenient backend must not get past the rules a request that is almost
// HTTP.
func judge(line []byte, last bool) verdict {
	full := len(line) == buffer.SmallSize
	line = bytes.TrimLeft(line, "\r\n")
	if len(line) == 0 {
		return otherwise(last, isHTTP) // servers skip empty lines in front of a request
	}
	if c := line[0]; c < ' ' && c != '\t' || c >= 0x7f {
		return isOther
	}
	end := bytes.IndexByte(line, '\n')
	if end >= 0 {
		line = line[:end]
	}
	method, target, spaced := strings.Cut(string(line), " ")
	switch {
	case bytes.Contains(line, []byte("HTTP/")):
		return isHTTP
	case !message.ValidToken(strings.TrimRight(method, "\r")):
		return isOther
	case spaced && strings.ToUpper(method) == method && strings.HasPrefix(target, "/"):
		return isHTTP
	case end >= 0 || full:
		return isOther
	case strings.Contains(methods, " "+method):
		return otherwise(last, isHTTP)
	}
	return otherwise(last, isOther)
}

// otherwise returns a verdict for the last bytes, and none while more may follow.
func otherwise(last bool, v verdict) verdict {
	if last {
		return v
	}
	return undecided
}
