// Package e2e follows Istio's mirroring task, in its Gateway API form, on a real node: pods that run, a real
// httpbin, and mirrorgate installed from manifests/ and called by the API server through its Service.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/cluster"
)

func TestMain(m *testing.M) {
	flag.Parse()
	ctx := context.Background() //nolint:forbidigo // TestMain has no test context
	var code int
	var err error
	if *kubeconfig != "" {
		code, err = runThere(ctx, m)
	} else {
		code, err = run(ctx, m)
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

// run gets everything that has to come from outside, and then runs the tests in a sandbox, which has no way
// out.
func run(ctx context.Context, m *testing.M) (code int, err error) {
	options := cluster.Options{CRDs: []string{"gateway-api"}, RealNode: true, Progress: os.Stderr}
	if cluster.InSandbox() {
		return play(ctx, m, options)
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("needs root: it makes namespaces, mounts and control groups of its own")
	}
	// A signal ends the downloads, and their files are removed.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	images, err := os.MkdirTemp("", "mirrorgate-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(images)
	err = errors.Join(install(ctx, cluster.NodePackages()...), cluster.BuildNode(ctx, options))
	if err != nil {
		return 1, err
	}
	progress("building mirrorgate and the images")
	err = errors.Join(
		build(ctx, filepath.Join("..", "cluster"), "./cmd/cluster", filepath.Join(images, clusterProgram)),
		buildMirrorgate(ctx, images), buildBefore(ctx, images), buildHttpbin(ctx, images), os.Setenv(imagesEnv, images))
	if err != nil {
		return 1, err
	}
	return cluster.Sandbox()
}

// imagesEnv names the folder of the images for the program in the sandbox.
const imagesEnv = "MIRRORGATE_E2E_IMAGES"

// play runs the tests in the sandbox.
func play(ctx context.Context, m *testing.M, options cluster.Options) (code int, err error) {
	ours, err := cluster.Start(ctx, options)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	node = site{kubeconfig: ours.Kubeconfig, kubectl: ours.KubectlPath, work: os.Getenv(imagesEnv)}
	images, err := filepath.Glob(filepath.Join(node.work, "*.tar"))
	for _, image := range images {
		progress("loading %s", filepath.Base(image))
		err = errors.Join(err, ours.LoadImage(ctx, image))
	}
	if err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "e2e: "+format+"\n", args...)
}
