// The locations of the modules that pin the components, and of the folder in which the built components are
// kept.

package cluster

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// BinEnv names the environment variable for the folder that holds the built components, in place of
// bin/cluster at the top of the repository. Several clones can share one folder.
const BinEnv = "MIRRORGATE_CLUSTER_BIN"

// sourceDir returns the folder of this package's source: the one that the compiler recorded or, for a binary
// built with -trimpath, test/cluster in the working directory or a folder above it.
func sourceDir() (string, error) {
	isSource := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "components", "kubernetes", "go.mod"))
		return err == nil
	}
	_, file, _, _ := runtime.Caller(0)
	if dir := filepath.Dir(file); filepath.IsAbs(dir) && isSource(dir) {
		return dir, nil
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if source := filepath.Join(dir, "test", "cluster"); isSource(source) {
			return source, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no test/cluster/components in the working directory or above it: run this inside the repository")
		}
	}
}

// cacheDir returns the folder of the built components. It is created with a .gitignore of its own, since its
// contents never belong into git, wherever it is.
func cacheDir(source string) (string, error) {
	dir := os.Getenv(BinEnv)
	if dir == "" {
		dir = filepath.Join(source, "..", "..", "bin", "cluster")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	ignore := filepath.Join(dir, ".gitignore")
	if _, err := os.Stat(ignore); errors.Is(err, fs.ErrNotExist) {
		return dir, os.WriteFile(ignore, []byte("*\n"), 0o644)
	}
	return dir, nil
}

// pinned reads the version of a module from a go.mod's text, so that a version is written in one place only.
// The go command puts each requirement on a line of its own: "path version".
func pinned(goMod []byte, module string) (string, error) {
	for line := range strings.Lines(string(goMod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.HasPrefix(fields[1], "v") {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("no version of %s in go.mod", module)
}

// hashSources adds the programs that a module contains beside its pinned versions, if any.
func hashSources(hash io.Writer, moduleDir string) error {
	return filepath.WalkDir(moduleDir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(hash, "%d\n%s", len(text), text)
		return err
	})
}

// cacheKey returns "name-version-hash". The hash covers the module's files and the recipe, so a component is
// built again if and only if its result would change.
func cacheKey(moduleDir, name, module, recipe string) (key, version string, err error) {
	goMod, err := os.ReadFile(filepath.Join(moduleDir, "go.mod"))
	if err != nil {
		return "", "", err
	}
	goSum, err := os.ReadFile(filepath.Join(moduleDir, "go.sum"))
	if err != nil {
		return "", "", err
	}
	if version, err = pinned(goMod, module); err != nil {
		return "", "", fmt.Errorf("%s: %w", moduleDir, err)
	}
	hash := sha256.New()
	for _, part := range [][]byte{goMod, goSum, []byte(recipe)} {
		fmt.Fprintf(hash, "%d\n%s", len(part), part)
	}
	if err := hashSources(hash, moduleDir); err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%s-%s-%x", name, version, hash.Sum(nil)[:6]), version, nil
}

// folders returns the folder of this module's sources and the folder of the built components.
func folders() (source, cache string, err error) {
	if source, err = sourceDir(); err != nil {
		return "", "", err
	}
	cache, err = cacheDir(source)
	return source, cache, err
}
