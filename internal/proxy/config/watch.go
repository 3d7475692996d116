package config

// Noticing that files change, in place, by rename, or as Kubernetes does it with ConfigMaps
// and Secrets: by swapping a symbolic link to their folder.

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quietPeriod is how long nothing may happen before a change counts as done: files are written
// in several steps.
const quietPeriod = 50 * time.Millisecond

// Watcher calls back when files may have changed.
type Watcher struct {
	watcher *fsnotify.Watcher
	folders map[string]bool
}

// NewWatcher returns a watcher of nothing yet. Run closes it.
func NewWatcher() (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &Watcher{watcher: w, folders: map[string]bool{}}, nil
}

// Watch adds the folders of files and of what they link to. Call it before Run, or in its
// callback.
func (w *Watcher) Watch(files []string) error {
	var errs []error
	for _, file := range files {
		folders := []string{filepath.Dir(file)}
		if target, err := filepath.EvalSymlinks(file); err == nil {
			folders = append(folders, filepath.Dir(target))
		}
		for _, folder := range folders {
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

// Run calls changed once at the start, since something may have changed before the folders
// were watched, after something in them has changed, and whenever poke is sent to. It ends
// with ctx.
func (w *Watcher) Run(ctx context.Context, poke <-chan struct{}, changed func()) {
	defer w.watcher.Close()
	quiet := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			if event.Op == fsnotify.Remove {
				delete(w.folders, event.Name) // a folder that comes back is a new one
			}
			if event.Op != fsnotify.Chmod {
				quiet.Reset(quietPeriod)
			}
		case _, ok := <-w.watcher.Errors: // events were lost; look for ourselves
			if ok {
				quiet.Reset(quietPeriod)
			}
		case <-poke:
			changed()
		case <-quiet.C:
			changed()
		}
	}
}
