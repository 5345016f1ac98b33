package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandTimeout is how long one command of somebody else's may take. A restart of a service that hangs takes systemd 90 seconds,
// after which it is killed anyway.
const commandTimeout = 30 * time.Second

// owner is who a file is given to: nobody (-1) or what a Backup says.
type owner struct{ user, group int }

// ours is the owner that a new file has by itself.
var ours = owner{-1, -1}

// draft is where a file is written before it gets its name. Only one run changes the machine, so one name is enough, and what a kill
// has left is found.
func draft(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".meshvm")
}

// replace has a file with this content under its name, or the one before it, also after a power cut. A symbolic link is replaced, not
// followed.
func (m Machine) replace(path string, content []byte, permissions fs.FileMode, to owner) error {
	if err := m.inject("write " + draft(path)); err != nil {
		return err
	}
	temporary := m.Path(draft(path))
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeFolder(filepath.Dir(temporary)); err != nil {
		return err
	}
	err := writeSynced(temporary, content, permissions, to)
	if err == nil {
		err = m.rename(draft(path), path)
	}
	if err != nil && !errors.Is(err, errKilled) {
		return errors.Join(err, unlessMissing(os.Remove(temporary)))
	}
	return err
}

// errKilled is what a test's fault returns to say that nothing more is to happen, as after a kill.
var errKilled = errors.New("killed")

func writeSynced(path string, content []byte, permissions fs.FileMode, to owner) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) // #nosec G304 -- this package's own paths
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(content); err != nil {
		return err
	}
	if to != ours {
		if err := file.Chown(to.user, to.group); err != nil {
			return err
		}
	}
	// Explicitly, since the umask is whoever's who started this.
	if err := file.Chmod(permissions); err != nil {
		return err
	}
	return file.Sync()
}

// rename gives a draft its name, for good.
func (m Machine) rename(from, to string) error {
	if err := m.inject("rename " + to); err != nil {
		return err
	}
	if err := os.Rename(m.Path(from), m.Path(to)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(m.Path(to)))
}

func syncFolder(path string) error {
	folder, err := os.Open(path) // #nosec G304 -- this package's own paths
	if err != nil {
		return err
	}
	// File systems that cannot sync a folder have nothing to sync.
	if err := folder.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return errors.Join(err, folder.Close())
	}
	return folder.Close()
}

// remove removes a file that may be missing already, and what a killed run has left beside it.
func (m Machine) remove(path string) error {
	return errors.Join(m.removeOne(path), m.removeOne(draft(path)))
}

// removeOne looks first: a read-only file system refuses to remove even what is not there.
func (m Machine) removeOne(path string) error {
	there, err := m.exists(path)
	if err != nil || !there {
		return err
	}
	if err := m.inject("remove " + path); err != nil {
		return err
	}
	return unlessMissing(os.Remove(m.Path(path)))
}

func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (m Machine) inject(change string) error {
	if m.fault == nil {
		return nil
	}
	return m.fault(change)
}

// exists: there is something under this name.
func (m Machine) exists(path string) (bool, error) {
	_, err := os.Lstat(m.Path(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return err == nil, err
}

// has: the file is there with this content.
func (m Machine) has(path string, content []byte) (bool, error) {
	found, err := os.ReadFile(m.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(found, content), err
}

// folders makes the folder of a file, and remembers in the State which ones were not there.
func (m Machine) folders(s *State, path string) error {
	var missing []string
	for folder := filepath.Dir(path); folder != "/"; folder = filepath.Dir(folder) {
		there, err := m.exists(folder)
		if err != nil {
			return err
		}
		if there {
			break
		}
		missing = append(missing, folder)
	}
	if len(missing) == 0 {
		return nil
	}
	s.Folders = append(missing, s.Folders...)
	if err := s.save(m); err != nil {
		return err
	}
	if err := m.inject("make " + filepath.Dir(path)); err != nil {
		return err
	}
	return makeFolder(m.Path(filepath.Dir(path)))
}

// expect remembers folders that others are about to make for us, and would leave.
func (m Machine) expect(s *State, folders ...string) error {
	missing := false
	for _, folder := range folders {
		there, err := m.exists(folder)
		if err != nil {
			return err
		}
		if !there {
			s.Folders, missing = append(s.Folders, folder), true
		}
	}
	if !missing {
		return nil
	}
	return s.save(m)
}

// removeFolders removes the folders that were made, where nobody has put anything into them.
func (m Machine) removeFolders(s *State) error {
	if err := m.removeEmpty(s.Folders...); err != nil {
		return err
	}
	s.Folders = nil
	return nil
}

// removeEmpty removes those of the folders that are there and have nothing in them.
func (m Machine) removeEmpty(folders ...string) error {
	for _, folder := range folders {
		if err := m.inject("remove " + folder); err != nil {
			return err
		}
		err := unlessMissing(os.Remove(m.Path(folder)))
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// removeOurs removes a file of ours without knowing who has made its folder: one with nothing in it says nothing to anybody.
func (m Machine) removeOurs(s *State, path string) error {
	if err := m.remove(path); err != nil || s != nil {
		return err
	}
	return m.removeEmpty(filepath.Dir(path))
}

// relabel gives a file the label that the policy has for it. A file that was renamed from a draft keeps the one of its folder, and
// others may not be allowed to read it then.
func (m Machine) relabel(ctx context.Context, paths ...string) error {
	enforcing, err := os.ReadFile(m.Path("/sys/fs/selinux/enforce"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(enforcing)) != "1" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tell whether SELinux enforces: %w", err)
	}
	return m.command(ctx, "restorecon", paths...)
}

// command runs a command for what it does. What it printed is in the error.
func (m Machine) command(ctx context.Context, name string, args ...string) error {
	_, err := m.output(ctx, name, args...)
	return err
}

// output runs a command for what it prints.
func (m Machine) output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	output, err := m.run(ctx, name, args...)
	if err != nil {
		line := strings.Join(append([]string{name}, args...), " ")
		if printed := strings.Join(strings.Fields(string(output)), " "); printed != "" {
			return string(output), fmt.Errorf("%s: %w: %.300s", line, err, printed)
		}
		return string(output), fmt.Errorf("%s: %w", line, err)
	}
	return string(output), nil
}
