package events

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/runtime"
)

// unbuffered is an EventRecorder whose Events a test takes one by one.
type unbuffered chan string

func (u unbuffered) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	u <- reason + " " + fmt.Sprintf(note, args...)
}

func TestEventsArePacedBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, ended := make(unbuffered), make(chan struct{})
		r := NewRecorder(next, nil)
		for i := range maxWaiting + 3 {
			r.Eventf(nil, nil, "Normal", "MirrorParked", "Mirror", "%d", i)
		}
		assert.InDelta(t, 3, testutil.ToFloat64(r.dropped), 0, "Events above the limit are counted")

		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			assert.NoError(t, r.Start(ctx))
		}()
		start := time.Now()
		for i := range burst + 10*eventsPerSecond {
			assert.Equal(t, fmt.Sprint("MirrorParked ", i), <-next)
			after := time.Duration(max(0, i+1-burst)) * time.Second / eventsPerSecond
			assert.Equal(t, after, time.Since(start).Round(time.Millisecond))
		}
		stop()
		<-ended // although some Events still wait
	})
}
