package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bundle is what is copied to a VM.
type Bundle struct {
	Corefile string
	// Authorities are whom the VM trusts to have issued the syncer's certificate. Empty: it takes Istio's.
	Authorities Authorities
	// Token is who the VM is. Nil: it has a certificate.
	Token *Token
}

// files are the bundle's, the Corefile last: what it names is there by then.
func (b Bundle) files() []file {
	var files []file
	if b.Token != nil {
		files = append(files, file{tokenName, b.Token.File(), secretMode})
	}
	if len(b.Authorities) > 0 {
		files = append(files, file{authorityName, b.Authorities, publicMode})
	}
	return append(files, file{corefileName, []byte(b.Corefile), publicMode})
}

// Names are the files' names, in the order in which they are written.
func (b Bundle) Names() []string {
	var names []string
	for _, f := range b.files() {
		names = append(names, f.name)
	}
	return names
}

// Check reports why Write would not write into a directory, without having changed anything. It is worth asking before
// a token is requested: the one in the bundle does not count.
//
// A directory that is not there is made. One that has the same bundle but for its token is written again. Any other
// that is not empty is left alone, unless force is set: then the bundle's files are replaced in it, and files of an
// earlier bundle that this one does not have are removed. No other file is ever touched.
func (b Bundle) Check(directory string, force bool) error {
	entries, err := os.ReadDir(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkParent(directory)
	case err != nil:
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := checkWritable(directory); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	for _, f := range b.files() {
		if _, err := regular(filepath.Join(directory, f.name)); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
	}
	entries = finished(entries)
	if len(entries) == 0 || force {
		return nil
	}
	for _, f := range b.files() {
		if f.name == tokenName {
			continue
		}
		present, err := os.ReadFile(filepath.Join(directory, f.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("write the bundle: %s has other files and no %s: want an empty folder, or --force to put the bundle beside them", directory, f.name)
		case err != nil:
			return fmt.Errorf("write the bundle: %w", err)
		case !bytes.Equal(present, f.content):
			return fmt.Errorf("write the bundle: %s is there already and is another: want another folder, or --force to replace it (a token alone is renewed by meshvmctl token)", filepath.Join(directory, f.name))
		}
	}
	return nil
}

// finished are entries without what an interrupted run has left behind.
func finished(entries []fs.DirEntry) []fs.DirEntry {
	var kept []fs.DirEntry
	for _, entry := range entries {
		if !isLeftover(entry.Name()) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// isLeftover reports whether a name is one that stage gives, of a file of a bundle.
func isLeftover(name string) bool {
	for _, ours := range []string{corefileName, authorityName, tokenName} {
		if strings.HasPrefix(name, "."+ours+"-") && strings.HasSuffix(name, ".tmp") {
			return true
		}
	}
	return false
}

// checkParent reports why a directory cannot be made.
func checkParent(directory string) error {
	for parent := filepath.Dir(filepath.Clean(directory)); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent):
			continue
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s is not a directory", parent)
		case err == nil:
			err = checkWritable(parent)
		}
		if err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		return nil
	}
}

// checkWritable finds out by trying: no mode says it of every file system.
func checkWritable(directory string) error {
	probe, err := os.CreateTemp(directory, "."+tokenName+"-*.tmp")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// Write puts the bundle into a directory. What Check says holds; a directory that it makes is there in whole or not at
// all, and in one that is there each file is whole or as it was.
func (b Bundle) Write(directory string, force bool) error {
	return realDisk.write(b, directory, force)
}

func (d disk) write(b Bundle, directory string, force bool) error {
	if err := b.Check(directory, force); err != nil {
		return err
	}
	_, err := os.Stat(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = d.putNew(directory, b.files())
	case err == nil:
		if err = d.putAll(directory, b.files()); err == nil {
			err = b.removeRest(directory)
		}
	}
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// removeRest removes what an earlier bundle had and this one has not, and what interrupted runs have left.
func (b Bundle) removeRest(directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	var failures []error
	for _, entry := range entries {
		name := entry.Name()
		obsolete := name == tokenName && b.Token == nil || name == authorityName && len(b.Authorities) == 0
		if obsolete && entry.Type().IsRegular() || isLeftover(name) {
			failures = append(failures, os.Remove(filepath.Join(directory, name)))
		}
	}
	return errors.Join(failures...)
}
