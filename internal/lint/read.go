package lint

// Reading files, folders and standard input. No other file of this package does I/O.

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
// standard input for "-". The error joins the errors of all files that could not be read; the sources are the
// others.
func Read(in io.Reader, paths ...string) ([]Source, error) {
	var sources []Source
	var failures []error
	for _, path := range paths {
		found, err := read(in, path)
		sources = append(sources, found...)
		failures = append(failures, err) // Join leaves out nil
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
	failures = append(failures, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			failures = append(failures, err)
		case entry.IsDir() && path != folder && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !entry.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(path))):
			text, err := os.ReadFile(path) //nolint:gosec // the folder is its user's own
			if err != nil {
				failures = append(failures, err)
				return nil
			}
			sources = append(sources, Source{Name: path, Text: text, Found: true})
		}
		return nil
	}))
	if err := errors.Join(failures...); err != nil || len(sources) > 0 {
		return sources, err
	}
	return nil, fmt.Errorf("%s: no file in it ends in %s", folder, strings.Join(extensions, ", "))
}
