package policies

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	ctrlevents "github.com/mirrorgate/mirrorgate/internal/controller/events"
	"github.com/mirrorgate/mirrorgate/internal/policy"
)

const stopAtFive = "stop: {errorPercent: 5, over: 1m, minRequests: 50}"

// leader is a Controller with its clock.
type leader struct {
	*Controller
	t     *testing.T
	c     *cluster
	clock *testingclock.FakePassiveClock
}

func newLeader(t *testing.T, c *cluster, at time.Time) *leader {
	t.Helper()
	ctrl, clock := newController(t, c, at)
	return &leader{Controller: ctrl, t: t, c: c, clock: clock}
}

// pass lets time pass, reads the counters, and reconciles.
func (l *leader) pass(d time.Duration) {
	l.t.Helper()
	l.clock.SetTime(l.clock.Now().Add(d))
	l.watch.sample(l.c.Stops(), l.clock.Now())
	l.reconcile()
}

func (l *leader) reconcile() {
	l.t.Helper()
	_, err := l.Reconcile(l.t.Context(), name)
	require.NoError(l.t, err)
}

func (l *leader) stopped() *v1alpha1.Stopped { return l.c.policy.Status.Targets[0].Stopped }

func annotate(c *cluster, key, value string) {
	if c.policy.Annotations == nil {
		c.policy.Annotations = map[string]string{}
	}
	if c.policy.Annotations[key] = value; value == "" {
		delete(c.policy.Annotations, key)
	}
}

func resume(c *cluster) {
	annotate(c, v1alpha1.AnnotationResume, c.policy.Status.Targets[0].Stopped.Time.Format(time.RFC3339))
}

func TestFailuresStopAMirror(t *testing.T) {
	c := &cluster{state: policy.Ready, policy: parse(t, stopAtFive)}
	recorder := events.NewFakeRecorder(10)
	l := newLeader(t, c, start)
	l.events = ctrlevents.NewReporter(recorder, "Policy")
	c.count("checkout", 1000, 1000) // before this leader's time
	l.pass(time.Second)
	l.pass(time.Second)
	require.Nil(t, l.stopped())
	c.count("checkout", 0, 49)
	l.pass(time.Second)
	require.Nil(t, l.stopped(), "too few to tell")
	c.count("checkout", 1000, 0)
	l.pass(time.Second)
	require.Nil(t, l.stopped(), "49 of 1049 are fewer than 5 %%")
	l.pass(90 * time.Second)
	c.count("checkout", 40, 10)
	l.pass(time.Second)
	require.NotNil(t, l.stopped())
	assert.Equal(t, v1alpha1.StopErrorPercent, l.stopped().Reason)
	assert.Equal(t, "10 of 50 copies failed within 1m0s, 20 % where 5 % are allowed (10 5xx)", l.stopped().Message, "the ones before that minute do not count")
	assert.Equal(t, "0%", c.policy.Status.Targets[0].Percent)
	assert.Contains(t, <-recorder.Events, "MirrorsStopped")

	first := *l.stopped()
	c.count("checkout", 0, 100)
	for range 5 {
		l.pass(time.Minute)
	}
	assert.Equal(t, first, *l.stopped(), "it stays as it is")
	resume(c)
	l.reconcile()
	require.Nil(t, l.stopped())
	assert.Contains(t, <-recorder.Events, "MirrorsResumed")
	for range 5 {
		l.pass(time.Second)
	}
	require.Nil(t, l.stopped(), "failures from before do not count again")
	c.count("checkout", 0, 50)
	l.pass(time.Second)
	require.NotNil(t, l.stopped())
	assert.True(t, l.stopped().Time.After(first.Time.Time))
}

// Slow failures, over many windows, and counters that begin anew.
func TestAWindowForgets(t *testing.T) {
	c := &cluster{state: policy.Ready, policy: parse(t, stopAtFive)}
	l := newLeader(t, c, start)
	l.pass(time.Second)
	c.count("checkout", 0, 0)
	l.pass(time.Second)
	for range 200 { // 20 failures in a minute are too few
		c.count("checkout", 0, 1)
		l.pass(3 * time.Second)
		require.Nil(t, l.stopped())
	}
	for key, sum := range c.counted {
		sum.Failed, sum.OK = 3, 0
		c.counted[key] = sum // all proxies were forgotten, and report again
	}
	l.pass(time.Second)
	require.Nil(t, l.stopped())
	assert.LessOrEqual(t, len(l.watch.windows[watchKey{name, c.Stops()[0].Route, ""}].points), samples+2)
}

