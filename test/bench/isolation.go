// The cost of a faulty variant for the primary's clients: p99 at a constant rate, in turn with and without a
// mirror to it, and the proxy's memory.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mirrorgate/mirrorgate/internal/proxy/faulty"
)

// faultyPort is the port on which the faulty variant listens.
const faultyPort = 8105

const (
	pacedDuration = 4 * time.Second
	pacedConns    = 32
)

func benchIsolation(ctx context.Context) error {
	site, err := startSite(ctx)
	defer site.stop()
	if err != nil {
		return err
	}
	plain := scenario{path: "/hello"}
	n, _, err := site.wrk(ctx, 8201, &plain)
	if err != nil {
		return err
	}
	for _, run := range []struct {
		what         string
		rate, rounds int
	}{
		{"a rate that many Services see", 5000, 5},
		{"a quarter of the maximum with a working mirror", n / 3 / 4, proxyRounds},
	} {
		fmt.Printf("%d requests a second, %s\n", run.rate, run.what)
		for _, name := range slices.Sorted(maps.Keys(faulty.Faults)) {
			if err := site.isolation(ctx, name, run.rate, run.rounds); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// isolation compares one fault with a run without a mirror.
func (s *site) isolation(ctx context.Context, name string, rate, rounds int) error {
	if name != faulty.Gone {
		stop, err := s.startFaulty(ctx, name)
		if err != nil {
			return err
		}
		defer stop()
	}
	var p99 [2][]float64
	for range rounds {
		for i, port := range [2]int{8204, 8202} {
			took, err := s.paced(ctx, port, "/hello", rate)
			if err != nil {
				return err
			}
			p99[i] = append(p99[i], took.Seconds()*1000)
		}
	}
	report("p99, variant: "+name, "ms", p99[0], p99[1], 1.1)
	kib, err := resident(s.pids["ours"])
	fmt.Printf("%-46s %9.1f MB\n", "  resident memory", float64(kib)/1024)
	return err
}

func (s *site) startFaulty(ctx context.Context, name string) (stop func(), err error) {
	// It runs at idle priority, as if it were on a machine of its own: it gets the processor time that client
	// and backend leave of their core, and costs them only its part of the kernel's network.
	cmd := exec.CommandContext(ctx, "chrt", "--idle", "0", "taskset", "-c", "1", os.Args[0], "faulty", name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if _, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		stop()
	}
	return stop, err
}

// serveFaulty is the process of a faulty variant.
func serveFaulty(ctx context.Context, name string) error {
	fault, ok := faulty.Faults[name]
	if !ok {
		return fmt.Errorf("no fault %q", name)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", faultyPort))
	if err != nil {
		return err
	}
	fmt.Println("listening")
	faulty.Serve(ctx, l, fault)
	return nil
}

// paced sends requests at a constant rate from a process of its own, beside the backend, and returns the p99.
func (s *site) paced(ctx context.Context, port int, path string, rate int) (time.Duration, error) {
	cmd := pinned(ctx, "1", os.Args[0], "paced", fmt.Sprintf("127.0.0.1:%d%s", port, path), strconv.Itoa(rate))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(out)))
}

// askPaced is that process. Latency counts from the time at which a request was due, so a slow response
// counts for the requests that it delays too.
func askPaced(ctx context.Context, target string, rate int) error {
	addr, path, _ := strings.Cut(target, "/")
	interval := pacedConns * time.Second / time.Duration(rate)
	took := make([][]time.Duration, pacedConns)
	failed := make([]error, pacedConns)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range pacedConns {
		wg.Go(func() {
			first := begin.Add(interval * time.Duration(i) / pacedConns)
			took[i], failed[i] = askInTurn(ctx, addr, "/"+path, first, interval)
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	fmt.Println(percentile99(slices.Concat(took...)))
	return nil
}

func askInTurn(ctx context.Context, addr, path string, due time.Time, interval time.Duration) (took []time.Duration, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
	for end := due.Add(pacedDuration); due.Before(end); due = due.Add(interval) {
		sleepUntil(due)
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := faulty.ReadAnswer(in, 6); err != nil {
			return nil, err
		}
		took = append(took, time.Since(due))
	}
	return took, nil
}

// sleepUntil is exact to some microseconds. The runtime's timers are late by up to a millisecond, which would
// hide every other effect on p99.
func sleepUntil(at time.Time) {
	if left := time.Until(at); left > 0 {
		rest := syscall.NsecToTimespec(left.Nanoseconds())
		for errors.Is(syscall.Nanosleep(&rest, &rest), syscall.EINTR) {
			continue
		}
	}
}
