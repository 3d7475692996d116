package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// Iter8's tutorial "Traffic mirroring", with mirrorgate in Iter8's place and no Istio: its commands, in its
// order, with the output that it shows. Its manifests are applied without istioctl; the one line that no YAML
// parser accepts is omitted from routingpolicy.yaml, and a label's `true` is quoted, as istioctl does.

const tutorial = "../../internal/demo/documents/iter8/"

// tutorialFile returns one of the tutorial's manifests in a form that kubectl accepts.
func tutorialFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(tutorial + name + ".yaml")
	require.NoError(t, err)
	return strings.ReplaceAll(string(raw), "iter8.tools/detect: true", `iter8.tools/detect: "true"`)
}

func (s stage) tutorial(t *testing.T, verb string, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, s.try(t, tutorialFile(t, name), verb, "-f=-"))
	}
}

// inspected waits until the route is as the tutorial prints it: everything printed is present, and its lists
// have no more elements. Fields with defaults of the API, which the tutorial does not print, are ignored.
func (s stage) inspected(t *testing.T, printed string) {
	t.Helper()
	var want map[string]any
	raw, err := os.ReadFile(tutorial + printed + ".yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, &want))
	delete(want, "apiVersion")
	eventually(t, func() string {
		out, err := node.Kubectl(t.Context(), "", "-n="+s.namespace, "get", "httproute/httpbin", "-o=yaml")
		if err != nil {
			return err.Error()
		}
		var have map[string]any
		if err := yaml.Unmarshal([]byte(out), &have); err != nil {
			return err.Error()
		}
		return lacks("", want, have)
	})
}

// lacks describes the first difference between have and the printed want.
func lacks(path string, want, have any) string {
	switch want := want.(type) {
	case map[string]any:
		have, _ := have.(map[string]any)
		for key, value := range want {
			if why := lacks(path+"."+key, value, have[key]); why != "" {
				return why
			}
		}
		if _, some := have["filters"]; some && want["filters"] == nil {
			return path + ".filters exists, and should not"
		}
		return ""
	case []any:
		have, _ := have.([]any)
		if len(have) != len(want) {
			return fmt.Sprintf("%s has %d elements, not %d", path, len(have), len(want))
		}
		for i := range want {
			if why := lacks(fmt.Sprintf("%s[%d]", path, i), want[i], have[i]); why != "" {
				return why
			}
		}
		return ""
	}
	if fmt.Sprint(want) != fmt.Sprint(have) {
		return fmt.Sprintf("%s is %v, not %v", path, have, want)
	}
	return ""
}

// answering waits until Services answer. Variants are asked for a different path than the tutorial's.
func answering(t *testing.T, s stage, services ...string) {
	t.Helper()
	for _, service := range services {
		s.kubectl(t, "exec", "deploy/sleep", "--", "curl", "-sS", "-o/dev/null", "-f", "-m5", "--retry", "60", "--retry-delay", "1",
			"--retry-connrefused", "http://"+service+"/get")
	}
}

func TestIter8sTutorial(t *testing.T) {
	noMesh(t)
	s := newStage(t, "tutorial")
	kubectl(t, "label", "namespace", s.namespace, "mirrorgate.dev/proxy=enabled")

	t.Log("Deploy app")
	s.tutorial(t, "create", "httpbin-v1")
	s.tutorial(t, "apply", "httpbin-v1-service")
	s.tutorial(t, "create", "httpbin", "subject")
	s.tutorial(t, "apply", "routingpolicy")
	t.Log("Inspect routing resource")
	s.inspected(t, "inspect")

	t.Log("Deploy variant 2")
	s.tutorial(t, "create", "httpbin-v2")
	s.tutorial(t, "apply", "httpbin-v2-service")
	t.Log("Inspect updated routing resource")
	s.inspected(t, "route")

	t.Log("Generate load and inspect logs")
	s.kubectl(t, "create", "-f=testdata/sleep.yaml")
	s.ready(t, "sleep", "httpbin-v1", "httpbin-v2")
	s.full(t)
	pod := func(labels string) string {
		return s.kubectl(t, "get", "pod", "-l", labels, "-o", "jsonpath={.items..metadata.name}")
	}
	// The tutorial's pods are ready before their servers listen, which a reader does not notice.
	answering(t, s, "httpbin-v1", "httpbin-v2")
	sleepPod, v1Pod, v2Pod := pod("app=sleep"), pod("app=httpbin,version=v1"), pod("app=httpbin,version=v2")
	send := func() {
		out := s.kubectl(t, "exec", sleepPod, "-c", "sleep", "--", "curl", "-sS", "http://httpbin:8000/headers")
		var answer struct{ Headers map[string]string }
		require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
		require.Equal(t, "httpbin:8000", answer.Headers["Host"])
		require.Equal(t, "*/*", answer.Headers["Accept"])
		require.Contains(t, answer.Headers["User-Agent"], "curl/")
	}
	logged := func(pod, host string) int {
		return strings.Count(s.kubectl(t, "logs", pod, "-c", "httpbin"), fmt.Sprintf("%q\n", host))
	}
	eventually(t, func() string { // the proxies must receive the route first
		send()
		if logged(v2Pod, "httpbin-shadow:8000") == 0 {
			return "no copy"
		}
		return ""
	})
	require.NotZero(t, logged(v1Pod, "httpbin:8000"))
	require.Zero(t, logged(v1Pod, "httpbin-shadow:8000"))
	require.Zero(t, logged(v2Pod, "httpbin:8000"), "variant 2 answered a client")

	t.Log("Delete variant 2 and inspect again")
	s.kubectl(t, "delete", "deploy/httpbin-v2", "svc/httpbin-v2")
	s.inspected(t, "inspect")
	send()

	t.Log("Cleanup")
	s.kubectl(t, "delete", "deploy", "sleep")
	// The tutorial deletes variant 2 a second time here.
	require.ErrorContains(t, s.try(t, "", "delete", "deploy/httpbin-v2", "svc/httpbin-v2"), "NotFound")
	s.kubectl(t, "delete", "deploy/httpbin-v1", "svc/httpbin-v1")
	s.kubectl(t, "delete", "svc/httpbin", "cm/httpbin", "cm/httpbin-route")
	eventually(t, func() string { return s.kubectl(t, "get", "httproutes", "-o=name") })
}
