// The proxy's price against nginx's: CPU time of the proxying process for each request, both on
// one core of their own, in turn, with Debian's nginx and wrk.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	proxyRounds   = 3
	proxyDuration = "3s"
)

// scenario is a load, and which of our and nginx's addresses it goes to.
type scenario struct {
	name  string
	path  string
	post  int // bytes of a body to send; 0 for GET
	ours  int // ports
	peer  int
	bound float64 // 0 for none
}

var scenarios = []scenario{
	{name: "mirrored, small bodies", path: "/hello", ours: 8201, peer: 8301, bound: 0.4},
	{name: "mirrored, small bodies, both log", path: "/hello", ours: 8211, peer: 8311, bound: 0.4},
	{name: "not mirrored, small bodies", path: "/hello", ours: 8202, peer: 8302, bound: 1.5},
	{name: "mirrored, GET 64 KiB", path: "/64k", ours: 8201, peer: 8301, bound: 0.6},
	{name: "mirrored, POST 64 KiB", path: "/post", post: 64 << 10, ours: 8201, peer: 8301, bound: 0.6},
	{name: "mirrored, GET 1 MiB", path: "/1m", ours: 8201, peer: 8301},
	{name: "not mirrored, GET 64 KiB", path: "/64k", ours: 8202, peer: 8302},
	{name: "not mirrored, POST 1 MiB", path: "/post", post: 1 << 20, ours: 8202, peer: 8302},
}

func benchProxy(ctx context.Context) error {
	if err := installDebian(ctx, "nginx", "wrk"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-proxy")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	site, err := startSite(ctx, dir)
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
	return site.idle(ctx)
}

// installDebian installs what is missing.
func installDebian(ctx context.Context, packages ...string) error {
	var missing []string
	for _, p := range packages {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	install := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y", "--no-install-recommends"}, missing...)...)
	install.Stdout, install.Stderr = os.Stderr, os.Stderr
	return install.Run()
}

// sitePorts must be free.
var sitePorts = []int{8101, 8102, 8201, 8202, 8211, 8212, 8301, 8302, 8311}

// site is every process of the benchmark.
type site struct {
	dir   string
	procs []*exec.Cmd
	// pids by name; ours logs nothing, oursLog does.
	pids map[string]int
}

func startSite(ctx context.Context, dir string) (*site, error) {
	s := &site{dir: dir, pids: map[string]int{}}
	for name, size := range map[string]int{"hello": 6, "64k": 64 << 10, "1m": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			return s, err
		}
	}
	build := exec.CommandContext(ctx, "go", "-C", "../..", "build", "-o", filepath.Join(dir, "mirrorgate"), "./cmd/mirrorgate")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return s, fmt.Errorf("building mirrorgate: %w", err)
	}
	for _, port := range sitePorts {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return s, err
		}
		if err := l.Close(); err != nil {
			return s, err
		}
	}
	// One core for the proxies, the other for everything else.
	steps := []func() error{
		func() error { return s.nginx(ctx, "backend", "1", nginxBackend) },
		func() error { return s.nginx(ctx, "front", "0", nginxFront) },
		func() error { return s.nginx(ctx, "frontlog", "0", nginxFrontLog) },
		func() error { return s.ours(ctx, "ours", 8201, 8202, "") },
		func() error {
			return s.ours(ctx, "ourslog", 8211, 8212, "accessLog: {format: common, path: "+filepath.Join(dir, "ours.log")+"}\n")
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return s, err
		}
	}
	for _, port := range sitePorts {
		if err := listening(ctx, port); err != nil {
			return s, err
		}
	}
	return s, nil
}

func listening(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// start runs a command pinned to a core.
func (s *site) start(ctx context.Context, name, core, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", core, program}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.procs = append(s.procs, cmd)
	s.pids[name] = cmd.Process.Pid
	return nil
}

func (s *site) nginx(ctx context.Context, name, core, config string) error {
	path := filepath.Join(s.dir, name+".conf")
	config = strings.NewReplacer("DIR", s.dir, "NAME", name).Replace(nginxCommon + config + "}\n")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	return s.start(ctx, name, core, "nginx", "-c", path, "-e", filepath.Join(s.dir, name+".err"))
}

func (s *site) ours(ctx context.Context, name string, mirrored, plain int, more string) error {
	path := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, ourConfig, mirrored, plain, mirrored+1000, more), 0o600); err != nil {
		return err
	}
	return s.start(ctx, name, "0", filepath.Join(s.dir, "mirrorgate"), "proxy", "--config", path, "--log-level", "error")
}

