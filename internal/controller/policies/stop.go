package policies

// Stops: whether the copies of a target fail, by the counters that proxies report to the leader, or by a query. Windows are
// kept in memory alone: a leader that comes later begins them anew, which can only stop later.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/report"
	"github.com/mirrorgate/mirrorgate/internal/route"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

const (
	// defaultOver and defaultMinRequests are those of api/v1alpha1.
	defaultOver        = time.Minute
	defaultMinRequests = 50
	// samplePoll is how often counters are read.
	samplePoll = time.Second
	// samples is the number of readings in a window.
	samples = 30
)

// Counters are the sums of the reports of proxies.
type Counters interface {
	// Of returns those of a route, like HTTPRoute/web.
	Of(namespace, route string) map[report.Key]report.Sum
}

// watchKey names a target of a policy.
type watchKey struct {
	policy  types.NamespacedName
	route   route.Key
	section string
}

// evidence is what stops a target.
type evidence struct {
	reason  v1alpha1.StopReason
	message string
	// resumed is variant.Stop.Resumed at that time: after a later resume the evidence counts no more.
	resumed string
}

// watch looks for evidence against targets. It is safe for concurrent use.
type watch struct {
	counters Counters

	mu      sync.Mutex
	windows map[watchKey]*window
	found   map[watchKey]evidence
}

func newWatch(counters Counters) *watch {
	w := &watch{counters: counters}
	w.forget()
	return w
}

// forget begins anew, as a leader does.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.windows, w.found = map[watchKey]*window{}, map[watchKey]evidence{}
}

// sample reads the counters of all targets, and returns the policies whose status may be another now.
func (w *watch) sample(stops []variant.Stop, now time.Time) (against []types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := make(map[watchKey]bool, len(stops))
	for i := range stops {
		s := &stops[i]
		key := watchKey{s.Policy, s.Route, s.Section}
		if w.counters == nil || s.Spec.ErrorPercent == nil || s.Stopped {
			continue // a window that begins after a stop knows nothing of the failures before it
		}
		live[key] = true
		win := w.windows[key]
		if win == nil || win.resumed != s.Resumed {
			win = &window{last: map[report.Key]report.Sum{}, began: now, resumed: s.Resumed}
			w.windows[key] = win
		}
		before, _ := win.reported(now)
		win.read(w.counters.Of(s.Policy.Namespace, string(s.Route.Kind)+"/"+s.Route.Name), s, now)
		after, sure := win.reported(now)
		if after != before || sure && !win.announced {
			win.announced = sure
			against = append(against, s.Policy)
		}
		if message := win.judge(s.Spec, now); message != "" {
			w.found[key] = evidence{v1alpha1.StopErrorPercent, message, s.Resumed}
		}
		if _, ok := w.found[key]; ok {
			against = append(against, s.Policy)
		}
	}
	maps.DeleteFunc(w.windows, func(key watchKey, _ *window) bool { return !live[key] })
	return against
}

// add notes evidence of another kind.
func (w *watch) add(key watchKey, e evidence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found[key] = e
}

// evidence returns the evidence against a target since it was resumed, nil for none.
func (w *watch) evidence(key watchKey, resumed string) *evidence {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, ok := w.found[key]; ok && e.resumed == resumed {
		return &e
	}
	return nil
}

// drop forgets the evidence against a policy, and its windows, once its status has been written: what led to a stop must not
// lead to another one.
func (w *watch) drop(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.found {
		if key.policy == name {
			delete(w.found, key)
			delete(w.windows, key)
		}
	}
}

// window holds the copies of the last while, as sums at times.
type window struct {
	began time.Time
	// resumed is variant.Stop.Resumed: another one begins another window.
	resumed string
	// announced is set once it was announced that it is known whether proxies report.
	announced bool
	// last are the sums of the last reading, by mirror: of one that is new, or that nobody reported for a while, only what
	// comes from then on counts.
	last map[report.Key]report.Sum
	// total is the sum of all that was counted.
	total  counted
	points []point
}

