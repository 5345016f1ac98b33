package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of what is written.
const (
	secretMode    fs.FileMode = 0o600
	publicMode    fs.FileMode = 0o644
	directoryMode fs.FileMode = 0o755
)

// file is a file to be written.
type file struct {
	name    string
	content []byte
	mode    fs.FileMode
}

// staged is a file that is written in whole, under another name.
type staged struct{ temporary, path string }

// disk is what can fail between one file and the next. Tests fail it.
type disk struct{ rename func(from, to string) error }

var realDisk = disk{rename: os.Rename}

// stage writes a file beside the place it is for, readable by its owner alone until it is whole, and returns once it is
// on the disk.
func stage(directory string, f file, like fs.FileInfo) (_ staged, err error) {
	temporary, err := os.CreateTemp(directory, "."+f.name+"-*.tmp")
	if err != nil {
		return staged{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(f.content)
	if err == nil && like != nil {
		err = keepOwner(temporary, like)
	}
	if err == nil {
		err = temporary.Chmod(f.mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return staged{}, err
	}
	return staged{temporary: temporary.Name(), path: filepath.Join(directory, f.name)}, nil
}

// putAll writes files into a directory that is there. Each is whole or as it was; with an error before the first
// rename, all are as they were.
func (d disk) putAll(directory string, files []file) (err error) {
	var waiting []staged
	defer func() {
		for _, s := range waiting {
			err = errors.Join(err, os.Remove(s.temporary))
		}
	}()
	for _, f := range files {
		present, err := regular(filepath.Join(directory, f.name))
		if err != nil {
			return err
		}
		s, err := stage(directory, f, present)
		if err != nil {
			return err
		}
		waiting = append(waiting, s)
	}
	for len(waiting) > 0 {
		if err := d.rename(waiting[0].temporary, waiting[0].path); err != nil {
			return err
		}
		waiting = waiting[1:]
	}
	return syncDirectory(directory)
}

// putNew makes a directory with files in it. It is there in whole, or not at all.
func (d disk) putNew(directory string, files []file) (err error) {
	parent, name := filepath.Split(filepath.Clean(directory))
	if parent == "" {
		parent = "."
	}
	if err := os.MkdirAll(parent, directoryMode); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, "."+name+"-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	for _, f := range files {
		s, err := stage(temporary, f, nil)
		if err != nil {
			return err
		}
		if err := os.Rename(s.temporary, s.path); err != nil {
			return err
		}
	}
	if err := os.Chmod(temporary, directoryMode); err != nil {
		return err
	}
	if err := syncDirectory(temporary); err != nil {
		return err
	}
	if err := d.rename(temporary, directory); err != nil {
		return err
	}
	return syncDirectory(parent)
}

// regular is what is at a path: nil for nothing, and an error for what cannot be replaced as a file is.
func regular(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // nothing is there, and that is no error
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: want the file itself, or a name that is free", path)
	}
	return info, nil
}

// syncDirectory has the names in a directory reach the disk.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// WriteToken puts a token into a file, in whole or not at all. A file that is there keeps its mode and its owner, so
// that whoever could read the old token can read the new one; a new file is readable by its owner alone.
func WriteToken(path string, token Token) error {
	return realDisk.writeToken(path, token)
}

func (d disk) writeToken(path string, token Token) error {
	present, err := regular(path)
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	directory, name := filepath.Split(filepath.Clean(path))
	if directory == "" {
		directory = "."
	}
	f := file{name: name, content: token.File(), mode: secretMode}
	if present != nil {
		f.mode = present.Mode().Perm()
	}
	if err := d.putAll(directory, []file{f}); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}

// CheckTokenFile reports why WriteToken would fail, without having changed anything.
func CheckTokenFile(path string) error {
	_, err := regular(path)
	if err == nil {
		err = checkWritable(filepath.Dir(filepath.Clean(path)))
	}
	if err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}
