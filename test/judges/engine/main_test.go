// Package engine runs the traffic tests of the Gateway API's conformance suite against `mirrorgate proxy`. mirrorgate is no
// controller of Gateways: the one here is a part of the test. It writes the proxy's file from the objects of the suite,
// and says in their status what the suite waits for. So the tests judge how requests are routed, and no status.
package engine

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

// work is the folder of the program under test.
var work string

func TestMain(m *testing.M) {
	flag.Parse()
	suite := nodetest.Suite{
		Name: "engine", CRDs: []string{"gateway-api"}, Prepare: prepare,
		Run: func(ours *cluster.Cluster, dir string) int {
			work = dir
			if err := os.Setenv("KUBECONFIG", ours.Kubeconfig); err != nil { // the suite reads it
				fmt.Fprintln(os.Stderr, "engine:", err)
				return 1
			}
			return m.Run()
		},
	}
	code, err := suite.Main(context.Background()) //nolint:forbidigo // TestMain has no test context
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		code = 1
	}
	os.Exit(code)
}

// prepare builds mirrorgate, and the image that the suite's manifests name in two versions. The suite's module has the
// program.
func prepare(ctx context.Context, dir string) error {
	echo := filepath.Join(dir, "echo-basic")
	err := errors.Join(
		nodetest.Build(ctx, filepath.Join("..", "..", ".."), "./cmd/mirrorgate", filepath.Join(dir, "mirrorgate")),
		nodetest.Build(ctx, ".", "sigs.k8s.io/gateway-api/conformance/echo-basic", echo))
	if err != nil {
		return err
	}
	image := cluster.Image{
		Name: "registry.k8s.io/gateway-api/echo-basic:v1.5.1", Aliases: []string{"registry.k8s.io/gateway-api/echo-basic:v1.6.0-dev.3"},
		Entrypoint: []string{"/echo-basic"}, Fill: cluster.Program("echo-basic", echo),
	}
	return image.Write(filepath.Join(dir, "echo.tar"))
}
