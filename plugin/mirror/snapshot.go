package mirror

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CorruptSuffix is what the name of a snapshot that cannot be used gets, when it is set aside.
const CorruptSuffix = ".corrupt"

const (
	// snapshotMode lets the VM's own group read, for diagnosis.
	snapshotMode = 0o640
	// temporarySuffix marks a snapshot that is being written. One left behind by a crash is overwritten.
	temporarySuffix = ".tmp"
	// maxSnapshot bounds what Load reads: some forty times a registry of 100,000 Services.
	maxSnapshot = 1 << 30
)

// Save writes the present State to a file, in place of any snapshot there. A reader, and a machine that
// loses power, see the old snapshot or the new one, whole. Changes go on meanwhile. A mirror that holds
// nothing saves nothing, so that it cannot destroy a snapshot which is still good.
func (m *Mirror) Save(path string) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	state := m.State()
	if !state.Loaded() {
		return nil
	}
	temporary, err := writeTemporary(path, func(w io.Writer) error {
		return encodeSnapshot(w, state, m.confirmed.Load())
	})
	if err == nil {
		err = commitTemporary(temporary, path)
	}
	if err != nil {
		return fmt.Errorf("save snapshot %s: %w", path, err)
	}
	return nil
}

// writeTemporary writes a file next to path and brings it to the disk. On an error nothing is left.
func writeTemporary(path string, write func(io.Writer) error) (temporary string, err error) {
	temporary = path + temporarySuffix
	// A new file each time: never through a link that someone else put there.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, snapshotMode)
	if err != nil {
		return "", err
	}
	buffered := bufio.NewWriterSize(file, 256<<10)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temporary))
	}
	return temporary, nil
}

// commitTemporary puts the file that writeTemporary wrote in path's place.
func commitTemporary(temporary, path string) error {
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	// The rename itself must reach the disk too.
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Load takes a snapshot's content into a mirror that holds nothing yet, and sets a file aside that cannot
// be used, so that the next Save does not take its last trace. It is for the owner of the file; others Read.
//
// Errors are those of Read.
func (m *Mirror) Load(path string) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	err := m.Read(path)
	if unusable, ok := errors.AsType[*SnapshotError](err); ok {
		unusable.setAside(path)
	}
	return err
}

// Read takes a snapshot's content into a mirror that holds nothing yet. It becomes visible as a whole or
// not at all. The file is left as it is.
//
// Errors: one that is fs.ErrNotExist where there is no file, which is no fault; a *SnapshotError where
// there is one that cannot be used; any other where it could not be read.
func (m *Mirror) Read(path string) error {
	err := m.load(path)
	if unusable, ok := errors.AsType[*SnapshotError](err); ok {
		unusable.Path = path
		return err
	}
	if err != nil {
		return fmt.Errorf("load snapshot %s: %w", path, err)
	}
	return nil
}

func (m *Mirror) load(path string) error {
	data, err := readSnapshot(path)
	if err != nil {
		return err
	}
	saved, err := decodeSnapshot(data)
	if err != nil {
		return err
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	held := m.State()
	if held.Loaded() {
		return fmt.Errorf("the mirror already holds revision %d", held.revision)
	}
	next, err := saved.state(held)
	if err != nil {
		return err
	}
	if saved.confirmed != 0 {
		m.confirm(saved.confirmed)
	}
	m.publish(next)
	return nil
}

func readSnapshot(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > maxSnapshot {
		return nil, &SnapshotError{Fault: FaultForeign, Detail: fmt.Sprintf("%d bytes long", info.Size())}
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(file, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return data[:n], nil
}

// state makes the State that a snapshot holds, for a mirror that holds nothing. Every error is a
// *SnapshotError.
func (s *savedState) state(held *State) (*State, error) {
	base := emptyState(held.namespace, held.ttls)
	base.clusterDomain, base.view = s.clusterDomain, s.view
	all, err := s.content()
	if err != nil {
		return nil, &SnapshotError{Fault: FaultContent, Err: err}
	}
	next, err := fill(base, all)
	if err != nil {
		return nil, &SnapshotError{Fault: FaultContent, Err: err}
	}
	if next.digest != s.digest {
		return nil, &SnapshotError{Fault: FaultContent, Detail: fmt.Sprintf(
			"its %d resources have digest %016x, and should have %016x", s.count, uint64(next.digest), uint64(s.digest))}
	}
	next.loaded = true
	next.generation, next.revision, next.serial = s.generation, s.revision, s.serial
	return next, nil
}
