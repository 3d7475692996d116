// The proxy's cost compared with nginx's: CPU time of the proxying process per request, both on a core of
// their own, in turn, with Debian's nginx and wrk.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const proxyRounds = 3

// proxySeconds is how long a round takes: BENCH_SECONDS, or three.
var proxySeconds = cmp.Or(os.Getenv("BENCH_SECONDS"), "3")

// scenario is a load, with the ports of mirrorgate and of nginx to which it is sent.
type scenario struct {
	name  string
	path  string
	post  int // bytes of a body to send; 0 for GET
	ours  int // ports
	peer  int
	bound float64 // 0 for none
	// h2 is a client that speaks HTTP/2, and grpc one that speaks gRPC over it, to backends that do.
	h2, grpc bool
}

var scenarios = []scenario{
	{name: "mirrored, small bodies", path: "/hello", ours: 8201, peer: 8301, bound: 0.4},
	{name: "mirrored, small bodies, the floor", path: "/hello", ours: 8401, peer: 8301},
	{name: "mirrored, small bodies from memory", path: "/memory", ours: 8201, peer: 8301, bound: 0.4},
	{name: "mirrored, small bodies from memory, the floor", path: "/memory", ours: 8401, peer: 8301},
	{name: "mirrored, small bodies, both log", path: "/hello", ours: 8211, peer: 8311, bound: 0.4},
	{name: "not mirrored, small bodies", path: "/hello", ours: 8202, peer: 8302, bound: 1.5},
	{name: "mirrored, GET 64 KiB", path: "/64k", ours: 8201, peer: 8301, bound: 0.6},
	{name: "mirrored, POST 64 KiB", path: "/post", post: 64 << 10, ours: 8201, peer: 8301, bound: 0.6},
	{name: "mirrored, GET 1 MiB", path: "/1m", ours: 8201, peer: 8301},
	{name: "not mirrored, GET 64 KiB", path: "/64k", ours: 8202, peer: 8302},
	{name: "not mirrored, POST 1 MiB", path: "/post", post: 1 << 20, ours: 8202, peer: 8302},
	{name: "h2c to HTTP/1.1, mirrored", path: "/memory", ours: 8201, peer: 8303, h2: true, bound: 0.7},
	{name: "h2c to HTTP/1.1, not mirrored", path: "/memory", ours: 8202, peer: 8304, h2: true, bound: 1.5},
	{name: "h2c to h2c, mirrored", path: "/hello", ours: 8203, peer: 8305, h2: true, bound: 0.7},
	{name: "h2c to h2c, not mirrored", path: "/hello", ours: 8205, peer: 8306, h2: true, bound: 1.3},
	{name: "h2c to HTTP/1.1, GET 64 KiB", path: "/64k", ours: 8202, peer: 8304, h2: true, bound: 1.3},
	{name: "h2c to HTTP/1.1, GET 1 MiB", path: "/1m", ours: 8202, peer: 8304, h2: true, bound: 1.3},
	{name: "h2c to HTTP/1.1, POST 64 KiB", path: "/post", post: 64 << 10, ours: 8202, peer: 8304, h2: true, bound: 1.3},
	{name: "gRPC, mirrored", path: "/hello", post: 64, ours: 8203, peer: 8305, h2: true, grpc: true, bound: 0.7},
	{name: "gRPC, not mirrored", path: "/hello", post: 64, ours: 8205, peer: 8306, h2: true, grpc: true, bound: 1.3},
}

