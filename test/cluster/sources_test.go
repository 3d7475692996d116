// When components are built again, and when not.

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestPinned(t *testing.T) {
	const goMod = "module x\n\nrequire k8s.io/a v1.2.3 // indirect\n\nrequire (\n\tk8s.io/b/v2 v2.0.0\n)\n\nreplace (\n\tk8s.io/c => k8s.io/c v0.1.0\n)\n"
	for module, want := range map[string]string{"k8s.io/a": "v1.2.3", "k8s.io/b/v2": "v2.0.0", "k8s.io/b": "", "k8s.io/c": ""} {
		got, err := pinned([]byte(goMod), module)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", module, got, err, want)
		}
	}
}

func TestCacheKeyFollowsWhatIsBuilt(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	key := func(recipe string) {
		k, _, err := cacheKey(dir, "tool", "example.com/tool", recipe)
		if err != nil || seen[k] {
			t.Errorf("%s: %v", k, err)
		}
		seen[k] = true
	}
	write("go.mod", "require example.com/tool v1.0.0\n")
	write("go.sum", "a")
	key("recipe")
	key("other recipe")
	write("go.sum", "b")
	key("recipe")
	write("go.mod", "require example.com/tool v1.0.1\n")
	key("recipe")
	write("main.go", "package main")
	key("recipe")
}

func TestOnceBuildsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "built")
	var built atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			err := once(t.Context(), path, nil, func() error {
				built.Add(1)
				return os.WriteFile(path, nil, 0o600)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
}

func TestWaitingForALockCanBeCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "built")
	err := once(t.Context(), path, nil, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/5)
		defer cancel()
		return once(ctx, path, nil, func() error { return nil })
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestBuildKnowsItsComponents(t *testing.T) {
	if _, err := Build(t.Context(), nil, "docker"); err == nil {
		t.Error("Build accepts an unknown component")
	}
}

// The node's module is separate from the control plane's, but a cluster has one version.
func TestNodeHasTheControlPlanesVersion(t *testing.T) {
	var versions [2]string
	for i, folder := range []string{"kubernetes", "node"} {
		goMod, err := os.ReadFile(filepath.Join("components", folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if versions[i], err = pinned(goMod, "k8s.io/kubernetes"); err != nil {
			t.Fatal(err)
		}
	}
	if versions[0] != versions[1] {
		t.Errorf("control plane %s, node %s", versions[0], versions[1])
	}
}
