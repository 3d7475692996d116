// Package e2e follows Istio's mirroring task, in its Gateway API form, on a real node: pods that run, a real
// httpbin, and mirrorgate installed from manifests/ and called by the API server through its Service.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/nodetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	ctx := context.Background() //nolint:forbidigo // TestMain has no test context
	var code int
	var err error
	if *kubeconfig != "" {
		code, err = runThere(ctx, m)
	} else {
		suite.Prepare = prepare
		suite.Run = func(ours *cluster.Cluster, dir string) int {
			node = site{kubeconfig: ours.Kubeconfig, kubectl: ours.KubectlPath, work: dir}
			return m.Run()
		}
		code, err = suite.Main(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// runThere runs the tests on an existing cluster.
func runThere(ctx context.Context, m *testing.M) (code int, err error) {
	// The first test starts a node of its own, and the second needs an image that is built beside that node.
	if err := flag.Set("test.skip", "^(TestInterruptedNodeLeavesNothing|TestRollbackToThePreviousImageAndUpgradeDenyNothing)$"); err != nil {
		return 1, err
	}
	node, err = visit(ctx, *kubeconfig, *onNode)
	if node.work != "" {
		defer os.RemoveAll(node.work)
	}
	if err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// suite runs the tests on a node of their own.
var suite = nodetest.Suite{Name: "e2e", CRDs: []string{"gateway-api"}}

// prepare makes what the tests need from outside of their sandbox.
func prepare(ctx context.Context, dir string) error {
	return errors.Join(
		nodetest.Build(ctx, filepath.Join("..", "cluster"), "./cmd/cluster", filepath.Join(dir, clusterProgram)),
		nodetest.BuildMirrorgate(ctx, filepath.Join("..", ".."), dir), buildBefore(ctx, dir), buildHttpbin(ctx, dir), buildCalls(ctx, dir))
}
