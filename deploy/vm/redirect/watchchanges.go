package redirect

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchedFiles are those whose change is worth a look at once. Their folders are watched, since files are replaced as a whole.
var watchedFiles = []string{
	resolvConf,
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
	"/run/resolvconf/resolv.conf",
	networkManagerFile,
	delegate.file,
	resolved.file,
}

// watchedFolders are those in which any file counts.
var watchedFolders = []string{"/run/resolvconf/interface", "/run/resolvconf/interfaces"}

// folderInterval is how often folders are looked for that were not there, and links are followed anew.
const folderInterval = 10 * time.Second

// maxLinks is how many symbolic links are followed from /etc/resolv.conf.
const maxLinks = 10

// changes tells of changes of files. What it misses is seen by whoever looks now and then.
type changes struct {
	// C gets a value some time after a change.
	C        chan struct{}
	machine  Machine
	interval time.Duration
	watcher  *fsnotify.Watcher
	running  sync.WaitGroup
	log      *slog.Logger

	// files are those whose change counts, as they are opened. refused are folders that cannot be watched, which was said.
	files   map[string]bool
	refused map[string]bool
}

func newChanges(m Machine, interval time.Duration, log *slog.Logger) (*changes, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	c := &changes{C: make(chan struct{}, 1), machine: m, interval: interval, watcher: watcher, log: log, refused: map[string]bool{}}
	c.addFolders()
	c.running.Go(c.run)
	return c, nil
}

// Close ends it.
func (c *changes) Close() error {
	err := c.watcher.Close()
	c.running.Wait()
	return err
}

func (c *changes) run() {
	ticker := time.NewTicker(c.interval)
	defer ticker.Stop()
	for {
		select {
		case event, open := <-c.watcher.Events:
			if !open {
				return
			}
			// A file that is labelled, or gets other rights, says the same.
			if event.Op != fsnotify.Chmod && c.counts(event.Name) {
				c.addFolders() // it may be a link that points elsewhere now
				c.tell()
			}
		case err, open := <-c.watcher.Errors:
			if !open {
				return
			}
			c.log.Warn("changes may have been missed", "error", err)
			c.tell()
		case <-ticker.C:
			if c.addFolders() {
				c.tell()
			}
		}
	}
}

func (c *changes) tell() {
	select {
	case c.C <- struct{}{}:
	default: // somebody will look anyway
	}
}

// counts reports whether a change of a file matters. /etc and /run have many others.
func (c *changes) counts(path string) bool {
	if c.files[path] {
		return true
	}
	for _, folder := range watchedFolders {
		if filepath.Dir(path) == c.machine.Path(folder) {
			return true
		}
	}
	return false
}

// addFolders watches folders that are there, again and again: one that went and came is another. It reports whether one has come, in
// which files may have changed already.
func (c *changes) addFolders() (came bool) {
	c.files = map[string]bool{}
	for _, file := range watchedFiles {
		c.files[c.machine.Path(file)] = true
	}
	for _, file := range c.linked() {
		c.files[file] = true
	}
	watched := map[string]bool{}
	for _, folder := range c.watcher.WatchList() {
		watched[folder] = true
	}
	wanted := map[string]bool{}
	for file := range c.files {
		wanted[filepath.Dir(file)] = true
	}
	for _, folder := range watchedFolders {
		wanted[c.machine.Path(folder)] = true
	}
	for folder := range wanted {
		if !watched[folder] && c.add(folder) {
			came = true
		}
	}
	for folder := range watched {
		if !wanted[folder] {
			// That it is gone by itself is as good.
			_ = c.watcher.Remove(folder)
		}
	}
	return came
}

// linked are the files that /etc/resolv.conf leads to as a symbolic link.
func (c *changes) linked() []string {
	var files []string
	for file := c.machine.Path(resolvConf); len(files) < maxLinks; {
		target, err := os.Readlink(file)
		if err != nil {
			break // it is no link, or is not there
		}
		if filepath.IsAbs(target) {
			file = c.machine.Path(target)
		} else {
			file = filepath.Join(filepath.Dir(file), target)
		}
		files = append(files, file)
	}
	return files
}

// add watches a folder that is there. One that cannot be is said once.
func (c *changes) add(folder string) bool {
	err := c.watcher.Add(folder)
	switch {
	case err == nil:
		delete(c.refused, folder)
		return true
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fsnotify.ErrClosed):
	case !c.refused[folder]:
		c.refused[folder] = true
		c.log.Warn("not watched, and looked at now and then", "folder", folder, "error", err)
	}
	return false
}
