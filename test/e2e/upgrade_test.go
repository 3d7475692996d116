package e2e

// One version of mirrorgate replaces another, as images on the node: the version of the commit before the
// last one that changed the product, and this one.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mirrorgate/mirrorgate/test/cluster"
	"github.com/mirrorgate/mirrorgate/test/cluster/nodetest"
)

const beforeTag = "e2e-before"

// product is the list of paths that make up a release.
var product = []string{"certs", "cmd", "go.mod", "internal", "manifests", "patch", "webhook"}

// beforeOverlay returns the folder in which the previous version has its manifests.
func beforeOverlay(dir string) string {
	return filepath.Join(dir, "before", "test", "e2e", "testdata", "install")
}

// buildBefore builds the image of the previous version. A checkout without history has none: then it is this
// version, and the test only shows that pods can be replaced.
func buildBefore(ctx context.Context, dir string) error {
	source := filepath.Join(dir, "before")
	if err := checkOut(ctx, source); err != nil {
		suite.Progress("no previous version (%v): this version replaces itself", err)
		root := filepath.Join("..", "..")
		if err := errors.Join(os.RemoveAll(source), os.MkdirAll(source, 0o755)); err != nil {
			return err
		}
		for _, name := range product {
			if out, err := exec.CommandContext(ctx, "cp", "-R", filepath.Join(root, name), source).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		if out, err := exec.CommandContext(ctx, "cp", filepath.Join(root, "go.sum"), source).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	overlay, err := os.ReadFile(filepath.Join("testdata", "install", "kustomization.yaml"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(overlay), "newTag: e2e}", "newTag: "+beforeTag+"}", 1)
	binary := filepath.Join(dir, "mirrorgate-before")
	err = errors.Join(
		os.MkdirAll(beforeOverlay(dir), 0o755),
		os.WriteFile(filepath.Join(beforeOverlay(dir), "kustomization.yaml"), []byte(text), 0o600),
		nodetest.Build(ctx, source, "./cmd/mirrorgate", binary))
	if err != nil {
		return err
	}
	image := cluster.Image{
		Name: "mirrorgate/mirrorgate:" + beforeTag, User: "65532:65532", Entrypoint: []string{"/mirrorgate"},
		Fill: cluster.Program("mirrorgate", binary),
	}
	return image.Write(filepath.Join(dir, "mirrorgate-before.tar"))
}

// checkOut writes the sources of the previous version into a folder.
func checkOut(ctx context.Context, dir string) error {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*", "-C", filepath.Join("..", "..")}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git(append([]string{"log", "-1", "--format=%H~1", "--"}, product...)...)
	if err != nil {
		return err
	}
	if commit, err = git("rev-parse", "--verify", "--quiet", commit); err != nil {
		return err
	}
	archive := dir + ".source"
	if _, err := git("archive", "--format=tar", "--output="+archive, commit); err != nil {
		return err
	}
	suite.Progress("the previous version is %s", commit)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return exec.CommandContext(ctx, "tar", "-C", dir, "-xf", archive).Run()
}

func TestRollbackToThePreviousImageAndUpgradeDenyNothing(t *testing.T) {
	installed(t)
	s := newStage(t, "upgraded")
	s.apply(t, documents+"httpbin-v1.yaml", documents+"httpbin.yaml", documents+"httpbin-v2.yaml",
		documents+"default-route.yaml", documents+"mirror-route.yaml")
	s.mirrorBecomes(t, "active")
	stop := s.writing(t)
	for _, to := range []struct{ overlay, tag string }{{beforeOverlay(node.work), beforeTag}, {"testdata/install", "e2e"}} {
		t.Logf("change to version %s", to.tag)
		// Some older versions owned the failure policy field themselves.
		kubectl(t, "apply", "--server-side", "--force-conflicts", "-k="+to.overlay)
		kubectl(t, "-n=mirrorgate-system", "rollout", "status", "deployment/mirrorgate", "--timeout="+wait.String())
		armed(t)
		images := kubectl(t, "-n=mirrorgate-system", "get", "pods", mirrorgatePods, "--field-selector=status.phase=Running",
			"-o=jsonpath={.items[*].spec.containers[*].image}")
		require.Contains(t, images, "mirrorgate/mirrorgate:"+to.tag)
		// A mirror that one version has parked, the other restores.
		s.scale(t, "0")
		s.mirrorBecomes(t, "parked")
	}
	s.scale(t, "1")
	s.mirrorBecomes(t, "active")
	stop()
}
