package main

// CPU and p99 of one admission, compared with a webhook on the same library that allows everything unread.
// Both run as processes of their own and answer the same reviews over TLS, in turn.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/mirrorgate/mirrorgate/certs"
	"github.com/mirrorgate/mirrorgate/internal/freeport"
	"github.com/mirrorgate/mirrorgate/internal/heap"
	"github.com/mirrorgate/mirrorgate/internal/variant"
	"github.com/mirrorgate/mirrorgate/webhook"
	"github.com/mirrorgate/mirrorgate/webhook/webhooktest"
)

const (
	services  = 5000
	workloads = 10000
	routes    = 5000

	admissionRounds   = 7
	admissionRequests = 8000 // per round
	connections       = 4

	// steady is the interval between requests of each connection in the second half of a round: 2,000
	// requests a second in total, a third of the capacity of a core.
	steady         = 2 * time.Millisecond
	steadyRequests = 4000
)

// serveAdmission is the child process: it prints its address and CA, and serves until ctx ends.
func serveAdmission(ctx context.Context, which string) error {
	ctrllog.SetLogger(logr.Discard())
	source, err := certs.NewMemory(clock.RealClock{}, nil, "127.0.0.1")
	if err != nil {
		return err
	}
	address, err := freeport.Address()
	if err != nil {
		return err
	}
	server := ctrlwebhook.NewServer(ctrlwebhook.Options{Host: "127.0.0.1", Port: address.Port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate = source.GetCertificate
		c.MinVersion = tls.VersionTLS12
		c.NextProtos = []string{"http/1.1"}
	}}})
	switch which {
	case "discard":
		server.Register(webhook.MutatePath, discard())
	case "mirrorgate":
		heap.Relax()
		gate, err := filledGate()
		if err != nil {
			return err
		}
		gate.Register(server)
	default:
		for _, path := range []string{webhook.MutatePath, webhook.ValidatePath} {
			server.Register(path, &admission.Webhook{
				Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") }),
				// The library's own logger would be made anew for every request.
				LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
			})
		}
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for server.StartedChecker()(nil) != nil && ctx.Err() == nil {
			<-tick.C
		}
		fmt.Printf("%s %q\n", address, source.CABundle())
	}()
	return server.Start(ctx)
}

// filledGate returns a gate over an index of the size for which the figures are promised.
func filledGate() (*webhook.Gate, error) {
	var text bytes.Buffer
	for i := range max(services, workloads, routes) {
		if i < services {
			fmt.Fprintf(&text, serviceJSON+"\n---\n", i, i)
			fmt.Fprintf(&text, sliceJSON+"\n---\n", i, i, i%250, true)
		}
		fmt.Fprintf(&text, deploymentJSON+"\n---\n", i, i, i)
		if i < routes {
			fmt.Fprintf(&text, routeJSON+"\n---\n", i, i, i)
		}
	}
	index, err := variant.FromYAML(variant.Options{}, text.Bytes())
	if err != nil {
		return nil, err
	}
	return webhook.New(variant.NewResolver(index, nothing{}, func() bool { return true }), webhook.Options{}), nil
}

// nothing answers live reads: an object that is not in the index does not exist.
type nothing struct{}

func (nothing) Read(context.Context, variant.Query) ([]any, error) { return nil, nil }

// peer is a running child process.
type peer struct {
	cmd    *exec.Cmd
	url    string
	client *http.Client
}

func startPeer(ctx context.Context, which string) (*peer, error) {
	cmd, err := prioritized(ctx, 2, 0, "serve", which)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s did not start: %w", which, err)
	}
	address, quoted, _ := strings.Cut(strings.TrimSpace(line), " ")
	ca, err := strconv.Unquote(quoted)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	return &peer{cmd: cmd, url: "https://" + address, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: connections,
	}}}, nil
}

