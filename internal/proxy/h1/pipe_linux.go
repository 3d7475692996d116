// Pipes for relay.go: splice(2) needs one between two sockets.

package h1

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/mirrorgate/mirrorgate/internal/proxy/socket"
)

// pipe holds bytes on their way from one socket to another.
type pipe struct {
	r, w int
	// held is how many bytes are in it. fill needs an empty one.
	held int

	// n and err are the result of the last splice, limit the most bytes of the next one.
	limit    int
	n        int
	err      error
	pull     func(fd uintptr) bool
	push     func(fd uintptr) bool
	pushOnce func(fd uintptr)
}

const (
	// pipeSize is more than is put into a pipe at once, because data from a network takes a page for each
	// packet.
	pipeSize = 4 * relayPiece
	// maxPipes bounds the descriptors and the pages: it is half of the pages that the system grants a user
	// (pipe(7)).
	maxPipes = 128

	setPipeSize    = 1031 // F_SETPIPE_SZ
	spliceMove     = 1
	spliceNonblock = 2
)

var (
	// openPipes counts all pipes; unusedPipes holds those that are not in use.
	openPipes   atomic.Int64
	unusedPipes = make(chan *pipe, maxPipes)
)

// takePipe returns an empty pipe, or nil if there are maxPipes or the system refuses one.
func takePipe() *pipe {
	select {
	case p := <-unusedPipes:
		return p
	default:
	}
	if openPipes.Add(1) > maxPipes {
		openPipes.Add(-1)
		return nil
	}
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		openPipes.Add(-1)
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1]}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(p.w), setPipeSize, pipeSize); errno != 0 {
		p.close() // the user has so many pipes that this one would hold only two packets
		return nil
	}
	// Made once, because a closure for every call would be an allocation.
	p.pull = func(fd uintptr) bool { return p.splice(int(fd), p.w, p.limit) }
	p.push = func(fd uintptr) bool {
		for p.held > 0 {
			if !p.splice(p.r, int(fd), p.held) {
				return false
			}
			if p.err == nil && p.n == 0 {
				p.err = syscall.EIO // otherwise this loop would never end
			}
			if p.err != nil {
				break
			}
			p.held -= p.n
		}
		return true
	}
	p.pushOnce = func(fd uintptr) { p.push(fd) }
	return p
}

// put keeps a pipe for reuse, or closes it if bytes are left in it.
func (p *pipe) put() {
	if p.held == 0 {
		unusedPipes <- p // does not wait: it has room for all pipes
		return
	}
	p.close()
}

func (p *pipe) close() {
	_, _ = syscall.Close(p.r), syscall.Close(p.w)
	openPipes.Add(-1)
}

// splice moves up to n bytes from one descriptor to another, and returns false if it would have to wait.
func (p *pipe) splice(from, to, n int) bool {
	for {
		p.n, p.err = socket.Result(syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), spliceMove|spliceNonblock))
		if !errors.Is(p.err, syscall.EINTR) {
			return !errors.Is(p.err, syscall.EAGAIN)
		}
	}
}

// fill waits for bytes of a socket and takes up to limit of them. At the socket's end it returns io.EOF.
func (p *pipe) fill(from syscall.RawConn, limit int64) error {
	p.limit = int(min(limit, relayPiece))
	if err := from.Read(p.pull); err != nil {
		return err
	}
	if p.err != nil {
		return os.NewSyscallError("splice", p.err)
	}
	if p.held = p.n; p.n == 0 {
		return io.EOF
	}
	return nil
}

// empty sends the bytes in the pipe. It does not announce that more will follow (SPLICE_F_MORE): if the
// backend paused, the kernel would hold a piece back for 200 ms.
func (p *pipe) empty(to *writer) error {
	p.err = nil
	if err := to.raw.Control(p.pushOnce); err != nil {
		return err
	}
	if p.held > 0 && errors.Is(p.err, syscall.EAGAIN) {
		if to.beforeWait != nil {
			to.beforeWait()
		}
		if err := to.raw.Write(p.push); err != nil {
			return err
		}
	}
	if p.err != nil {
		return os.NewSyscallError("splice", p.err)
	}
	return nil
}
