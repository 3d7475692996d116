package e2e

// A cluster without a mesh: mirrorgate installed from manifests/overlays/no-mesh, a labelled namespace, and
// Istio's task in its Gateway API form without an additional line. Then, while a client sends requests
// throughout, the changes that must not lose a request are shown not to lose one.

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	swaps  = flag.Int("swaps", 2, "how often a Service is switched to its proxies and back under load")
	phase  = flag.Duration("phase", 5*time.Second, "how long clients are timed in each phase: while variant 2 works, is rolled, and crashes")
	rounds = flag.Int("rounds", 1, "how often each phase is timed, with and without copies in turn")
	rolls  = flag.Int("rolls", 2, "how often the proxies are rolled under load")
)

var isNoMesh bool

// rolledOut waits until both of mirrorgate's Deployments are ready.
func rolledOut(t *testing.T) {
	t.Helper()
	for _, deployment := range []string{"deployment/mirrorgate", "deployment/mirrorgate-intercept"} {
		kubectl(t, "-n=mirrorgate-system", "rollout", "status", deployment, "--timeout="+wait.String())
	}
}

// noMesh installs mirrorgate for a cluster without a mesh, unless an earlier test has installed it.
func noMesh(t *testing.T) {
	t.Helper()
	if !isNoMesh {
		apply(t, "testdata/no-mesh")
	}
	isNoMesh, isInstalled = true, false
	rolledOut(t)
	armed(t)
}

// newFront returns a stage that is labelled for proxies, with the task's documents up to its routes, and a
// client. edit edits the documents before anything of them is ready.
func newFront(t *testing.T, namespace string, edit func(stage)) stage {
	t.Helper()
	noMesh(t)
	s := newStage(t, namespace)
	kubectl(t, "label", "namespace", namespace, "mirrorgate.dev/proxy=enabled")
	for _, file := range []string{"httpbin-v1.yaml", "httpbin-v2.yaml", "httpbin.yaml"} {
		s.kubectl(t, "create", "--save-config", "-f="+documents+file)
	}
	edit(s)
	s.kubectl(t, "create", "-f=testdata/client.yaml")
	s.ready(t, "httpbin-v1", "httpbin-v2", "curl")
	s.listening(t, "httpbin-v1", "httpbin-v2")
	return s
}

// listening waits until variants listen: the pods of the task's documents count as ready before they do.
func (s stage) listening(t *testing.T, variants ...string) {
	t.Helper()
	for _, variant := range variants {
		eventually(t, func() string {
			if !strings.Contains(s.kubectl(t, "logs", "deploy/"+variant, "-c", "httpbin"), "Listening at") {
				return variant + " does not listen"
			}
			return ""
		})
	}
}

const proxies = "-l=mirrorgate.dev/parent=httpbin"

// selector returns the selector of the task's Service.
func (s stage) selector(t *testing.T) string {
	t.Helper()
	return s.kubectl(t, "get", "service", "httpbin", "-o=jsonpath={.spec.selector}")
}

const (
	proxied  = `{"app":"mirrorgate-httpbin"}`
	bypassed = `{"app":"httpbin","version":"v1"}`
	own      = `{"app":"httpbin"}`
)

// leads waits until the Service has the given selector.
func (s stage) leads(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() string {
		if is := s.selector(t); is != want {
			return "the selector is " + is + ", not " + want
		}
		return ""
	})
}

// full waits until the Service leads to both of its proxies.
func (s stage) full(t *testing.T) {
	t.Helper()
	s.leads(t, proxied)
	s.ready(t, "httpbin-mirrorgate-proxy")
}

// requests returns how many requests for a host are in a variant's log.
func (s stage) requests(t *testing.T, variant, host string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(s.kubectl(t, "logs", "deploy/"+variant, "-c", "httpbin")) {
		if strings.HasPrefix(line, `"GET /headers`) && strings.Contains(line, fmt.Sprintf("%q", host)) {
			n++
		}
	}
	return n
}