func (s *site) stop() {
	for _, cmd := range s.procs {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range s.procs {
		_ = cmd.Wait()
	}
}

// figures of one run: microseconds of CPU and wall time for each request, and the p99 in
// milliseconds, with 32 connections that ask as fast as they are answered.
type figures struct{ cpu, wall, p99 float64 }

// measure runs both in turn and reports the medians.
func (s *site) measure(ctx context.Context, sc *scenario) error {
	pids := [2]int{s.pids["ours"], s.pids["front"]}
	if sc.ours == 8211 {
		pids = [2]int{s.pids["ourslog"], s.pids["frontlog"]}
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

var (
	requestsIn = regexp.MustCompile(`(\d+) requests in`)
	p99Line    = regexp.MustCompile(`99% +(\S+)`)
)

// run puts the load on one port.
func (s *site) run(ctx context.Context, pid, port int, sc *scenario) (figures, error) {
	args := []string{"-c", "1", "wrk", "-t1", "-c32", "--latency", "--timeout", "20s", "-d" + proxyDuration}
	if sc.post > 0 {
		script := filepath.Join(s.dir, "post.lua")
		lua := fmt.Sprintf("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", sc.post)
		if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
			return figures{}, err
		}
		args = append(args, "-s", script)
	}
	before, err := cpu(pid)
	if err != nil {
		return figures{}, err
	}
	begin := time.Now()
	out, err := exec.CommandContext(ctx, "taskset", append(args, fmt.Sprintf("http://127.0.0.1:%d%s", port, sc.path))...).CombinedOutput()
	if err != nil {
		return figures{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	wall := time.Since(begin)
	after, err := cpu(pid)
	if err != nil {
		return figures{}, err
	}
	found := requestsIn.FindSubmatch(out)
	if found == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return figures{}, fmt.Errorf("wrk: %s", out)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil || n == 0 {
		return figures{}, fmt.Errorf("wrk: %s", out)
	}
	latency := p99Line.FindSubmatch(out)
	if latency == nil {
		return figures{}, fmt.Errorf("wrk: %s", out)
	}
	p99, err := time.ParseDuration(string(latency[1]))
	if err != nil {
		return figures{}, err
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	return figures{per(after - before), per(wall), p99.Seconds() * 1000}, nil
}

// idle opens connections that have had one request each and reports what each of them costs.
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

// holdOpen calls then while so many connections are open, each after a request.
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

// resident is the memory of a process in KiB.
func resident(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		}
	}
	return 0, errors.New("no VmRSS")
}

const nginxCommon = `daemon off; master_process off; worker_rlimit_nofile 65536;
pid DIR/NAME.pid; error_log DIR/NAME.err;
events { worker_connections 32768; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 0;
  client_body_buffer_size 2m; proxy_buffers 64 32k; proxy_http_version 1.1; proxy_set_header Connection "";
  client_body_temp_path DIR/NAME.t1; proxy_temp_path DIR/NAME.t2; fastcgi_temp_path DIR/NAME.t3;
  uwsgi_temp_path DIR/NAME.t4; scgi_temp_path DIR/NAME.t5;
`

const nginxBackend = `
  server {
    listen 127.0.0.1:8101; listen 127.0.0.1:8102; root DIR;
    location = /post { client_body_in_single_buffer on; return 200 "ok"; }
  }
`

const nginxUpstreams = `
  upstream primary { server 127.0.0.1:8101; keepalive 256; keepalive_requests 1000000000; }
  upstream variant { server 127.0.0.1:8102; keepalive 256; keepalive_requests 1000000000; }
`

const nginxFront = nginxUpstreams + `
  server {
    listen 127.0.0.1:8301;
    location / { mirror /mirror; proxy_pass http://primary; }
    location = /mirror { internal; proxy_pass http://variant$request_uri; }
  }
  server { listen 127.0.0.1:8302; location / { proxy_pass http://primary; } }
`

const nginxFrontLog = nginxUpstreams + `
  access_log DIR/nginx.log combined buffer=64k flush=1s; log_subrequest on;
  server {
    listen 127.0.0.1:8311;
    location / { mirror /mirror; proxy_pass http://primary; }
    location = /mirror { internal; proxy_pass http://variant$request_uri; }
  }
`

const ourConfig = `listeners:
- address: 127.0.0.1:%d
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: variant, port: 80}}}
    backendRefs: [{name: primary, port: 80}]
- address: 127.0.0.1:%d
  rules:
  - backendRefs: [{name: primary, port: 80}]
services:
  primary: {80: [127.0.0.1:8101]}
  variant: {80: [127.0.0.1:8102]}
admin: {address: 127.0.0.1:%d}
%s`
