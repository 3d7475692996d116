package main

// Small reviews beside hostile ones: the p99 of a caller whose reviews are small, in turn alone and while others send
// the reviews of 3 MiB that take most, and the memory of the server. Server, caller and attackers are processes of their
// own, as they are on machines of their own: attackers get what the others leave of the cores.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/webhook"
)

const (
	hostileRounds = 5
	// attackers are processes, with attackConns connections each.
	attackers   = 2
	attackConns = 2
	// hostileSize is the size of each of the two objects of a hostile review.
	hostileSize = 3<<19 - 400
	// callerReviews are sent each callerPace.
	callerReviews = 800
	callerPace    = 5 * time.Millisecond
	// answerTime is about how long a hostile review takes.
	answerTime = 40 * time.Millisecond
	// besideBound and memoryBound are promised: times the p99 alone, and MiB.
	besideBound = 2.0
	memoryBound = 256.0
)

func benchHostile(ctx context.Context) error {
	server, err := startPeer(ctx, "mirrorgate")
	if err != nil {
		return err
	}
	defer server.stop()
	// The control reads as many bytes and does nothing with them: so long does the machine take.
	control, err := startPeer(ctx, "discard")
	if err != nil {
		return err
	}
	defer control.stop()
	if _, err := server.caller(ctx); err != nil { // warms it up
		return err
	}
	alone, beside, machine := make([]float64, hostileRounds), make([]float64, hostileRounds), make([]float64, hostileRounds)
	answered := 0
	for i := range hostileRounds {
		if alone[i], err = server.caller(ctx); err != nil {
			return err
		}
		var n int
		if beside[i], n, err = server.besideAttackers(ctx); err != nil {
			return err
		}
		answered += n
		if machine[i], _, err = control.besideAttackers(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("rounds, ms: %.2f beside hostile reviews, %.2f alone, %.2f beside them at the control; %d were answered\n", beside, alone, machine, answered)
	report("p99 of small reviews beside hostile, and alone", "ms", beside, alone, besideBound)
	report("the same, and at the control", "ms", beside, machine, 0)
	peak, err := peakMemory(server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	verdict := "within"
	if peak > memoryBound {
		verdict = "ABOVE"
	}
	fmt.Printf("resident memory of the server at its peak %.0f MiB  %s %.0f\n", peak, verdict, memoryBound)
	return nil
}

// discard returns a handler that reads reviews and does nothing with them. It reads large ones no faster than mirrorgate
// answers them, since attackers who are answered at once send more.
func discard() http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, r.Body); n > hostileSize {
			turn <- struct{}{}
			time.Sleep(answerTime)
			<-turn
		}
		_, _ = io.WriteString(w, "{}")
	})
}

// besideAttackers runs the measured caller beside the attackers. It returns the p99, and the number of hostile reviews
// that were answered.
func (p *peer) besideAttackers(ctx context.Context) (p99 float64, answered int, err error) {
	stop, err := p.attack(ctx)
	if err != nil {
		return 0, 0, err
	}
	p99, err = p.caller(ctx)
	answered, stopped := stop()
	return p99, answered, errors.Join(err, stopped)
}

// prioritized returns a command of this program that leaves to others what its niceness says. With BENCH_REALTIME it has
// a real-time priority instead, so that the rest of the machine does not delay it.
func prioritized(ctx context.Context, realtime, nice int, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	prefix := []string{"nice", "-n", strconv.Itoa(nice), self}
	if os.Getenv("BENCH_REALTIME") != "" {
		prefix = []string{"chrt", "--rr", strconv.Itoa(realtime), self}
	}
	args = append(prefix, args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// caller runs the measured caller, and returns its p99 in milliseconds.
func (p *peer) caller(ctx context.Context) (float64, error) {
	cmd, err := prioritized(ctx, 3, 0, "caller", p.url)
	if err != nil {
		return 0, err
	}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// attack starts the attackers. stop ends them, and returns the number of their reviews that were answered.
func (p *peer) attack(ctx context.Context) (stop func() (int, error), err error) {
	cmds, outs := make([]*exec.Cmd, attackers), make([]bytes.Buffer, attackers)
	for i := range cmds {
		if cmds[i], err = prioritized(ctx, 1, 19, "attack", p.url); err != nil {
			return nil, err
		}
		cmds[i].Stdout = &outs[i]
		if err := cmds[i].Start(); err != nil {
			return nil, err
		}
	}
	return func() (answered int, err error) {
		for i, cmd := range cmds {
			err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
			n, _ := strconv.Atoi(strings.TrimSpace(outs[i].String()))
			answered += n
		}
		return answered, err
	}, nil
}

// strangers returns a client of a server with a certificate that it does not know, from a local address.
func strangers(address string) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server is a child of this program
	}}
}

