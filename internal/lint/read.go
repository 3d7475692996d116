package lint

// Reading files, folders and standard input. write.go writes fixed files; no other file of this
// package does I/O.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is the text of one file.
type Source struct {
	Name string
	Text []byte
	// Found is set for a file that was found in a folder. It may hold no object at all, like the values of a
	// Helm chart.
	Found bool
}

// The names of standard input: among paths, and in findings.
const (
	stdin     = "-"
	stdinName = "<stdin>"
)

var extensions = []string{".yaml", ".yml", ".json"}

// Read reads files, folders with all YAML and JSON files below them except those in hidden folders, and
// standard input for "-". A file that is named twice is read once. The error joins the errors of all files that
// could not be read; the sources are the others.
func Read(in io.Reader, paths ...string) ([]Source, error) {
	var sources []Source
	var failures []error
	seen := map[string]bool{}
	for _, path := range paths {
		found, err := find(path)
		for _, source := range found {
			if name := filepath.Clean(source.Name); !seen[name] {
				seen[name] = true
				sources = append(sources, source)
			}
		}
		failures = append(failures, err) // Join leaves out nil
	}
	errs := make([]error, len(sources))
	_ = parallel(context.Background(), len(sources), func(n int) error { // it always returns nil
		sources[n].Text, errs[n] = read(in, sources[n].Name)
		return nil
	})
	var out []Source
	for n := range sources {
		if errs[n] == nil {
			out = append(out, sources[n])
		}
	}
	return out, errors.Join(append(failures, errs...)...)
}

func read(in io.Reader, name string) ([]byte, error) {
	if name != stdinName {
		return os.ReadFile(name)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stdinName, err)
	}
	return text, nil
}

// find returns the sources that a path stands for, without their texts.
func find(path string) ([]Source, error) {
	if path == stdin {
		return []Source{{Name: stdinName}}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return findInFolder(path)
	}
	return []Source{{Name: path}}, nil
}

func findInFolder(folder string) ([]Source, error) {
	var sources []Source
	var failures []error
	failures = append(failures, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			failures = append(failures, err)
		case entry.IsDir() && path != folder && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
			sources = append(sources, Source{Name: path, Found: true})
		}
		return nil
	}))
	if err := errors.Join(failures...); err != nil || len(sources) > 0 {
		return sources, err
	}
	return nil, fmt.Errorf("%s: no file in it ends in %s", folder, strings.Join(extensions, ", "))
}