// get sends the task's own request.
func (s stage) get(t *testing.T) {
	t.Helper()
	out := s.kubectl(t, "exec", "deploy/curl", "-c", "curl", "--", "curl", "-sS", "http://httpbin:8000/headers")
	var answer struct{ Headers map[string]string }
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	require.Equal(t, "httpbin:8000", answer.Headers["Host"])
	require.Equal(t, "*/*", answer.Headers["Accept"])
	require.Contains(t, answer.Headers["User-Agent"], "curl/")
}

func TestIstiosTaskWithoutAMesh(t *testing.T) {
	s := newFront(t, "task", func(stage) {})
	const host, shadow = "httpbin:8000", "httpbin-shadow:8000"

	t.Log("Creando una política de enrutamiento por defecto")
	s.apply(t, documents+"default-route.yaml")
	s.full(t)
	s.get(t)
	require.Equal(t, 1, s.requests(t, "httpbin-v1", host))
	require.NotContains(t, s.kubectl(t, "logs", "deploy/httpbin-v2", "-c", "httpbin"), "GET")
	accepted := s.kubectl(t, "get", "httproute", "httpbin", `-o=jsonpath={.status.parents[?(@.controllerName=="mirrorgate.dev/proxy")].conditions[?(@.type=="Accepted")].status}`)
	require.Equal(t, "True", accepted)

	t.Log("Mirando tráfico a httpbin-v2")
	s.apply(t, documents+"mirror-route.yaml")
	eventually(t, func() string { // the proxies must receive the route first
		s.get(t)
		if s.requests(t, "httpbin-v2", shadow) == 0 {
			return "no copy"
		}
		return ""
	})
	sent, copies := s.requests(t, "httpbin-v1", host), s.requests(t, "httpbin-v2", shadow)
	for range 10 {
		s.get(t)
	}
	eventually(t, func() string {
		if n := s.requests(t, "httpbin-v2", shadow); n != copies+10 {
			return fmt.Sprintf("%d copies of 10 requests", n-copies)
		}
		return ""
	})
	require.Equal(t, sent+10, s.requests(t, "httpbin-v1", host), "variant 1 must answer each request")
	require.Zero(t, s.requests(t, "httpbin-v1", shadow), "no copy may go to variant 1")
	require.Zero(t, s.requests(t, "httpbin-v2", host), "variant 2 must answer no client")

	t.Log("without variant 2 the clients' requests still succeed")
	s.scale(t, "0")
	s.mirrorBecomes(t, "parked")
	s.get(t)
	s.scale(t, "1")
	s.ready(t, "httpbin-v2")
	s.mirrorBecomes(t, "active")

	t.Log("without the label nothing is copied")
	kubectl(t, "label", "namespace", s.namespace, "mirrorgate.dev/proxy-")
	s.leads(t, own)
	s.kubectl(t, "wait", "--for=delete", "pod", proxies, "--timeout="+wait.String())
	copies = s.requests(t, "httpbin-v2", shadow)
	for range 5 {
		s.get(t)
	}
	require.Equal(t, copies, s.requests(t, "httpbin-v2", shadow))

	t.Log("Limpieza")
	s.kubectl(t, "delete", "httproute", "httpbin")
	s.kubectl(t, "delete", "svc", "httpbin-v1", "httpbin-v2")
	s.kubectl(t, "delete", "deploy", "httpbin-v1", "httpbin-v2", "curl")
	s.kubectl(t, "delete", "svc", "httpbin")
	eventually(t, func() string {
		return s.kubectl(t, "get", "all,serviceaccounts,rolebindings,poddisruptionbudgets", "-l=app.kubernetes.io/managed-by=mirrorgate", "-o=name")
	})
}

// load is clients that send requests throughout: one of HTTP, and one of gRPC and of TLS.
type load struct {
	s     stage
	began time.Time
}

// The pods of these clients.
const (
	overHTTP = "load"
	calls    = "calls"
)

