package core

// Records for the access log.

import (
	"sync"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
)

// Record describes an exchange, or a copy, for the access log. Its strings are valid only during the call.
type Record struct {
	Start  time.Time
	Took   time.Duration
	Remote string
	// Method, Target and Host are those of the client's request, or those of the copy as it was sent.
	Method, Target, Host string
	Major, Minor         int
	Status               int
	// Received and Sent count the bytes of bodies from and to the client. For a copy, Received counts the
	// bytes that were sent to the variant, head included.
	Received, Sent int64
	// Listener and Rule are names, Backend is service:port, Endpoint is host:port. All may be empty.
	Listener, Rule, Backend, Endpoint string
	// Reason is why the proxy, and not a backend, decided how the exchange ended; empty for a backend's answer.
	Reason Reason
	// Mirror is the name of the mirror if the record is about a copy, else empty.
	Mirror string
	// Mirrored is the number of copies that were admitted.
	Mirrored int
	// Header holds the header fields of the request or of the copy.
	Header interface {
		Get(name string) (string, bool)
	}
}

// record counts and logs a finished exchange.
func (c *Core) record(x *Exchange) {
	took := time.Since(x.start)
	x.End = x.start.Add(took)
	c.meterOf(x).observe(x, took)
	if x.reason != "" && x.status >= 500 && c.options.Failed != nil {
		c.options.Failed(x)
	}
	if c.options.AccessLog == nil {
		return
	}
	r := &x.Request
	record := &x.record
	*record = Record{
		Start: x.start, Took: took, Remote: x.Remote,
		Method: r.Method, Target: r.Target, Host: r.Authority, Major: r.Major, Minor: r.Minor,
		Status: x.status, Received: x.received, Sent: x.sent, Listener: x.Listener, Mirrored: x.mirrored, Reason: x.reason, Header: r,
	}
	if x.rule != nil {
		record.Rule = x.rule.Name
	}
	record.Backend = x.service()
	if x.endpoint != nil {
		record.Endpoint = x.endpoint.Address
	}
	c.options.AccessLog(record)
}

// Ended returns how the exchange ended: its status, the reason if that is the proxy's own, and the backend.
func (x *Exchange) Ended() (status int, reason Reason, backend string) {
	return x.status, x.reason, x.service()
}

// mirrorObserver counts and logs the copies of one mirror.
type mirrorObserver struct {
	*mirrorMetrics
	counts *mirrorCounts
	mirror *routing.Mirror
	log    func(*Record)
}

// Dropped implements shadow.Observer.
func (l *mirrorObserver) Dropped(why shadow.Reason) {
	l.mirrorMetrics.Dropped(why)
	l.counts.dropped(why)
}

// Answered implements shadow.Observer.
func (l *mirrorObserver) Answered(a *shadow.Answered) {
	l.mirrorMetrics.Answered(a)
	l.counts.answered(a)
	if l.log == nil {
		return
	}
	method, target, host := a.Copy.Line()
	record := records.Get().(*Record)
	*record = Record{
		Start: a.Begin, Took: a.Took, Method: method, Target: target, Host: host, Major: 1, Minor: 1,
		Status: a.Status, Received: int64(a.Sent), Rule: l.mirror.Rule.Name, Backend: l.mirror.Target.Name, Endpoint: a.Endpoint, Mirror: l.mirror.Name, Header: a.Copy,
	}
	l.log(record)
	*record = Record{}
	records.Put(record)
}

var records = sync.Pool{New: func() any { return new(Record) }}
