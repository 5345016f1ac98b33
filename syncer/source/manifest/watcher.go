package manifest

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/fsnotify/fsnotify"
)

// watcher says when something may have changed in some folders. Without support of the operating
// system it never does, and the slow rescan finds everything.
type watcher struct {
	notify *fsnotify.Watcher
	log    *slog.Logger
	// folders that are watched, as they were then: one that was replaced must be watched anew.
	folders map[string]fs.FileInfo
	failed  map[string]bool
}

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, folders: map[string]fs.FileInfo{}, failed: map[string]bool{}}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("cannot watch files, edits are found by rescans only", "error", err)
		return w
	}
	w.notify = notify
	return w
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.notify == nil {
		return nil
	}
	return w.notify.Events
}

func (w *watcher) errors() <-chan error {
	if w.notify == nil {
		return nil
	}
	return w.notify.Errors
}

// follow has exactly these folders watched. It reports whether one was not watched before: then
// what happened in it until now may have gone unseen.
func (w *watcher) follow(folders ...string) (added bool) {
	if w.notify == nil {
		return false
	}
	wanted := make(map[string]bool, len(folders))
	for _, dir := range folders {
		wanted[dir] = true
		info, err := os.Stat(dir)
		if err != nil {
			continue // The look at the folder says so.
		}
		if watched, found := w.folders[dir]; found && os.SameFile(watched, info) {
			continue
		}
		w.forget(dir)
		if err := w.notify.Add(dir); err != nil {
			w.warn(dir, err)
			continue
		}
		delete(w.failed, dir)
		w.folders[dir] = info
		added = true
	}
	for dir := range w.folders {
		if !wanted[dir] {
			w.forget(dir)
		}
	}
	return added
}

func (w *watcher) forget(dir string) {
	if _, found := w.folders[dir]; !found {
		return
	}
	delete(w.folders, dir)
	// It fails when the folder is gone, and its watch with it.
	if err := w.notify.Remove(dir); err != nil {
		w.log.Debug("stop watching a folder", "folder", dir, "error", err)
	}
}

func (w *watcher) warn(dir string, err error) {
	if !w.failed[dir] {
		w.failed[dir] = true
		w.log.Warn("cannot watch folder, edits are found by rescans only", "folder", dir, "error", err)
	}
}

func (w *watcher) close() error {
	if w.notify == nil {
		return nil
	}
	if err := w.notify.Close(); err != nil {
		return fmt.Errorf("stop watching files: %w", err)
	}
	return nil
}