// loadLine is one line of a client's log.
type loadLine struct {
	At            float64
	New, Kept     int
	FailedNew     int `json:"failed_new"`
	FailedKept    int `json:"failed_kept"`
	Ended         bool
	Failed, Error string
	Began, Took   float64
	Ms            []float64
}

func newLoad(t *testing.T, s stage) load {
	t.Helper()
	if _, err := node.Kubectl(t.Context(), "", "-n="+s.namespace, "get", "configmap", "load"); err != nil {
		s.kubectl(t, "create", "configmap", "load", "--from-file=testdata/load.py")
	}
	s.kubectl(t, "apply", "-f=testdata/load.yaml", "-f=testdata/calls.yaml")
	s.kubectl(t, "wait", "--for=condition=Ready", "pod/"+overHTTP, "pod/"+calls, "--timeout="+wait.String())
	l := load{s, time.Now()}
	l.flows(t)
	return l
}

// lines returns the lines of a client's log.
func (l load) lines(t *testing.T, pod string) (lines []loadLine) {
	t.Helper()
	for text := range strings.Lines(l.s.kubectl(t, "logs", pod)) {
		var line loadLine
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		lines = append(lines, line)
	}
	return lines
}

// flows waits until the clients have sent requests for two more seconds.
func (l load) flows(t *testing.T) {
	t.Helper()
	for _, pod := range []string{overHTTP, calls} {
		count := func() int {
			return len(slices.DeleteFunc(l.lines(t, pod), func(line loadLine) bool { return line.At == 0 }))
		}
		enough := count() + 2
		eventually(t, func() string {
			if count() < enough {
				return "the client " + pod + " does not send requests"
			}
			return ""
		})
	}
}

// failures returns the requests that failed, and how many succeeded for each client.
func (l load) failures(t *testing.T) (failed []loadLine, sent map[string]int) {
	t.Helper()
	sent = map[string]int{}
	for _, pod := range []string{overHTTP, calls} {
		for _, line := range l.lines(t, pod) {
			if line.Failed != "" {
				failed = append(failed, line)
			}
			sent[pod] = max(sent[pod], line.New+line.Kept)
		}
	}
	return failed, sent
}

// stop stops the clients and returns the failed requests, and how many there were of all.
func (l load) stop(t *testing.T) (failed []loadLine, total int) {
	t.Helper()
	l.flows(t)
	failed, sent := l.failures(t)
	l.s.kubectl(t, "delete", "pod", overHTTP, calls, "--grace-period=0", "--force")
	t.Logf("%d requests of HTTP, %d of gRPC and TLS in %s, %d failed", sent[overHTTP], sent[calls], time.Since(l.began).Round(time.Second), len(failed))
	require.Greater(t, sent[overHTTP], 100)
	require.Greater(t, sent[calls], 50)
	return failed, sent[overHTTP] + sent[calls] + len(failed)
}

// unharmed stops the clients and requires that no request failed.
func (l load) unharmed(t *testing.T) {
	t.Helper()
	failed, sent := l.stop(t)
	for i, f := range failed {
		if i < 20 {
			t.Logf("%s at %s after %.2f s: %s", f.Failed, time.UnixMilli(int64(f.Began*1000)).Format("05.000"), f.Took, f.Error)
		}
	}
	assert.Empty(t, failed, "of %d", sent)
}

// mirrored returns a stage on which everything of the task is applied, and whose Service has a port of gRPC, with a
// mirror too, and one of TLS.
func mirrored(t *testing.T, namespace string) stage {
	t.Helper()
	s := newFront(t, namespace, func(s stage) {
		for _, variant := range []string{"httpbin-v1", "httpbin-v2"} {
			s.kubectl(t, "patch", "deployment", variant, "--type=json", `-p=[{"op":"add","path":"/spec/template/spec/containers/-","value":
				{"name":"more","image":"`+callsImage+`","imagePullPolicy":"Never","args":["serve"],"readinessProbe":{"tcpSocket":{"port":8443},"periodSeconds":1}}}]`)
		}
	})
	s.apply(t, documents+"default-route.yaml", documents+"mirror-route.yaml")
	s.apply(t, portedService, "testdata/ports/route.yaml")
	s.full(t)
	eventually(t, func() string { // no pod of before the patch is left
		for pod := range strings.Lines(s.kubectl(t, "get", "pods", "-l=app=httpbin", `-o=jsonpath={range .items[*]}{.metadata.name} {.spec.containers[*].name}{"\n"}{end}`)) {
			if !strings.Contains(pod, "more") {
				return pod
			}
		}
		return ""
	})
	return s
}

