package core

// Comparing whole answers: which copies belong to a comparison, when they leave, and how the primary's answer is
// collected on its way to the client. Without a comparison nothing here does any work.

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/proxy/message"
	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/shadow"
)

// collect begins the comparison of the answers to a copy, if it is drawn. It reports whether the copy is held until
// the primary has answered, so that the primary is not asked twice at once.
func (x *Exchange) collect(copied *shadow.Copy, m *routing.Mirror) (held bool) {
	compared := x.state.compared[m.Index]
	if compared == nil {
		return false
	}
	triple := compared.Draw(&x.Request, "", x.start)
	if triple == nil {
		return false
	}
	copied.Capture = triple.Variant
	x.triples = append(x.triples, triple)
	if triple.Control == nil {
		return false
	}
	x.held = append(x.held, copied)
	return true
}

// notCollected counts a request whose copy was not admitted.
func (x *Exchange) notCollected(m *routing.Mirror) {
	if compared := x.state.compared[m.Index]; compared != nil {
		compared.Comparer.Skip(compare.SkippedCopy)
	}
}

// admitControl begins the copy for the control of the last triple, if that needs one.
func (c *Core) admitControl(x *Exchange, m *routing.Mirror) {
	if len(x.triples) == 0 {
		return
	}
	triple := x.triples[len(x.triples)-1]
	if triple.Control == nil || triple.Control.Admitted {
		return
	}
	triple.Control.Admitted = true
	x.outgoingCopy(m)
	copied := x.state.queues[m.Target.Index].Admit(&x.shadow, m, x.state.mirrors[m.Index], nil, x.start)
	if copied == nil {
		triple.Control.Drop(compare.SkippedControl)
		return
	}
	copied.Capture = triple.Control
	x.held = append(x.held, copied)
}

// identify gives a pair the identity of its request, whose body the copy has by now.
func (x *Exchange) identify(copied *shadow.Copy) {
	if copied.Capture == nil {
		return
	}
	for _, triple := range x.triples {
		if triple.Variant == copied.Capture {
			_, body := copied.Wire()
			triple.Identify(&x.Request, body)
		}
	}
}

// answered collects the head of the primary's answer, and sends the copies that were held, in random order: neither
// variant nor control is always the later one.
func (x *Exchange) answered(head *message.Response) {
	for _, triple := range x.triples {
		triple.Primary.Head(head)
		if x.submitted.Load() {
			x.took = time.Since(x.sentAt)
		}
	}
	if len(x.held) == 2 && rand.IntN(2) == 0 { //nolint:gosec // which of the two is first is no secret
		slices.Reverse(x.held)
	}
	for _, copied := range x.held {
		if copied.Capture.IsControl() {
			copied.Avoid = x.endpoint.Address
		}
		copied.Submit()
	}
	x.held = x.held[:0]
}

// collects reports whether the body of the primary's answer is collected.
func (x *Exchange) collects() bool {
	for _, triple := range x.triples {
		if triple.Primary.Wants() {
			return true
		}
	}
	return false
}

func (x *Exchange) collectPiece(p []byte) {
	for _, triple := range x.triples {
		triple.Primary.Write(p)
	}
}

// collected ends the collection of the primary's answer.
func (x *Exchange) collected(trailers []message.Field) {
	for _, triple := range x.triples {
		triple.Primary.Trail(trailers)
		triple.Primary.Finish(x.took)
	}
}

// abandon ends the collection of a primary's answer that was not read to its end. The copies end their own.
func (x *Exchange) abandon() {
	for _, triple := range x.triples {
		triple.Primary.Drop(compare.SkippedPrimary)
		if triple.Control != nil && !triple.Control.Admitted {
			triple.Control.Drop(compare.SkippedControl)
		}
	}
}
