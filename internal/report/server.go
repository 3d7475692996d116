package report

// The leader's side: it authenticates, bounds and sorts reports. A replica that does not lead keeps nothing and answers
// 503 before it has read anything; the proxy connects anew, and reaches another one.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

const (
	// silence is after how long a process that does not report is gone.
	silence = time.Minute
	// every is the time from one report to the next, for few reporters, and perReporter what each adds to it.
	every       = time.Second
	perReporter = 2 * time.Millisecond
	// readTimeout bounds the arrival of a report.
	readTimeout = 5 * time.Second
)

// Limits bound what proxies can make the leader hold. Zero values mean the defaults.
type Limits struct {
	// Reporters is the number of processes that may report, and NamespaceReporters that of one namespace: 20,000 and
	// 1,000.
	Reporters, NamespaceReporters int
	// Bytes bounds the last reports of all processes together, and NamespaceBytes those of one namespace: 64 MiB and 16
	// MiB.
	Bytes, NamespaceBytes int
	// Arriving is the number of reports that arrive at a time, and NamespaceArriving that of one namespace: 64 and 8.
	Arriving, NamespaceArriving int
}

func (l Limits) defaulted() Limits {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&l.Reporters, 20_000)
	set(&l.NamespaceReporters, 1000)
	set(&l.Bytes, 64<<20)
	set(&l.NamespaceBytes, 16<<20)
	set(&l.Arriving, 64)
	set(&l.NamespaceArriving, 8)
	return l
}

// Options configure a Server.
type Options struct {
	Reviews  authentication.TokenReviewInterface
	Sections map[string]Section
	Limits   Limits
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
	Log      logr.Logger
}

// Server takes reports while its replica leads. It is an http.Handler.
type Server struct {
	opts   Options
	tokens *tokens
	now    func() time.Time
	// state is nil while another replica leads.
	state   atomic.Pointer[state]
	total   *prometheus.CounterVec
	refusal logging.Pace
}

// New returns a Server that does not lead.
func New(opts Options) *Server {
	opts.Limits = opts.Limits.defaulted()
	s := &Server{opts: opts, tokens: newTokens(opts.Reviews, time.Now), now: time.Now, refusal: logging.Pace{Every: time.Minute}}
	s.total = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirrorgate_reports_total", Help: "Reports of proxies, by result (taken, late, unauthorized, refused, busy, not_leading).",
	}, []string{"result"})
	for _, result := range []string{"taken", "late", "unauthorized", "refused", "busy", "not_leading"} {
		s.total.WithLabelValues(result)
	}
	if opts.Registry != nil {
		opts.Registry.MustRegister(s.total, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mirrorgate_reporters", Help: "Processes of proxies that report to this replica; 0 where another one leads.",
		}, func() float64 {
			if state := s.state.Load(); state != nil {
				return float64(state.count())
			}
			return 0
		}))
	}
	return s
}

// Lead takes reports until ctx ends. It begins with nothing, since what the leader before knew is in the proxies.
func (s *Server) Lead(ctx context.Context) error {
	forget := func() {
		for _, section := range s.opts.Sections {
			section.Forget()
		}
	}
	forget()
	state := newState(s.now(), s.opts.Limits)
	s.state.Store(state)
	defer forget()
	defer s.state.Store(nil)
	tick := time.NewTicker(silence / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.gone(state.sweep(s.now())...)
		}
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	state := s.state.Load()
	if state == nil {
		w.Header().Set("Connection", "close")
		s.refuse(w, http.StatusServiceUnavailable, "not_leading", errors.New("another replica leads"))
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path != Path || r.Method != http.MethodPost || !ok {
		s.refuse(w, http.StatusBadRequest, "refused", fmt.Errorf("must be POST %s with a bearer token", Path))
		return
	}
	id, err := s.tokens.identify(r.Context(), token, callerOf(r))
	switch {
	case errors.Is(err, errBusy):
		s.refuse(w, http.StatusTooManyRequests, "busy", err)
		return
	case errors.Is(err, errRefused):
		s.refuse(w, http.StatusUnauthorized, "unauthorized", err)
		return
	case err != nil:
		s.refuse(w, http.StatusServiceUnavailable, "busy", err)
		return
	}
	if !state.arrive(id.namespace) {
		s.refuse(w, http.StatusTooManyRequests, "busy", errors.New("too many reports at a time"))
		return
	}
	defer state.arrived(id.namespace)
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxReport))
	if err != nil {
		s.refuse(w, http.StatusRequestEntityTooLarge, "refused", fmt.Errorf("a report has at most %d bytes: %w", MaxReport, err))
		return
	}
	s.take(w, state, id, text)
}

