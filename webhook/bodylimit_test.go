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
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
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
	limit := within(500 * time.Millisecond)
	server := served(t, limit)
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
	requireEmpty(t, limit)
}

// The API server keeps idle connections open for any time.
func TestConnectionOutlivesTheTimeoutOfOneCall(t *testing.T) {
	server := served(t, within(50*time.Millisecond))
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
	server := handled(t, within(50*time.Millisecond),
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

// Bytes that are announced cost nobody anything.
func TestAnnouncedBytesKeepNobodyOut(t *testing.T) {
	limit := within(time.Minute)
	server := served(t, limit)
	for range 16 {
		announce(t, server, maxReview, 1)
	}
	require.Equal(t, http.StatusOK, call(t, server, smallBody))
	require.Equal(t, http.StatusOK, call(t, server, maxReview))
}

// stalled is a body of which so many bytes arrive at once, and then no more until it is closed.
type stalled struct {
	left int
	end  chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.end
		return 0, io.ErrUnexpectedEOF
	}
	n := min(len(p), s.left)
	s.left -= n
	return n, nil
}

// caller plays the calls of one address.
type caller struct {
	t       *testing.T
	limit   *bodyLimit
	address string
}

// sends starts a call of which so many bytes arrive, waits until they are counted, and returns its error.
func (c caller) sends(bytes int) <-chan error {
	c.t.Helper()
	body := &stalled{left: bytes, end: make(chan struct{})}
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodPost, "/", body)
	r.RemoteAddr = c.address + ":1"
	done := make(chan error, 1)
	w := &deadlines{ResponseRecorder: httptest.NewRecorder(), end: sync.OnceFunc(func() { close(body.end) })}
	c.t.Cleanup(w.end)
	before := c.held()
	go func() {
		_, release, err := c.limit.read(w, r, nil)
		release()
		done <- err
	}()
	require.Eventually(c.t, func() bool { return c.held()-before >= bytes-smallBody }, 10*time.Second, time.Millisecond)
	return done
}

func (c caller) held() int {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	return c.limit.callers[c.address]
}

// reads reads a body that has arrived as a whole.
func (c caller) reads(bytes int) error {
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodPost, "/", strings.NewReader(strings.Repeat(" ", bytes)))
	r.RemoteAddr = c.address + ":1"
	_, release, err := c.limit.read(httptest.NewRecorder(), r, nil)
	release()
	return err
}

// deadlines is a writer whose connection ends when its deadline is in the past.
type deadlines struct {
	*httptest.ResponseRecorder
	end func()
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		d.end()
	}
	return nil
}

func TestACallerHasNoMoreThanItsShare(t *testing.T) {
	limit := within(50 * time.Millisecond)
	greedy, other := caller{t, limit, "10.0.0.1"}, caller{t, limit, "10.0.0.2"}
	limit.timeout = time.Minute
	for range maxCaller / maxReview {
		greedy.sends(maxReview)
	}
	require.NoError(t, other.reads(maxReview))
	require.NoError(t, greedy.reads(smallBody))
	limit.timeout = 50 * time.Millisecond
	require.ErrorIs(t, greedy.reads(maxReview), errCrowded)
}

// Callers that hold all the memory give way to one that holds none.
func TestTheLargestBodyGivesWay(t *testing.T) {
	limit := within(time.Minute)
	var slow []<-chan error
	for _, address := range []string{"10.0.0.1", "10.0.0.2"} {
		for range maxCaller / maxReview {
			slow = append(slow, caller{t, limit, address}.sends(maxReview-1))
		}
	}
	for range 8 {
		require.NoError(t, caller{t, limit, "10.0.0.3"}.reads(2<<20))
	}
	aborted := 0
	for _, done := range slow {
		select {
		case err := <-done:
			require.ErrorIs(t, err, errCrowded)
			aborted++
		default:
		}
	}
	require.LessOrEqual(t, aborted, 1, "no more than there was need for")
}

func within(timeout time.Duration) *bodyLimit {
	limit := newBodyLimit()
	limit.timeout = timeout
	return limit
}

// requireEmpty waits until the limit holds nothing.
func requireEmpty(t *testing.T, limit *bodyLimit) {
	t.Helper()
	require.Eventually(t, func() bool {
		limit.mu.Lock()
		defer limit.mu.Unlock()
		return limit.held == 0 && len(limit.callers) == 0 && len(limit.bodies) == 0
	}, 10*time.Second, time.Millisecond)
}
