package e2e

// The images, made without a container engine or a registry: mirrorgate's own, and one with httpbin and curl
// from Debian's packages.

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
)

// install installs Debian packages.
func install(ctx context.Context, packages ...string) error {
	if len(packages) == 0 {
		return nil
	}
	progress("installing %s", strings.Join(packages, " "))
	if err := aptGet(ctx, "update", "-q"); err != nil {
		return err
	}
	return aptGet(ctx, append([]string{"install", "-qy", "--no-install-recommends"}, packages...)...)
}

// build builds a program of the module in dir as the Dockerfile does.
func build(ctx context.Context, dir, pkg, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=e2e", "-o", binary, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// buildMirrorgate builds the image that the Dockerfile describes.
func buildMirrorgate(ctx context.Context, dir string) error {
	binary := filepath.Join(dir, "mirrorgate")
	if err := build(ctx, filepath.Join("..", ".."), "./cmd/mirrorgate", binary); err != nil {
		return err
	}
	image := cluster.Image{
		Name: mirrorgateImage, User: "65532:65532", Entrypoint: []string{"/mirrorgate"},
		Fill: cluster.Program("mirrorgate", binary),
	}
	return image.Write(filepath.Join(dir, "mirrorgate.tar"))
}

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
		return aptGet(ctx, append([]string{
			"-qy", "-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + archives,
			"-o", "APT::Sandbox::User=root", "--no-install-recommends", "--download-only", "install",
		}, packages...)...)
	}
	if err := get(); err != nil {
		// The package lists may be older than the archive.
		if err := errors.Join(aptGet(ctx, "update", "-q"), get()); err != nil {
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

// aptGet runs apt-get; its output is part of the error.
func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

const mirrorgateImage = "mirrorgate/mirrorgate:e2e"
