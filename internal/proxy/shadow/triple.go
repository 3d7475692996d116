package shadow

// Collecting the answers of primary, variant and control to one request. They are copied into buffers of their own,
// within the budget of the collector, while they are forwarded or dropped as they are without a comparison.

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/proxy/buffer"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
)

// Compared is the comparison of the answers to the copies of one mirror. It outlives tables.
type Compared struct {
	Comparer  *compare.Comparer
	Collector *compare.Collector
	// Triples draws the requests that a control gets too; nil for none. Only safe requests without a body are sent twice.
	Triples *compare.Sampler
	// Pairs draws the requests that are compared without a control; nil for none.
	Pairs *compare.Sampler
	// Ended, if set, is called when the collection of a drawn request has ended. It must not block.
	Ended func()
}

// Draw decides whether the answers to a request are compared, and returns where they are collected; nil if not.
func (c *Compared) Draw(r *message.Request, rule string, now time.Time) *Triple {
	safe := r.Method == "GET" || r.Method == "HEAD"
	if !safe && r.Method != "OPTIONS" {
		c.Comparer.Wrote()
	}
	request := compare.Request{Rule: rule, Method: r.Method, Path: r.Path}
	if safe && r.Length == 0 && c.Triples != nil {
		draw := c.Triples.Draw(now, func() bool { return c.Comparer.Rare(&request) })
		if draw == compare.NotDrawn {
			c.Comparer.Skip(compare.SkippedNotDrawn)
			return nil
		}
		request.Hash = compare.RequestHash(r.Method, r.Authority, r.Target, nil)
		if !c.Triples.Fresh(request.Hash, now) {
			c.Comparer.Skip(compare.SkippedRepeated)
			return nil
		}
		return c.triple(request, draw, now, 3)
	}
	if c.Pairs == nil || safe && c.Triples != nil {
		return nil
	}
	draw := c.Pairs.Draw(now, func() bool { return c.Comparer.Rare(&request) })
	if draw == compare.NotDrawn {
		c.Comparer.Skip(compare.SkippedNotDrawn)
		return nil
	}
	return c.triple(request, draw, now, 2)
}

func (c *Compared) triple(r compare.Request, draw compare.Draw, now time.Time, answers int32) *Triple {
	r.Method, r.Path = strings.Clone(r.Method), strings.Clone(r.Path)
	t := &Triple{compared: c, sample: compare.Sample{Request: r, At: now, Uniform: draw == compare.Uniform}}
	t.Primary = &Capture{triple: t, answer: &t.sample.Primary}
	t.Variant = &Capture{triple: t, answer: &t.sample.Variant}
	if answers == 3 {
		t.sample.Control = &compare.Answer{}
		t.Control = &Capture{triple: t, answer: t.sample.Control}
	}
	t.missing.Store(answers)
	return t
}

// Triple collects the answers to one request. Each of its captures must be ended once.
type Triple struct {
	Primary, Variant *Capture
	// Control is nil in a pair.
	Control *Capture

	compared *Compared
	sample   compare.Sample
	missing  atomic.Int32
	held     atomic.Int64
	skipped  atomic.Pointer[string]
}

// Identify sets the request's identity, once its body is known. The answers to one that was drawn a short time ago are
// not compared.
func (t *Triple) Identify(r *message.Request, body []byte) {
	hash := compare.RequestHash(r.Method, r.Authority, r.Target, body)
	t.sample.Hash = hash
	if !t.compared.Pairs.Fresh(hash, t.sample.At) {
		t.skip(compare.SkippedRepeated)
	}
}

// skip makes the sample worthless; the first reason counts.
func (t *Triple) skip(why string) { t.skipped.CompareAndSwap(nil, &why) }

// reserve reports whether the answers may hold n more bytes.
func (t *Triple) reserve(n int) bool {
	if t.skipped.Load() != nil {
		return false
	}
	if !t.compared.Collector.Reserve(n) {
		t.skip(compare.SkippedBudget)
		return false
	}
	t.held.Add(int64(n))
	return true
}

// end is called by each capture once; the last hands the sample to the collector.
func (t *Triple) end() {
	if t.missing.Add(-1) > 0 {
		return
	}
	if why := t.skipped.Load(); why != nil {
		t.compared.Comparer.Skip(*why)
		t.free()
		return
	}
	t.compared.Collector.Submit(&t.sample, t.free)
}

