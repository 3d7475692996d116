// Package e2e plays Istio's mirroring task, in its Gateway API form, on a real node: pods that run,
// a real httpbin, mirrorgate installed from manifests/, called by the API server through its Service.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/cluster"
)

// node is the cluster that the tests share. They run one after the other, in the order of a play.
var node *cluster.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// run gets everything that has to come from outside, and then runs the tests in a sandbox, which has
// no way out.
func run(m *testing.M) (code int, err error) {
	ctx := context.Background() //nolint:forbidigo // TestMain has no test context
	options := cluster.Options{CRDs: []string{"gateway-api"}, RealNode: true, Progress: os.Stderr}
	if cluster.InSandbox() {
		return play(ctx, m, options)
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("needs root: it makes namespaces, mounts and control groups of its own")
	}
	// A signal ends the downloads, and what they left is removed.
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
		buildMirrorgate(ctx, images), buildHttpbin(ctx, images), os.Setenv(imagesEnv, images))
	if err != nil {
		return 1, err
	}
	return cluster.Sandbox()
}

// imagesEnv tells the program in the sandbox where the images are.
const imagesEnv = "MIRRORGATE_E2E_IMAGES"

// play runs the tests in the sandbox.
func play(ctx context.Context, m *testing.M, options cluster.Options) (code int, err error) {
	if node, err = cluster.Start(ctx, options); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()
	images, err := filepath.Glob(filepath.Join(os.Getenv(imagesEnv), "*.tar"))
	for _, image := range images {
		progress("loading %s", filepath.Base(image))
		err = errors.Join(err, node.LoadImage(ctx, image))
	}
	if err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "e2e: "+format+"\n", args...)
}
