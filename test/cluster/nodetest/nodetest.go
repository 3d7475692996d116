// Package nodetest runs the tests of a package on a real node. All that has to come from outside (packages, programs,
// images) is made first, and the tests then run in a sandbox, which has no way out.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/debian"
)

// MirrorgateImage is the name of the image of the program under test.
const MirrorgateImage = "mirrorgate/mirrorgate:e2e"

// Suite describes the tests of a package.
type Suite struct {
	// Name is in the names of temporary folders, and before each line about progress.
	Name string
	// CRDs are the sets that the cluster has.
	CRDs []string
	// Prepare makes images, as files dir/*.tar, and what else the tests need from outside. Tests find it in dir.
	Prepare func(ctx context.Context, dir string) error
	// Run runs the tests in the sandbox, on a node that has the images.
	Run func(ours *cluster.Cluster, dir string) (code int)
}

// Main returns the exit code of the tests. It is for TestMain, and needs root.
func (s *Suite) Main(ctx context.Context) (code int, err error) {
	options := cluster.Options{CRDs: s.CRDs, RealNode: true, Progress: os.Stderr}
	folder := "MIRRORGATE_" + strings.ToUpper(s.Name) + "_IMAGES" // names the folder for the program in the sandbox
	if cluster.InSandbox() {
		return s.inSandbox(ctx, options, os.Getenv(folder))
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("needs root: it makes namespaces, mounts and control groups of its own")
	}
	// A signal ends the downloads, and their files are removed.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "mirrorgate-"+s.Name+"-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if packages := cluster.NodePackages(); len(packages) > 0 {
		s.Progress("installing %s", strings.Join(packages, " "))
		if err := debian.Install(ctx, packages...); err != nil {
			return 1, err
		}
	}
	if err := cluster.BuildNode(ctx, options); err != nil {
		return 1, err
	}
	s.Progress("building programs and images")
	if err := errors.Join(s.Prepare(ctx, dir), os.Setenv(folder, dir)); err != nil {
		return 1, err
	}
	return cluster.Sandbox()
}

func (s *Suite) inSandbox(ctx context.Context, options cluster.Options, dir string) (code int, err error) {
	ours, err := cluster.Start(ctx, options)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	images, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	for _, image := range images {
		s.Progress("loading %s", filepath.Base(image))
		err = errors.Join(err, ours.LoadImage(ctx, image))
	}
	if err != nil {
		return 1, err
	}
	return s.Run(ours, dir), nil
}

// Progress writes a line about the progress of the preparations.
func (s *Suite) Progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, s.Name+": "+format+"\n", args...)
}

// Build builds a program of the module in dir as the Dockerfile does.
func Build(ctx context.Context, dir, pkg, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=e2e", "-o", binary, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// BuildMirrorgate makes the image that the Dockerfile describes, from the repository at root. The program is dir/mirrorgate
// then.
func BuildMirrorgate(ctx context.Context, root, dir string) error {
	binary := filepath.Join(dir, "mirrorgate")
	if err := Build(ctx, root, "./cmd/mirrorgate", binary); err != nil {
		return err
	}
	image := cluster.Image{
		Name: MirrorgateImage, User: "65532:65532", Entrypoint: []string{"/mirrorgate"},
		Fill: cluster.Program("mirrorgate", binary),
	}
	return image.Write(filepath.Join(dir, "mirrorgate.tar"))
}
