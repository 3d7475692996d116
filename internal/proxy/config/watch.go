package config

// Watching files for changes: in place, by rename, and by replacing a symbolic link to their folder, as
// Kubernetes does it for ConfigMaps and Secrets.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quietPeriod is the time without events after which a change is regarded as complete: files are often
	// written in several steps.
	quietPeriod = 50 * time.Millisecond
	// longestDelay is how long further changes may delay the callback, and writingDelay how long a file may that
	// somebody has open for writing.
	longestDelay = time.Second
	writingDelay = 5 * time.Second
)

// Watcher calls back when files may have changed.
type Watcher struct {
	watcher *fsnotify.Watcher
	folders map[string]bool
	files   map[string][]string // of Watch, with the names whose change is one of the file
}

// NewWatcher returns a watcher without files. Run closes it.
func NewWatcher() (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &Watcher{watcher: w, folders: map[string]bool{}, files: map[string][]string{}}, nil
}

// Watch adds files; only their changes, and those of the links that lead to them, matter. Call it before Run or in
// Run's callback, again for files whose links may have changed.
func (w *Watcher) Watch(files []string) error {
	var errs []error
	for _, file := range files {
		w.files[file] = links(file)
		for _, name := range w.files[file] {
			folder := filepath.Dir(name)
			if w.folders[folder] {
				continue
			}
			if err := w.watcher.Add(folder); err != nil {
				errs = append(errs, err)
				continue
			}
			w.folders[folder] = true
		}
	}
	return errors.Join(errs...)
}

// maxLinks is how many symbolic links in a row are followed, as in Linux.
const maxLinks = 40

// links returns the names by which a change of a file shows: its own, those of the symbolic links on its path, and
// that of the file to which they lead.
func links(file string) []string {
	names := []string{filepath.Clean(file)}
	for range maxLinks {
		link, target := firstLink(names[len(names)-1])
		if link == "" {
			break
		}
		names = append(names, link, target)
	}
	return names
}

// firstLink returns the first symbolic link on a path, "" if there is none, and the path with its target instead.
func firstLink(path string) (link, target string) {
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != filepath.Separator {
			continue
		}
		to, err := os.Readlink(path[:end])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path[:end]), to)
		}
		return path[:end], filepath.Join(to, strings.TrimPrefix(path[end:], string(filepath.Separator)))
	}
	return "", ""
}

// concerns reports whether an event is about one of the files, or about a folder that must be watched anew.
func (w *Watcher) concerns(event fsnotify.Event) bool {
	name := filepath.Clean(event.Name)
	if event.Op == fsnotify.Chmod {
		return false
	}
	if w.folders[name] {
		return true
	}
	for _, names := range w.files {
		if slices.Contains(names, name) {
			return true
		}
	}
	return false
}

// written reports whether somebody has one of the files open for writing.
func (w *Watcher) written() bool {
	for file := range w.files {
		if openForWriting(file) {
			return true
		}
	}
	return false
}

// Run calls changed after every change of the files, and for every value from poke. It also calls changed once at
// the start, because a file may have changed before its folder was watched. It returns when ctx ends.
func (w *Watcher) Run(ctx context.Context, poke <-chan struct{}, changed func()) {
	defer w.watcher.Close()
	quiet := time.NewTimer(0)
	var first time.Time // the first change that was not reported
	change := func() {
		if first.IsZero() {
			first = time.Now()
		}
		quiet.Reset(max(min(quietPeriod, longestDelay-time.Since(first)), 0))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if !w.concerns(event) {
				continue
			}
			if event.Op == fsnotify.Remove {
				delete(w.folders, event.Name) // a folder of the same name must be watched anew
			}
			change()
		case _, ok := <-w.watcher.Errors: // events were lost, so files may have changed
			if ok {
				change()
			}
		case <-poke:
			changed()
		case <-quiet.C:
			if !first.IsZero() && time.Since(first) < writingDelay && w.written() {
				quiet.Reset(quietPeriod)
				continue
			}
			first = time.Time{}
			changed()
		}
	}
}
