package report

// The proxy's side. Nothing waits for it: while the leader, the network or the token is away, traffic and copies go on, and
// the next report holds everything.

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mirrorgate/mirrorgate/internal/logging"
)

const (
	// firstRetry and lastRetry bound the pause after a report that failed, which doubles.
	firstRetry, lastRetry = 100 * time.Millisecond, 5 * time.Second
	// postTimeout bounds one report.
	postTimeout = 5 * time.Second
	// maxEvery bounds the pause that a leader may order.
	maxEvery = time.Minute
)

// ClientOptions configure a Client.
type ClientOptions struct {
	// Service is the Service that the proxy stands in front of.
	Service string
	// TokenFile has the token; it is read for each report, since the kubelet renews it.
	TokenFile string
	// Registry gets the metrics; nil for none.
	Registry prometheus.Registerer
	Log      logr.Logger
}

// Client reports to the leader.
type Client struct {
	opts    ClientOptions
	process string
	began   time.Time
	sent    *prometheus.CounterVec
	news    logging.OnChange

	mu       sync.Mutex
	sections map[string]func() any
	target   Target
	changed  chan struct{}
}

// NewClient returns a Client that reports to nobody until To is called.
func NewClient(opts ClientOptions) *Client {
	c := &Client{
		opts: opts, process: rand.Text(), began: time.Now(), sections: map[string]func() any{}, changed: make(chan struct{}, 1),
		news: logging.OnChange{Remind: 10 * time.Minute},
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mirrorgate_proxy_reports_total", Help: "Reports to the leader of mirrorgate, by result (taken, failed).",
		}, []string{"result"}),
	}
	for _, result := range []string{"taken", "failed"} {
		c.sent.WithLabelValues(result)
	}
	if opts.Registry != nil {
		opts.Registry.MustRegister(c.sent)
	}
	return c
}

// Add adds a section. The function is called for each report, from one goroutine; it returns the totals since the process
// began, or nil to leave the section out.
func (c *Client) Add(name string, section func() any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sections[name] = section
}

// To sets the address that is reported to, at any time.
func (c *Client) To(target Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.target == target {
		return
	}
	c.target = target
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends.
func (c *Client) Run(ctx context.Context) {
	var (
		target   Target
		client   *http.Client
		sequence uint64
		pause    time.Duration
		failures int
	)
	for ctx.Err() == nil {
		c.mu.Lock()
		if c.target != target || client == nil {
			if client != nil {
				client.CloseIdleConnections()
			}
			target, client = c.target, newHTTPClient(c.target)
		}
		c.mu.Unlock()
		if target.Address == "" {
			select {
			case <-c.changed:
			case <-ctx.Done():
			}
			continue
		}
		sequence++
		next, err := c.post(ctx, client, target, sequence)
		if c.news.Log(err) && ctx.Err() == nil {
			c.opts.Log.Info("Reports do not reach the leader of mirrorgate; copies go on", "address", target.Address, "reason", err.Error())
		}
		if err == nil {
			failures, pause = 0, next
			c.sent.WithLabelValues("taken").Inc()
		} else {
			client.CloseIdleConnections() // the next connection may lead to the leader
			pause = min(firstRetry<<min(failures, 10), lastRetry)
			failures++
			c.sent.WithLabelValues("failed").Inc()
		}
		wait(ctx, c.changed, jitter(pause))
	}
	if client != nil {
		client.CloseIdleConnections()
	}
}

// wait returns after a pause, when the target changes, or when ctx ends.
func wait(ctx context.Context, changed <-chan struct{}, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// jitter keeps reporters from coming at the same time.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(mathrand.Int64N(int64(d)/5+1)) //nolint:gosec // no secret
}

// newHTTPClient returns a client that trusts the target's certificates alone. It follows no redirect and uses no proxy of
// the environment, since the token is for one receiver.
func newHTTPClient(target Target) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(target.CA))
	return &http.Client{
		Timeout:       postTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 2 * time.Second, MaxIdleConnsPerHost: 1, IdleConnTimeout: silence,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}
}

// body returns the next report.
func (c *Client) body(sequence uint64) ([]byte, error) {
	c.mu.Lock()
	sections := maps.Clone(c.sections)
	c.mu.Unlock()
	r := Report{
		Version: Version, Service: c.opts.Service, Process: c.process, Sequence: sequence,
		Age: seconds(time.Since(c.began)), Sections: map[string]json.RawMessage{},
	}
	for name, section := range sections {
		value := section()
		if value == nil {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", name, err)
		}
		r.Sections[name] = text
	}
	return json.Marshal(&r)
}

// post sends one report, and returns when the next one is due.
func (c *Client) post(ctx context.Context, client *http.Client, target Target, sequence uint64) (time.Duration, error) {
	token, err := os.ReadFile(c.opts.TokenFile)
	if err != nil {
		return 0, err
	}
	body, err := c.body(sequence)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+target.Address+Path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	var reply Reply
	if err := json.Unmarshal(text, &reply); err != nil {
		return 0, fmt.Errorf("the answer is no JSON of one: %w", err)
	}
	if !(reply.Every > 0) {
		return 0, errors.New("the answer has no time of the next report")
	}
	return min(time.Duration(min(reply.Every, maxEvery.Seconds())*float64(time.Second)), maxEvery), nil
}
