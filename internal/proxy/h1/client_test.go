package h1

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/upstream"
)

// An upload that ends well while join forces its end leaves a write deadline that has passed: the connection
// must not carry another request.
func TestConnectionAfterForcedJoinIsNotReused(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	pool := upstream.NewPool(&upstream.Pool{})
	set := pool.Set([]string{"127.0.0.1:1"}, nil)
	endpoint := set.Pick(nil, time.Now())
	limits := Limits{}.Defaulted()
	c := &clientConn{Conn: ours, limits: &limits, endpoint: endpoint, uploading: true, uploaded: make(chan struct{}, 1)}
	c.in.init(ours)
	c.body.in = &c.in
	c.body.reset(0, false)
	c.send = &core.Send{Interrupt: func() {
		c.sent = true
		c.uploaded <- struct{}{}
	}}
	require.True(t, c.Finish(true), "the request was sent to its end")
	assert.Nil(t, endpoint.Take(), "the connection is not offered again")
}
