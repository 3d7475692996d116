package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/status"
)

// On a terminal the whole table is drawn in its place, each time; elsewhere a mirror comes again when it has changed.
func TestWatchRedrawsOnATerminal(t *testing.T) {
	watch := func(redraw bool) string {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		reads := 0
		read := func(context.Context, io.Writer) ([]status.Route, error) {
			if reads++; reads == 3 {
				stop()
			}
			states := []string{"parked", "parked", "active"}
			return []status.Route{
				{Kind: route.HTTPRoute, Name: "web", Mirrors: []status.Mirror{{Target: "v2:80", Percent: 25, State: states[reads-1]}}},
				{Kind: route.HTTPRoute, Name: "still", Mirrors: []status.Mirror{{Target: "v2:80", Percent: 25, State: "active"}}},
			}, nil
		}
		var out bytes.Buffer
		require.NoError(t, watchStatus(ctx, &out, read, &status.Format{}, redraw))
		return out.String()
	}
	once := watch(false)
	assert.Equal(t, 1, strings.Count(once, "ROUTE"), once)
	assert.Equal(t, 1, strings.Count(once, "httproute/still"), once)
	assert.Equal(t, 2, strings.Count(once, "httproute/web"), once)
	assert.NotContains(t, once, "\x1b")

	drawn := watch(true)
	assert.Equal(t, 2, strings.Count(drawn, "\x1b[HROUTE"), "%q", drawn)
	assert.Equal(t, 2, strings.Count(drawn, "httproute/still"), "%q", drawn)
	assert.True(t, strings.HasSuffix(drawn, "\x1b[K\n\x1b[J"), "%q", drawn)
}
