package redirect

import (
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// changed is a folder as a machine, of whose changes is told.
type changed struct {
	*changes
	t *testing.T
	Machine
}

// told fails unless a change is told soon.
func (c *changed) told(what string) {
	c.t.Helper()
	select {
	case <-c.C:
	case <-time.After(10 * time.Second):
		c.t.Errorf("%s: got nothing, want it told", what)
	}
	c.quiet(what)
}

// quiet has all that was told so far forgotten, and fails where it does not end: whoever is told reads the files.
func (c *changed) quiet(after string) {
	c.t.Helper()
	end := time.After(10 * time.Second)
	for {
		select {
		case <-c.C:
		case <-time.After(60 * time.Millisecond):
			return
		case <-end:
			c.t.Fatalf("%s: got ever more changes, want an end", after)
		}
	}
}

// untold fails if a change is told within the time that one takes many times over.
func (c *changed) untold(what string, change func()) {
	c.t.Helper()
	change()
	select {
	case <-c.C:
		c.t.Errorf("%s: got it told, want it left alone", what)
	case <-time.After(100 * time.Millisecond):
	}
}

func (c *changed) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *changed) folder(path string) {
	c.t.Helper()
	c.must(os.MkdirAll(c.Path(path), 0o755)) //nolint:gosec // as systems have them
}

func (c *changed) write(path, content string) {
	c.t.Helper()
	c.must(os.WriteFile(c.Path(path), []byte(content), 0o644)) //nolint:gosec // as systems have them
}

// replace has a file under its name at once, as most programs do.
func (c *changed) replace(path, content string) {
	c.t.Helper()
	c.write(path+".new", content)
	c.must(os.Rename(c.Path(path+".new"), c.Path(path)))
}

func (c *changed) link(path, target string) {
	c.t.Helper()
	c.must(errors.Join(unlessMissing(os.Remove(c.Path(path))), os.Symlink(target, c.Path(path))))
}

// watchChanges begins to watch. Folders are looked for that often.
func watchChanges(t *testing.T, interval time.Duration, prepare func(*changed)) *changed {
	t.Helper()
	c := &changed{t: t, Machine: Machine{Root: t.TempDir()}}
	c.folder("/etc")
	c.folder("/run/systemd/resolve")
	c.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")
	if prepare != nil {
		prepare(c)
	}
	before := goleak.IgnoreCurrent()
	watched, err := newChanges(c.Machine, interval, slog.New(slog.NewTextHandler(t.Output(), nil)))
	c.must(err)
	c.changes = watched
	t.Cleanup(func() {
		c.must(watched.Close())
		goleak.VerifyNone(t, before)
	})
	return c
}

