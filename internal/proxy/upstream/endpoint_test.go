package upstream

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPick(t *testing.T) {
	pool := NewPool(&Pool{})
	set := pool.Set([]string{"a:1", "b:1", "c:1"}, nil)
	now := time.Now()
	assert.Nil(t, Set(nil).Pick(nil, now))
	assert.Same(t, set[0], set[:1].Pick(nil, now))
	assert.Nil(t, set[:1].Pick(set[:1], now), "the only endpoint was tried")

	for range 100 {
		assert.NotContains(t, set[:2], set.Pick(set[:2], now), "endpoints that were tried before")
	}
	set[0].Enter()
	for range 100 {
		assert.Same(t, set[1], set[:2].Pick(nil, now), "the endpoint with fewer requests under way")
	}
	set[0].Leave()
	set[1].failed.Store(now.UnixNano())
	for range 100 {
		assert.Same(t, set[0], set[:2].Pick(nil, now), "the other endpoint failed recently")
	}
	assert.Same(t, set[1], set[:2].Pick(set[:1], now), "an endpoint that failed recently is better than none")
	later := now.Add(2 * avoidFor)
	seen := map[*Endpoint]bool{}
	for range 1000 {
		seen[set.Pick(nil, later)] = true
	}
	assert.Len(t, seen, 3, "all endpoints are chosen")
}

// TestPickFor checks that a client keeps its endpoint: only clients of an added or removed endpoint move.
func TestPickFor(t *testing.T) {
	pool := NewPool(&Pool{})
	set := pool.Set([]string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"}, nil)
	now := time.Now()
	of := func(set Set, i int) *Endpoint {
		return set.PickFor(Client(fmt.Sprintf("10.1.%d.%d:%d", i/250, i%250, 1024+i)), nil, now)
	}
	count := map[*Endpoint]int{}
	for i := range 4000 {
		e := of(set, i)
		count[e]++
		assert.Same(t, e, of(pool.Set([]string{"10.0.0.4:80", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80"}, nil), i), "the order of endpoints must not matter")
		without := of(set[:3], i)
		if e != set[3] {
			assert.Same(t, e, without)
		}
	}
	for _, e := range set {
		assert.InDelta(t, 1000, count[e], 100, e.Address)
	}
	client := Client("[::ffff:10.1.0.1]:7")
	assert.Equal(t, Client("10.1.0.1:9"), client, "neither the port nor the spelling of an address matters")
	first := set.PickFor(client, nil, now)
	second := set.PickFor(client, []*Endpoint{first}, now)
	assert.NotSame(t, first, second)
	first.failed.Store(now.UnixNano())
	assert.Same(t, second, set.PickFor(client, nil, now), "the other endpoint failed recently")
	assert.Same(t, first, set.PickFor(client, nil, now.Add(2*avoidFor)))
	assert.Same(t, first, Set{first}.PickFor(client, nil, now), "an endpoint that failed recently is better than none")
	assert.Nil(t, Set{first}.PickFor(client, []*Endpoint{first}, now))
}

// idle is a connection that records whether it was closed.
type idle struct{ closed bool }

func (i *idle) Close() error { i.closed = true; return nil }

func TestIdle(t *testing.T) {
	pool := NewPool(&Pool{maxIdle: 2})
	e := pool.Endpoint("a:1", nil)
	assert.Same(t, e, pool.Endpoint("a:1", nil))
	now := time.Now()
	old, middle, young := &idle{}, &idle{}, &idle{}
	assert.True(t, e.Put(old, now.Add(-time.Minute)))
	assert.True(t, e.Put(middle, now))
	assert.False(t, e.Put(young, now), "no more connections than maxIdle")
	assert.Same(t, middle, e.Take(), "the most recently used connection first")
	assert.Same(t, old, e.Take())
	assert.Nil(t, e.Take())

	assert.True(t, e.Put(old, now.Add(-time.Minute)))
	young = &idle{}
	assert.True(t, e.Put(young, now))
	e.expire(now.Add(-time.Second))
	assert.True(t, old.closed)
	assert.False(t, young.closed)

	pool.Keep(func(string) bool { return false })
	assert.True(t, young.closed, "the pool has forgotten the address")
	late := &idle{}
	assert.False(t, e.Put(late, now), "a forgotten endpoint keeps no connections")
	assert.NotSame(t, e, pool.Endpoint("a:1", nil))
}

// An endpoint that closes idle connections early gets none back that it may have closed: it announced the time, or has
// shown it.
func TestIdleTimeOfAnEndpoint(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		learn func(e *Endpoint)
		want  time.Duration
	}{
		"nothing known":        {func(*Endpoint) {}, time.Minute},
		"announced":            {func(e *Endpoint) { e.Announced(5 * time.Second) }, 4 * time.Second},
		"announced, short":     {func(e *Endpoint) { e.Announced(time.Second) }, 500 * time.Millisecond},
		"announced, very long": {func(e *Endpoint) { e.Announced(time.Hour) }, time.Minute},
		"closed":               {func(e *Endpoint) { e.Closed(8 * time.Second) }, 6 * time.Second},
		"closed soon":          {func(e *Endpoint) { e.Closed(10 * time.Millisecond) }, time.Minute},
		"the shorter counts":   {func(e *Endpoint) { e.Closed(8 * time.Second); e.Closed(4 * time.Second); e.Closed(20 * time.Second) }, 3 * time.Second},
		"long ago":             {func(e *Endpoint) { e.Closed(8 * time.Second); e.learnedAt.Store(now.Add(-time.Hour).UnixNano()) }, time.Minute},
	} {
		e := NewPool(&Pool{IdleTimeout: time.Minute}).Endpoint("a:1", nil)
		tt.learn(e)
		assert.Equal(t, tt.want, e.idleTime(now), name)
	}

	e := NewPool(&Pool{}).Endpoint("a:1", nil)
	e.Announced(5 * time.Second)
	old, young := &idle{}, &idle{}
	require.True(t, e.Put(old, now.Add(-10*time.Second)))
	assert.Nil(t, e.Take(), "it may be closed")
	require.True(t, e.Put(young, now))
	assert.Same(t, young, e.Take())
	e.expire(now.Add(-e.idleTime(now)))
	assert.True(t, old.closed)
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := NewPool(&Pool{}).Endpoint(l.Addr().String(), nil)
	conn, err := e.Dial(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, l.Close())
	_, err = e.Dial(t.Context(), false)
	require.ErrorIs(t, err, ErrConnect)
	var op *net.OpError
	require.ErrorAs(t, err, &op, "the cause must be wrapped")
	assert.True(t, e.failedRecently(time.Now()))
}
