package config

// Watching files for changes: in place, by rename, and by replacing a symbolic link to their folder, as
// Kubernetes does it for ConfigMaps and Secrets.

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quietPeriod is the time without events after which a change is regarded as complete: files are often
// written in several steps.
const quietPeriod = 50 * time.Millisecond

// Watcher calls back when files may have changed.
type Watcher struct {
	watcher *fsnotify.Watcher
	folders map[string]bool
}

// NewWatcher returns a watcher without files. Run closes it.
func NewWatcher() (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &Watcher{watcher: w, folders: map[string]bool{}}, nil
}

// Watch adds the folders of files, and of the files that they link to. Call it before Run or in Run's
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

// Run calls changed after every change in the folders, and for every value from poke. It also calls changed
// once at the start, because a file may have changed before its folder was watched. It returns when ctx ends.
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
				delete(w.folders, event.Name) // a folder of the same name must be watched anew
			}
			if event.Op != fsnotify.Chmod {
				quiet.Reset(quietPeriod)
			}
		case _, ok := <-w.watcher.Errors: // events were lost, so files may have changed
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
