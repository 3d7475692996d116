// The processes of the proxy's benchmarks: backend, variant, nginx and mirrorgate, pinned to cores.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
)

// debianPackages are the commands that are needed, and the packages that contain them.
var debianPackages = map[string]string{"nginx": "nginx", "wrk": "wrk", "h2load": "nghttp2-client"}

// installDebian installs the packages that are missing.
func installDebian(ctx context.Context) error {
	for command, from := range debianPackages {
		if err := debian.Need(ctx, command, from); err != nil {
			return err
		}
	}
	return nil
}

// sitePorts must be free.
var sitePorts = []int{8101, 8102, 8103, 8104, 8201, 8202, 8203, 8204, 8205, 8211, 8212, 8213, 8214, 8215, 8301, 8302, 8303, 8304, 8305, 8306, 8311, 8401}

// site holds every process of the benchmark.
type site struct {
	dir   string
	procs []*exec.Cmd
	// pids are the processes by name; ours logs nothing, oursLog logs requests.
	pids map[string]int
}

func startSite(ctx context.Context) (*site, error) {
	s := &site{pids: map[string]int{}}
	if err := installDebian(ctx); err != nil {
		return s, err
	}
	dir, err := os.MkdirTemp("", "bench-proxy")
	if err != nil {
		return s, err
	}
	s.dir = dir
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
	// One core is for the proxies, the other for everything else.
	steps := []func() error{
		func() error { return s.nginx(ctx, "backend", "1", nginxBackend) },
		func() error { return s.nginx(ctx, "front", "0", nginxFront) },
		func() error { return s.nginx(ctx, "frontlog", "0", nginxFrontLog) },
		func() error { return s.start(ctx, "floor", "0", os.Args[0], "floor", "8401", "8101", "8102") },
		func() error { return s.ours(ctx, "ours", 8200, "") },
		func() error {
			return s.ours(ctx, "ourslog", 8210, "accessLog: {format: common, path: "+filepath.Join(dir, "ours.log")+"}\n")
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

// pinned returns a command on one core, with real-time priority if BENCH_REALTIME is set: then the rest of
// the machine neither interrupts it nor delays it when it wakes.
func pinned(ctx context.Context, core, program string, args ...string) *exec.Cmd {
	args = append([]string{"-c", core, program}, args...)
	if os.Getenv("BENCH_REALTIME") != "" {
		return exec.CommandContext(ctx, "chrt", append([]string{"--rr", "1", "taskset"}, args...)...)
	}
	return exec.CommandContext(ctx, "taskset", args...)
}

// start runs a command pinned to a core.
func (s *site) start(ctx context.Context, name, core, program string, args ...string) error {
	cmd := pinned(ctx, core, program, args...)
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

// ours starts a mirrorgate proxy at base+1 and the ports after it.
func (s *site) ours(ctx context.Context, name string, base int, more string) error {
	path := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, ourConfig, base+1, base+2, base+3, base+4, base+5, faultyPort, base+1000, more), 0o600); err != nil {
		return err
	}
	args := []string{"proxy", "--config", path, "--log-level", "error"}
	if engine := os.Getenv("BENCH_H2"); engine != "" {
		args = append(args, "--h2", engine, "--h2-backends", engine)
	}
	return s.start(ctx, name, "0", filepath.Join(s.dir, "mirrorgate"), args...)
}

func (s *site) stop() {
	for _, cmd := range s.procs {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range s.procs {
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

// resident returns the memory of a process in KiB.
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
    location = /memory { return 200 "hello\n"; }
    location = /post { client_body_in_single_buffer on; return 200 "ok"; }
  }
  server { listen 127.0.0.1:8103 http2; listen 127.0.0.1:8104 http2; location / { default_type application/grpc; return 200 "ok"; } }
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
  server {
    listen 127.0.0.1:8303 http2;
    location / { mirror /mirror; proxy_pass http://primary; }
    location = /mirror { internal; proxy_pass http://variant$request_uri; }
  }
  server { listen 127.0.0.1:8304 http2; location / { proxy_pass http://primary; } }
  upstream gprimary { server 127.0.0.1:8103; keepalive 256; keepalive_requests 1000000000; }
  upstream gvariant { server 127.0.0.1:8104; keepalive 256; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:8305 http2;
    location / { mirror /mirror; grpc_pass grpc://gprimary; }
    location = /mirror { internal; grpc_pass grpc://gvariant; }
  }
  server { listen 127.0.0.1:8306 http2; location / { grpc_pass grpc://gprimary; } }
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
- address: 127.0.0.1:%d
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: gvariant, port: 80}}}
    backendRefs: [{name: gprimary, port: 80}]
- address: 127.0.0.1:%d
  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: faulty, port: 80}, mirrorgate: {timeout: 1s}}}
    backendRefs: [{name: primary, port: 80}]
- address: 127.0.0.1:%d
  rules:
  - backendRefs: [{name: gprimary, port: 80}]
services:
  primary: {80: [127.0.0.1:8101]}
  variant: {80: [127.0.0.1:8102]}
  gprimary: {80: {protocol: h2c, endpoints: [{address: 127.0.0.1:8103}]}}
  gvariant: {80: {protocol: h2c, endpoints: [{address: 127.0.0.1:8104}]}}
  faulty: {80: [127.0.0.1:%d]}
admin: {address: 127.0.0.1:%d}
%s`
