package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/runtime"
)

type heardEvents struct {
	mu  sync.Mutex
	all []string
}

func (h *heardEvents) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, reason+" "+fmt.Sprintf(note, args...))
}

func (h *heardEvents) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

func TestEventsArePacedBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var to heardEvents
		metrics := NewMetrics(nil)
		e := NewEvents(&to, metrics)
		for i := range maxEvents + 3 {
			e.Eventf(nil, nil, normal, "MirrorParked", "Mirror", "%d", i)
		}
		assert.InDelta(t, 3, testutil.ToFloat64(metrics.events), 0, "what does not fit is counted")

		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = e.Start(ctx) }()
		synctest.Wait()
		assert.Len(t, to.heard(), eventBurst, "a few go out at once")
		time.Sleep(10*time.Second + time.Millisecond) //nolint:forbidigo // synctest bubble
		synctest.Wait()
		assert.Len(t, to.heard(), eventBurst+10*eventRate)
		assert.Equal(t, "MirrorParked 0", to.heard()[0])
		assert.Equal(t, "MirrorParked 149", to.heard()[149])
		stop()
		synctest.Wait()
		e.Eventf(nil, nil, normal, "MirrorParked", "Mirror", "after the end")
		assert.Len(t, to.heard(), eventBurst+10*eventRate, "an ended recorder sends nothing")
	})
}
