package compare

// Why this file exists: comparing takes time and memory that a proxy must not wait for. Answers wait in a short queue
// for two workers, within a budget; past either bound they are dropped and counted.

import (
	"sync"
	"sync/atomic"
)

const (
	workers   = 2
	queueSize = 256
	// bodyBudget bounds the bodies that wait or are still arriving, in bytes. With maxState and the workers' own memory
	// a comparison stays within 16 MiB.
	bodyBudget = 5 << 20
)

// The reasons of requests that are not compared, beside those of copies that are dropped.
const (
	SkippedNotDrawn = "not_drawn"
	SkippedQueue    = "comparison_queue_full"
	SkippedBudget   = "comparison_budget"
	SkippedRepeated = "repeated"
	SkippedPrimary  = "primary_failed"
	SkippedCopy     = "copy_not_admitted"
	SkippedControl  = "control_not_admitted"
)

// Collector hands samples to workers.
type Collector struct {
	comparer *Comparer
	queue    chan queued
	held     atomic.Int64
	mu       sync.RWMutex
	closed   bool
	wg       sync.WaitGroup
}

type queued struct {
	sample *Sample
	done   func()
}

// NewCollector starts the workers. Close ends them.
func NewCollector(c *Comparer) *Collector {
	k := &Collector{comparer: c, queue: make(chan queued, queueSize)}
	for range workers {
		k.wg.Go(func() {
			w := c.Worker()
			for q := range k.queue {
				w.Add(q.sample)
				q.done()
			}
		})
	}
	return k
}

// Reserve reports whether n more bytes of bodies are within the budget, and adds them if so.
func (k *Collector) Reserve(n int) bool {
	if k.held.Add(int64(n)) > bodyBudget {
		k.held.Add(-int64(n))
		return false
	}
	return true
}

// Release undoes Reserve.
func (k *Collector) Release(n int) { k.held.Add(-int64(n)) }

// Held returns the bytes of bodies that are reserved.
func (k *Collector) Held() int64 { return k.held.Load() }

// Submit compares a sample in the background and then calls done. It never waits: if the queue is full the sample is
// counted as skipped.
func (k *Collector) Submit(s *Sample, done func()) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.closed {
		select {
		case k.queue <- queued{s, done}:
			return
		default:
		}
	}
	done()
	k.comparer.Skip(SkippedQueue)
}

// Close compares the samples that wait, and ends the workers. Later samples are dropped.
func (k *Collector) Close() {
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		close(k.queue)
	}
	k.mu.Unlock()
	k.wg.Wait()
}