// take hands the sections of a report to those who know them.
func (s *Server) take(w http.ResponseWriter, state *state, id identity, text []byte) {
	var report Report
	if err := json.Unmarshal(text, &report); err != nil {
		s.refuse(w, http.StatusBadRequest, "refused", fmt.Errorf("the report is no JSON of one: %w", err))
		return
	}
	if err := report.validate(); err != nil {
		s.refuse(w, http.StatusBadRequest, "refused", err)
		return
	}
	reporter, replaced, err := state.reporter(id, &report, len(text), s.now())
	if err != nil {
		s.refuse(w, http.StatusTooManyRequests, "busy", err)
		return
	}
	defer reporter.mu.Unlock()
	if replaced != nil {
		s.gone(*replaced)
	}
	result := "taken"
	if report.Sequence <= reporter.sequence {
		result, report.Sections = "late", nil
	} else {
		reporter.sequence = report.Sequence
	}
	for name, section := range s.opts.Sections {
		if text, ok := report.Sections[name]; ok {
			if err := section.Report(reporter.source, text); err != nil {
				s.refuse(w, http.StatusBadRequest, "refused", fmt.Errorf("section %s of Service %s/%s: %w", name, id.namespace, report.Service, err))
				return
			}
		}
	}
	s.total.WithLabelValues(result).Inc()
	w.Header().Set("Content-Type", "application/json")
	pause := max(every, time.Duration(state.count())*perReporter)
	_ = json.NewEncoder(w).Encode(Reply{Every: seconds(pause)}) // a proxy that is gone needs no answer
}

// validate reports why a report cannot be used.
func (r *Report) validate() error {
	switch {
	case r.Version != Version:
		return fmt.Errorf("version: %d is not known; must be %d", r.Version, Version)
	case r.Process == "" || len(r.Process) > 64:
		return errors.New("process: must have from 1 to 64 characters")
	case r.Service == "" || len(r.Service) > 63:
		return errors.New("service: must have from 1 to 63 characters")
	case r.Age < 0:
		return fmt.Errorf("age: %v is negative", r.Age)
	}
	return nil
}

func (s *Server) refuse(w http.ResponseWriter, status int, result string, err error) {
	s.total.WithLabelValues(result).Inc()
	if (result == "refused" || result == "unauthorized") && s.refusal.Due() {
		s.opts.Log.Info("A report was refused", "status", status, "reason", err.Error())
	}
	http.Error(w, err.Error(), status)
}

func (s *Server) gone(sources ...Source) {
	for _, source := range sources {
		for _, section := range s.opts.Sections {
			section.Gone(source)
		}
	}
}

// callerOf is the address of a caller, without its port; one that has a network of IPv6 is one caller.
func callerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// state is everything that is known about reporters in one run as leader.
type state struct {
	began  time.Time
	limits Limits

	mu         sync.Mutex
	reporters  map[reporterKey]*reporter
	namespaces map[string]*usage
	all        usage
}

// usage is what the reporters of a namespace, or all, take up.
type usage struct{ reporters, bytes, arriving int }

// reporterKey names a reporter: a pod, or a process whose token is bound to none.
type reporterKey struct{ namespace, pod, process string }

