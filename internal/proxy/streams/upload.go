// The body of a request to a backend. A refused attempt may be followed by another one, so the body belongs to the
// exchange, and each attempt reads it from the start.

package streams

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// replayLimit is the most bytes of a body that are kept for another attempt. A longer body is sent once.
const replayLimit = 64 << 10

// copyGrace is how long copies may hold up the end of a stream whose answer came before the whole request. Most often
// the rest of the body has arrived.
const copyGrace = 20 * time.Millisecond

var errDetached = errors.New("the exchange has ended")

// upload is the body of one exchange. It implements core.Carried.
type upload struct {
	mu      sync.Mutex
	changed sync.Cond
	send    *core.Send // nil once the exchange has ended
	current *attempt
	// pulling is set while pull waits for the client.
	pulling bool
	// kept is everything that was read, unless spilled is set; then another attempt is not possible.
	kept    []byte
	spilled bool
	// rest is the unread part of the last piece, if it is not kept.
	rest []byte
	err  error // the end of the body
	sent bool
}

func newUpload(s *core.Send) *upload {
	u := &upload{send: s}
	u.changed.L = &u.mu
	return u
}

// attempt returns the body for the next attempt.
func (u *upload) attempt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = &attempt{upload: u}
}

// failed reports whether the client's side has failed.
func (u *upload) failed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err != nil && u.err != io.EOF //nolint:errorlint // by the contract of Body
}

// answered notes that an answer has begun, after which no other attempt follows.
func (u *upload) answered() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.spilled = true
}

// Release implements core.Carried: it ends the use of the request's body. sent reports whether the body was read to
// its end.
func (u *upload) Release() (sent bool) {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pulling {
		u.send.Interrupt()
	}
	for u.pulling {
		u.changed.Wait()
	}
	u.send, u.kept, u.rest = nil, nil, nil // an idle connection keeps the upload
	u.changed.Broadcast()
	return u.sent
}

// complete reads the rest of the body for the copies, as far as it arrives in time.
func (u *upload) complete() {
	if u == nil || !u.send.Copied {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent {
		return
	}
	u.current.closed = true // the backend has answered: it gets no more of the body
	u.changed.Broadcast()
	interrupted := make(chan struct{})
	interrupt := time.AfterFunc(copyGrace, func() {
		defer close(interrupted)
		u.send.Interrupt()
	})
	for u.pulling {
		u.changed.Wait()
	}
	for u.err == nil {
		u.discard()
	}
	if !interrupt.Stop() {
		<-interrupted // it must not meet the next exchange
	}
	if u.err == io.EOF { //nolint:errorlint // by the contract of Body
		u.sent = true
		u.send.Sent()
	}
}

// discard reads the next piece of the body, which only copies want. u.mu is held, but not while it waits.
func (u *upload) discard() {
	u.pulling = true
	body := u.send.Body
	u.mu.Unlock()
	_, err := body.Next()
	u.mu.Lock()
	u.pulling, u.err = false, err
	u.changed.Broadcast()
}

// pull reads the next piece of the body. u.mu is held, but not while it waits.
func (u *upload) pull() {
	u.pulling = true
	body := u.send.Body
	u.mu.Unlock()
	p, err := body.Next()
	u.mu.Lock()
	u.pulling = false
	switch {
	case err != nil:
		u.err = err
	case u.current.closed, !u.spilled && len(u.kept)+len(p) <= replayLimit:
		u.kept = append(u.kept, p...)
	default:
		u.spilled, u.rest = true, p
		if u.current.at == len(u.kept) {
			u.kept, u.current.at = nil, 0
		}
	}
	u.changed.Broadcast()
}

// errEnd is the end of a body.
var errEnd = errors.New("end of the body")

// attempt is an upload as one attempt reads it. Its fields belong to the upload's lock.
type attempt struct {
	*upload
	at     int // the next byte of kept
	closed bool
}

// read waits for the next bytes. After the last it returns errEnd.
func (a *attempt) read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		switch {
		case a.send == nil, a.closed:
			return 0, errDetached
		case a.at < len(a.kept):
			n := copy(p, a.kept[a.at:])
			a.at += n
			return n, nil
		case len(a.rest) > 0:
			n := copy(p, a.rest)
			a.rest = a.rest[n:]
			return n, nil
		case a.err != nil:
			if a.err == io.EOF { //nolint:errorlint // by the contract of Body
				return 0, errEnd
			}
			return 0, a.err
		case a.pulling:
			a.changed.Wait()
		case a.send.Body.Ready():
			a.pull()
		default:
			a.pulling = true
			go func() {
				a.mu.Lock()
				defer a.mu.Unlock()
				a.pull()
			}()
		}
	}
}

// stop ends the attempt, also a read that waits, and reports whether another one can send the whole body. The piece that
// the read waited for is kept.
func (a *attempt) stop() (again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.changed.Broadcast()
	return !a.spilled
}

// trailers returns the fields after the body, once it has ended.
func (a *attempt) trailers() []message.Field {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.send == nil {
		return nil
	}
	return a.send.Body.Trailers()
}

// finish reports the body as sent.
func (a *attempt) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.send != nil && !a.sent {
		a.sent = true
		a.send.Sent()
	}
}
