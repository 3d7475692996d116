package lint

// The only file here that reads anything.

import (
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
	// Found is set for a file of a folder: it may hold what is no object at all,
	// as a Helm chart's values.
	Found bool
}

// stdin names standard input among paths, and in findings.
const (
	stdin     = "-"
	stdinName = "<stdin>"
)

var extensions = []string{".yaml", ".yml", ".json"}

// Read reads files, folders with all the YAML and JSON below them (hidden
// folders left out), and standard input for "-". It reads what it can: the
// error joins what it could not.
func Read(in io.Reader, paths ...string) ([]Source, error) {
	var sources []Source
	var failures []error
	for _, path := range paths {
		found, err := read(in, path)
		sources = append(sources, found...)
		if err != nil {
			failures = append(failures, err)
		}
	}
	return sources, errors.Join(failures...)
}

func read(in io.Reader, path string) ([]Source, error) {
	if path == stdin {
		text, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stdinName, err)
		}
		return []Source{{Name: stdinName, Text: text}}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readFolder(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return []Source{{Name: path, Text: text}}, nil
}

func readFolder(folder string) ([]Source, error) {
	var sources []Source
	var failures []error
	var paths []string
	failures = append(failures, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			failures = append(failures, err)
		case entry.IsDir() && path != folder && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
			paths = append(paths, path)
		}
		return nil
	}))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		sources = append(sources, Source{Name: path, Text: text, Found: true})
	}
	if err := errors.Join(failures...); err != nil || len(paths) > 0 {
		return sources, err
	}
	return nil, fmt.Errorf("%s: no file in it ends in %s", folder, strings.Join(extensions, ", "))
}
