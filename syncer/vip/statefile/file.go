package statefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// mode lets the syncer's own group read, for diagnosis.
	mode = 0o640
	// temporarySuffix marks a ledger that is being written. One left behind by a crash is overwritten.
	temporarySuffix = ".tmp"
	// lockSuffix is the file whose lock says who uses the ledger: that itself is replaced with each Save.
	lockSuffix = ".lock"
	// MaxBytes bounds what is read: as many records as there are by default, of the longest names there are.
	MaxBytes = 128 << 20
)

// File is a ledger's file, of this process alone. It is not safe for concurrent use.
type File struct {
	path    string
	lock    *os.File
	records []vip.Record
}

// Open takes a file for this process and reads it. A file that is not there is made, empty.
//
// Errors name the file: its folder is not there or cannot be written, another process uses it, or it is
// damaged. Nothing is changed then.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if err := f.acquire(); err != nil {
		return nil, fmt.Errorf("ledger of virtual IPs %s: %w", path, err)
	}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("ledger of virtual IPs %s: %w", path, errors.Join(err, f.lock.Close()))
	}
	return f, nil
}

// acquire takes the lock, which ends with this process at the latest.
func (f *File) acquire() error {
	lock, err := os.OpenFile(f.path+lockSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, mode)
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another syncer uses it: want a file for each")
		}
		return fmt.Errorf("lock it: %w", errors.Join(err, lock.Close()))
	}
	f.lock = lock
	return nil
}

func (f *File) load() error {
	content, err := read(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.write(nil)
	case err != nil:
		return err
	}
	if f.records, err = decode(content); err != nil {
		return fmt.Errorf("%w; want the file as it was written, from a backup. Without it, move it away: hosts then get addresses anew, most of them the same, but which rest is forgotten", err)
	}
	return nil
}

func read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > MaxBytes:
		return nil, fmt.Errorf("it is larger than %d bytes", MaxBytes)
	}
	return content, nil
}

// Records are what the file held when it was opened.
func (f *File) Records() []vip.Record { return f.records }

// Save makes records the whole content of the file. They are on the disk when it returns without an error;
// with one, the file is as it was, or as it should be.
func (f *File) Save(records []vip.Record) error {
	if err := f.write(records); err != nil {
		return fmt.Errorf("save ledger of virtual IPs %s: %w", f.path, err)
	}
	return nil
}

func (f *File) write(records []vip.Record) error {
	content, err := encode(records)
	if err != nil {
		return err
	}
	temporary := f.path + temporarySuffix
	// A new file each time: never through a link that someone else put there.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(content).WriteTo(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temporary, f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	// The rename itself must reach the disk too.
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Close lets another process use the file.
func (f *File) Close() error { return f.lock.Close() }
