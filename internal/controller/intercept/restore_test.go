package intercept

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/internal/wellknown"
)

func TestRestore(t *testing.T) {
	for name, c := range map[string]struct {
		pod  string
		down bool
	}{
		"proxied":                           {"ready", true},
		"bypassed":                          {"none", true},
		"its webhook is called for a while": {"ready", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			require.False(t, Held(w.stored))
			w.feed(httpRoute)
			if c.pod == "ready" {
				w.proxy("p", "ready")
			}
			_, err := w.reconcile()
			require.NoError(t, err)
			require.True(t, Held(w.stored))
			w.down = c.down
			if !c.down {
				w.before = func() { w.before = func() { w.down = true } } // only the first patch reaches it
			}
			require.NoError(t, Restore(t.Context(), w, httpbin))
			require.False(t, Held(w.stored))
			require.Equal(t, own, w.stored.Spec.Selector)
			require.Equal(t, "author", w.stored.ManagedFields[0].Manager)
			require.NoError(t, Restore(t.Context(), w, httpbin), "a second time")
		})
	}
}

func TestRestoreOfADeletedServiceAndALostSelector(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, Restore(t.Context(), w, Name{Namespace: "shop", Name: "nobody"}))
	o := w.stored.DeepCopy()
	o.Spec.Selector = sentinel
	w.store(o)
	require.True(t, Held(w.stored))
	require.ErrorContains(t, Restore(t.Context(), w, httpbin), "recorded nowhere; apply its manifest again")
	require.Equal(t, wellknown.Sentinel("httpbin"), w.stored.Spec.Selector["app"])
}