// A policy for a rule goes by that rule's copies, and one for the route by all that have no policy of their own.
func TestWhoseCopiesCount(t *testing.T) {
	c := &cluster{}
	w := newWatch(c)
	c.policy = parse(t, stopAtFive)
	whole, section := c.Stops()[0], c.Stops()[0]
	whole.Others, section.Section = []string{"checkout"}, "checkout"
	sample := func(after time.Duration) (found []string) {
		w.sample(append(c.Stops()[:0:0], whole, section), start.Add(after))
		for key := range w.found {
			found = append(found, key.section)
		}
		return found
	}
	for _, rule := range []string{"0", "checkout"} {
		c.count(rule, 1, 0)
	}
	require.Empty(t, sample(0))
	c.count("checkout", 0, 100)
	require.Equal(t, []string{"checkout"}, sample(time.Second))
	w.drop(name)
	sample(2 * time.Second)
	c.count("0", 0, 100)
	require.Equal(t, []string{""}, sample(3*time.Second))
}

func TestPeopleStopAndResume(t *testing.T) {
	c := &cluster{state: policy.Ready, policy: parse(t, threeSteps+", "+stopAtFive)}
	l := newLeader(t, c, start)
	l.pass(time.Second)
	annotate(c, v1alpha1.AnnotationStop, "incident 42")
	l.pass(time.Second)
	require.NotNil(t, l.stopped())
	assert.Equal(t, v1alpha1.StopByHand, l.stopped().Reason)
	assert.Equal(t, "incident 42", l.stopped().Message)
	resume(c)
	l.pass(time.Second)
	require.NotNil(t, l.stopped(), "as long as the annotation stands")
	annotate(c, v1alpha1.AnnotationStop, "")
	l.pass(time.Second)
	require.Nil(t, l.stopped())

	annotate(c, v1alpha1.AnnotationResume, "yesterday")
	l.pass(time.Second)
	accepted := apimeta.FindStatusCondition(c.policy.Status.Targets[0].Conditions, v1alpha1.ConditionAccepted)
	assert.Equal(t, "AnnotationInvalid", accepted.Reason)
	assert.Contains(t, accepted.Message, `mirrorgate.dev/resume: "yesterday" is no time`)
	annotate(c, v1alpha1.AnnotationResume, "")

	annotate(c, v1alpha1.AnnotationStep, "2")
	l.pass(time.Second)
	assert.Equal(t, 1, step(c))
	l.pass(100 * time.Hour)
	assert.Equal(t, 1, step(c), "it is held")
	annotate(c, v1alpha1.AnnotationStep, "1")
	l.pass(time.Second)
	assert.Equal(t, 0, step(c))
	for _, wrong := range []string{"0", "4", "x", "9999999999999999999"} {
		annotate(c, v1alpha1.AnnotationStep, wrong)
		l.pass(time.Second)
		accepted := apimeta.FindStatusCondition(c.policy.Status.Targets[0].Conditions, v1alpha1.ConditionAccepted)
		assert.Contains(t, accepted.Message, "must be a number from 1 to 3")
	}
	annotate(c, v1alpha1.AnnotationStep, "")
	l.pass(time.Second)
	assert.Equal(t, 0, step(c))
	l.pass(10 * time.Minute)
	assert.Equal(t, 1, step(c), "it goes on")
}

// Leaders come and go, two sample at a time, clocks jump, the API server is away and writes race: no stop is undone but by
// a resume that names it, none comes without enough failures since the last one, and each has a time of its own.
func TestStopsOverLeadersAndClocks(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := &cluster{state: policy.Ready, policy: parse(t, stopAtFive)}
		leaders := []*leader{newLeader(t, c, start)}
		now, failures := start, uint64(0)
		seen := map[int64]bool{}
		for range 300 {
			if r.IntN(20) == 0 {
				leaders = append(leaders, newLeader(t, c, now))
			}
			now = now.Add(time.Duration(r.IntN(20)) * time.Second)
			l := leaders[r.IntN(len(leaders))]
			l.clock.SetTime(now.Add(time.Duration(r.IntN(3)-1) * time.Duration(r.IntN(7200)) * time.Second))
			if r.IntN(4) == 0 {
				n := uint64(r.IntN(30))
				c.count("checkout", uint64(r.IntN(200)), n)
				failures += n
			}
			var before *v1alpha1.Stopped
			if len(c.policy.Status.Targets) > 0 {
				before = c.policy.Status.Targets[0].Stopped
			}
			resumed := before != nil && r.IntN(10) == 0
			if resumed {
				resume(c)
			}
			c.away = r.IntN(5) == 0
			l.watch.sample(c.Stops(), l.clock.Now())
			_, err := l.Reconcile(t.Context(), name)
			require.True(t, err == nil || c.away, "%v", err)
			if len(c.policy.Status.Targets) == 0 {
				continue
			}
			after := c.policy.Status.Targets[0].Stopped
			switch {
			case before != nil && after == nil:
				require.NotEmpty(t, c.policy.Annotations[v1alpha1.AnnotationResume])
				require.LessOrEqual(t, before.Time.Format(time.RFC3339), c.policy.Annotations[v1alpha1.AnnotationResume], "undone")
				failures = 0
			case after != nil && (before == nil || !before.Time.Equal(&after.Time)):
				if before == nil {
					require.GreaterOrEqual(t, failures, uint64(3), "early")
				}
				require.False(t, seen[after.Time.Unix()], "a stop of its own has a time of its own")
				seen[after.Time.Unix()] = true
			}
		}
	}
}