func benchProxy(ctx context.Context) error {
	site, err := startSite(ctx)
	defer site.stop()
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		if !strings.Contains(s.name, os.Getenv("BENCH_PROXY")) {
			continue
		}
		if err := site.measure(ctx, &s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if os.Getenv("BENCH_PROXY") != "" {
		return nil
	}
	if err := site.halfLoad(ctx); err != nil {
		return err
	}
	return site.idle(ctx)
}

// figures of one run: microseconds of CPU and wall time per request, and the p99 in milliseconds, with 32
// connections that each send the next request as soon as the last is answered.
type figures struct{ cpu, wall, p99 float64 }

// measure runs both in turn and reports the medians.
func (s *site) measure(ctx context.Context, sc *scenario) error {
	pids := [2]int{s.pids["ours"], s.pids["front"]}
	switch sc.ours {
	case 8211:
		pids = [2]int{s.pids["ourslog"], s.pids["frontlog"]}
	case 8401:
		pids[0] = s.pids["floor"]
	}
	var runs [2][]figures
	for range proxyRounds {
		for i, port := range [2]int{sc.ours, sc.peer} {
			f, err := s.run(ctx, pids[i], port, sc)
			if err != nil {
				return err
			}
			runs[i] = append(runs[i], f)
		}
	}
	ours, peer := columns(runs[0]), columns(runs[1])
	report(sc.name, "µs", ours.cpu, peer.cpu, sc.bound)
	fmt.Printf("%-46s %9.0f /s   peer %9.0f /s   p99 %.1f ms, peer %.1f ms\n", "",
		1e6/median(ours.wall), 1e6/median(peer.wall), median(ours.p99), median(peer.p99))
	return nil
}

func columns(runs []figures) (c struct{ cpu, wall, p99 []float64 }) {
	for _, r := range runs {
		c.cpu, c.wall, c.p99 = append(c.cpu, r.cpu), append(c.wall, r.wall), append(c.p99, r.p99)
	}
	return c
}

// run sends the load to one port.
func (s *site) run(ctx context.Context, pid, port int, sc *scenario) (figures, error) {
	before, err := cpu(pid)
	if err != nil {
		return figures{}, err
	}
	begin := time.Now()
	load := s.wrk
	if sc.h2 {
		load = s.h2load
	}
	n, p99, err := load(ctx, port, sc)
	if err != nil {
		return figures{}, err
	}
	wall := time.Since(begin)
	after, err := cpu(pid)
	if err != nil {
		return figures{}, err
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	return figures{per(after - before), per(wall), p99.Seconds() * 1000}, nil
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkP99      = regexp.MustCompile(`99% +(\S+)`)
)

func (s *site) wrk(ctx context.Context, port int, sc *scenario) (n int, p99 time.Duration, err error) {
	args := []string{"-t1", "-c32", "--latency", "--timeout", "20s", "-d" + proxySeconds + "s"}
	if sc.post > 0 {
		script := filepath.Join(s.dir, "post.lua")
		lua := fmt.Sprintf("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", sc.post)
		if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
			return 0, 0, err
		}
		args = append(args, "-s", script)
	}
	out, err := pinned(ctx, "1", "wrk", append(args, url(port, sc))...).CombinedOutput()
	if err != nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return 0, 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if n, err = number(wrkRequests, out); err != nil {
		return 0, 0, err
	}
	found := wrkP99.FindSubmatch(out)
	if found == nil {
		return 0, 0, fmt.Errorf("wrk: %s", out)
	}
	p99, err = time.ParseDuration(string(found[1]))
	return n, p99, err
}

// A few gRPC requests fail in nginx, whose backend answers before it has read them.
var (
	h2loadAll  = regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`)
	h2loadSome = regexp.MustCompile(`status codes: (\d+) 2xx`)
)

// h2load sends requests on 16 connections, on ten streams at a time of each.
func (s *site) h2load(ctx context.Context, port int, sc *scenario) (n int, p99 time.Duration, err error) {
	logged := filepath.Join(s.dir, "h2load.log")
	defer os.Remove(logged)
	args := []string{"-t1", "-c16", "-m10", "-D", proxySeconds, "--log-file", logged}
	if sc.post > 0 {
		body := filepath.Join(s.dir, "body")
		if err := os.WriteFile(body, make([]byte, sc.post), 0o600); err != nil {
			return 0, 0, err
		}
		args = append(args, "-d", body)
	}
	if sc.grpc {
		args = append(args, "-H", "content-type: application/grpc", "-H", "te: trailers")
	}
	out, err := pinned(ctx, "1", "h2load", append(args, url(port, sc))...).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("h2load: %w: %s", err, out)
	}
	done := h2loadAll
	if sc.grpc && port == sc.peer {
		done = h2loadSome
	}
	if n, err = number(done, out); err != nil {
		return 0, 0, fmt.Errorf("port %d: %w", port, err)
	}
	p99, err = h2loadP99(logged)
	return n, p99, err
}

// h2loadP99 reads a log that has one line for each request: start, status, microseconds.
func h2loadP99(path string) (time.Duration, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var took []time.Duration
	for line := range strings.Lines(string(raw)) {
		columns := strings.Fields(line)
		if len(columns) != 3 {
			return 0, fmt.Errorf("h2load logged %q", line)
		}
		n, err := strconv.Atoi(columns[2])
		if err != nil {
			return 0, err
		}
		took = append(took, time.Duration(n)*time.Microsecond)
	}
	if len(took) == 0 {
		return 0, errors.New("h2load logged nothing")
	}
	return percentile99(took), nil
}

func url(port int, sc *scenario) string { return fmt.Sprintf("http://127.0.0.1:%d%s", port, sc.path) }

// number returns the first group of the expression, which must be more than 0.
func number(expression *regexp.Regexp, out []byte) (int, error) {
	found := expression.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("no %s in: %s", expression, out)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err == nil && n == 0 {
		err = fmt.Errorf("nothing done: %s", out)
	}
	return n, err
}

// halfLoad compares p99 at half of the peer's maximum rate, which leaves both idle for part of the time.
func (s *site) halfLoad(ctx context.Context) error {
	for _, sc := range []scenario{{name: "mirrored", path: "/hello", ours: 8201, peer: 8301}, {name: "not mirrored", path: "/hello", ours: 8202, peer: 8302}} {
		begin := time.Now()
		n, _, err := s.wrk(ctx, sc.peer, &sc)
		if err != nil {
			return err
		}
		rate := int(float64(n) / time.Since(begin).Seconds() / 2)
		var p99 [2][]float64
		for range proxyRounds {
			for i, port := range [2]int{sc.ours, sc.peer} {
				took, err := s.paced(ctx, port, sc.path, rate)
				if err != nil {
					return err
				}
				p99[i] = append(p99[i], took.Seconds()*1000)
			}
		}
		report(fmt.Sprintf("p99, %s, %d/s", sc.name, rate), "ms", p99[0], p99[1], 0)
	}
	return nil
}

// idle opens connections that each have had one request, and reports the memory cost of each.
func (s *site) idle(ctx context.Context) error {
	const conns = 10000
	for _, peer := range []struct {
		name string
		port int
	}{{"ours", 8202}, {"front", 8302}} {
		before, err := resident(s.pids[peer.name])
		if err != nil {
			return err
		}
		err = holdOpen(ctx, peer.port, conns, func() error {
			after, err := resident(s.pids[peer.name])
			fmt.Printf("%-46s %9.1f KiB each of %d\n", "idle connections, "+peer.name, float64(after-before)/conns, conns)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// holdOpen calls then while conns connections are open, each after one request.
func holdOpen(ctx context.Context, port, conns int, then func() error) error {
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	var d net.Dialer
	answer := make([]byte, 4096)
	for range conns {
		conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		open = append(open, conn)
		if _, err := conn.Write([]byte("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			return err
		}
		if _, err := conn.Read(answer); err != nil {
			return err
		}
	}
	return then()
}
