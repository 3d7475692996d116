// How tests access a cluster: kubeconfigs, kubectl, and the readiness of a pod.

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// condition is the part of a Kubernetes condition that this package reads.
type condition struct{ Type, Status string }

func isTrue(conditions []condition, kind string) bool {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Status == "True"
		}
	}
	return false
}

// Env returns the variables with which a command uses the cluster, as "NAME=value" to be appended to
// os.Environ(): KUBECONFIG, KUBECTL (the path of the cluster's kubectl), a PATH that finds it first, and
// JoinEnv.
func (c *Cluster) Env() []string {
	return []string{
		JoinEnv + "=" + c.Dir,
		"KUBECONFIG=" + c.Kubeconfig,
		"KUBECTL=" + c.KubectlPath,
		"PATH=" + c.path("bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
	}
}

// Kubectl runs kubectl as the administrator with stdin as its input and returns its output. The error
// contains its stderr.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, c.KubectlPath, args...)
	// Its own home keeps its discovery cache apart from other clusters' and from the user's.
	cmd.Env = append(os.Environ(), append(c.Env(), "HOME="+c.Dir, "KUBECACHEDIR=")...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := spawn(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, lastBytes(errOut.String(), 4<<10))
	}
	return out.String(), nil
}

// KubeconfigFor writes a kubeconfig for one of Options.Users, or for an existing ServiceAccount when user is
// "system:serviceaccount:NAMESPACE:NAME" (its token is valid for a day), and returns its path. RBAC decides
// what the user may do.
func (c *Cluster) KubeconfigFor(ctx context.Context, user string) (path string, err error) {
	if token, known := c.tokens[user]; known {
		return c.writeKubeconfig(user, token)
	}
	account := strings.Split(user, ":")
	if len(account) != 4 || !strings.HasPrefix(user, "system:serviceaccount:") {
		return "", fmt.Errorf("%q is neither in Options.Users nor a ServiceAccount's user name", user)
	}
	var answer struct{ Status struct{ Token string } }
	request := object{"spec": object{"expirationSeconds": int((24 * time.Hour).Seconds())}}
	url := fmt.Sprintf("/api/v1/namespaces/%s/serviceaccounts/%s/token", account[2], account[3])
	if err := c.api.do(ctx, http.MethodPost, url, "application/json", request, &answer); err != nil {
		return "", err
	}
	return c.writeKubeconfig(user, answer.Status.Token)
}

// writeKubeconfig writes Dir/<user>.kubeconfig.
func (c *Cluster) writeKubeconfig(user, token string) (string, error) {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: %q
  user: {token: %q}
contexts:
- name: test
  context: {cluster: test, user: %q}
current-context: test
`, c.URL, base64.StdEncoding.EncodeToString(c.pki.caPEM), user, token, user)
	path := c.path(strings.NewReplacer("/", "_", ":", "_").Replace(user) + ".kubeconfig")
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// MakePodReady sets whether a running pod is ready, and therefore whether EndpointSlices list it as ready.
// Nothing reverts it: KWOK acts only on pods that do not run yet. The same with kubectl:
//
//	kubectl patch pod NAME --subresource=status -p \
//	  '{"status":{"conditions":[{"type":"Ready","status":"False"}]}}'
//
// A pod with the annotation cluster.test/ready: "false" is unready from its start. The READY column of
// `kubectl get pods` counts containers and does not change.
func (c *Cluster) MakePodReady(ctx context.Context, namespace, name string, ready bool) error {
	status := "False"
	if ready {
		status = "True"
	}
	now := time.Now().UTC().Format(time.RFC3339)
	patch := object{"status": object{"conditions": []object{
		{"type": "Ready", "status": status, "lastTransitionTime": now},
		{"type": "ContainersReady", "status": status, "lastTransitionTime": now},
	}}}
	url := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/status", namespace, name)
	return c.api.do(ctx, http.MethodPatch, url, "application/strategic-merge-patch+json", patch, nil)
}

// Logs copies the end of each component's log to w, for tests that fail.
func (c *Cluster) Logs(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.running)) {
		fmt.Fprintf(w, "--- %s\n%s\n", name, c.running[name].tail())
	}
}