func TestChangesOfResolvConf(t *testing.T) {
	for name, change := range map[string]func(*changed){
		"replaced by a rename": func(c *changed) { c.replace("/etc/resolv.conf", "nameserver 192.0.2.2\n") },
		"rewritten in place":   func(c *changed) { c.write("/etc/resolv.conf", "nameserver 192.0.2.2\n") },
		"removed":              func(c *changed) { c.must(os.Remove(c.Path("/etc/resolv.conf"))) },
		"made a symbolic link": func(c *changed) { c.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf") },
		"replaced by a link": func(c *changed) {
			c.link("/etc/other", "hosts")
			c.must(os.Rename(c.Path("/etc/other"), c.Path("/etc/resolv.conf")))
		},
		"another file of a DHCP client": func(c *changed) { c.write("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.2\n") },
	} {
		t.Run(name, func(t *testing.T) {
			c := watchChanges(t, time.Hour, nil)
			change(c)
			c.told(name)
			c.replace("/etc/resolv.conf", "nameserver 192.0.2.3\n")
			c.told("once more")
		})
	}
}

func TestChangesThatAreNone(t *testing.T) {
	c := watchChanges(t, time.Hour, func(c *changed) { c.folder("/run/meshvm-redirect") })
	c.untold("another file in /etc", func() { c.replace("/etc/hosts", "127.0.0.1 localhost\n") })
	c.untold("a file that is read", func() {
		if _, err := os.ReadFile(c.Path("/etc/resolv.conf")); err != nil {
			t.Error(err)
		}
	})
	c.untold("other rights", func() { c.must(os.Chmod(c.Path("/etc/resolv.conf"), 0o600)) })
	c.untold("what is written here itself", func() { c.replace("/run/meshvm-redirect/resolv.conf", "nameserver 192.0.2.2\n") })
	c.replace("/etc/resolv.conf", "nameserver 192.0.2.3\n")
	c.told("a change after all")
}

// TestChangesBehindALink has resolv.conf point to a file that nobody else knows of.
func TestChangesBehindALink(t *testing.T) {
	for name, absolute := range map[string]bool{"relative": false, "absolute": true} {
		t.Run(name, func(t *testing.T) {
			target := func(folder string) string {
				if absolute {
					return "/" + folder + "/resolv.conf"
				}
				return "../" + folder + "/resolv.conf"
			}
			c := watchChanges(t, time.Hour, func(c *changed) {
				c.folder("/opt")
				c.folder("/srv")
				c.write("/opt/resolv.conf", "nameserver 192.0.2.1\n")
				c.write("/srv/resolv.conf", "nameserver 192.0.2.1\n")
				c.link("/etc/resolv.conf", target("opt"))
			})
			c.replace("/opt/resolv.conf", "nameserver 192.0.2.2\n")
			c.told("the file behind the link, replaced")
			c.write("/opt/resolv.conf", "nameserver 192.0.2.3\n")
			c.told("the file behind the link, rewritten")
			c.link("/etc/resolv.conf", target("srv"))
			c.told("the link, pointing elsewhere")
			c.write("/srv/resolv.conf", "nameserver 192.0.2.4\n")
			c.told("the file behind the new link")
			c.untold("the file behind the old link", func() { c.write("/opt/resolv.conf", "nameserver 192.0.2.5\n") })
			c.link("/srv/resolv.conf", target("opt"))
			c.told("a link behind the link")
			c.write("/opt/resolv.conf", "nameserver 192.0.2.6\n")
			c.told("the file behind both links")
			c.link("/opt/resolv.conf", target("srv"))
			c.told("links in a circle")
			c.write("/etc/unrelated", "")
			c.quiet("links in a circle")
		})
	}
}

func TestChangesOfFolders(t *testing.T) {
	c := watchChanges(t, 50*time.Millisecond, nil)
	c.must(os.RemoveAll(c.Path("/run/systemd/resolve")))
	c.quiet("a folder removed")
	c.folder("/run/systemd/resolve")
	c.told("a folder made again")
	c.replace("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.2\n")
	c.told("a file in a folder made again")

	c.folder("/run/resolvconf/interface")
	c.told("a folder that was not there")
	c.write("/run/resolvconf/interface/eth0.dhclient", "nameserver 192.0.2.2\n")
	c.told("any file in a folder in which each counts")
	c.must(os.Remove(c.Path("/run/resolvconf/interface/eth0.dhclient")))
	c.told("one removed there")

	c.must(os.Rename(c.Path("/run/systemd/resolve"), c.Path("/run/systemd/old")))
	c.folder("/run/systemd/resolve")
	c.told("a folder replaced by another")
	c.write("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.3\n")
	c.told("a file in the other folder")
}

// TestChangesEndAtOnce has nobody read what is told.
func TestChangesEndAtOnce(t *testing.T) {
	c := watchChanges(t, time.Hour, nil)
	for range 50 {
		c.replace("/etc/resolv.conf", "nameserver 192.0.2.2\n")
	}
	if got := cap(c.C); got != 1 {
		t.Errorf("Room for what was told: got %d, want 1", got)
	}
}
