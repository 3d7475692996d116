package webhook

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/internal/policy"
)

// served is the mutating webhook on a real socket, instrumented as the library does.
func served(t *testing.T, limit *bodyLimit) *httptest.Server {
	t.Helper()
	return handled(t, limit, New(fakeResolver{state: policy.Absent}, Options{}).Mutator())
}

func handled(t *testing.T, limit *bodyLimit, handler admission.Handler) *httptest.Server {
	t.Helper()
	counted := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total", Help: "Calls by status."}, []string{"code"})
	server := httptest.NewServer(promhttp.InstrumentHandlerCounter(counted, newReviews(handler, limit)))
	t.Cleanup(server.Close)
	return server
}

// announce begins a call, sends the first bytes of its body, and no more.
func announce(t *testing.T, server *httptest.Server, size, sent int) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat(" ", sent))
	require.NoError(t, err)
	return conn
}

// call sends a whole review, padded to a size.
func call(t *testing.T, server *httptest.Server, size int) int {
	t.Helper()
	return calling(t, server, size)()
}

// calling prepares a call; the returned function makes it, and returns status 0 when there is no answer.
func calling(t *testing.T, server *httptest.Server, size int) func() int {
	t.Helper()
	body := reviewJSON(t, request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), ""))
	body = append(body, bytes.Repeat([]byte(" "), max(0, size-len(body)))...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	return func() int { return answer(req) }
}

func answer(req *http.Request) int {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestBodyThatNeverEndsTimesOut(t *testing.T) {
	server := served(t, &bodyLimit{500 * time.Millisecond, semaphore.NewWeighted(maxLarge)})
	for _, sent := range []int{0, 1, smallBody} {
		conn := announce(t, server, maxReview, sent)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "after %d bytes", sent)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	}
	require.Equal(t, http.StatusOK, call(t, server, 0), "its bytes are released")
	require.Equal(t, http.StatusOK, call(t, server, 1<<20))
}

// The API server keeps idle connections open for any time.
func TestConnectionOutlivesTheTimeoutOfOneCall(t *testing.T) {
	server := served(t, &bodyLimit{50 * time.Millisecond, semaphore.NewWeighted(maxLarge)})
	conn := announce(t, server, 1, 1)
	answers := bufio.NewReader(conn)
	for range 2 {
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "one space is no review")
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		<-time.After(100 * time.Millisecond)
		_, err = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n ")
		require.NoError(t, err)
	}
}

// A live read may take long, and a deadline that passes meanwhile would end the context of this call and of
// all that follow on the connection.
func TestAnswerMayTakeLongerThanTheTimeoutOfTheBody(t *testing.T) {
	server := handled(t, &bodyLimit{50 * time.Millisecond, semaphore.NewWeighted(maxLarge)},
		admission.HandlerFunc(func(ctx context.Context, _ admission.Request) admission.Response {
			select {
			case <-ctx.Done():
				return admission.Denied("the call was ended")
			case <-time.After(200 * time.Millisecond):
				return admission.Allowed("")
			}
		}))
	body := reviewJSON(t, request(t, admissionv1.Create, fmt.Sprintf(mirrored, "a", 10), ""))
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		answered, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Contains(t, string(answered), `"allowed":true`)
	}
}

func TestLargeReviewsDoNotBlockSmallOnes(t *testing.T) {
	limit := &bodyLimit{time.Minute, semaphore.NewWeighted(maxLarge)}
	server := served(t, limit)
	full := func() bool {
		if limit.large.TryAcquire(1) {
			limit.large.Release(1)
			return false
		}
		return true
	}
	var slow []net.Conn
	for range maxLarge / maxReview {
		slow = append(slow, announce(t, server, maxReview, 1))
	}
	require.Eventually(t, full, 10*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, call(t, server, smallBody))

	waits, large := make(chan int, 1), calling(t, server, smallBody+1)
	go func() { waits <- large() }()
	require.Never(t, func() bool { return len(waits) > 0 }, 100*time.Millisecond, 10*time.Millisecond, "a large review waits")
	require.NoError(t, slow[0].Close())
	require.Equal(t, http.StatusOK, <-waits)

	impatient := served(t, &bodyLimit{50 * time.Millisecond, limit.large})
	slow = append(slow, announce(t, server, maxReview, 1))
	require.Eventually(t, full, 10*time.Second, time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, call(t, impatient, smallBody+1))
	for _, conn := range slow[1:] {
		require.NoError(t, conn.Close())
	}
}
