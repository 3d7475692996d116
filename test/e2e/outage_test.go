package e2e

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

const mirrorgatePods = "-l=app.kubernetes.io/name=mirrorgate"

// leader returns the name of the pod that leads.
func leader(t *testing.T) string {
	t.Helper()
	holder := kubectl(t, "-n=mirrorgate-system", "get", "lease", "mirrorgate", "-o=jsonpath={.spec.holderIdentity}")
	name, _, _ := strings.Cut(holder, "_")
	return name
}

// kill ends pods as a node failure would: their objects are deleted, and their processes are killed before
// they can finish their work. A deletion alone would give them a second.
func kill(t *testing.T, pods ...string) {
	t.Helper()
	kubectl(t, append([]string{"-n=mirrorgate-system", "delete", "pods", "--grace-period=0", "--force"}, pods...)...)
	killed, err := node.shell(t.Context(), killScript, pods...)
	require.NoError(t, err)
	t.Logf("killed: %s", killed)
}

// killScript kills the processes of mirrorgate in the pods that are its arguments, and prints their pods;
// some processes may have ended already.
const killScript = `
for pod; do
	for environ in $(grep -lxz "HOSTNAME=$pod" /proc/[0-9]*/environ); do
		process=${environ%/environ}
		if grep -qxz /mirrorgate "$process/cmdline" && kill -KILL "${process#/proc/}"; then echo "$pod"; fi
	done
done 2>/dev/null
true`

func TestFlipsResumeAfterPodsAreKilled(t *testing.T) {
	installed(t)
	s := newStage(t, "killed")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"httpbin-v2.yaml",
		documents+"default-route.yaml", documents+"mirror-route.yaml")
	s.mirrorBecomes(t, "active")

	t.Log("the leader is killed")
	first := leader(t)
	kill(t, first)
	s.scale(t, "0")
	s.mirrorBecomes(t, "parked")
	eventually(t, func() string {
		if leader(t) == first {
			return "no other pod leads"
		}
		return ""
	})
	s.scale(t, "1")
	s.mirrorBecomes(t, "active")
	t.Log("both replicas are killed")
	kill(t, strings.Fields(kubectl(t, "-n=mirrorgate-system", "get", "pods", mirrorgatePods, "-o=jsonpath={.items[*].metadata.name}"))...)
	s.scale(t, "0")
	s.mirrorBecomes(t, "parked")
}

// While mirrorgate is down, only writes that concern mirrors wait, and no flip is lost.
func TestOnlyMirrorsWaitWhileMirrorgateIsDown(t *testing.T) {
	installed(t)
	s := newStage(t, "away")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"httpbin-v2.yaml",
		documents+"default-route.yaml", documents+"mirror-route.yaml")
	require.NoError(t, s.try(t, mirrorTo("httpbin-v2", "other"), "create", "-f=-"))
	s.mirrorBecomes(t, "active")
	replicas := func(n string) {
		_, err := node.Kubectl(context.WithoutCancel(t.Context()), "", "-n=mirrorgate-system", "scale", "deployment/mirrorgate", "--replicas="+n)
		require.NoError(t, err)
	}
	t.Cleanup(func() { replicas("2") })
	replicas("0")
	eventually(t, func() string {
		return kubectl(t, "-n=mirrorgate-system", "get", "pods", mirrorgatePods, "-o=name")
	})

	err := s.try(t, mirrorTo("httpbin-v2", "new"), "create", "-f=-")
	require.ErrorContains(t, err, `failed calling webhook "gateway.validate.mirrorgate.dev"`, "it failed closed before")
	s.kubectl(t, "label", "httproute", "httpbin", "team=shop")
	s.kubectl(t, "create", "configmap", "unrelated")
	s.kubectl(t, "patch", "httproute", "other", "--type=json", `-p=[{"op":"remove","path":"/spec/rules/0/filters"}]`)
	s.kubectl(t, "delete", "httproute", "other")
	s.scale(t, "0")
	require.Equal(t, "active", s.mirror(t), "no mirrorgate runs to park it")

	t.Log("mirrorgate is back and parks the mirror")
	replicas("2")
	s.mirrorBecomes(t, "parked")
	require.NoError(t, s.try(t, mirrorTo("httpbin-v2", "new"), "create", "-f=-"))
}

// A drain evicts one replica, and on the only node the budget keeps the other: no write is denied, the
// remaining replica flips routes, and afterwards there are two again.
func TestDrainOfTheNodeDeniesNothing(t *testing.T) {
	installed(t)
	s := newStage(t, "drained")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"httpbin-v2.yaml",
		documents+"default-route.yaml", documents+"mirror-route.yaml")
	s.mirrorBecomes(t, "active")
	name := strings.TrimSpace(kubectl(t, "get", "nodes", "-o=name"))
	uncordon := func() {
		_, err := node.Kubectl(context.WithoutCancel(t.Context()), "", "uncordon", name)
		require.NoError(t, err)
	}
	t.Cleanup(uncordon)

	stop := s.writing(t)
	_, err := node.Kubectl(t.Context(), "", "drain", name, "--pod-selector=app.kubernetes.io/name=mirrorgate", "--timeout=15s")
	require.ErrorContains(t, err, "disruption budget")
	pods := kubectl(t, "-n=mirrorgate-system", "get", "pods", mirrorgatePods, "-o=jsonpath={.items[*].status.phase}")
	require.ElementsMatch(t, []string{"Pending", "Running"}, strings.Fields(pods))
	s.scale(t, "0")
	s.mirrorBecomes(t, "parked")
	uncordon()
	kubectl(t, "-n=mirrorgate-system", "rollout", "status", "deployment/mirrorgate", "--timeout="+wait.String())
	s.scale(t, "1")
	s.mirrorBecomes(t, "active")
	stop()
}

// writing creates routes with mirrors, one after the other, until it is stopped; it then requires that none
// was denied.
func (s stage) writing(t *testing.T) (stop func()) {
	t.Helper()
	var enough atomic.Bool
	var failed []error
	var running sync.WaitGroup
	writes := 0
	running.Go(func() {
		for ; !enough.Load(); writes++ {
			if err := s.try(t, mirrorTo("httpbin-v2", "written-"+strconv.Itoa(writes)), "create", "-f=-"); err != nil {
				failed = append(failed, err)
			}
		}
	})
	end := sync.OnceFunc(func() {
		enough.Store(true)
		running.Wait()
	})
	t.Cleanup(end)
	return func() {
		t.Helper()
		end()
		t.Logf("%d writes of mirrors", writes)
		require.Empty(t, failed)
		require.Greater(t, writes, 20)
	}
}
