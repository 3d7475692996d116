package webhook

// A bound on the memory that callers can make the process hold. Anybody who reaches the port can call. A review
// counts with the bytes of it that have arrived, so that announcing one costs nobody else anything; each caller
// has a share; and where the memory is full, the largest review that is still arriving gives way, so that callers
// who send slowly, or never finish, keep nobody out. Large reviews that have arrived take turns, so that they leave
// cores to the small ones.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"
)

const (
	// bodyTimeout is how long a caller has to send a review, waits included. The API server gives up after 3 s.
	bodyTimeout = 3 * time.Second
	// smallBody is the number of bytes of each review that are read without being counted; a route of this
	// size is a large one.
	smallBody = 64 << 10
	// maxLarge bounds the bytes of all reviews beyond that, and maxCaller those of one caller. Read and decoded,
	// a review takes several times its size.
	maxLarge  = 4 * maxReview
	maxCaller = 2 * maxReview
)

// errCrowded is the error of a review that found no room in time.
var errCrowded = errors.New("too many large reviews at a time")

// errTooLarge is the error of a review of more than maxReview bytes.
var errTooLarge = errors.New("the review is too large")

// bodyLimit bounds the bodies of the handlers that share it.
type bodyLimit struct {
	timeout time.Duration
	// turns holds a token for each large review that is being answered.
	turns chan struct{}

	mu      sync.Mutex
	held    int            // bytes of all bodies
	callers map[string]int // bytes by caller
	bodies  map[*body]bool // those that are still arriving
	freed   chan struct{}  // closed when bytes are released
}

// processLimit is that of the handlers of a process, whose callers share its memory.
var processLimit = newBodyLimit()

func newBodyLimit() *bodyLimit {
	return &bodyLimit{
		timeout: bodyTimeout, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		callers: map[string]int{}, bodies: map[*body]bool{}, freed: make(chan struct{}),
	}
}

// body is one review that arrives. Its fields belong to the limit, and are read under its lock.
type body struct {
	limit  *bodyLimit
	caller string
	held   int
	// abort ends the reading of the body.
	abort func()
	// aborted is set when the body gave way to another one.
	aborted bool
}

// read reads the body of a request into memory, behind buffer. The caller must call release when the review is
// answered, also after an error.
func (l *bodyLimit) read(w http.ResponseWriter, r *http.Request, buffer []byte) (text []byte, release func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), l.timeout)
	defer cancel()
	// The server lifts the deadline when it has the body. A writer without a connection cannot have a deadline,
	// and needs none.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(l.timeout))
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	b := &body{limit: l, caller: host, abort: func() { cancel(); _ = connection.SetReadDeadline(time.Unix(1, 0)) }}
	text, err = b.readAll(ctx, r.Body, buffer)
	l.mu.Lock()
	delete(l.bodies, b)
	if b.aborted {
		err = errCrowded
	}
	large := b.held > 0
	l.mu.Unlock()
	if !large || err != nil {
		return text, b.release, err
	}
	select {
	case l.turns <- struct{}{}:
		return text, func() { <-l.turns; b.release() }, nil
	case <-ctx.Done():
		return text, b.release, errCrowded
	}
}

// readAll reads until the end, and counts the bytes before it makes room for them.
func (b *body) readAll(ctx context.Context, from io.Reader, text []byte) ([]byte, error) {
	if cap(text) == 0 {
		text = make([]byte, 0, 4<<10)
	}
	for {
		if len(text) == cap(text) {
			if len(text) > maxReview {
				return text, errTooLarge
			}
			size := min(2*cap(text), maxReview+1)
			if err := b.grow(ctx, size); err != nil {
				return text, err
			}
			text = append(make([]byte, 0, size), text...)
		}
		n, err := from.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case len(text) > maxReview:
			return text, errTooLarge
		case errors.Is(err, io.EOF):
			return text, nil
		case err != nil:
			return text, err
		}
	}
}

// grow counts a body with that many bytes, and waits until there is room for them.
func (b *body) grow(ctx context.Context, size int) error {
	l, size := b.limit, size-smallBody
	for {
		l.mu.Lock()
		more := size - b.held
		if more <= 0 || b.aborted {
			l.mu.Unlock()
			return ctx.Err()
		}
		mine := l.callers[b.caller] + more
		if mine <= maxCaller && l.held+more <= maxLarge {
			l.callers[b.caller], l.held, b.held = mine, l.held+more, size
			l.bodies[b] = true
			l.mu.Unlock()
			return nil
		}
		if mine <= maxCaller {
			l.giveWay(b.caller, mine)
		}
		freed := l.freed
		l.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return errCrowded
		}
	}
}

// giveWay aborts the largest body that is still arriving from the caller that holds the most, if that is more
// than the given number of bytes. A caller who sends little never waits for others who send much.
func (l *bodyLimit) giveWay(caller string, bytes int) {
	var largest *body
	for b := range l.bodies {
		switch held := l.callers[b.caller]; {
		case b.aborted && b.caller != caller:
			return // its bytes come free soon
		case b.caller == caller || held <= bytes:
		case largest == nil || held > l.callers[largest.caller] || held == l.callers[largest.caller] && b.held > largest.held:
			largest = b
		}
	}
	if largest != nil {
		largest.aborted = true
		largest.abort()
	}
}

// release gives the body's bytes back.
func (b *body) release() {
	l := b.limit
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.held == 0 {
		return
	}
	l.held -= b.held
	if l.callers[b.caller] -= b.held; l.callers[b.caller] == 0 {
		delete(l.callers, b.caller)
	}
	b.held = 0
	close(l.freed)
	l.freed = make(chan struct{})
}