// portedService is the manifest of the Service that mirrored has.
const portedService = "testdata/ports/service.yaml"

// called returns how many calls of gRPC for an authority a variant has got.
func (s stage) called(t *testing.T, variant, authority string) int {
	t.Helper()
	return strings.Count(s.kubectl(t, "logs", "deploy/"+variant, "-c", "more"), "call "+authority+"\n")
}

// onlyPrimary requires that variant 2, which ran throughout, answered no client.
func (s stage) onlyPrimary(t *testing.T) {
	t.Helper()
	require.Zero(t, s.requests(t, "httpbin-v2", "httpbin:8000"), "variant 2 answered clients")
	require.Zero(t, s.called(t, "httpbin-v2", "httpbin:9090"), "variant 2 answered clients")
	eventually(t, func() string {
		if s.requests(t, "httpbin-v2", "httpbin-shadow:8000") == 0 || s.called(t, "httpbin-v2", "httpbin-shadow:9090") == 0 {
			return "no copy reached variant 2"
		}
		return ""
	})
}

// Planned changes lose no request, and variant 2 answers no client during any of them: proxies that are added
// and removed with bypass in between, proxies that are rolled, and an outage of the program.
func TestPlannedChangesLoseNothing(t *testing.T) {
	s := mirrored(t, "planned")
	l := newLoad(t, s)
	scale := func(replicas string) {
		s.kubectl(t, "annotate", "service", "httpbin", "--overwrite", "mirrorgate.dev/proxy-replicas="+replicas)
		eventually(t, func() string {
			if is := s.kubectl(t, "get", "deployment", "httpbin-mirrorgate-proxy", "-o=jsonpath={.spec.replicas}"); is != replicas {
				return is + " proxies are wanted, not " + replicas
			}
			return ""
		})
	}
	t.Logf("%d rollouts of the proxies", *rolls)
	for range *rolls {
		s.kubectl(t, "rollout", "restart", "deployment/httpbin-mirrorgate-proxy")
		s.ready(t, "httpbin-mirrorgate-proxy")
	}
	s.onlyPrimary(t) // while its log exists
	t.Log("variant 1 is rolled, and then variant 2")
	for _, variant := range []string{"httpbin-v1", "httpbin-v2"} {
		// The pods of the task's document count as ready before they listen. And Kubernetes promises no client that
		// it hears of a new pod before an old one ends; a few seconds between the two are usual.
		s.kubectl(t, "patch", "deployment", variant, "--type=json",
			`-p=[{"op":"add","path":"/spec/template/spec/containers/0/readinessProbe","value":{"tcpSocket":{"port":80},"periodSeconds":1}},
			{"op":"add","path":"/spec/minReadySeconds","value":5}]`)
		s.ready(t, variant)
		s.kubectl(t, "rollout", "restart", "deployment/"+variant)
		s.ready(t, variant)
	}
	t.Log("proxies are scaled up and down")
	scale("3")
	s.ready(t, "httpbin-mirrorgate-proxy")
	scale("2")
	s.ready(t, "httpbin-mirrorgate-proxy")
	t.Log("a port and a key are added")
	s.kubectl(t, "patch", "service", "httpbin", "--type=merge", `-p={"spec":{"ports":[{"name":"http","port":8000,"targetPort":80},{"name":"grpc","port":9090},{"name":"https","port":8443},{"name":"more","port":9000,"targetPort":81}]}}`)
	s.full(t)
	t.Log("the program is down, and proxies are evicted")
	replicas := func(n string) {
		kubectl(t, "-n=mirrorgate-system", "scale", "deployment/mirrorgate", "deployment/mirrorgate-intercept", "--replicas="+n)
	}
	replicas("0")
	eventually(t, func() string {
		return kubectl(t, "-n=mirrorgate-system", "get", "pods", "-o=name")
	})
	for pod := range strings.FieldsSeq(s.kubectl(t, "get", "pods", proxies, "-o=name")) {
		s.kubectl(t, "delete", "--ignore-not-found", pod) // one that ended already may still have been listed
		s.ready(t, "httpbin-mirrorgate-proxy")
	}
	replicas("2")
	rolledOut(t)
	t.Log("all proxies are deleted at once: the Service is bypassed, and proxied again")
	s.kubectl(t, "delete", "pods", proxies, "--wait=false")
	s.leads(t, bypassed)
	s.full(t)
	l.unharmed(t)
	s.onlyPrimary(t)
}

