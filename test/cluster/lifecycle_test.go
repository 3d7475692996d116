// Starting, faults and ending: the parts of a cluster that must work when something fails.

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// bare returns the options of the cluster that starts fastest.
func bare() Options {
	options := APIOnly()
	options.CRDs = []string{}
	return options
}

func TestRestartedAPIServerKeepsData(t *testing.T) {
	ns := namespace(t)
	kubectl(t, fmt.Sprintf(deployment, "true"), "-n", ns, "apply", "-f=-")
	wantEndpoints(t, ns, 2, 0)

	if err := shared.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Kubectl(t.Context(), "", "get", "nodes"); err == nil {
		t.Error("a stopped API server answers")
	}
	if err := shared.StopAPIServer(); err == nil {
		t.Error("an API server was stopped twice")
	}
	if err := shared.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEndpoints(t, ns, 2, 0)
	if err := shared.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The controllers work again, and KWOK knows which addresses are in use.
	kubectl(t, "", "-n", ns, "scale", "deployment/web", "--replicas=4")
	wantEndpoints(t, ns, 4, 0)
	addresses := strings.Fields(kubectl(t, "", "get", "pods", "-A", "-o=jsonpath={.items[*].status.podIP}"))
	slices.Sort(addresses)
	if distinct := slices.Compact(slices.Clone(addresses)); len(distinct) < len(addresses) {
		t.Errorf("pods share addresses: %v", addresses)
	}
	kubectl(t, "", "-n", ns, "scale", "deployment/web", "--replicas=0")
	wantEndpoints(t, ns, 0, 0)
}

func TestPausedEtcdHoldsWrites(t *testing.T) {
	c := mustStart(t, bare())
	write := func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Kubectl(ctx, "", "create", "configmap", name)
		return err
	}
	resume := c.PauseEtcd(time.Hour)
	if write("held") == nil {
		t.Error("a write went through while etcd was paused")
	}
	resume()
	eventually(t, "a write after the pause", func() error { return write("after") })

	c.PauseEtcd(time.Second / 10)
	eventually(t, "a write after a short pause", func() error { return write("later") })
}

func TestStopLeavesNothing(t *testing.T) {
	c := mustStart(t, Options{CRDs: []string{}})
	pids := processesIn(t, c.Dir)
	if want := len(c.wanted()) - 1; len(pids) != want { // kubectl does not run
		t.Errorf("%d processes, want %d", len(pids), want)
	}
	c.PauseEtcd(time.Hour) // must not delay Stop
	for range 2 {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(gone(pids), noFolder(c.Dir)); err != nil {
		t.Error(err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("an API server started in a stopped cluster")
	}
}

func TestContextEndsCluster(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Start(ctx, bare())
	if err != nil {
		t.Fatal(err)
	}
	pids := processesIn(t, c.Dir)
	cancel()
	eventually(t, "the end", func() error { return errors.Join(gone(pids), noFolder(c.Dir)) })
}

func TestStopReportsEarlyEnd(t *testing.T) {
	c, err := Start(t.Context(), bare())
	if err != nil {
		t.Fatal(err)
	}
	apiServer := c.process("kube-apiserver")
	if err := apiServer.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-apiServer.done
	if err := c.Stop(); err == nil || !strings.Contains(err.Error(), "kube-apiserver ended by itself") {
		t.Errorf("got %v", err)
	}
	if err := noFolder(c.Dir); err != nil {
		t.Error(err)
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	options := bare()
	options.APIServerFlags = []string{"--no-such-flag"}
	_, err := Start(t.Context(), options)
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v", err)
	}
}

// Start retries with another port when one is taken; here the next one is taken each time, so the error is
// returned.
func TestTakenPortIsRecognized(t *testing.T) {
	taken, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var progress bytes.Buffer
	options := bare()
	options.Progress = &progress
	options.APIServerFlags = []string{fmt.Sprintf("--secure-port=%d", taken.Addr().(*net.TCPAddr).Port)}
	if _, err = Start(t.Context(), options); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
	if tries := strings.Count(progress.String(), "a port was taken"); tries != startAttempts-1 {
		t.Errorf("tried again %d times:\n%s", tries, progress.String())
	}
}
