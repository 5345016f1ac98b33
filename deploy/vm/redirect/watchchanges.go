package redirect

import (
	"errors"
	"io"
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

// folderInterval is how often folders are looked for that were not there.
const folderInterval = 10 * time.Second

// changes tells of changes of files. What it misses is seen by whoever looks now and then.
type changes struct {
	// C gets a value some time after a change.
	C       chan struct{}
	machine Machine
	watcher *fsnotify.Watcher
	running sync.WaitGroup
	log     *slog.Logger
}

func newChanges(m Machine, log *slog.Logger) (*changes, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	c := &changes{C: make(chan struct{}, 1), machine: m, watcher: watcher, log: log}
	c.running.Go(c.run)
	return c, nil
}

// Close ends it.
func (c *changes) Close() error {
	err := c.watcher.Close()
	c.running.Wait()
	return err
}

func joinClose(err error, c io.Closer) error { return errors.Join(err, c.Close()) }

func (c *changes) run() {
	c.addFolders()
	ticker := time.NewTicker(folderInterval)
	defer ticker.Stop()
	for {
		select {
		case event, open := <-c.watcher.Events:
			if !open {
				return
			}
			if c.counts(event.Name) {
				c.tell()
			}
		case err, open := <-c.watcher.Errors:
			if !open {
				return
			}
			c.log.Warn("changes may have been missed", "error", err)
			c.tell()
		case <-ticker.C:
			c.addFolders()
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
	for _, file := range watchedFiles {
		if path == c.machine.Path(file) {
			return true
		}
	}
	for _, folder := range watchedFolders {
		if filepath.Dir(path) == c.machine.Path(folder) {
			return true
		}
	}
	return false
}

// addFolders watches folders that are there, again and again: one that went and came is another.
func (c *changes) addFolders() {
	for _, file := range watchedFiles {
		c.add(filepath.Dir(file))
	}
	for _, folder := range watchedFolders {
		c.add(folder)
	}
}

func (c *changes) add(folder string) {
	if err := c.watcher.Add(c.machine.Path(folder)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) && !os.IsPermission(err) {
		c.log.Warn("not watched, and looked at now and then", "folder", folder, "error", err)
	}
}
