package compareserve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/mirrorgate/mirrorgate/internal/compare"
	"github.com/mirrorgate/mirrorgate/internal/freeport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server serves until the test ends, and returns its address.
func server(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// shop answers with a price, and with an id and a time that are new for each answer.
func shop(price string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Etag", fmt.Sprintf(`"%x"`, time.Now().UnixNano()))
		fmt.Fprintf(w, `{"id":"%016x","at":%q,"price":%s,"path":%q}`, n.Add(1)*0x9e3779b9+time.Now().UnixNano(), time.Now().Format(time.RFC3339Nano), price, r.URL.Path)
	}
}

// buffer may be written and read at once.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

var listening = regexp.MustCompile(`comparing at http://(\S+)`)

// compareWith runs a comparison to its end, under a client that sends different requests one after the other.
func compareWith(t *testing.T, change func(*Options), request func(n int) *http.Request) (r *compare.Report, stdout, stderr string) {
	t.Helper()
	o := DefaultOptions()
	o.Listen, o.Independence, o.Until, o.ControlRate = "127.0.0.1:0", 50*time.Millisecond, "decided,60s", 1000
	change(o)
	require.Empty(t, o.Validate())
	ctx, cancel := context.WithCancel(t.Context())
	var out, log buffer
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for n := 0; ctx.Err() == nil; n++ {
			found := listening.FindStringSubmatch(log.String())
			if found == nil {
				<-time.After(time.Millisecond)
				continue
			}
			req := request(n).WithContext(ctx)
			req.URL.Scheme, req.URL.Host = "http", found[1]
			resp, err := client.Do(req)
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	report, err := Run(ctx, o, &out, &log)
	require.NoError(t, err)
	return report, out.String(), log.String()
}

func get(n int) *http.Request {
	return httptest.NewRequest(http.MethodGet, fmt.Sprintf("/cart/%d?n=%d", n%50, n), nil)
}

// plain makes a request of a test a client's.
func plain(of func(n int) *http.Request) func(n int) *http.Request {
	return func(n int) *http.Request {
		r := of(n)
		r.RequestURI = ""
		return r
	}
}

func TestSame(t *testing.T) {
	report, stdout, _ := compareWith(t, func(o *Options) {
		o.Primary, o.Variant, o.Control = []string{server(t, shop("1"))}, []string{server(t, shop("1"))}, []string{server(t, shop("1"))}
	}, plain(get))
	assert.Equal(t, compare.Same, report.Verdict, stdout)
	assert.Contains(t, stdout, "GET /cart/{}")
	assert.GreaterOrEqual(t, report.Triples, uint64(363))
}

// While a comparison runs, its page and its gates are served.
func TestServe(t *testing.T) {
	address, err := freeport.Address()
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var pages, waited int
	ask := func(method, path string) (status int, text string) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address.String()+path, http.NoBody)
		require.NoError(t, err)
		response, err := client.Do(request)
		if err != nil {
			return 0, "" // it has ended
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	compareWith(t, func(o *Options) {
		o.Primary, o.Variant, o.Control = []string{server(t, shop("1"))}, []string{server(t, shop(`1`))}, []string{server(t, shop("1"))}
		o.Serve = address.String()
	}, plain(func(n int) *http.Request {
		if n%50 == 40 {
			if _, text := ask(http.MethodGet, "/compare"); strings.Contains(text, "mirrorgate compare</title>") {
				pages++
			}
			if status, _ := ask(http.MethodPost, "/compare/confirm"); status == http.StatusConflict {
				waited++
			}
		}
		return get(n)
	}))
	assert.Positive(t, pages)
	assert.Positive(t, waited, "at first it is undecided")
}

func TestDifferent(t *testing.T) {
	page := filepath.Join(t.TempDir(), "report.html")
	report, stdout, _ := compareWith(t, func(o *Options) {
		o.Primary, o.Variant, o.Control = []string{server(t, shop("1"))}, []string{server(t, shop(`"1"`))}, []string{server(t, shop("1"))}
		o.Output, o.Report = "json", page
	}, plain(get))
	assert.Equal(t, compare.Different, report.Verdict)
	assert.Equal(t, "different: GET /cart/{} body.price", report.Summary)
	var read compare.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &read))
	assert.Equal(t, report.Summary, read.Summary)
	assert.Equal(t, "body.price", read.Endpoints[0].Fields[0].Field)
	assert.Equal(t, "number → digits in text", read.Endpoints[0].Fields[0].Example)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, want := range []string{"<h1 class=\"different\">different: GET /cart/{} body.price</h1>", "default-src &#39;none&#39;", "number → digits in text"} {
		assert.Contains(t, string(text), want)
	}
	assert.NotContains(t, string(text), "<script")
}