// reporter is one process. mu is held while a report of it is taken.
type reporter struct {
	mu       sync.Mutex
	source   Source
	sequence uint64
	bytes    int
	last     time.Time
	pace     *rate.Limiter
}

func newState(began time.Time, limits Limits) *state {
	return &state{began: began, limits: limits, reporters: map[reporterKey]*reporter{}, namespaces: map[string]*usage{}}
}

func (s *state) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reporters)
}

// usage returns that of a namespace. The caller holds mu.
func (s *state) usage(namespace string) *usage {
	u := s.namespaces[namespace]
	if u == nil {
		u = &usage{}
		s.namespaces[namespace] = u
	}
	return u
}

// drop forgets the usage of a namespace without any. The caller holds mu.
func (s *state) drop(namespace string) {
	if u := s.namespaces[namespace]; u != nil && *u == (usage{}) {
		delete(s.namespaces, namespace)
	}
}

// arrive reports whether there is room for one more report that arrives.
func (s *state) arrive(namespace string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage(namespace)
	if s.all.arriving >= s.limits.Arriving || u.arriving >= s.limits.NamespaceArriving {
		s.drop(namespace)
		return false
	}
	u.arriving++
	s.all.arriving++
	return true
}

func (s *state) arrived(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage(namespace).arriving--
	s.all.arriving--
	s.drop(namespace)
}

// reporter returns the locked reporter of a report, and the source that it takes the place of: a process of the same pod
// that ended. An error means that a bound forbids it.
func (s *state) reporter(id identity, r *Report, bytes int, now time.Time) (found *reporter, replaced *Source, err error) {
	key := reporterKey{namespace: id.namespace, pod: id.pod}
	if id.pod == "" {
		key.process = r.Process
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage(id.namespace)
	defer s.drop(id.namespace)
	found = s.reporters[key]
	switch more := bytes; {
	case found == nil && (len(s.reporters) >= s.limits.Reporters || u.reporters >= s.limits.NamespaceReporters):
		return nil, nil, fmt.Errorf("namespace %s has %d reporters, of all %d; there is no room for another", id.namespace, u.reporters, len(s.reporters))
	case found != nil && !found.pace.AllowN(now, 1):
		return nil, nil, errors.New("reports come too fast")
	default:
		if found != nil {
			more -= found.bytes
		}
		if more > 0 && (u.bytes+more > s.limits.NamespaceBytes || s.all.bytes+more > s.limits.Bytes) {
			return nil, nil, fmt.Errorf("the reports of namespace %s have %d bytes, of all %d; there is no room for %d more", id.namespace, u.bytes, s.all.bytes, more)
		}
		if found == nil {
			found = &reporter{pace: rate.NewLimiter(rate.Every(every/4), 8)}
			s.reporters[key] = found
			u.reporters++
		}
		if !found.mu.TryLock() {
			return nil, nil, errors.New("another report of this process is being read")
		}
		u.bytes, s.all.bytes, found.bytes, found.last = u.bytes+more, s.all.bytes+more, bytes, now
	}
	if source := found.source; source.Process != r.Process || source.Service != r.Service {
		if source.Process != "" {
			replaced = &source
		}
		found.sequence = 0
		found.source = Source{
			Namespace: id.namespace, Pod: id.pod, Service: r.Service, Process: r.Process,
			Whole: r.Age < now.Sub(s.began).Seconds(),
		}
	}
	return found, replaced, nil
}

// sweep forgets the reporters that are silent, and returns their sources.
func (s *state) sweep(now time.Time) (gone []Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, r := range s.reporters {
		if now.Sub(r.last) <= silence || !r.mu.TryLock() {
			continue
		}
		delete(s.reporters, key)
		u := s.usage(key.namespace)
		u.reporters--
		u.bytes -= r.bytes
		s.all.bytes -= r.bytes
		s.drop(key.namespace)
		gone = append(gone, r.source)
		r.mu.Unlock()
	}
	return gone
}
