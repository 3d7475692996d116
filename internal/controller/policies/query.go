package policies

// Queries of the operator's Prometheus. Expressions come from namespaces, so that nothing of an answer but one number is
// used, and time, size and rate are bounded; the address never comes from a namespace.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/mirrorgate/mirrorgate/api/v1alpha1"
	"github.com/mirrorgate/mirrorgate/internal/variant"
)

const (
	// queryPeriod is the time between two queries of one target.
	queryPeriod = 15 * time.Second
	// queryTimeout bounds one query, at both ends.
	queryTimeout = 5 * time.Second
	// maxAnswer bounds the answer in bytes: one number with its labels.
	maxAnswer = 64 << 10
	// queriesAtATime and queryRate bound what Prometheus is asked to do, per second.
	queriesAtATime = 4
	queryRate      = 20
)

// Prometheus answers queries.
type Prometheus struct {
	address *url.URL
	client  *http.Client
	pace    *rate.Limiter
}

// NewPrometheus returns the Prometheus at an address, like http://prometheus.monitoring:9090.
func NewPrometheus(address *url.URL) *Prometheus {
	return &Prometheus{
		address: address, pace: rate.NewLimiter(queryRate, queryRate),
		client: &http.Client{
			Timeout: queryTimeout + time.Second,
			// An address that the operator did not set is not asked.
			CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects, which is refused") },
			Transport: &http.Transport{
				MaxConnsPerHost: queriesAtATime, MaxIdleConnsPerHost: queriesAtATime, IdleConnTimeout: time.Minute,
				MaxResponseHeaderBytes: 64 << 10,
			},
		},
	}
}

// newQueryMetric returns the counter of queries.
func newQueryMetric(registry prometheus.Registerer) *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mirrorgate_stop_queries_total", Help: "Queries of Prometheus for stops, by result (number, failed).",
	}, []string{"result"})
	for _, result := range []string{"number", "failed"} {
		m.WithLabelValues(result)
	}
	if registry != nil {
		registry.MustRegister(m)
	}
	return m
}

// ask returns the one number that an expression yields now.
func (p *Prometheus) ask(ctx context.Context, expr string) (float64, error) {
	at := p.address.JoinPath("api", "v1", "query")
	form := url.Values{"query": {expr}, "timeout": {queryTimeout.String()}, "limit": {"2"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.client.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, withoutURL(err)
	case len(text) > maxAnswer:
		return 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return numberOf(response.StatusCode, text)
}

// withoutURL drops the address from an error, which is not for the owners of policies.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// numberOf returns the one number of an answer.
func numberOf(status int, text []byte) (float64, error) {
	var answer struct {
		Status    string `json:"status"`
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
		Data      struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, fmt.Errorf("status %d, and no JSON of Prometheus", status)
	}
	if status != http.StatusOK || answer.Status != "success" {
		return 0, fmt.Errorf("%s: %.200s", answer.ErrorType, answer.Error)
	}
	var pair [2]any
	switch answer.Data.ResultType {
	case "scalar":
		if err := json.Unmarshal(answer.Data.Result, &pair); err != nil {
			return 0, errors.New("no scalar of Prometheus")
		}
	case "vector":
		var series []struct {
			Value [2]any `json:"value"`
		}
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return 0, errors.New("no vector of Prometheus")
		}
		if len(series) != 1 {
			return 0, fmt.Errorf("it yields %d series; must be one", len(series))
		}
		pair = series[0].Value
	default:
		return 0, fmt.Errorf("it yields a %.20s; must be one number", answer.Data.ResultType)
	}
	word, _ := pair[1].(string)
	number, err := strconv.ParseFloat(word, 64)
	if err != nil || math.IsNaN(number) {
		return 0, fmt.Errorf("it yields %.20q; must be a number", word)
	}
	return number, nil
}

// queries asks about all targets that have a query, each once in queryPeriod.
type queries struct {
	prometheus *Prometheus
	total      *prometheus.CounterVec
	found      func(watchKey, evidence)
	// changed is called when a query fails, or yields a number again.
	changed func(watchKey)

	mu     sync.Mutex
	next   map[watchKey]time.Time
	faults map[watchKey]string
}

// run asks the queries that are due.
func (q *queries) run(ctx context.Context, stops []variant.Stop, now func() time.Time) {
	var group errgroup.Group
	group.SetLimit(queriesAtATime)
	live := map[watchKey]bool{}
	for i := range stops {
		s := &stops[i]
		key := watchKey{s.Policy, s.Route, s.Section}
		if s.Spec.Query == nil || s.Stopped {
			continue
		}
		live[key] = true
		if q.prometheus == nil {
			q.fault(key, "no Prometheus is set in serve's file")
			continue
		}
		if !q.due(key, now()) || q.prometheus.pace.Wait(ctx) != nil {
			continue
		}
		group.Go(func() error {
			q.ask(ctx, key, s)
			return nil
		})
	}
	_ = group.Wait() // faults are kept by target
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range q.next {
		if !live[key] {
			delete(q.next, key)
		}
	}
	for key := range q.faults {
		if !live[key] {
			delete(q.faults, key)
		}
	}
}

// ask asks one query.
func (q *queries) ask(ctx context.Context, key watchKey, s *variant.Stop) {
	query := s.Spec.Query
	number, err := q.prometheus.ask(ctx, query.Expr)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		q.total.WithLabelValues("failed").Inc()
		q.fault(key, err.Error())
	default:
		q.total.WithLabelValues("number").Inc()
		q.fault(key, "")
		if query.Above != nil && number > *query.Above {
			q.found(key, evidence{v1alpha1.StopQueried, fmt.Sprintf("the query yields %.6g, more than %.6g", number, *query.Above), s.Resumed})
		}
	}
}

func (q *queries) due(key watchKey, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = map[watchKey]time.Time{}
	}
	if at, ok := q.next[key]; ok && now.Before(at) && at.Sub(now) <= queryPeriod {
		return false
	}
	q.next[key] = now.Add(queryPeriod)
	return true
}

// fault notes why the query of a target yields no number, "" if it does.
func (q *queries) fault(key watchKey, text string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.faults == nil {
		q.faults = map[watchKey]string{}
	}
	if q.faults[key] != text {
		q.faults[key] = text
		q.changed(key)
	}
}

// faultOf returns why the query of a target yields no number, "" if it does or was not asked yet.
func (q *queries) faultOf(key watchKey) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.faults[key]
}