// percentile99 returns the p99 of the requests of a phase, in milliseconds.
func (l load) percentile99(t *testing.T) float64 {
	t.Helper()
	before := len(l.lines(t, overHTTP))
	begin := time.Now()
	eventually(t, func() string {
		if time.Since(begin) < *phase {
			return "the phase has not ended"
		}
		return ""
	})
	var took []float64
	for _, line := range l.lines(t, overHTTP)[before:] {
		took = append(took, line.Ms...)
	}
	slices.Sort(took)
	require.NotEmpty(t, took)
	return took[len(took)*99/100]
}

// Faults of variant 2 cost clients nothing: it is rolled, and it crashes repeatedly, some seconds after it
// began to receive copies. The clients' latency is reported, in turn with copies and without, but no bound is
// checked. Variant 2 has idle priority, as if it were on a machine of its own.
func TestVariantThatCrashesCostsClientsNothing(t *testing.T) {
	s := mirrored(t, "crashes")
	command := func(line string) {
		const idle = "import os,sys; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); os.execvp(sys.argv[1], sys.argv[1:])"
		list, err := json.Marshal(append([]string{"python3", "-c", idle}, strings.Fields(line+" --access-logfile - -b 0.0.0.0:80 httpbin:app")...))
		require.NoError(t, err)
		s.kubectl(t, "patch", "deployment", "httpbin-v2", "--type=json",
			`-p=[{"op":"replace","path":"/spec/template/spec/containers/0/command","value":`+string(list)+"}]")
	}
	command("gunicorn")
	s.ready(t, "httpbin-v2")
	l := newLoad(t, s)
	told := map[string][2][]float64{}
	inTurn := func(what string, before func()) {
		for range *rounds {
			for i, route := range [2]string{"mirror-route.yaml", "default-route.yaml"} {
				s.apply(t, documents+route)
				before()
				both := told[what]
				both[i] = append(both[i], l.percentile99(t))
				told[what] = both
			}
		}
	}
	inTurn("is well", func() { s.ready(t, "httpbin-v2") })
	s.apply(t, documents+"mirror-route.yaml")
	s.onlyPrimary(t) // at idle priority variant 2 may be delayed
	inTurn("is rolled", func() { s.kubectl(t, "rollout", "restart", "deployment/httpbin-v2") })
	s.ready(t, "httpbin-v2")
	command("timeout -s KILL 2 gunicorn")
	s.ready(t, "httpbin-v2")
	eventually(t, func() string {
		for n := range strings.FieldsSeq(s.kubectl(t, "get", "pods", "-l=version=v2", "-o=jsonpath={.items[*].status.containerStatuses[0].restartCount}")) {
			if n != "0" {
				return ""
			}
		}
		return "variant 2 does not crash"
	})
	// The pod is made anew in each phase, since Kubernetes waits longer before each restart.
	inTurn("crashes", func() { s.kubectl(t, "delete", "pods", "-l=version=v2", "--wait=false") })
	for what, p99 := range told {
		for i := range p99 {
			slices.Sort(p99[i])
		}
		t.Logf("variant 2 %s: p99 %.1f ms with copies, %.1f ms without", what, p99[0], p99[1])
	}
	l.unharmed(t)
	require.Zero(t, s.requests(t, "httpbin-v2", "httpbin:8000"), "variant 2 answered clients")
}

