// The functions of the cluster: workloads become endpoints, pods can be made unready, CRDs are installed and
// removed, users have the rights that RBAC gives them.

package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {cluster.test/ready: %q}}
    spec: {containers: [{name: web, image: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`

// endpoints returns how many endpoints of Service web are ready and how many are not.
func endpoints(t *testing.T, namespace string) (ready, unready int, err error) {
	var list struct {
		Items []struct {
			Endpoints []struct {
				Addresses  []string
				Conditions struct{ Ready bool }
			}
		}
	}
	url := "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices?labelSelector=kubernetes.io/service-name=web"
	if err := shared.api.get(t.Context(), url, &list); err != nil {
		return 0, 0, err
	}
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready {
				ready++
			} else {
				unready++
			}
		}
	}
	return ready, unready, nil
}

func wantEndpoints(t *testing.T, namespace string, ready, unready int) {
	t.Helper()
	eventually(t, "EndpointSlices of web", func() error {
		r, u, err := endpoints(t, namespace)
		if err == nil && (r != ready || u != unready) {
			err = fmt.Errorf("%d ready and %d unready, want %d and %d", r, u, ready, unready)
		}
		return err
	})
}

func podNames(t *testing.T, namespace string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "", "-n", namespace, "get", "pods", "-o=jsonpath={.items[*].metadata.name}"))
}

func TestWorkloadBecomesEndpoints(t *testing.T) {
	ns := namespace(t)
	kubectl(t, fmt.Sprintf(deployment, "true"), "-n", ns, "apply", "-f=-")
	wantEndpoints(t, ns, 2, 0)

	pod := podNames(t, ns)[0]
	for _, ready := range []bool{false, true} {
		if err := shared.MakePodReady(t.Context(), ns, pod, ready); err != nil {
			t.Fatal(err)
		}
		if ready {
			wantEndpoints(t, ns, 2, 0)
		} else {
			wantEndpoints(t, ns, 1, 1)
		}
	}

	kubectl(t, "", "-n", ns, "scale", "deployment/web", "--replicas=0")
	wantEndpoints(t, ns, 0, 0)
	kubectl(t, "", "-n", ns, "scale", "deployment/web", "--replicas=1")
	wantEndpoints(t, ns, 1, 0)
}

func TestPodsMayStartUnready(t *testing.T) {
	ns := namespace(t)
	kubectl(t, fmt.Sprintf(deployment, "false"), "-n", ns, "apply", "-f=-")
	wantEndpoints(t, ns, 0, 2)
	for _, pod := range podNames(t, ns) {
		if err := shared.MakePodReady(t.Context(), ns, pod, true); err != nil {
			t.Fatal(err)
		}
	}
	wantEndpoints(t, ns, 2, 0)
	kubectl(t, "", "-n", ns, "rollout", "status", "deployment/web", "--timeout=60s")
}

func TestVersionIsStamped(t *testing.T) {
	var version struct {
		ClientVersion, ServerVersion struct{ GitVersion, Major, Minor string }
	}
	if err := json.Unmarshal([]byte(kubectl(t, "", "version", "-o=json")), &version); err != nil {
		t.Fatal(err)
	}
	if v := version.ServerVersion; v != version.ClientVersion || v.GitVersion != "v"+v.Major+"."+v.Minor+".3" {
		t.Errorf("versions: %+v", version)
	}
}

func TestDefaultCRDsAreServed(t *testing.T) {
	for _, resource := range []string{"httproutes.gateway.networking.k8s.io", "virtualservices.networking.istio.io"} {
		kubectl(t, "", "get", resource)
	}
}

func TestCRDsComeAndGo(t *testing.T) {
	ns := namespace(t)
	sets := []string{"cert-manager", "argo-rollouts"}
	if err := shared.InstallCRDs(t.Context(), sets...); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "-n", ns, "get", "certificates.cert-manager.io")
	rollout := "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec: {replicas: 1, strategy: {canary: {}}}\n"
	kubectl(t, rollout, "-n", ns, "apply", "-f=-")
	kubectl(t, "", "-n", ns, "scale", "rollout/web", "--replicas=3")
	if got := kubectl(t, "", "-n", ns, "get", "rollout", "web", "-o=jsonpath={.spec}"); got != `{"replicas":3,"strategy":{"canary":{}}}` {
		t.Errorf("spec: %s", got)
	}

	for range 2 { // the second time they are already gone
		if err := shared.UninstallCRDs(t.Context(), sets...); err != nil {
			t.Fatal(err)
		}
	}
	if left := kubectl(t, "", "get", "crds", "-o=name"); strings.Contains(left, "cert-manager") || strings.Contains(left, "argoproj") {
		t.Errorf("CRDs that remain: %s", left)
	}
	if err := shared.InstallCRDs(t.Context(), "nonsense"); err == nil || !strings.Contains(err.Error(), "argo-rollouts") {
		t.Errorf("want an error that names the known sets, got %v", err)
	}
}

func TestKubeconfigFor(t *testing.T) {
	ns := namespace(t)
	account := "system:serviceaccount:" + ns + ":default"
	kubectl(t, "", "-n", ns, "create", "rolebinding", "jane", "--clusterrole=view", "--group=readers")
	for user, want := range map[string][2]string{"jane": {"yes", "no"}, account: {"no", "no"}} {
		kubeconfig, err := shared.KubeconfigFor(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		for i, verb := range []string{"get", "create"} {
			// kubectl's exit code repeats a "no", so only its output is compared.
			got, _ := shared.Kubectl(t.Context(), "", "--kubeconfig", kubeconfig, "-n", ns, "auth", "can-i", verb, "configmaps")
			if strings.TrimSpace(got) != want[i] {
				t.Errorf("%s can %s configmaps: %q, want %s", user, verb, got, want[i])
			}
		}
	}
	if _, err := shared.KubeconfigFor(t.Context(), "nobody"); err == nil {
		t.Error("KubeconfigFor accepts a user that does not exist")
	}
}

func TestKubectlErrorHasStderr(t *testing.T) {
	_, err := shared.Kubectl(t.Context(), "", "get", "configmap", "missing")
	if err == nil || !strings.Contains(err.Error(), `configmaps "missing" not found`) {
		t.Errorf("got %v", err)
	}
}

func TestKnownCRDsContainDefaults(t *testing.T) {
	for _, name := range DefaultCRDs() {
		if !slices.Contains(KnownCRDs(), name) {
			t.Errorf("%s is not known", name)
		}
	}
}

func TestJoinedClusterAnswersAndIsNotEnded(t *testing.T) {
	joined, err := Join(shared.Dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := joined.Kubectl(t.Context(), "", "get", "namespace", "default", "-o=name")
	if err != nil || strings.TrimSpace(out) != "namespace/default" {
		t.Errorf("kubectl in the joined cluster: %q, %v", out, err)
	}
	if _, err := joined.KubeconfigFor(t.Context(), "jane"); err != nil {
		t.Error(err)
	}
	if err := joined.StartAPIServer(t.Context()); err == nil {
		t.Error("a joined cluster started a component of its owner")
	}
	if err := joined.StopAPIServer(); err == nil {
		t.Error("a joined cluster ended a component of its owner")
	}
	if err := joined.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := shared.Kubectl(t.Context(), "", "get", "namespaces"); err != nil {
		t.Errorf("the owner's cluster is gone: %v", err)
	}
	if _, err := Join(t.TempDir()); err == nil {
		t.Error("joined a cluster that does not exist")
	}
}
