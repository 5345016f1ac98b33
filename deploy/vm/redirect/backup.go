package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// backupLimit is far above what a resolv.conf has.
const backupLimit = 1 << 20

// backUp is a file as it is: a symbolic link as a link, not what is behind it.
func (m Machine) backUp(path string) (*Backup, error) {
	info, err := os.Lstat(m.Path(path))
	if errors.Is(err, fs.ErrNotExist) {
		return &Backup{Missing: true}, nil
	}
	if err != nil {
		return nil, err
	}
	b := &Backup{}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if b.Target, err = os.Readlink(m.Path(path)); err != nil {
			return nil, err
		}
		return b, nil
	case !info.Mode().IsRegular():
		return nil, &Impossible{fmt.Sprintf("%s is no file but %s", path, info.Mode().Type())}
	case info.Size() > backupLimit:
		return nil, &Impossible{fmt.Sprintf("%s has %d bytes, far more than a resolv.conf", path, info.Size())}
	}
	if b.Content, err = os.ReadFile(m.Path(path)); err != nil {
		return nil, err
	}
	b.describe(info)
	return b, nil
}

func (b *Backup) describe(info fs.FileInfo) {
	b.Permissions = uint32(info.Mode().Perm())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		b.Owner, b.Group = stat.Uid, stat.Gid
	}
}

// putBack has the file as it was.
func (m Machine) putBack(path string, b *Backup) error {
	switch {
	case b.InPlace:
		return m.rewrite(path, b.Content)
	case b.Missing:
		return m.remove(path)
	case b.Target != "":
		return m.link(path, b.Target)
	default:
		err := m.replace(path, b.Content, fs.FileMode(b.Permissions).Perm(), b.owner())
		if mounted(err) || errors.Is(err, unix.ENOSPC) {
			return m.rewrite(path, b.Content) // Something was mounted over it since, or a disk has no room for a draft.
		}
		return err
	}
}

// owner is the file's, where this process may give files away.
func (b *Backup) owner() owner {
	if os.Geteuid() != 0 {
		return ours
	}
	return owner{int(b.Owner), int(b.Group)}
}

// link has a symbolic link under this name, or what was there before.
func (m Machine) link(path, target string) error {
	if err := m.inject("link " + draft(path)); err != nil {
		return err
	}
	if err := unlessMissing(os.Remove(m.Path(draft(path)))); err != nil {
		return err
	}
	if err := os.Symlink(target, m.Path(draft(path))); err != nil {
		return err
	}
	return m.rename(draft(path), path)
}

// rewrite writes over the content of a file that cannot be replaced, as where something is mounted over it. The file is never shorter
// than the shorter of both contents, and keeps its owner and permissions.
func (m Machine) rewrite(path string, content []byte) (err error) {
	if err := m.inject("rewrite " + path); err != nil {
		return err
	}
	file, err := os.OpenFile(m.Path(path), os.O_WRONLY, 0) // #nosec G304 -- a fixed path
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	if err := m.inject("truncate " + path); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		return err
	}
	return file.Sync()
}

// mounted: the file cannot be replaced, but perhaps be written. A mount over it keeps its name busy or is another file system, and a
// folder may be read-only where a file in it is not.
func mounted(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES)
}

// leaveAlone is what an operator can do about a file that cannot be written.
const leaveAlone = "chattr -i makes it writable again, and --mode none --transparent leaves it alone"

// explainRefusal says of a file that could not be written why, where that can be told.
func (m Machine) explainRefusal(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case m.immutable(path):
		return fmt.Errorf("write %s: it is immutable (%s): %w", path, leaveAlone, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("write %s: it is on a read-only file system (--mode none --transparent leaves it alone): %w", path, err)
	default:
		return fmt.Errorf("write %s: %w", path, err)
	}
}

// immutable: the file has the attribute i of chattr(1). File systems without attributes have none that is.
func (m Machine) immutable(path string) bool {
	file, err := os.Open(m.Path(path))
	if err != nil {
		return false
	}
	defer file.Close()
	flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS) // #nosec G115 -- a descriptor fits
	return err == nil && flags&immutableFlag != 0
}