// Switching the Service to its proxies and back loses nothing. Without proxies it is the author's own
// Service, which leads to both variants.
func TestSwapsLoseNothing(t *testing.T) {
	s := mirrored(t, "swaps")
	l := newLoad(t, s)
	for i := range *swaps {
		s.kubectl(t, "label", "service", "httpbin", "--overwrite", "mirrorgate.dev/proxy=disabled")
		s.leads(t, own)
		l.flows(t)
		if i%2 == 1 { // every other time its proxies are gone
			s.kubectl(t, "wait", "--for=delete", "pod", proxies, "--timeout="+wait.String())
		}
		s.kubectl(t, "label", "service", "httpbin", "mirrorgate.dev/proxy-")
		s.full(t)
		l.flows(t)
	}
	l.unharmed(t)
}

// The Service is applied again while the webhook is down, by every client, unchanged and edited: the
// controller repairs the stored object, and clients hardly notice.
func TestServiceIsAppliedWhileTheWebhookIsDown(t *testing.T) {
	s := mirrored(t, "unhooked")
	file, err := os.ReadFile(portedService)
	require.NoError(t, err)
	manifest := string(file)
	back := unhook(t)
	defer back()
	l := newLoad(t, s)
	apply := func(text string, args ...string) {
		require.NoError(t, s.try(t, text, append([]string{"apply", "-f=-"}, args...)...))
	}
	keyed := strings.Replace(manifest, "  selector:", "  selector:\n    version: v1", 1)
	const both = `{"app":"mirrorgate-httpbin","version":"mirrorgate-httpbin"}`
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"a key added, client-side", func() { // for a short time it leads nowhere
			apply(keyed)
		}},
		{"and gone", func() { apply(manifest) }},
		{"a key added, server-side", func() {
			apply(keyed, "--server-side", "--force-conflicts")
		}},
		{"and gone, server-side", func() { apply(manifest, "--server-side", "--force-conflicts") }},
		{"client-side apply", func() { apply(manifest) }},
		{"server-side apply", func() { apply(manifest, "--server-side", "--force-conflicts") }},
		{"a port added", func() {
			apply(strings.Replace(manifest, "  selector:", "  - {name: more, port: 9000, targetPort: 81}\n  selector:", 1), "--server-side", "--force-conflicts")
		}},
		{"and gone, client-side", func() { apply(manifest) }},
		{"a patch as Helm's", func() {
			s.kubectl(t, "patch", "service", "httpbin", "--type=merge", `-p={"spec":{"selector":{"app":"httpbin"}}}`)
		}},
	} {
		step.do()
		want := proxied
		if strings.Contains(step.what, "a key added") {
			want = both
		}
		s.leads(t, want)
		s.ready(t, "httpbin-mirrorgate-proxy")
		failed, _ := l.failures(t)
		t.Logf("%s: %d failures so far", step.what, len(failed))
	}
	failed, sent := l.stop(t)
	t.Logf("%d of %d failed", len(failed), sent)
	assert.Less(t, len(failed), sent/100)
}

