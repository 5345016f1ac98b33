package join

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Bounds of a bundle.
const (
	maxFile  = 1 << 20
	maxFiles = 32
	maxTar   = 64 << 20
)

const corefileName = "Corefile"

// Bundle is what meshvmctl bootstrap writes for a VM: the contents of files, by name.
type Bundle map[string][]byte

// plainName is a name that is one everywhere, and of no hidden file.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// Read reads a bundle from a directory, or from a .tar.gz of one. Hidden files, such as an interrupted bootstrap leaves,
// are none of it.
func Read(from string) (Bundle, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	b := Bundle{}
	switch {
	case info.IsDir():
		err = b.readDirectory(from)
	case info.Mode().IsRegular():
		err = b.readTar(from)
	default:
		err = errors.New("want a folder or a .tar.gz")
	}
	if err != nil {
		return nil, fmt.Errorf("read the bundle %s: %w", from, err)
	}
	return b, nil
}

func (b Bundle) readDirectory(from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		name := filepath.Join(from, entry.Name())
		info, err := os.Stat(name) // the bundle may be of links, as a mounted Secret is
		if err != nil {
			return err
		}
		if err := b.checkNext(entry.Name(), info.Mode()); err != nil {
			return err
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = errors.Join(b.take(entry.Name(), file), file.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// readTar takes files at the top, or in one folder.
func (b Bundle) readTar(from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("want a folder or a .tar.gz: %w", err)
	}
	archive := tar.NewReader(io.LimitReader(unpacked, maxTar))
	folder := ""
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		within, name := path.Split(path.Clean("/" + header.Name))
		if header.Typeflag == tar.TypeDir || header.Typeflag == tar.TypeXGlobalHeader || strings.HasPrefix(name, ".") {
			continue
		}
		if len(b) == 0 {
			folder = within
		}
		if within != folder || strings.Count(within, "/") > 2 {
			return fmt.Errorf("%q in it: want all files in one folder, as meshvmctl bootstrap writes them", header.Name)
		}
		if err := b.checkNext(name, header.FileInfo().Mode()); err != nil {
			return err
		}
		if err := b.take(name, archive); err != nil {
			return err
		}
	}
}

func (b Bundle) checkNext(name string, mode fs.FileMode) error {
	_, twice := b[name]
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("%q in it is not a regular file: want what meshvmctl bootstrap writes", name)
	case !plainName.MatchString(name):
		return fmt.Errorf("%q in it: want names of letters, digits and . _ -", name)
	case twice:
		return fmt.Errorf("%q is in it twice", name)
	case len(b) == maxFiles:
		return fmt.Errorf("it has more than %d files: want what meshvmctl bootstrap writes", maxFiles)
	}
	return nil
}

func (b Bundle) take(name string, from io.Reader) error {
	content, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(content) > maxFile:
		return fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	b[name] = content
	return nil
}