// The primary compared with itself is the same, also if its answers are full of noise.
func TestReplicas(t *testing.T) {
	report, stdout, _ := compareWith(t, func(o *Options) {
		o.Primary = []string{server(t, shop("1")), server(t, shop("1"))}
		o.Replicas, o.Control = true, []string{OtherPrimary}
	}, plain(get))
	assert.Equal(t, compare.Same, report.Verdict, stdout)
}

// Without a control a difference is named, and not decided.
func TestWithoutControl(t *testing.T) {
	report, stdout, _ := compareWith(t, func(o *Options) {
		o.Primary, o.Variant = []string{server(t, shop("1"))}, []string{server(t, shop("2"))}
		o.Until = "decided,2s"
	}, plain(get))
	assert.Equal(t, compare.Undecided, report.Verdict)
	assert.Contains(t, stdout, "cause not separated")
	assert.Contains(t, stdout, "Without --control")
}

// Secrets that are in bodies, headers, queries and paths of requests and answers appear in no output.
func TestCanaries(t *testing.T) {
	secrets := func(side string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Token", "canary-"+side)
			w.Header().Set("X-Canary-7f3a9c", "1")
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "canary-" + side})
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"name":"canary-%s","canary-%s@example.org":1,"list":["canary-%s"],"seen":%q,"path":%q}`, side, side, side, body, r.URL)
		}
	}
	page := filepath.Join(t.TempDir(), "report.html")
	request := func(n int) *http.Request {
		method := []string{"GET", "POST"}[n%2]
		r := httptest.NewRequest(method, fmt.Sprintf("/users/canary%d/canary@example.org/canary%%20x?canary=%d", n, n), strings.NewReader(strings.Repeat("canary", n%2)))
		r.Header.Set("Authorization", "Bearer canary")
		return r
	}
	for _, output := range []string{"json", "table"} {
		_, stdout, stderr := compareWith(t, func(o *Options) {
			o.Primary, o.Variant, o.Control = []string{server(t, secrets("1"))}, []string{server(t, secrets("2"))}, []string{server(t, secrets("1"))}
			o.Methods, o.Report, o.Output, o.Level = []string{"GET", "POST"}, page, output, "debug"
		}, plain(request))
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for name, written := range map[string]string{"standard output": stdout, "standard error": stderr, "page": string(text)} {
			assert.NotContains(t, strings.ToLower(written), "canary", "%s %s", output, name)
		}
		assert.Contains(t, stdout, "body.name", "the field is named")
		assert.Contains(t, stdout, "/users/{}/{}/{}")
	}
}

func TestOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"primary: Required":       func(o *Options) { o.Primary = nil },
		"variant: Required":       func(o *Options) { o.Variant = nil },
		"aa: Forbidden":           func(o *Options) { o.Replicas = true },
		`variant: Invalid value`:  func(o *Options) { o.Variant = []string{"nowhere"} },
		`control: Invalid value`:  func(o *Options) { o.Control = []string{"variant"} },
		`percent: Invalid value`:  func(o *Options) { o.Percent = 0 },
		`methods: Invalid value`:  func(o *Options) { o.Methods = []string{"get"} },
		"control-share: Invalid":  func(o *Options) { o.ControlShare = 101 },
		"control-rate: Invalid":   func(o *Options) { o.ControlRate = 0 },
		"independence: Invalid":   func(o *Options) { o.Independence = time.Microsecond },
		"tolerance: Invalid":      func(o *Options) { o.Tolerance = "0" },
		`ignore: Invalid value: `: func(o *Options) { o.Ignore = []string{"price"} },
		"path: Invalid value":     func(o *Options) { o.Paths = []string{"users"} },
		"serve: Invalid value":    func(o *Options) { o.Serve = "nowhere" },
		"until: Invalid value":    func(o *Options) { o.Until = "soon" },
		"protocol: Unsupported":   func(o *Options) { o.Protocol = "ftp" },
		"output: Unsupported":     func(o *Options) { o.Output = "xml" },
		"log-level: Unsupported":  func(o *Options) { o.Level = "loud" },
	} {
		o := DefaultOptions()
		o.Primary, o.Variant = []string{":9001"}, []string{"127.0.0.1:9002"}
		require.Empty(t, o.Validate())
		change(o)
		assert.ErrorContains(t, o.Validate().ToAggregate(), want)
	}
}