// askSmall is the measured caller: it sends a small review each callerPace, and prints the p99 from the time when each
// was due.
func askSmall(ctx context.Context, url string) error {
	client := strangers("127.0.0.3")
	object, err := stored(fmt.Appendf(nil, routeJSON, 1, 1, 1))
	if err != nil {
		return err
	}
	body, err := reviewOf(object, nil, 1)
	if err != nil {
		return err
	}
	took, failed := make([]time.Duration, callerReviews), make([]error, callerReviews)
	var calls sync.WaitGroup
	due := time.Now()
	for i := range callerReviews {
		at := due.Add(callerPace)
		due = at
		time.Sleep(time.Until(at))
		calls.Go(func() {
			failed[i] = post(ctx, client, url, body)
			took[i] = time.Since(at)
		})
	}
	calls.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	fmt.Println(float64(percentile99(took).Microseconds()) / 1000)
	return nil
}

// sendHostile is an attacker: it sends hostile reviews one after the other until it is stopped, and prints how many
// were answered.
func sendHostile(ctx context.Context, url string) error {
	client := strangers("127.0.0.2")
	bodies := hostileReviews()
	var answered atomic.Int64
	var conns sync.WaitGroup
	for c := range attackConns {
		conns.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				if post(ctx, client, url, bodies[i%len(bodies)]) == nil {
					answered.Add(1)
				}
			}
		})
	}
	conns.Wait()
	fmt.Println(answered.Load())
	return nil
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+webhook.MutatePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New(resp.Status))
	}
	return err
}

// hostileReviews returns updates of VirtualServices that BenchmarkHostileReviews found to take most.
func hostileReviews() (bodies [][]byte) {
	for _, rule := range []string{
		`{"mirror":{"host":"%d.` + strings.Repeat("a.", 120) + `a","subset":"s"}}`,
		`{"mirror":{"host":"v%d","subset":"` + strings.Repeat("x", 600) + `"},"mirrorPercentage":{"value":101}}`,
		`{"mirror":{"host":"v%[1]d"},"mirrors":[{"destination":{"host":"w%[1]d"}}],"redirect":{"uri":"/"}}`,
		`{"mirror":{"host":"v%[1]d"},"route":[{"destination":{"host":"v%[1]d"}}],"headers":{"request":{"remove":["x-mirrorgate-parked-%010[1]x"]}}}`,
	} {
		var rules []string
		for i, size := 0, 0; i < 2048 && size < hostileSize-1000; i++ {
			rules = append(rules, fmt.Sprintf(rule, i))
			size += len(rules[i]) + 1
		}
		object := `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"web","namespace":"shop"},"spec":{"hosts":["web"],"http":[` + strings.Join(rules, ",") + `],"x":"`
		object += strings.Repeat("x", hostileSize-len(object)) + `"}}`
		bodies = append(bodies, []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","kind":{"group":"networking.istio.io","version":"v1","kind":"VirtualService"},`+
			`"name":"web","namespace":"shop","operation":"UPDATE","options":{"fieldManager":"mirrorgate"},"object":`+object+`,"oldObject":`+strings.Replace(object, `["web"]`, `["wed"]`, 1)+`}}`))
	}
	return bodies
}

// peakMemory returns the largest resident memory that a process had, in MiB.
func peakMemory(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if kib, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.Atoi(strings.Fields(kib)[0])
			return float64(n) / 1024, err
		}
	}
	return 0, errors.New("no VmHWM in the status of a process")
}
