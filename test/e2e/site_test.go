package e2e

// Where the tests run: on a node that this suite starts, or on an existing cluster.

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/nodetest"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "run on this cluster, which already has the images, in place of a node of the suite's own")
	onNode     = flag.String("on-node", "", "with -kubeconfig: the prefix that runs a command on the cluster's one node, such as docker exec NAME")
)

// site is a cluster with the images, and the means by which tests reach it.
type site struct {
	kubeconfig string
	kubectl    string   // path of the program
	onNode     []string // prefix of a command that runs on the node
	work       string   // folder of the programs under test, deleted after the tests
}

// node is the cluster that the tests share. They run one after the other, in source order.
var node site

// visit prepares an existing cluster: it may lack the routes' CRDs, and needs a mirrorgate binary outside of
// it.
func visit(ctx context.Context, kubeconfig, onNode string) (s site, err error) {
	if onNode == "" {
		return s, errors.New("-kubeconfig needs -on-node too: a test kills processes")
	}
	s = site{kubeconfig: kubeconfig, kubectl: "kubectl", onNode: strings.Fields(onNode)}
	if s.work, err = os.MkdirTemp("", "mirrorgate-e2e-"); err != nil {
		return s, err
	}
	suite.Progress("building mirrorgate")
	if err := nodetest.Build(ctx, filepath.Join("..", ".."), "./cmd/mirrorgate", s.mirrorgate()); err != nil {
		return s, err
	}
	crds, err := cluster.CRDs(ctx, os.Stderr, "gateway-api")
	if err != nil {
		return s, err
	}
	if _, err := s.Kubectl(ctx, string(crds), "apply", "--server-side", "-f=-"); err != nil {
		return s, err
	}
	_, err = s.Kubectl(ctx, "", "wait", "--for=condition=Established", "customresourcedefinition/httproutes.gateway.networking.k8s.io")
	return s, err
}

// mirrorgate is the program under test.
func (s site) mirrorgate() string { return filepath.Join(s.work, "mirrorgate") }

// Kubectl runs kubectl as the administrator with stdin as its input and returns its output. The error
// contains its stderr.
func (s site) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.kubectl, args...)
	// It has its own cache, since other clusters may reuse the address.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig, "KUBECACHEDIR="+filepath.Join(s.work, "cache"))
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cluster.Run(cmd); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// shell runs a script on the node, as root, and returns its output.
func (s site) shell(ctx context.Context, script string, args ...string) (string, error) {
	command := slices.Concat(s.onNode, []string{"sh", "-c", script, "sh"}, args)
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("on the node: %w: %s", err, out)
	}
	return string(out), nil
}
