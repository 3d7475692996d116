package install

// Flips that are in progress when something fails.

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/mirrorgate/mirrorgate/test/integration/harness"
)

// fleet is a set of routes with one variant each.
type fleet struct {
	ns    string
	names []string
}

func newFleet(t *testing.T, n int) fleet {
	t.Helper()
	f := fleet{ns: env.Namespace(t)}
	var text []string
	for i := range n {
		name := fmt.Sprintf("v%02d", i)
		f.names = append(f.names, name)
		text = append(text, harness.Workload(name), fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: %[1]s, port: 80}}}]
    backendRefs: [{name: primary, port: 80}]
`, name))
	}
	env.MustKubectl(t, strings.Join(text, "\n---\n"), "-n", f.ns, "apply", "-f", "-")
	return f
}

// in returns the number of routes whose mirror is in the given state.
func (f fleet) in(t *testing.T, state string) (n int) {
	t.Helper()
	client, err := dynamic.NewForConfig(env.Config(t))
	require.NoError(t, err)
	routes := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	all, err := client.Resource(routes).Namespace(f.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return 0 // the API server is down
	}
	for i := range all.Items {
		route := &all.Items[i]
		if have := harness.Mirrors(t, route); len(have) == 1 && have[0] == route.GetName()+"="+state {
			n++
		}
	}
	return n
}

// scale makes every variant appear or disappear, one by one, and retries for as long as the API server is
// down.
func (f fleet) scale(t *testing.T, replicas int) (scaled func()) {
	t.Helper()
	api := clientset(t).AppsV1().Deployments(f.ns)
	body := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	var running sync.WaitGroup
	var err error
	running.Go(func() {
		for _, name := range f.names {
			err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
				_, err := api.Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
				return err == nil, nil
			})
			if err != nil {
				return
			}
		}
	})
	return func() {
		running.Wait()
		require.NoError(t, err)
	}
}

// flip moves all mirrors, and calls happens when only some of them have moved.
func (f fleet) flip(t *testing.T, replicas int, happens func()) {
	t.Helper()
	state := []string{"parked", "active"}[replicas]
	scaled := f.scale(t, replicas)
	harness.Eventually(t, func() bool { return f.in(t, state) > 0 }, "no mirror is %s", state)
	require.Less(t, f.in(t, state), len(f.names), "all mirrors moved before the fault")
	happens()
	scaled()
	began := time.Now()
	require.Eventually(t, func() bool { return f.in(t, state) == len(f.names) }, 2*time.Minute, 100*time.Millisecond, "flips are lost: not all mirrors are %s", state)
	t.Logf("all %s %.1f s after the fault", state, time.Since(began).Seconds())
}

func TestFlipsResumeAndNoneIsLost(t *testing.T) {
	_, servers := pair(t)
	waitArmed(t)
	all := newFleet(t, 60)
	harness.Eventually(t, func() bool { return all.in(t, "active") == len(all.names) }, "not all mirrors are active")

	t.Log("etcd hangs for 10 s")
	all.flip(t, 0, func() {
		resume := env.PauseEtcd(10 * time.Second)
		t.Cleanup(resume)
	})
	t.Log("the API server restarts")
	all.flip(t, 1, func() { require.NoError(t, env.RestartAPIServer(t.Context())) })
	waitReady(t, servers[:]...)
	leads, follows := leader(t, servers[:]...)
	t.Log("the leader is killed")
	all.flip(t, 0, leads.Kill)
	require.Zero(t, follows.Metric(t, "mirrorgate_internal_errors_total"))
}
