package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// MaxFileBytes bounds one file.
	MaxFileBytes = 16 << 20
	// MaxFiles bounds the number of files in the folder.
	MaxFiles = 10_000
	// maxFaults bounds what is said about one file.
	maxFaults = 20
)

// settleTime is how much older than its reading a file's modification time must be, before an
// unchanged time proves unchanged content: clocks of file systems are coarse.
const settleTime = time.Second

// file is a file of the folder as it was last read.
type file struct {
	name string
	// linked says that the name is a symbolic link.
	linked bool
	info   fs.FileInfo
	readAt time.Time
	more   []kind // That are read, beside those that always are.
	sum    [sha256.Size]byte
	// objects are those of the last content that decoded.
	objects []object
	faults  []fault
	ignored []string
}

// isManifest reports whether a file is one to read, by its name. Hidden files are editors' and
// ConfigMaps' own.
func isManifest(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// unchanged reports whether the file need not be read again.
func (f *file) unchanged(info fs.FileInfo) bool {
	return f.info != nil && sameState(f.info, info) && f.readAt.Sub(info.ModTime()) > settleTime
}

func sameState(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// outcome is what came of reading a file.
type outcome int

const (
	same    outcome = iota // Its content is what it was.
	other                  // Its content is another, good or bad.
	writing                // It is not what it was when the folder was listed. Nothing was taken.
)

// reload reads the file as it was listed; nil: it could not be looked at. Content that does not
// decode leaves the objects as they were.
func (f *file) reload(path string, listed fs.FileInfo, now time.Time) outcome {
	content, info, err := readFile(path)
	if err != nil {
		if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
			return writing
		}
		f.info = nil
		faults := []fault{{0, err.Error(), "a readable file"}}
		if slices.Equal(faults, f.faults) {
			return same
		}
		f.faults, f.sum = faults, [sha256.Size]byte{}
		return other
	}
	if listed == nil || !sameState(listed, info) {
		return writing
	}
	sum := sha256.Sum256(content)
	f.info, f.readAt = info, now
	if sum == f.sum {
		return same
	}
	f.sum = sum
	found := parse(f.name, content, f.more...)
	f.faults, f.ignored = found.faults, found.ignored
	if len(found.faults) == 0 {
		f.objects = found.objects
	}
	return other
}

// readFile reads a regular file within bounds, and says what it was afterwards. It does not wait for
// a pipe's writer.
func readFile(path string) (content []byte, info fs.FileInfo, err error) {
	opened, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	info, err = opened.Stat()
	switch {
	case err != nil:
		return nil, nil, withoutPath(err)
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("not a regular file")
	}
	content, err = io.ReadAll(io.LimitReader(opened, MaxFileBytes+1))
	switch {
	case err != nil:
		return nil, nil, withoutPath(err)
	case len(content) > MaxFileBytes:
		return nil, nil, fmt.Errorf("larger than %d bytes", MaxFileBytes)
	}
	if info, err = opened.Stat(); err != nil {
		return nil, nil, withoutPath(err)
	}
	return content, info, nil
}

// withoutPath takes the path off an error: whoever reports it names the file.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}

// parse reads a file's content: what it holds of the kinds that are always read, and of more. Nothing of it may
// be used when there are faults.
func parse(name string, content []byte, more ...kind) decoded {
	read := readYAML
	if filepath.Ext(name) == ".json" {
		read = readJSON
	}
	found := decoded{kinds: slices.Concat(kinds, more)}
	values, fault := read(content)
	if fault != nil {
		found.faults = append(found.faults, *fault)
		return found
	}
	for _, value := range values {
		found.decodeValue(value, false)
	}
	if more := len(found.faults) - maxFaults; more > 0 {
		found.faults = append(found.faults[:maxFaults:maxFaults], faultOfMore(more))
	}
	return found
}

func faultOfMore(more int) fault {
	return fault{0, fmt.Sprintf("%d more faults like these", more), "none"}
}
