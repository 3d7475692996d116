package e2e

// The image with httpbin and curl, made from Debian's packages without a container engine or a registry.

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
	"github.com/mirrorgate/mirrorgate/test/cluster/nodetest"
)

var (
	httpbinPackages = []string{"python3-httpbin", "gunicorn", "curl", "coreutils"}
	httpbinEnv      = []string{"PYTHONDONTWRITEBYTECODE=1", `GUNICORN_CMD_ARGS=--access-logformat '"%(r)s" %(s)s "%(a)s" "%({host}i)s"'`}
)

func TestHttpbinDockerfileInstallsTheSamePackages(t *testing.T) {
	text, err := os.ReadFile("httpbin.Dockerfile")
	require.NoError(t, err)
	require.Contains(t, string(text), "apt-get install -qy --no-install-recommends "+strings.Join(httpbinPackages, " ")+" &&")
	for _, variable := range httpbinEnv {
		name, value, _ := strings.Cut(variable, "=")
		require.Contains(t, string(text), "\nENV "+name+"="+strconv.Quote(value)+"\n")
	}
}

// buildHttpbin builds an image of Debian's httpbin and curl, under the names that the documents have for
// both. It is the httpbin that they mean, and its log shows the host of each request, which the documents
// refer to.
func buildHttpbin(ctx context.Context, dir string) error {
	packages, err := download(ctx, dir, httpbinPackages...)
	if err != nil {
		return err
	}
	image := cluster.Image{
		Name: "kennethreitz/httpbin:latest", Aliases: []string{"curlimages/curl:latest"},
		Env: append([]string{"PATH=/usr/bin:/bin"}, httpbinEnv...),
		Fill: func(layer *tar.Writer) error {
			for _, pkg := range packages {
				if err := unpack(ctx, layer, pkg); err != nil {
					return err
				}
			}
			return layer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777})
		},
	}
	return image.Write(filepath.Join(dir, "httpbin.tar"))
}

// callsImage has the server and the client of gRPC and of TLS.
const callsImage = "mirrorgate/calls:e2e"

func buildCalls(ctx context.Context, dir string) error {
	binary := filepath.Join(dir, "calls")
	if err := nodetest.Build(ctx, ".", "./calls", binary); err != nil {
		return err
	}
	image := cluster.Image{Name: callsImage, Entrypoint: []string{"/calls"}, Fill: cluster.Program("calls", binary)}
	return image.Write(filepath.Join(dir, "calls.tar"))
}

// download gets Debian packages with all their dependencies, as if nothing were installed, and returns their
// paths.
func download(ctx context.Context, dir string, packages ...string) ([]string, error) {
	archives := filepath.Join(dir, "packages")
	status := filepath.Join(dir, "status") // the list of installed packages: empty
	err := errors.Join(os.MkdirAll(filepath.Join(archives, "partial"), 0o755), os.WriteFile(status, nil, 0o600))
	if err != nil {
		return nil, err
	}
	get := func() error {
		return debian.AptGet(ctx, append([]string{
			"-qy", "-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + archives,
			"-o", "APT::Sandbox::User=root", "--no-install-recommends", "--download-only", "install",
		}, packages...)...)
	}
	if err := get(); err != nil {
		// The package lists may be older than the archive.
		if err := errors.Join(debian.AptGet(ctx, "update", "-q"), get()); err != nil {
			return nil, err
		}
	}
	return filepath.Glob(filepath.Join(archives, "*.deb"))
}

// unpack adds the files of a Debian package to a layer. The package's scripts do not run: nothing here needs
// their effects.
func unpack(ctx context.Context, layer *tar.Writer, pkg string) error {
	var errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", pkg)
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	files := tar.NewReader(out)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w %s", pkg, err, errOut.String())
		}
		if err := layer.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(layer, files); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		return err
	}
	return cmd.Wait()
}
