// Writing to a connection: pieces that belong together leave in one system call.

package h1

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

// maxPieces is how many slices may leave together.
const maxPieces = 3

// writer owns the sending half of a connection.
type writer struct {
	conn net.Conn
	// raw is nil where the bytes of the connection are not the bytes of the stream: under TLS.
	raw syscall.RawConn
	// push sends pieces and returns false if it would have to wait; try ignores that.
	push func(fd uintptr) bool
	try  func(fd uintptr)
	// beforeWait is called before a write that may wait, to set its deadline; nil for none.
	beforeWait func()
	// pieces are the slices that push has not sent.
	pieces [][]byte
	store  [maxPieces][]byte
	err    error
}

func (w *writer) init(conn net.Conn, raw syscall.RawConn) {
	w.conn, w.raw = conn, raw
	w.push = w.pushTo // made once, because a method value is an allocation
	w.try = func(fd uintptr) { w.pushTo(fd) }
}

// write sends up to maxPieces slices. Most of them leave at once, and need no deadline.
func (w *writer) write(pieces ...[]byte) error {
	w.load(pieces...)
	if w.raw != nil && len(w.pieces) > 0 {
		if err := w.raw.Control(w.try); err != nil {
			return err
		}
	}
	return w.flush()
}

// load prepares slices for push and flush, which send them.
func (w *writer) load(pieces ...[]byte) {
	w.pieces, w.err = w.store[:0], nil
	for _, p := range pieces {
		if len(p) > 0 {
			w.pieces = append(w.pieces, p)
		}
	}
}

// flush sends the rest of the loaded slices, and waits if it must.
func (w *writer) flush() error {
	if len(w.pieces) == 0 || w.err != nil {
		return w.err
	}
	if w.beforeWait != nil {
		w.beforeWait()
	}
	if w.raw == nil {
		buffers := net.Buffers(w.pieces)
		_, err := buffers.WriteTo(w.conn)
		return err
	}
	if err := w.raw.Write(w.push); err != nil {
		return err
	}
	return w.err
}

// pushTo sends until nothing is left, or until the socket takes no more: then it returns false.
func (w *writer) pushTo(fd uintptr) bool {
	for len(w.pieces) > 0 {
		n, err := socket.Send(fd, w.pieces)
		switch {
		case err == nil:
			w.advance(n)
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return false
		default:
			w.err = os.NewSyscallError("write", err)
			return true
		}
	}
	clear(w.store[:]) // so that the writer does not keep the buffers alive
	return true
}

// advance drops the first n bytes of pieces.
func (w *writer) advance(n int) {
	for len(w.pieces) > 0 && n >= len(w.pieces[0]) {
		n -= len(w.pieces[0])
		w.pieces = w.pieces[1:]
	}
	if len(w.pieces) > 0 {
		w.pieces[0] = w.pieces[0][n:]
	}
}
