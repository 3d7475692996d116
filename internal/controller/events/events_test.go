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

// heard takes Events one by one.
type heard chan string

func (h heard) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	h <- reason + " " + fmt.Sprintf(note, args...)
}

func TestEventsArePacedBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, ended := make(heard), make(chan struct{})
		e := New(to, nil)
		for i := range maxEvents + 3 {
			e.Eventf(nil, nil, "Normal", "MirrorParked", "Mirror", "%d", i)
		}
		assert.InDelta(t, 3, testutil.ToFloat64(e.dropped), 0, "what does not fit is counted")

		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			assert.NoError(t, e.Start(ctx))
		}()
		start := time.Now()
		for i := range eventBurst + 10*eventRate {
			assert.Equal(t, fmt.Sprint("MirrorParked ", i), <-to)
			after := time.Duration(max(0, i+1-eventBurst)) * time.Second / eventRate
			assert.Equal(t, after, time.Since(start).Round(time.Millisecond))
		}
		stop()
		<-ended // though some wait
	})
}
