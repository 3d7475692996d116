// Package mesh runs the Gateway API's own conformance tests for meshes against mirrorgate's proxies, on a real node:
// the suite calls its clients by exec in pods, and they call Services by name.
package mesh

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/nodetest"
)

// kubectl is the path of the program.
var kubectl string

func TestMain(m *testing.M) {
	flag.Parse()
	suite := nodetest.Suite{
		Name: "mesh", CRDs: []string{"gateway-api"}, Prepare: prepare,
		Run: func(ours *cluster.Cluster, _ string) int {
			kubectl = ours.KubectlPath
			// The suite reads it, and so do the programs that a test starts.
			if err := os.Setenv("KUBECONFIG", ours.Kubeconfig); err != nil {
				fmt.Fprintln(os.Stderr, "mesh:", err)
				return 1
			}
			return m.Run()
		},
	}
	run := suite.Main
	if *control {
		run = func(context.Context) (int, error) { return m.Run(), nil }
	}
	code, err := run(context.Background()) //nolint:forbidigo // TestMain has no test context
	if err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
		code = 1
	}
	os.Exit(code)
}

// prepare makes the image of mirrorgate, and the one that the suite's manifests name.
func prepare(ctx context.Context, dir string) error {
	return errors.Join(nodetest.BuildMirrorgate(ctx, filepath.Join("..", "..", ".."), dir), buildEcho(ctx, dir))
}

// The suite's image is Istio's echo program under another name.
const (
	echoImage    = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1"
	echoPrograms = "istio.io/istio/pkg/test/echo/cmd/"
	echoCerts    = "tests/testdata/certs/dns"
)

// buildEcho makes that image as Istio's Dockerfile.app does.
func buildEcho(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f={{.Dir}}", "istio.io/istio").Output()
	if err != nil {
		return fmt.Errorf("go list -m istio.io/istio: %w", err)
	}
	certs := filepath.Join(strings.TrimSpace(string(out)), echoCerts)
	files := map[string]string{"cert.crt": filepath.Join(certs, "cert-chain.pem"), "cert.key": filepath.Join(certs, "key.pem")}
	for _, program := range []string{"client", "server"} {
		binary := filepath.Join(dir, "echo-"+program)
		if err := nodetest.Build(ctx, ".", echoPrograms+program, binary); err != nil {
			return err
		}
		files["usr/local/bin/"+program] = binary
	}
	image := cluster.Image{
		Name: echoImage, User: "1338", Entrypoint: []string{"/usr/local/bin/server"}, Env: []string{"PATH=/usr/local/bin"},
		Fill: func(layer *tar.Writer) error {
			for name, path := range files {
				if err := cluster.Program(name, path)(layer); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return image.Write(filepath.Join(dir, "echo.tar"))
}
