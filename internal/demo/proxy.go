package demo

// The play of the proxy alone: mirrorgate proxy as a process of its own, real requests through it, and the
// access logs of both variants, as in Istio's task "Mirroring".

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// host is the authority of the clients' requests, shadowHost that of the copies.
const (
	host       = "httpbin:8000"
	shadowHost = "httpbin-shadow:8000"
)

// proxyStep is a change, the requests that follow it, and how many of them the variants must log.
type proxyStep struct {
	title    string
	mirror   string // the percentage, or empty without a mirror
	deployed bool   // whether variant 2 has an endpoint
	before   func(*proxyPlay)
	requests int
	copies   int
	// unanswered is set where copies do not end.
	unanswered bool
}

func proxySteps() []proxyStep {
	return []proxyStep{
		{title: "The default route, without a mirror", deployed: true, requests: 1},
		{title: "The mirror is written while variant 2 is absent", mirror: "100", requests: 1},
		{title: "Variant 2 is deployed", mirror: "100", deployed: true, requests: 1, copies: 1},
		{title: "25 % of 400 requests is 100 copies, not about 100", mirror: "25", deployed: true, requests: 400, copies: 100},
		{title: "Variant 2 hangs", mirror: "100", deployed: true, before: func(p *proxyPlay) { p.two.hang(true) }, requests: 400, unanswered: true},
		{title: "Variant 2 crashes", mirror: "100", deployed: true, before: func(p *proxyPlay) { p.two.stop() }, requests: 400},
		{title: "The default route again", requests: 1},
	}
}

// proxyPlay has the parts that the steps act on.
type proxyPlay struct {
	screen   *screen
	timeout  time.Duration
	one, two *variant
	file     string
	text     string // in the file
	process  *process
	client   *http.Client
}

// RunProxy plays all steps and returns nil only if every one was seen.
func RunProxy(ctx context.Context, opts Options) (err error) {
	folder, err := os.MkdirTemp("", "mirrorgate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	p := &proxyPlay{
		screen: &screen{opts.Out, opts.Color}, timeout: opts.Timeout, file: filepath.Join(folder, "proxy.yaml"),
		client: &http.Client{Timeout: opts.Timeout, Transport: &http.Transport{}},
	}
	if p.one, err = newVariant(); err != nil {
		return err
	}
	defer p.one.stop()
	if p.two, err = newVariant(); err != nil {
		return err
	}
	defer p.two.stop()
	steps := proxySteps()
	p.screen.line(bold, strings.Repeat("━", width))
	p.screen.line(bold, "mirrorgate proxy: two variants of a service, and real requests through it")
	if err := p.write(&steps[0]); err != nil {
		return err
	}
	p.screen.line(faint, "    $ mirrorgate proxy --config proxy.yaml")
	if p.process, err = startProxy(ctx, opts.Binary, p.file); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.stop(p.timeout)) }()
	defer p.client.CloseIdleConnections()
	for i := range steps {
		fmt.Fprintln(opts.Out)
		p.screen.line(bold, fmt.Sprintf("%2d  %s", i+1, steps[i].title))
		err := p.play(ctx, &steps[i])
		if ctx.Err() != nil {
			p.screen.line(yellow, "\nInterrupted.")
			return ErrFailed
		}
		if err != nil {
			p.screen.bad("not seen: " + err.Error())
			return ErrFailed
		}
	}
	fmt.Fprintln(opts.Out)
	p.screen.line(green, fmt.Sprintf("%d steps, all seen; no request failed", len(steps)))
	return nil
}

// play does a step and checks how many requests the variants logged.
func (p *proxyPlay) play(ctx context.Context, st *proxyStep) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if st.before != nil {
		st.before(p)
	}
	if err := p.write(st); err != nil {
		return err
	}
	p.one.forget()
	p.two.forget()
	median, err := send(ctx, p.screen, p.client, p.process.address, st.requests)
	if err != nil {
		return err
	}
	if !st.unanswered {
		if err := p.process.awaitCopies(ctx); err != nil {
			return err
		}
	}
	ones, twos := p.one.logged(), p.two.logged()
	p.show("variant 1", ones)
	p.show("variant 2", twos)
	if len(ones) != st.requests || len(twos) != st.copies {
		return fmt.Errorf("variant 1 logged %d requests, not %d, variant 2 %d, not %d", len(ones), st.requests, len(twos), st.copies)
	}
	for _, line := range twos {
		if !strings.Contains(line, `"`+shadowHost+`"`) {
			return fmt.Errorf("variant 2 logged a request for another host: %s", line)
		}
	}
	p.screen.good(fmt.Sprintf("%s answered by variant 1, half of them within %s; variant 2 answered %s", count(st.requests, "request"), short(median), count(st.copies, "copy")))
	return nil
}

// write puts a step's rules into the file, unless they are there, and waits until they are
// served.
func (p *proxyPlay) write(st *proxyStep) error {
	mirror, endpoint := "", ""
	if st.mirror != "" {
		mirror = `
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: httpbin-v2, port: 80}, percent: ` + st.mirror + `}`
	}
	if st.deployed {
		endpoint = p.two.address
	}
	text := fmt.Sprintf(`listeners:
- address: 127.0.0.1:0
  rules:
  - backendRefs: [{name: httpbin-v1, port: 80}]%s
services:
  httpbin-v1: {80: [%s]}
  httpbin-v2: {80: [%s]}
admin: {address: 127.0.0.1:0}
`, mirror, p.one.address, endpoint)
	if text == p.text {
		return nil
	}
	before := ""
	if p.process != nil {
		before = p.text
	}
	p.screen.changes("proxy.yaml", "proxy.yaml", diff(before, text))
	p.text = text
	if err := os.WriteFile(p.file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(p.file+".new", p.file); err != nil || p.process == nil {
		return err
	}
	return p.process.reloaded(p.timeout)
}

// send makes requests one after the other, and returns the median of their times.
func send(ctx context.Context, s *screen, client *http.Client, address string, n int) (median time.Duration, err error) {
	times := ""
	if n > 1 {
		times = fmt.Sprintf("   # %d times", n)
	}
	s.line(faint, "    $ curl -H 'Host: "+host+"' http://"+address+"/headers"+times)
	took := make([]time.Duration, n)
	for i := range took {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/headers", http.NoBody)
		if err != nil {
			return 0, err
		}
		request.Host = host
		request.Header.Set("User-Agent", "mirrorgate-demo")
		begin := time.Now()
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			return 0, errors.Join(fmt.Errorf("the answer is %s, not 200 OK", response.Status), err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[n/2], nil
}

// show writes the end of a log.
func (p *proxyPlay) show(name string, lines []string) {
	p.screen.line("", "    access log of "+name+":")
	if len(lines) == 0 {
		p.screen.line(faint, "      <none>")
	}
	for i, line := range lines {
		if i == 1 && len(lines) > 2 {
			p.screen.line(faint, fmt.Sprintf("      … and %d more", len(lines)-1))
			break
		}
		p.screen.line("", "      "+line)
	}
}

func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ie"
	}
	if n == 0 {
		return "no " + noun + "s"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