// firstReports is how long proxies have to find a new leader.
const firstReports = 30 * time.Second

// reported reports whether proxies report copies of the target, and whether that is known yet.
func (w *window) reported(now time.Time) (is, sure bool) {
	return len(w.last) > 0, len(w.last) > 0 || now.Sub(w.began) >= firstReports
}

// reported reports whether proxies report copies of a target, and whether that is known yet.
func (w *watch) reported(key watchKey, now time.Time) (is, sure bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counters == nil {
		return false, true
	}
	if win := w.windows[key]; win != nil {
		return win.reported(now)
	}
	return false, false
}

// counted are copies, the failed ones, and these by kind.
type counted struct {
	copies, failed uint64
	kinds          map[string]uint64
}

type point struct {
	at time.Time
	counted
}

// read adds what was counted since the last reading.
func (w *window) read(sums map[report.Key]report.Sum, s *variant.Stop, now time.Time) {
	total := counted{w.total.copies, w.total.failed, maps.Clone(w.total.kinds)}
	if total.kinds == nil {
		total.kinds = map[string]uint64{}
	}
	current := map[report.Key]report.Sum{}
	for key, sum := range sums {
		if s.Section != "" && key.Rule != s.Section || slices.Contains(s.Others, key.Rule) {
			continue
		}
		current[key] = sum
		before, known := w.last[key]
		if !known || sum.Answered() < before.Answered() || sum.Failed < before.Failed {
			continue
		}
		total.copies += sum.Answered() - before.Answered()
		total.failed += sum.Failed - before.Failed
		for kind, n := range sum.ByKind {
			if n > before.ByKind[kind] {
				total.kinds[kind] += n - before.ByKind[kind]
			}
		}
	}
	w.last = current
	w.total = total
	if n := len(w.points); n == 0 || now.Sub(w.points[n-1].at) >= over(s.Spec)/samples {
		w.points = append(w.points, point{now, total})
	}
	// The oldest point is the last one that is as old as the window, or the first of all.
	for len(w.points) > 1 && now.Sub(w.points[1].at) >= over(s.Spec) {
		w.points = w.points[1:]
	}
}

// judge returns the figures if too many copies failed in the window, else "".
func (w *window) judge(spec *v1alpha1.Stop, now time.Time) string {
	base := w.points[0]
	if len(w.points) > 1 && now.Sub(base.at) > over(spec) {
		base = w.points[1] // never more than the window
	}
	copies, failed := w.total.copies-base.copies, w.total.failed-base.failed
	least := uint64(defaultMinRequests)
	if spec.MinRequests != nil {
		least = uint64(max(*spec.MinRequests, 1))
	}
	if copies < least || float64(failed)*100 <= *spec.ErrorPercent*float64(copies) {
		return ""
	}
	kinds := make([]string, 0, len(w.total.kinds))
	for _, kind := range slices.Sorted(maps.Keys(w.total.kinds)) {
		if n := w.total.kinds[kind] - base.kinds[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return fmt.Sprintf("%d of %d copies failed within %s, %.4g %% where %.4g %% are allowed (%s)",
		failed, copies, over(spec), 100*float64(failed)/float64(copies), *spec.ErrorPercent, strings.Join(kinds, ", "))
}

func over(spec *v1alpha1.Stop) time.Duration {
	if spec.Over == nil {
		return defaultOver
	}
	return max(spec.Over.Duration, samplePoll)
}

// newStopMetric returns the counter of stops.
func newStopMetric(registry prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirrorgate_stops_total", Help: "Targets of MirrorPolicies that were stopped, by reason (ErrorPercent, Query, ByHand).",
	}, []string{"reason"})
	for _, reason := range []v1alpha1.StopReason{v1alpha1.StopErrorPercent, v1alpha1.StopQueried, v1alpha1.StopByHand} {
		m.WithLabelValues(string(reason))
	}
	if registry != nil {
		registry.MustRegister(m)
	}
	return m
}
