package proxy_test

// What became of the copies of each mirror, for reports.

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/proxy/core"
	"github.com/mirrorgate/mirrorgate/internal/proxy/spec"
)

func TestCopiesAreCountedForEachMirror(t *testing.T) {
	primary := serve(t, func(http.ResponseWriter, *http.Request) {})
	failing := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	table := one(primary, primary, failing, refused(t))
	rules := table.Listeners[0].Rules
	table.Listeners[0].Rules, table.Listeners[0].Routes = nil, []spec.Route{{Name: "r", Source: "HTTPRoute/web", Rules: rules}}
	s := start(t, table, nil)
	c := client(t)
	for range 3 {
		status, _ := ask(t, c, http.MethodGet, "http://"+s.addr+"/", "")
		assert.Equal(t, http.StatusOK, status)
	}
	counts := func() map[string]core.MirrorCounts {
		out := map[string]core.MirrorCounts{}
		for _, m := range s.Counts() {
			assert.Equal(t, "HTTPRoute/web", m.Mirror.Rule.Source)
			assert.Equal(t, "0", m.Mirror.Rule.Section)
			out[m.Mirror.Target.Name] = m
		}
		return out
	}
	eventually(t, func() bool {
		all := counts()
		refused := all["variant2:80"]
		return all["variant0:80"].OK == 3 && all["variant1:80"].Failed[core.FailedStatus] == 3 &&
			refused.Failed["connect"] > 0 && refused.Failed["connect"]+refused.Dropped["penalty"] == 3
	}, "every copy is counted: %v", counts())
	require.NoError(t, s.Apply(setup(t, table)))
	assert.EqualValues(t, 3, counts()["variant0:80"].OK, "counts outlive tables")
}
