package upstream

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPick(t *testing.T) {
	pool := NewPool(&Pool{})
	set := pool.Set([]string{"a:1", "b:1", "c:1"})
	now := time.Now()
	assert.Nil(t, Set(nil).Pick(nil, now))
	assert.Same(t, set[0], set[:1].Pick(nil, now))
	assert.Nil(t, set[:1].Pick(set[:1], now), "tried")

	for range 100 {
		assert.NotContains(t, set[:2], set.Pick(set[:2], now), "tried before")
	}
	set[0].Enter()
	for range 100 {
		assert.Same(t, set[1], set[:2].Pick(nil, now), "fewer requests under way")
	}
	set[0].Leave()
	set[1].failed.Store(now.UnixNano())
	for range 100 {
		assert.Same(t, set[0], set[:2].Pick(nil, now), "failed a moment ago")
	}
	assert.Same(t, set[1], set[:2].Pick(set[:1], now), "but better than none")
	later := now.Add(2 * avoid)
	seen := map[*Endpoint]bool{}
	for range 1000 {
		seen[set.Pick(nil, later)] = true
	}
	assert.Len(t, seen, 3, "all take part")
}

// idle counts what happens to it.
type idle struct{ closed bool }

func (i *idle) Close() error { i.closed = true; return nil }

func TestIdle(t *testing.T) {
	pool := NewPool(&Pool{MaxIdle: 2})
	e := pool.Endpoint("a:1")
	assert.Same(t, e, pool.Endpoint("a:1"))
	now := time.Now()
	old, middle, young := &idle{}, &idle{}, &idle{}
	assert.True(t, e.Put(old, now.Add(-time.Minute)))
	assert.True(t, e.Put(middle, now))
	assert.False(t, e.Put(young, now), "more than may wait")
	assert.Same(t, middle, e.Take(), "the last first")
	assert.Same(t, old, e.Take())
	assert.Nil(t, e.Take())

	assert.True(t, e.Put(old, now.Add(-time.Minute)))
	young = &idle{}
	assert.True(t, e.Put(young, now))
	e.expire(now.Add(-time.Second))
	assert.True(t, old.closed)
	assert.False(t, young.closed)

	pool.Keep(func(string) bool { return false })
	assert.True(t, young.closed, "the address is gone")
	late := &idle{}
	assert.False(t, e.Put(late, now), "its requests end in peace, its connections do not wait")
	assert.NotSame(t, e, pool.Endpoint("a:1"))
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := NewPool(&Pool{}).Endpoint(l.Addr().String())
	conn, err := e.Dial(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, l.Close())
	_, err = e.Dial(t.Context())
	require.ErrorIs(t, err, ErrConnect)
	var op *net.OpError
	require.ErrorAs(t, err, &op, "the cause is kept")
	assert.True(t, e.failedSince(time.Now()))
}
