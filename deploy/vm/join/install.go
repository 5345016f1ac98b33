package join

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Modes of what is installed. The group of CoreDNS reads secrets, and nobody else but root.
const (
	secretMode fs.FileMode = 0o640
	publicMode fs.FileMode = 0o644
	folderMode fs.FileMode = 0o755
)

// Installed is what Install has done.
type Installed struct {
	// Changed are the files that are new or other than before, as paths.
	Changed []string
	// undo puts back what was there, latest first.
	undo []func() error
}

// Undo puts back what was there before. Corefile.old stays.
func (i *Installed) Undo() error {
	var failures []error
	for _, undo := range slices.Backward(i.undo) {
		failures = append(failures, undo())
	}
	i.undo = nil
	return errors.Join(failures...)
}

// Install puts the bundle into /etc/meshvm, each file in whole or not at all, and the Corefile last: what it names is there
// by then. A Corefile that it replaces is kept as Corefile.old. With an error all is as it was.
func (m Machine) Install(b Bundle) (_ *Installed, err error) {
	group, err := m.group()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.path(directory), folderMode); err != nil {
		return nil, fmt.Errorf("install the bundle: %w", err)
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(b)), func(name string) bool { return name == corefileName })
	names = append(names, corefileName)
	installed := &Installed{}
	for _, name := range names {
		if err := m.install(installed, name, b[name], group); err != nil {
			return nil, errors.Join(fmt.Errorf("install %s: %w", filepath.Join(directory, name), err), installed.Undo())
		}
	}
	return installed, nil
}

func (m Machine) install(installed *Installed, name string, content []byte, group int) error {
	path := m.path(filepath.Join(directory, name))
	mode := publicMode
	if isSecret(name, content) {
		mode = secretMode
	} else {
		group = os.Getegid()
	}
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := put(path, content, mode, group); err != nil {
			return err
		}
		installed.undo = append(installed.undo, func() error { return os.Remove(path) })
		installed.Changed = append(installed.Changed, filepath.Join(directory, name))
		return nil
	case err != nil:
		return err
	case !before.Mode().IsRegular():
		return errors.New("it is not a regular file: want the file itself, or nothing")
	}
	was, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, content) {
		if name == corefileName {
			if err := put(path+".old", was, publicMode, os.Getegid()); err != nil {
				return err
			}
		}
		installed.Changed = append(installed.Changed, filepath.Join(directory, name))
		installed.undo = append(installed.undo, func() error { return put(path, was, mode, group) })
	}
	// Also where only owner or mode are to be put right.
	return put(path, content, mode, group)
}

// isSecret reports whether a file is for CoreDNS only.
func isSecret(name string, content []byte) bool {
	return name != corefileName && (!bytes.Contains(content, []byte("-----BEGIN CERTIFICATE-----")) || bytes.Contains(content, []byte("PRIVATE KEY-----")))
}

// put replaces a file by a rename, once the new one is on the disk.
func put(path string, content []byte, mode fs.FileMode, group int) error {
	temporary, err := stage(path, content, mode, group)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil { // #nosec G703 -- names are plain (plainName), in one folder
		return errors.Join(err, os.Remove(temporary)) // #nosec G703 -- the same
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// stage writes a file beside the place it is for, and returns its name once it is on the disk.
func stage(path string, content []byte, mode fs.FileMode, group int) (_ string, err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Chown(os.Geteuid(), group)
	}
	if err == nil {
		err = temporary.Chmod(mode)
	}
	if err == nil {
		err = temporary.Sync()
	}
	err = errors.Join(err, temporary.Close())
	return temporary.Name(), err
}
