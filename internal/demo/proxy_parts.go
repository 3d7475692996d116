package demo

// The parts of a play with requests: two variants, which are servers that answer and log like httpbin, and
// the proxy.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mirrorgate/mirrorgate/internal/proxy/config"
	"github.com/mirrorgate/mirrorgate/internal/proxyserve"
)

// backends are both variants of a service, and the client whose requests they get through a proxy.
type backends struct {
	one, two *variant
	client   *http.Client
}

func newBackends(timeout time.Duration) (*backends, error) {
	one, err := newVariant()
	if err != nil {
		return nil, err
	}
	two, err := newVariant()
	if err != nil {
		one.stop()
		return nil, err
	}
	return &backends{one, two, &http.Client{Timeout: timeout, Transport: &http.Transport{}}}, nil
}

func (b *backends) stop() {
	b.client.CloseIdleConnections()
	b.one.stop()
	b.two.stop()
}

// check compares the access logs with the numbers of requests and copies that were sent.
func (b *backends) check(requests, copies int) error {
	ones, twos := b.one.logged(), b.two.logged()
	if len(ones) != requests || len(twos) != copies {
		return fmt.Errorf("variant 1 logged %d requests, not %d, variant 2 %d, not %d", len(ones), requests, len(twos), copies)
	}
	for _, line := range twos {
		if !strings.Contains(line, `"`+shadowHost+`"`) {
			return fmt.Errorf("variant 2 logged a request for another host: %s", line)
		}
	}
	return nil
}

// variant answers /headers with the headers it got, and keeps an access log.
type variant struct {
	address string
	server  *http.Server

	mu             sync.Mutex
	lines          []string
	hangs, crashed bool
}

func newVariant() (*variant, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &variant{address: listener.Addr().String()}
	v.server = &http.Server{Handler: v, ReadHeaderTimeout: time.Minute}
	go func() { _ = v.server.Serve(listener) }()
	return v, nil
}

// ServeHTTP implements http.Handler.
func (v *variant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	hangs := v.hangs
	v.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	headers := map[string]string{"Host": r.Host}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	body, _ := json.MarshalIndent(map[string]any{"headers": headers}, "", "  ")
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.crashed {
		return
	}
	v.lines = append(v.lines, fmt.Sprintf(`%s - - [%s] "%s %s %s" 200 %d "-" %q %q`, client,
		time.Now().Format("02/Jan/2006:15:04:05 -0700"), r.Method, r.RequestURI, r.Proto, len(body), r.UserAgent(), r.Host))
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// hang makes it accept requests and never answer.
func (v *variant) hang() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hangs = true
}

// stop ends it, and breaks its connections. From then on it logs nothing, because a request that hung, or
// that waited behind one, must not be answered at the last moment.
func (v *variant) stop() {
	v.mu.Lock()
	v.hangs, v.crashed = false, true
	v.mu.Unlock()
	_ = v.server.Close()
}

func (v *variant) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines = nil
}

func (v *variant) logged() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.lines...)
}

// process is a proxy that serves a file. Its metrics report its state.
type process struct {
	address, admin string
	reloads        int // versions of the file that were written
	ended          <-chan struct{}
	stop           func() error // drains it, and returns its error
}

// freeAddress returns an address of this machine where no server listens.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// start serves the file as mirrorgate proxy does, until stop is called.
func (p *process) start(ctx context.Context, file string, timeout time.Duration) error {
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	opts := proxyserve.DefaultOptions()
	opts.Config, opts.DrainTimeout, opts.Level = file, timeout, "error"
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	var group errgroup.Group
	group.Go(func() error {
		defer close(ended)
		return proxyserve.File(serving, opts, c)
	})
	p.ended, p.stop = ended, func() error {
		cancel()
		return group.Wait()
	}
	return nil
}

// reloaded waits until the file is served.
func (p *process) reloaded(ctx context.Context) error {
	p.reloads++
	applied := fmt.Sprintf("mirrorgate_proxy_config_reloads_total{result=\"applied\"} %d\n", p.reloads)
	return p.await(ctx, "the proxy does not serve its file", func(metrics string) bool { return strings.Contains(metrics, applied) })
}

var inFlight = regexp.MustCompile(`(?m)^mirrorgate_proxy_shadows_in_flight\{.*\} [1-9]`)

// awaitCopies waits until no copy is under way.
func (p *process) awaitCopies(ctx context.Context) error {
	return p.await(ctx, "copies are still under way", func(metrics string) bool { return !inFlight.MatchString(metrics) })
}

// await waits until the metrics fulfil a condition; otherwise describes the state until then.
func (p *process) await(ctx context.Context, otherwise string, should func(metrics string) bool) error {
	err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.ended:
			return false, errors.New("mirrorgate proxy has ended")
		default:
		}
		metrics, err := get(ctx, http.DefaultClient, "http://"+p.admin+"/metrics")
		return err == nil && should(metrics), nil // it may not listen yet
	})
	if err != nil {
		return fmt.Errorf("%s: %w", otherwise, err)
	}
	return nil
}

// get returns the body of an answer with status 200, requested for host.
func get(ctx context.Context, client *http.Client, url string) (body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Host = host
	request.Header.Set("User-Agent", "mirrorgate-demo")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", errors.Join(fmt.Errorf("the answer is %s, not 200 OK", response.Status), err)
	}
	return string(raw), nil
}
