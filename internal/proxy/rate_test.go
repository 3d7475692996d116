package proxy_test

// The bound on the copies of a mirror in a second.

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/routing"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

// Copies beyond maxPerSecond are dropped and counted, requests are not, and a reload gives no second burst.
func TestCopiesInASecondAreBounded(t *testing.T) {
	primary := serve(t, func(http.ResponseWriter, *http.Request) {})
	var copies atomic.Int64
	variant := serve(t, func(http.ResponseWriter, *http.Request) { copies.Add(1) })
	table := one(primary, variant)
	table.Listeners[0].Rules[0].Filters[0].RequestMirror.Mirrorgate = spec.Mirror{MaxPerSecond: new(1)}
	s := start(t, table, nil)
	c := client(t)
	const requests = 50
	for i := range requests {
		if i == requests/2 {
			require.NoError(t, s.Apply(setup(t, table)))
		}
		status, _ := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		require.Equal(t, http.StatusOK, status)
	}
	eventually(t, func() bool {
		m := s.Counts()[0]
		return m.OK == uint64(copies.Load()) && m.OK+m.Dropped["rate"] == requests
	}, "every copy is counted once")
	rate := s.counter(t, "shadows_dropped_total", "mirror", "variant0:80", "reason", "rate")
	assert.InDelta(t, float64(requests-copies.Load()), rate, 0)
	assert.Positive(t, rate)
}

func TestMaxPerSecondHasBounds(t *testing.T) {
	for _, n := range []int{0, -1, 1_000_001} {
		table := one("127.0.0.1:1", "127.0.0.1:2")
		table.Listeners[0].Rules[0].Filters[0].RequestMirror.Mirrorgate = spec.Mirror{MaxPerSecond: &n}
		_, problems := routing.Compile(table)
		text := ""
		for _, p := range problems {
			text += p.String() + "\n"
		}
		assert.Contains(t, text, "mirrorgate.maxPerSecond: ", n)
		assert.Contains(t, text, "must be from 1 to 1000000", n)
	}
}