// prometheusAt is a Prometheus that answers with a text.
func prometheusAt(t *testing.T, handler http.HandlerFunc) *Prometheus {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + "/prefix")
	require.NoError(t, err)
	p := NewPrometheus(u)
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

func TestAQueryYieldsOneNumber(t *testing.T) {
	answer := ""
	var path, expr string
	p := prometheusAt(t, func(w http.ResponseWriter, r *http.Request) {
		path, expr = r.URL.Path, r.PostFormValue("query")
		fmt.Fprint(w, answer)
	})
	vector := func(values ...string) string {
		series := make([]string, len(values))
		for i, v := range values {
			series[i] = fmt.Sprintf(`{"metric": {"secret": "x"}, "value": [1, %q]}`, v)
		}
		return `{"status": "success", "data": {"resultType": "vector", "result": [` + strings.Join(series, ",") + `]}}`
	}
	answer = vector("0.5")
	number, err := p.ask(t.Context(), "up\n}")
	require.NoError(t, err)
	assert.InDelta(t, 0.5, number, 0)
	assert.Equal(t, "/prefix/api/v1/query", path)
	assert.Equal(t, "up\n}", expr, "an expression cannot leave its field")
	answer = `{"status": "success", "data": {"resultType": "scalar", "result": [1, "7"]}}`
	number, err = p.ask(t.Context(), "7")
	require.NoError(t, err)
	assert.InDelta(t, 7, number, 0)
	for _, wrong := range []string{
		vector(), vector("1", "2"), vector("NaN"), vector("x"), "", "{", "[]", "null", `{"status": "success"}`,
		`{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "1"]]}]}}`,
		`{"status": "success", "data": {"resultType": "string", "result": [1, "1"]}}`,
		`{"status": "success", "data": {"resultType": "scalar", "result": [1, 7]}}`,
		`{"status": "error", "errorType": "bad_data", "error": "parse error"}`,
		strings.Repeat(" ", maxAnswer) + vector("1"),
	} {
		answer = wrong
		_, err := p.ask(t.Context(), "x")
		require.Error(t, err, "%.80s", wrong)
		assert.NotContains(t, err.Error(), "secret")
		assert.NotContains(t, err.Error(), "127.0.0.1")
	}
}

func TestAQueryGoesNowhereElseAndEnds(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	p := prometheusAt(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := p.ask(t.Context(), "x")
	require.ErrorContains(t, err, "redirects")
	assert.Zero(t, elsewhere.Load())

	hang := make(chan struct{})
	defer close(hang)
	p = prometheusAt(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	p.client.Timeout = 50 * time.Millisecond
	_, err = p.ask(t.Context(), "x")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "127.0.0.1")
}

func TestAQueryStopsAMirror(t *testing.T) {
	var value atomic.Value
	value.Store("0.04")
	var asked atomic.Int64
	p := prometheusAt(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		text, _ := json.Marshal([]any{1, value.Load()})
		fmt.Fprintf(w, `{"status": "success", "data": {"resultType": "scalar", "result": %s}}`, text)
	})
	c := &cluster{state: policy.Ready, policy: parse(t, "stop: {query: {expr: errors, above: 0.05}}")}
	l := newLeader(t, c, start)
	l.queries.prometheus = p
	l.reconcile()
	ask := func(after time.Duration) {
		l.clock.SetTime(l.clock.Now().Add(after))
		l.Ask(t.Context())
		l.reconcile()
	}
	ask(0)
	ask(time.Second)
	assert.EqualValues(t, 1, asked.Load(), "not more often than every 15 s")
	require.Nil(t, l.stopped())
	value.Store("0.06")
	ask(queryPeriod)
	require.NotNil(t, l.stopped())
	assert.Equal(t, v1alpha1.StopQueried, l.stopped().Reason)
	assert.Equal(t, "the query yields 0.06, more than 0.05", l.stopped().Message)
	ask(queryPeriod)
	assert.EqualValues(t, 2, asked.Load(), "nothing is asked while it is stopped")
	value.Store("0")
	resume(c)
	l.reconcile()
	ask(queryPeriod)
	require.Nil(t, l.stopped())
	l.queries.prometheus = nil
	ask(queryPeriod)
	assert.Contains(t, l.queries.faultOf(watchKey{name, c.Stops()[0].Route, ""}), "no Prometheus")
}