// free wipes the bodies, so that no value outlives its comparison, and returns the budget.
func (t *Triple) free() {
	for _, c := range []*Capture{t.Primary, t.Variant, t.Control} {
		if c != nil {
			clear(c.answer.Body[:cap(c.answer.Body)])
			for _, text := range c.texts {
				clear(text)
			}
			*c.answer = compare.Answer{}
		}
	}
	t.compared.Collector.Release(int(t.held.Swap(0)))
	if t.compared.Ended != nil {
		t.compared.Ended()
	}
}

// Capture collects one answer. Its methods may be called on nil, and must be called by one goroutine at a time.
type Capture struct {
	triple *Triple
	answer *compare.Answer
	texts  [][]byte // the memory of names and values of fields
	ended  atomic.Bool
	// Admitted is set when the control's copy has been admitted or dropped.
	Admitted bool
}

// IsControl reports whether the answer is the control's. It may be called on nil.
func (c *Capture) IsControl() bool { return c != nil && c == c.triple.Control }

// Wants reports whether bytes of the body are collected.
func (c *Capture) Wants() bool {
	return c != nil && !c.answer.Long && !c.ended.Load() && c.triple.skipped.Load() == nil
}

// Head collects the head of an answer, which is copied.
func (c *Capture) Head(r *message.Response) {
	if c == nil || !c.Wants() {
		return
	}
	c.answer.Status, c.answer.Length = r.Status, r.Length
	c.answer.Long = r.Length > compare.MaxBody
	c.answer.Fields = c.clone(r.Fields)
	if r.Length > 0 && !c.answer.Long && c.triple.reserve(int(r.Length)) {
		c.answer.Body = make([]byte, 0, r.Length)
	}
}

// clone copies fields into memory that free wipes.
func (c *Capture) clone(fields []message.Field) []compare.Field {
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
	}
	if !c.triple.reserve(size + 64*len(fields)) {
		return nil
	}
	memory := make([]byte, 0, size)
	out := make([]compare.Field, 0, len(fields))
	text := func(s string) string {
		memory = append(memory, s...)
		return buffer.View(memory[len(memory)-len(s):])
	}
	for _, f := range fields {
		out = append(out, compare.Field{Name: text(f.Name), Value: text(f.Value)})
	}
	c.texts = append(c.texts, memory)
	return out
}

// Write collects a piece of the body. A body that is too long is forgotten.
func (c *Capture) Write(p []byte) {
	if !c.Wants() {
		return
	}
	body := c.answer.Body
	size := len(body) + len(p)
	switch {
	case size > compare.MaxBody:
		clear(body)
		c.answer.Body, c.answer.Long = nil, true
		return
	case size > cap(body):
		capacity := min(max(size, 2*cap(body), 4<<10), compare.MaxBody)
		if !c.triple.reserve(capacity - cap(body)) {
			return
		}
		bigger := append(make([]byte, 0, capacity), body...)
		clear(body)
		body = bigger
	}
	body = append(body, p...)
	c.answer.Body = body
}

// Trail collects the trailers, which are copied.
func (c *Capture) Trail(fields []message.Field) {
	if c == nil || len(fields) == 0 || !c.Wants() {
		return
	}
	c.answer.Trailers = c.clone(fields)
}

// Finish ends an answer that has been collected.
func (c *Capture) Finish(latency time.Duration) {
	if c == nil || !c.ended.CompareAndSwap(false, true) {
		return
	}
	c.answer.Latency = latency
	if c.answer.Length < 0 {
		c.answer.Length = int64(len(c.answer.Body))
	}
	c.triple.end()
}

// Fail ends an answer that its backend has not given: timeouts and resets are answers, too.
func (c *Capture) Fail(why string) {
	if c == nil || !c.ended.CompareAndSwap(false, true) {
		return
	}
	clear(c.answer.Body)
	*c.answer = compare.Answer{Failure: why}
	c.triple.end()
}

// Drop ends an answer that says nothing about its backend: the request is not compared.
func (c *Capture) Drop(why string) {
	if c == nil || !c.ended.CompareAndSwap(false, true) {
		return
	}
	c.triple.skip(why)
	c.triple.end()
}

// dropped ends the capture of a copy that was dropped.
func (c *Capture) dropped(why Reason) {
	if c == nil {
		return
	}
	switch why {
	case Connect, Reset, Timeout:
		c.Fail(string(why))
	default:
		c.Drop("copy_" + string(why))
	}
}
