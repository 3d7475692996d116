package lint

// Writing fixed files: each is replaced as a whole, so that no reader ever sees half of one.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Write replaces the file of a fixed source. It refuses a symbolic link, a file that may not be written, and one
// that has changed since it was read.
func (f Fixed) Write() error {
	if f.Name == stdinName {
		return errors.New("standard input cannot be fixed in place; --diff shows the fixes")
	}
	info, err := os.Lstat(f.Name)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(f.Name)
		return fmt.Errorf("%s: is a symbolic link to %s; fix that file", f.Name, to)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is no regular file", f.Name)
	case info.Mode().Perm()&0o200 == 0:
		return fmt.Errorf("%s: is read-only", f.Name)
	}
	now, err := os.ReadFile(f.Name)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, f.Before) {
		return fmt.Errorf("%s: has changed since it was read", f.Name)
	}
	return replaceFile(f.Name, f.Text, info.Mode().Perm())
}

// replaceFile writes a new file beside another one and moves it there.
func replaceFile(name string, text []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(name), ".mirrorgate-*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Chmod(file.Name(), mode)
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return err
}

// Diff returns the fixes as a unified diff.
func (f Fixed) Diff() string {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: slices.Collect(strings.Lines(string(f.Before))), B: slices.Collect(strings.Lines(string(f.Text))),
		FromFile: f.Name, ToFile: f.Name + " (fixed)", Context: 3,
	})
	if err != nil { // it writes to memory, which does not fail
		return ""
	}
	return text
}
