package serve

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReplicaThatEndsClosesConnectionsBehindAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drain
		mux := &serveMux{http.NewServeMux()}
		d.watch(mux).Register("/mutate", http.NotFoundHandler())
		call := func() string {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mutate", nil))
			return w.Header().Get("Connection")
		}
		require.Empty(t, call())
		require.NoError(t, d.ready(nil))
		time.Sleep(10 * idleBeforeEnd) //nolint:forbidigo // inside the bubble: nobody called for long
		began := time.Now()
		ended := make(chan time.Duration)
		go func() {
			d.wait(t.Context())
			ended <- time.Since(began)
		}()
		synctest.Wait()
		require.Error(t, d.ready(nil))
		for range 4 { // the API server calls less and less
			require.Equal(t, "close", call())
			time.Sleep(idleBeforeEnd / 2) //nolint:forbidigo // inside the bubble
		}
		require.InDelta(t, (3*idleBeforeEnd/2 + idleBeforeEnd).Seconds(), (<-ended).Seconds(), 0.1)
	})
}

func TestReplicaEndsAlthoughItIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drain
		d.lastCall.Store(time.Now().Add(time.Hour).UnixNano()) // as if it were called all the time
		began := time.Now()
		d.wait(t.Context())
		require.Equal(t, maxDrain, time.Since(began))
	})
}

// serveMux mounts as a webhook server does.
type serveMux struct{ *http.ServeMux }

func (m *serveMux) Register(path string, h http.Handler) { m.Handle(path, h) }