// unhook makes the webhooks of Services unreachable for the API server.
func unhook(t *testing.T) (back func()) {
	t.Helper()
	const name = "mirrorgate"
	var indexes []int
	for i, hook := range strings.Fields(kubectl(t, "get", "mutatingwebhookconfiguration", name, "-o=jsonpath={.webhooks[*].name}")) {
		if strings.Contains(hook, "services.mutate") {
			indexes = append(indexes, i)
		}
	}
	require.Len(t, indexes, 2)
	point := func(port int) {
		var edits []string
		for _, i := range indexes {
			edits = append(edits, fmt.Sprintf(`{"op":"replace","path":"/webhooks/%d/clientConfig/service/port","value":%d}`, i, port))
		}
		_, err := node.Kubectl(context.WithoutCancel(t.Context()), "", "patch", "mutatingwebhookconfiguration", name, "--type=json", "-p=["+strings.Join(edits, ",")+"]")
		require.NoError(t, err)
	}
	point(1)
	return func() { point(443) }
}

// When proxies crash or freeze, the requests in progress fail, and so do new ones until Kubernetes notices:
// the test measures how many and for how long. After that every new request is answered, soon by the primary.
func TestProxiesThatFail(t *testing.T) {
	s := mirrored(t, "failing")
	pids := func() []string { return strings.Fields(s.shell(t, pidsScript)) }
	for _, c := range []struct {
		name   string
		signal string
		of     int
	}{
		{"one is killed", "KILL", 1}, {"both are killed", "KILL", 2}, {"one is frozen", "STOP", 1}, {"both are frozen", "STOP", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.full(t)
			eventually(t, func() string {
				if n := len(pids()); n != 2 {
					return strconv.Itoa(n) + " processes"
				}
				return ""
			})
			l := newLoad(t, s)
			begin := time.Now()
			victims := pids()[:c.of]
			s.shell(t, "kill -"+c.signal+" "+strings.Join(victims, " "))
			noticed := 6 * time.Second
			if c.of == 2 {
				s.leads(t, bypassed)
				noticed = time.Since(begin)
				t.Logf("bypassed after %s", noticed.Round(time.Millisecond))
			}
			l.flows(t)
			l.flows(t)
			l.flows(t)
			failed, sent := l.stop(t)
			last := begin
			for _, f := range failed {
				if at := time.UnixMilli(int64(f.Began * 1000)); at.After(last) && strings.HasSuffix(f.Failed, "new") {
					last = at
				}
			}
			t.Logf("%s: %d of %d requests failed, the last new one began after %s", c.name, len(failed), sent, last.Sub(begin).Round(time.Millisecond))
			assert.Less(t, last.Sub(begin), noticed+2*time.Second, "kube-proxy receives the change within a second")
			if c.signal == "STOP" {
				s.shell(t, "kill -KILL "+strings.Join(victims, " "))
			}
			s.full(t)
		})
	}
	s.onlyPrimary(t)
}

// pidsScript prints the processes of the proxies of the stage.
const pidsScript = `
for cmdline in $(grep -lzx -e --namespace=failing /proc/[0-9]*/cmdline); do
	process=${cmdline%/cmdline}
	if grep -qxz /mirrorgate "$cmdline"; then echo "${process#/proc/}"; fi
done 2>/dev/null
true`

func (s stage) shell(t *testing.T, script string) string {
	t.Helper()
	out, err := node.shell(t.Context(), script)
	require.NoError(t, err)
	return out
}

// Removed while clients send requests, mirrorgate leaves every Service as its author wrote it, and no request
// fails.
func TestRemovedWithoutAMesh(t *testing.T) {
	s := mirrored(t, "left")
	l := newLoad(t, s)
	uninstall(t)
	require.JSONEq(t, own, s.selector(t))
	kubectl(t, "delete", "--ignore-not-found", "-k=testdata/no-mesh")
	kubectl(t, "delete", "--ignore-not-found", "-k=testdata/install") // earlier tests installed this one
	isNoMesh = false
	require.Empty(t, s.kubectl(t, "get", "all,serviceaccounts,rolebindings,poddisruptionbudgets", "-l=app.kubernetes.io/managed-by=mirrorgate", "-o=name"))
	l.unharmed(t)
	kinds := "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,namespaces"
	require.Empty(t, kubectl(t, "get", kinds, "-l=app.kubernetes.io/part-of=mirrorgate", "-o=name"), "uninstall must leave no objects behind")
}
