// Package accesslog writes a line for every request that the proxy answered and for every copy that was
// answered. It never makes a request wait: a goroutine of its own writes the collected lines, and lines are
// dropped and counted when their reader is too slow.
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
	// collectTime is how long lines are collected before they are written: at most 50 writes a second,
	// however many requests there are.
	collectTime = 20 * time.Millisecond
	// maxPending is how many collected bytes stop the log from taking further lines.
	maxPending = 1 << 20
)

// Format appends a record to line, as one line with its line feed.
type Format func(line []byte, r *core.Record) []byte

// ByName returns the format named json or common. Other names are an error.
func ByName(name string) (Format, error) {
	switch name {
	case "json":
		return appendJSON, nil
	case "common":
		return appendCommon, nil
	}
	return nil, fmt.Errorf("access log format %q: must be json or common", name)
}

// Log collects lines.
type Log struct {
	format  Format
	dropped atomic.Uint64
	failed  atomic.Uint64

	mu    sync.Mutex
	lines []byte // not written yet
	spare []byte // the buffer that lines does not use
	some  chan struct{}
	done  chan struct{}

	out  sync.Mutex
	to   io.Writer
	path string
}

// Open returns a log that appends to the file at path, which it creates if needed; - is standard output.
// Close ends it.
func Open(path string, format Format) (*Log, error) {
	if path == "-" {
		return newLog(os.Stdout, format), nil
	}
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	l := newLog(file, format)
	l.path = path
	return l, nil
}

func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// newLog returns a log that writes to w. Close ends it.
func newLog(w io.Writer, format Format) *Log {
	l := &Log{format: format, to: w, some: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Log logs a record, of which it keeps nothing. It is safe for concurrent use, but not after Close.
func (l *Log) Log(r *core.Record) {
	l.mu.Lock()
	if len(l.lines) > maxPending {
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

// Dropped returns how many lines were dropped because they could not be written fast enough.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Failed returns how many writes failed; their lines are lost.
func (l *Log) Failed() uint64 { return l.failed.Load() }

// Reopen opens the file again, after it was renamed to rotate it. It does nothing for standard output.
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

// Close writes the lines that are left, and closes the file.
func (l *Log) Close() error {
	close(l.some)
	<-l.done
	if l.path == "" {
		return nil
	}
	return l.to.(io.Closer).Close()
}

// run writes the collected lines until Close.
func (l *Log) run() {
	defer close(l.done)
	timer := time.NewTimer(0)
	<-timer.C
	for range l.some {
		timer.Reset(collectTime)
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
