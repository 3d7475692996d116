package demo

// The play of the proxy alone: the server of mirrorgate proxy, real requests through it, and the access logs
// of both variants, as in Istio's task "Mirroring".

import (
	"context"
	"errors"
	"fmt"
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
	before   func(two *variant)
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
		{title: "Variant 2 hangs", mirror: "100", deployed: true, before: (*variant).hang, requests: 400, unanswered: true},
		{title: "Variant 2 crashes", mirror: "100", deployed: true, before: (*variant).stop, requests: 400},
		{title: "The default route again", requests: 1},
	}
}

// proxyPlay has the parts that the steps act on.
type proxyPlay struct {
	*backends
	screen  *screen
	timeout time.Duration
	file    string
	text    string // in the file
	process process
}

// RunProxy plays all steps and returns nil only if every one was seen.
func RunProxy(ctx context.Context, opts Options) (err error) {
	folder, err := os.MkdirTemp("", "mirrorgate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	p := &proxyPlay{screen: &screen{opts.Out, opts.Color}, timeout: opts.Timeout, file: filepath.Join(folder, "proxy.yaml")}
	for _, address := range []*string{&p.process.address, &p.process.admin} {
		if *address, err = freeAddress(); err != nil {
			return err
		}
	}
	if p.backends, err = newBackends(opts.Timeout); err != nil {
		return err
	}
	defer p.stop()
	steps := proxySteps()
	p.screen.line(bold, strings.Repeat("━", width))
	p.screen.line(bold, "mirrorgate proxy: two variants of a service, and real requests through it")
	if err := p.write(ctx, &steps[0]); err != nil {
		return err
	}
	p.screen.line(faint, "    $ mirrorgate proxy --config proxy.yaml")
	if err := p.process.start(ctx, p.file, p.timeout); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.process.stop()) }()
	defer http.DefaultClient.CloseIdleConnections()
	defer p.client.CloseIdleConnections()
	if err := p.process.reloaded(ctx); err != nil {
		return err
	}
	for i := range steps {
		fmt.Fprintln(opts.Out)
		p.screen.line(bold, fmt.Sprintf("%2d  %s", i+1, steps[i].title))
		if err := p.play(ctx, &steps[i]); err != nil {
			return p.screen.failed(ctx, err)
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
		st.before(p.two)
	}
	if err := p.write(ctx, st); err != nil {
		return err
	}
	median, err := p.send(ctx, p.screen, p.process.address, st.requests)
	if err != nil {
		return err
	}
	if !st.unanswered {
		if err := p.process.awaitCopies(ctx); err != nil {
			return err
		}
	}
	p.show("variant 1", p.one.logged())
	p.show("variant 2", p.two.logged())
	if err := p.check(st.requests, st.copies); err != nil {
		return err
	}
	p.screen.good(fmt.Sprintf("%s answered by variant 1, half of them within %s; variant 2 answered %s",
		count(st.requests, "request", "requests"), short(median), count(st.copies, "copy", "copies")))
	return nil
}

// write puts a step's rules into the file, unless they are there, and waits until they are served.
func (p *proxyPlay) write(ctx context.Context, st *proxyStep) error {
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
- address: %s
  rules:
  - backendRefs: [{name: httpbin-v1, port: 80}]%s
services:
  httpbin-v1: {80: [%s]}
  httpbin-v2: {80: [%s]}
admin: {address: %s}
`, p.process.address, mirror, p.one.address, endpoint, p.process.admin)
	if text == p.text {
		return nil
	}
	p.screen.changes("proxy.yaml", "proxy.yaml", diff(p.text, text))
	p.text = text
	if err := os.WriteFile(p.file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(p.file+".new", p.file); err != nil || p.process.stop == nil {
		return err
	}
	return p.process.reloaded(ctx)
}

// send makes requests one after the other, and returns the median of their times. The access logs begin with
// the first of them.
func (b *backends) send(ctx context.Context, s *screen, address string, n int) (median time.Duration, err error) {
	b.one.forget()
	b.two.forget()
	times := ""
	if n > 1 {
		times = fmt.Sprintf("   # %d times", n)
	}
	s.line(faint, "    $ curl -H 'Host: "+host+"' http://"+address+"/headers"+times)
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		if _, err := get(ctx, b.client, "http://"+address+"/headers"); err != nil {
			return 0, err
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

// count writes a number with its noun.
func count(n int, one, many string) string {
	switch n {
	case 0:
		return "no " + many
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
