// Package accesslog writes a line for every request that the proxy answered, and for every
// copy that was. It never makes a request wait: lines are collected and written by a
// goroutine of their own, and if whoever reads them is too slow they are dropped and
// counted.
package accesslog

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
)

const (
	// linger is how long lines are collected before they are written: at most 50 writes a
	// second, however many requests.
	linger = 20 * time.Millisecond
	// pending is how many bytes wait at most.
	pending = 1 << 20
)

// Format turns a record into a line, with its end.
type Format func(line []byte, r *core.Record) []byte

// ByName returns the format called json or common.
func ByName(name string) (Format, error) {
	switch name {
	case "json":
		return JSON, nil
	case "common":
		return Common, nil
	}
	return nil, fmt.Errorf("access log format %q: must be json or common", name)
}

// Log collects lines.
type Log struct {
	format  Format
	dropped atomic.Uint64
	failed  atomic.Uint64

	mu    sync.Mutex
	lines []byte // to be written
	spare []byte
	some  chan struct{}
	done  chan struct{}

	out  sync.Mutex
	to   io.Writer
	path string
}

// Open returns a log to the file at path, which is created or appended to; - is standard
// output.
func Open(path string, format Format) (*Log, error) {
	if path == "-" {
		return New(os.Stdout, format), nil
	}
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	l := New(file, format)
	l.path = path
	return l, nil
}

func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// New returns a log to w. Close ends it.
func New(w io.Writer, format Format) *Log {
	l := &Log{format: format, to: w, some: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Log takes a record; it keeps nothing of it. It is safe for concurrent use, but not after
// Close.
func (l *Log) Log(r *core.Record) {
	l.mu.Lock()
	if len(l.lines) > pending {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	first := len(l.lines) == 0
	l.lines = l.format(l.lines, r)
	l.mu.Unlock()
	if first {
		select {
		case l.some <- struct{}{}:
		default:
		}
	}
}

// Dropped is how many lines were dropped because they could not be written fast enough,
// and Failed how many writes failed.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Failed is how many writes failed; what they held is lost.
func (l *Log) Failed() uint64 { return l.failed.Load() }

// Reopen opens the file again, for whoever renames it to rotate it. Standard output stays
// as it is.
func (l *Log) Reopen() error {
	if l.path == "" {
		return nil
	}
	file, err := open(l.path)
	if err != nil {
		return err
	}
	l.out.Lock()
	defer l.out.Unlock()
	old, ok := l.to.(io.Closer)
	l.to = file
	if ok {
		return old.Close()
	}
	return nil
}

// Close writes what is left, and closes the file.
func (l *Log) Close() error {
	close(l.some)
	<-l.done
	if l.path == "" {
		return nil
	}
	return l.to.(io.Closer).Close()
}

func (l *Log) run() {
	defer close(l.done)
	timer := time.NewTimer(0)
	<-timer.C
	for range l.some {
		timer.Reset(linger)
		<-timer.C
		l.write()
	}
	l.write()
}

// write swaps the buffers and writes the full one.
func (l *Log) write() {
	l.mu.Lock()
	lines := l.lines
	l.lines = l.spare[:0]
	l.spare = nil
	l.mu.Unlock()
	if len(lines) > 0 {
		l.out.Lock()
		_, err := l.to.Write(lines)
		l.out.Unlock()
		if err != nil {
			l.failed.Add(1)
		}
	}
	l.mu.Lock()
	l.spare = lines
	l.mu.Unlock()
}