func (p *peer) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// cpu returns the processor time that a process has used.
func cpu(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+2:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// figuresOf are the figures of one round.
type figuresOf struct{ cpu, saturated, steady time.Duration }

// round sends every review in turn, first as fast as they are answered and then at a steady rate.
func (p *peer) round(ctx context.Context, reviews []review) (f figuresOf, err error) {
	before, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	if f.saturated, err = p.sendAll(ctx, reviews, admissionRequests, 0); err != nil {
		return f, err
	}
	after, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	f.cpu = (after - before) / admissionRequests
	f.steady, err = p.sendAll(ctx, reviews, steadyRequests, steady)
	return f, err
}

// sendAll sends the given number of requests and returns their p99. With a pace, latency counts from the time
// at which each request was due.
func (p *peer) sendAll(ctx context.Context, reviews []review, requests int, pace time.Duration) (p99 time.Duration, err error) {
	took := make([][]time.Duration, connections)
	failed := make([]error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			due := time.Now().Add(pace * time.Duration(c) / connections)
			for i := c; i < requests && failed[c] == nil; i += connections {
				start := time.Now()
				if pace > 0 {
					time.Sleep(due.Sub(start))
					start, due = due, due.Add(pace)
				}
				failed[c] = p.send(ctx, reviews[i%len(reviews)])
				took[c] = append(took[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return 0, err
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return percentile99(all), nil
}

// review is one request of the API server.
type review struct {
	path string
	body []byte
}

func (p *peer) send(ctx context.Context, r review) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+r.path, bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(`"allowed":true`)) {
		return fmt.Errorf("not allowed: %s", answer)
	}
	return nil
}

// benchReviews returns the reviews that the API server sends during the life of a mirrored route: writes with
// a ready variant, touches that park and restore, and the validation of each result.
func benchReviews(ctx context.Context) ([]review, error) {
	var out []review
	for i := range 200 {
		object, err := stored(fmt.Appendf(nil, routeJSON, i, i, i))
		if err != nil {
			return nil, err
		}
		parked, err := parkedRoute(ctx, object)
		if err != nil {
			return nil, err
		}
		edited := bytes.Replace(object, []byte(`"weight":1`), []byte(`"weight":2`), 1)
		for _, w := range []struct{ object, old []byte }{
			{object, nil},    // created
			{edited, object}, // edited
			{parked, parked}, // touched: restores
			{object, parked}, // applied again
		} {
			for _, path := range []string{webhook.MutatePath, webhook.ValidatePath} {
				body, err := reviewOf(w.object, w.old, i)
				if err != nil {
					return nil, err
				}
				out = append(out, review{path, body})
			}
		}
	}
	return out, nil
}

// parkedRoute returns a route as it is stored while its variant is missing.
func parkedRoute(ctx context.Context, object []byte) ([]byte, error) {
	c, err := webhooktest.New(webhooktest.Options{})
	if err != nil {
		return nil, err
	}
	results, err := c.Apply(ctx, object)
	if err != nil {
		return nil, err
	}
	return results[0].Stored, nil
}

func reviewOf(object, old []byte, i int) ([]byte, error) {
	req := &admissionv1.AdmissionRequest{
		UID:             types.UID(fmt.Sprintf("6746621f-6c8b-42f1-aaef-%012d", i)),
		Kind:            metav1.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"},
		Resource:        metav1.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
		RequestKind:     &metav1.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"},
		RequestResource: &metav1.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
		Name:            fmt.Sprintf("web-%d", i),
		Namespace:       "shop",
		Operation:       admissionv1.Create,
		UserInfo:        authenticationv1.UserInfo{Username: "system:serviceaccount:flux-system:kustomize-controller", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
		Object:          runtime.RawExtension{Raw: object},
		Options:         runtime.RawExtension{Raw: []byte(`{"kind":"PatchOptions","apiVersion":"meta.k8s.io/v1","force":true,"fieldManager":"kustomize-controller"}`)},
	}
	if old != nil {
		req.Operation = admissionv1.Update
		req.OldObject.Raw = old
		if bytes.Equal(object, old) {
			req.Options.Raw = []byte(`{"kind":"PatchOptions","apiVersion":"meta.k8s.io/v1","fieldManager":"mirrorgate"}`)
		}
	}
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  req,
	})
}

func benchAdmission(ctx context.Context) error {
	reviews, err := benchReviews(ctx)
	if err != nil {
		return err
	}
	var peers []*peer
	for _, which := range []string{"mirrorgate", "no-op"} {
		p, err := startPeer(ctx, which)
		if err != nil {
			return err
		}
		defer p.stop()
		peers = append(peers, p)
	}
	fmt.Printf("%d reviews of %d bytes on average, %d rounds of %d requests each in turn\n", len(reviews), size(reviews)/len(reviews), admissionRounds, admissionRequests)
	var cpus, saturated, steadily [2][]float64
	for round := range admissionRounds + 1 {
		for i, p := range peers {
			f, err := p.round(ctx, reviews)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // warm-up
			}
			cpus[i] = append(cpus[i], float64(f.cpu.Nanoseconds())/1000)
			saturated[i] = append(saturated[i], float64(f.saturated.Nanoseconds())/1000)
			steadily[i] = append(steadily[i], float64(f.steady.Nanoseconds())/1000)
		}
	}
	report("CPU per admission, median of rounds", "µs", cpus[0], cpus[1], 1.3)
	report("p99 of an admission at 2,000 a second", "µs", steadily[0], steadily[1], 1.3)
	report("p99 of an admission at saturation", "µs", saturated[0], saturated[1], 1.3)
	return nil
}

func size(reviews []review) int {
	n := 0
	for _, r := range reviews {
		n += len(r.body)
	}
	return n
}
