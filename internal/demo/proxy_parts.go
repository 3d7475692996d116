package demo

// The parts of a play with requests: two variants, which are servers that answer and log like httpbin, and
// the process of the proxy.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// variant answers /headers with the headers it got, and keeps an access log.
type variant struct {
	address string
	server  *http.Server

	mu      sync.Mutex
	lines   []string
	stuck   chan struct{} // open while it hangs
	crashed bool
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
	stuck := v.stuck
	v.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
		return
	}
	headers := map[string]string{"Host": r.Host}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	body, _ := json.MarshalIndent(map[string]any{"headers": headers}, "", "  ")
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	v.mu.Lock()
	if v.crashed {
		v.mu.Unlock()
		return
	}
	v.lines = append(v.lines, fmt.Sprintf(`%s - - [%s] "%s %s %s" 200 %d "-" %q %q`, client,
		time.Now().Format("02/Jan/2006:15:04:05 -0700"), r.Method, r.RequestURI, r.Proto, len(body), r.UserAgent(), r.Host))
	v.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// hang makes it accept requests and never answer, or ends that.
func (v *variant) hang(hangs bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case hangs && v.stuck == nil:
		v.stuck = make(chan struct{})
	case !hangs && v.stuck != nil:
		close(v.stuck)
		v.stuck = nil
	}
}

// stop ends it, and breaks its connections. From then on it logs nothing, because a request that hung, or
// that waited behind one, must not be answered at the last moment.
func (v *variant) stop() {
	v.mu.Lock()
	v.crashed = true
	v.mu.Unlock()
	v.hang(false)
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

// process is a running proxy. Its log reports what it does.
type process struct {
	address, admin string
	cmd            *exec.Cmd
	reloads        chan error
	ended          chan struct{}
	tail           []string // of its log, once it has ended
}

// startProxy returns when it listens.
func startProxy(ctx context.Context, binary, file string) (*process, error) {
	p := &process{reloads: make(chan error, 16), ended: make(chan struct{})}
	// Only stop ends it: a Ctrl-C in the terminal and then SIGTERM would be two signals.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "proxy", "--config", file, "--log-format", "json")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go p.read(log, ready)
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, errors.Join(errors.New("mirrorgate proxy ended: "+strings.Join(p.tail, "\n")), p.cmd.Wait())
	}
}

// read follows the log to its end.
func (p *process) read(log io.Reader, ready chan<- struct{}) {
	defer close(p.ended)
	scanner := bufio.NewScanner(log)
	for scanner.Scan() {
		var line struct{ Level, Msg, Address, Problem string }
		if json.Unmarshal(scanner.Bytes(), &line) != nil {
			line.Msg = scanner.Text()
		}
		switch line.Msg {
		case "Admin listening":
			p.admin = line.Address
		case "Listening":
			p.address = line.Address
			close(ready)
		case "Reloaded":
			p.reloads <- nil
		case "Problem":
			p.reloads <- errors.New(line.Problem)
		}
		p.tail = append(p.tail[max(0, len(p.tail)-9):], scanner.Text())
	}
}

// reloaded waits until the file is served.
func (p *process) reloaded(timeout time.Duration) error {
	select {
	case err := <-p.reloads:
		return err
	case <-p.ended:
		return errors.New("mirrorgate proxy has ended")
	case <-time.After(timeout):
		return errors.New("the proxy does not reload its file")
	}
}

var inFlight = regexp.MustCompile(`(?m)^mirrorgate_proxy_shadows_in_flight\{.*\} [1-9]`)

// awaitCopies waits until no copy is under way.
func (p *process) awaitCopies(ctx context.Context) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		metrics, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || !inFlight.Match(metrics) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("copies are still under way")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop sends SIGTERM, and returns an error unless it drained.
func (p *process) stop(timeout time.Duration) error {
	http.DefaultClient.CloseIdleConnections()
	kill := time.AfterFunc(timeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("mirrorgate proxy: %w", err)
	}
	return nil
}
