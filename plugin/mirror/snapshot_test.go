package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// sample is a registry with something of every kind.
func sample(t testing.TB) *Mirror {
	return loaded(t,
		kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1"),
		headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), notReady("db-1", "10.1.0.2")),
		serviceEntry("prod", "x", "a.example.com", "192.0.2.1"), serviceEntry("prod", "x", "*.example.com", "192.0.2.2"),
		namespaceResource("empty"))
}

// saved is the bytes of a mirror's snapshot.
func saved(t testing.TB, m *Mirror) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encodeSnapshot(&b, m.State(), m.confirmed.Load()); err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return b.Bytes()
}

// sealed is content made to look intact: its length and checksum are set right.
func sealed(data []byte) []byte {
	data = bytes.Clone(data)
	if len(data) < preambleSize+checksumSize {
		return data
	}
	binary.LittleEndian.PutUint64(data[len(snapshotMagic)+4:], uint64(len(data)))
	end := len(data) - checksumSize
	binary.LittleEndian.PutUint64(data[end:], xxhash.Sum64(data[:end]))
	return data
}

func TestSnapshotRoundTrip(t *testing.T) {
	m := sample(t)
	mustApply(t, m, delta(m.State(), nil, kubernetesService("prod", "api", "10.0.0.7")))
	confirmed := time.Unix(1700000000, 123)
	m.Confirm(confirmed)
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := m.Save(path); err != nil {
		t.Fatalf("Save: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^snapshotMode != 0 {
		t.Errorf("File: got mode %v (%v), want at most %v", info.Mode(), err, fs.FileMode(snapshotMode))
	}

	again := New(Options{TTL: 30, EndpointTTL: 5, Now: func() time.Time { return time.Unix(1, 0) }})
	changed := again.Changed()
	if err := again.Load(path); err != nil {
		t.Fatalf("Load: %v", err)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed: got open after Load, want closed")
	}
	got, want := again.State(), m.State()
	if dump(got) != dump(want) {
		t.Errorf("State: got\n%s\nwant\n%s", dump(got), dump(want))
	}
	if got.Position().String() != want.Position().String() || got.Serial() != want.Serial() || !got.Loaded() {
		t.Errorf("Position: got %v, serial %d, want %v, serial %d", got.Position(), got.Serial(), want.Position(), want.Serial())
	}
	if !again.ConfirmedAt().Equal(confirmed) {
		t.Errorf("ConfirmedAt: got %v, want %v", again.ConfirmedAt(), confirmed)
	}
	// Life goes on from there.
	mustApply(t, again, delta(got, []string{registryv1.ServiceKey("", "prod", "api")}))
	if again.State().Serial() != want.Serial()+1 {
		t.Errorf("Serial of the next change: got %d, want %d", again.State().Serial(), want.Serial()+1)
	}
}

func TestSnapshotOfAnEmptyRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := loaded(t).Save(path); err != nil {
		t.Fatalf("Save: %v", err)
	}
	m := New(Options{})
	if err := m.Load(path); err != nil || !m.State().Loaded() || !m.ConfirmedAt().IsZero() {
		t.Errorf("Load: got error %v, loaded %t, confirmed at %v, want an empty registry never confirmed", err, m.State().Loaded(), m.ConfirmedAt())
	}
}

func TestSaveOfNothingKeepsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	writeFile(t, path, saved(t, sample(t)))
	if err := New(Options{}).Save(path); err != nil {
		t.Fatalf("Save: %v", err)
	}
	if err := New(Options{}).Load(path); err != nil {
		t.Errorf("Load: %v", err)
	}
}

func TestLoadOfNoFile(t *testing.T) {
	m := New(Options{})
	err := m.Load(filepath.Join(t.TempDir(), "registry.snapshot"))
	var unusable *SnapshotError
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, &unusable) || m.State().Loaded() {
		t.Errorf("Load: got %v, loaded %t, want fs.ErrNotExist", err, m.State().Loaded())
	}
}

func TestLoadIntoALoadedMirror(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	writeFile(t, path, saved(t, sample(t)))
	m := loaded(t)
	before := m.State()
	if err := m.Load(path); err == nil || m.State() != before {
		t.Errorf("Load: got error %v, want one and the State as before", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Snapshot: got %v, want it left as it is", err)
	}
}

func TestLoadOfWhatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := New(Options{}).Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a folder: got %v, want an error that says so", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Folder: got %v, want it left as it is", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	whole := saved(t, sample(t))
	with := func(change func([]byte) []byte) []byte { return change(bytes.Clone(whole)) }
	tests := map[string]struct {
		data  []byte
		fault Fault
		err   string
	}{
		"an empty file":         {nil, FaultTruncated, "truncated: at byte 0, within the first 20"},
		"a beginning":           {whole[:7], FaultTruncated, "at byte 7, within the first 20"},
		"all but a byte":        {whole[:len(whole)-1], FaultTruncated, "at byte"},
		"text":                  {[]byte("apiVersion: v1\nkind: Service\n"), FaultForeign, "not a meshvm snapshot"},
		"text shorter than any": {[]byte("no"), FaultForeign, "not a meshvm snapshot"},
		"transferred as text":   {with(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }), FaultForeign, "not a meshvm snapshot"},
		"a later version": {with(func(b []byte) []byte { b[len(snapshotMagic)] = 2; return sealed(b) }),
			FaultVersion, "unsupported version: 2, and this is 1"},
		"bytes at the end":    {append(bytes.Clone(whole), 0), FaultContent, "bytes long, and says that it is"},
		"a length of nothing": {with(func(b []byte) []byte { clear(b[12:20]); return b[:20] }), FaultContent, "20 bytes long, and says that it is 0"},
		"a flipped bit":       {with(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), FaultChecksum, "checksum mismatch"},
		"another digest":      {with(digestBroken), FaultContent, "should have"},
		"a body that is broken": {with(func(b []byte) []byte {
			b = bytes.ReplaceAll(b, []byte("a.example.com"), []byte("A.example.com"))
			return sealed(b)
		}), FaultContent, `host "A.example.com": is not a DNS name: character 'A'`},
		"a resource twice":    {sealed(twice(whole)), FaultContent, "comes twice"},
		"a resource too many": {with(func(b []byte) []byte { b[countOffset]--; return sealed(b) }), FaultContent, "follow the last of 5 resources"},
		"a resource too few":  {with(func(b []byte) []byte { b[countOffset]++; return sealed(b) }), FaultContent, "resource 7 of 7: a field reaches beyond the end"},
		"no generation":       {sealed(headerOnly("", testDomain)), FaultContent, "no generation"},
		"no cluster domain":   {sealed(headerOnly("g", "")), FaultContent, `cluster domain "": is not a DNS name`},
		"a header cut short":  {sealed(headerOnly("g", testDomain)[:40]), FaultContent, "header: a field reaches beyond the end"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "registry.snapshot")
			writeFile(t, path, tc.data)
			writeFile(t, path+CorruptSuffix, []byte("an older one"))
			m := New(Options{})
			before := m.State()
			err := m.Load(path)
			var unusable *SnapshotError
			if !errors.As(err, &unusable) || unusable.Fault != tc.fault || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("Load: got %v, want fault %q with %q", err, tc.fault, tc.err)
			}
			if unusable.Path != path || unusable.Aside != path+CorruptSuffix || !strings.HasSuffix(err.Error(), "; set aside as "+unusable.Aside) {
				t.Errorf("Error: got %q, want the file and where it is now", err)
			}
			if m.State() != before || !m.ConfirmedAt().IsZero() {
				t.Error("State: got a change, want none")
			}
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("File: got %v, want it moved", err)
			}
			if aside, err := os.ReadFile(path + CorruptSuffix); err != nil || !bytes.Equal(aside, tc.data) {
				t.Errorf("File set aside: got %d bytes (%v), want the %d that were refused", len(aside), err, len(tc.data))
			}
			if err := m.Load(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Second Load: got %v, want fs.ErrNotExist", err)
			}
		})
	}
}

func TestLoadOfAFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	writeFile(t, path, nil)
	if err := os.Truncate(path, maxSnapshot+1); err != nil {
		t.Fatal(err)
	}
	var unusable *SnapshotError
	if err := New(Options{}).Load(path); !errors.As(err, &unusable) || unusable.Fault != FaultForeign {
		t.Errorf("Load: got %v, want fault %q", err, FaultForeign)
	}
}

func TestSettingAsideFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	writeFile(t, path, []byte("no snapshot"))
	if err := os.MkdirAll(filepath.Join(path+CorruptSuffix, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := New(Options{}).Load(path)
	var unusable *SnapshotError
	if !errors.As(err, &unusable) || unusable.Aside != "" || !strings.Contains(err.Error(), "not a meshvm snapshot: set aside: rename") {
		t.Errorf("Load: got %v, want both what is wrong and that it could not be set aside", err)
	}
	checkFile(t, path, []byte("no snapshot"))
}

// headerOnly is a snapshot without resources, and room for a checksum.
func headerOnly(generation, domain string) []byte {
	s := *emptyState("", lifetimes{})
	s.generation, s.clusterDomain = generation, domain
	b := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), snapshotVersion)
	b = appendHeader(append(b, make([]byte, 8)...), &s, 0)
	return append(b, make([]byte, checksumSize)...)
}

// countOffset is where the number of resources stands in a snapshot of a test's mirror.
var countOffset = len(headerOnly(testGeneration, testDomain)) + len(testView) - checksumSize - 8

// digestBroken has another digest in its header.
func digestBroken(data []byte) []byte {
	data[countOffset-8] ^= 1
	return sealed(data)
}

// twice has its resources twice.
func twice(data []byte) []byte {
	content := data[:len(data)-checksumSize]
	doubled := bytes.Clone(content)
	doubled = append(doubled, content[countOffset+8:]...)
	count := binary.LittleEndian.Uint64(content[countOffset:])
	binary.LittleEndian.PutUint64(doubled[countOffset:], 2*count)
	return append(doubled, make([]byte, checksumSize)...)
}

func TestTruncationAtEveryByte(t *testing.T) {
	whole := saved(t, sample(t))
	for n := range whole {
		_, err := decodeSnapshot(whole[:n])
		var unusable *SnapshotError
		if !errors.As(err, &unusable) || unusable.Fault != FaultTruncated {
			t.Errorf("Truncated to %d of %d: got %v, want %q", n, len(whole), err, FaultTruncated)
		}
	}
	// The same with a checksum that fits: then the content itself must not do.
	for n := preambleSize; n < len(whole)-checksumSize; n++ {
		if state, err := restored(sealed(append(bytes.Clone(whole[:n]), make([]byte, checksumSize)...))); err == nil {
			t.Errorf("Cut to %d of %d: got %d resources, want an error", n, len(whole), state.Resources())
		}
	}
}

func TestEveryFlippedBit(t *testing.T) {
	whole := saved(t, sample(t))
	for i := range len(whole) * 8 {
		flipped := bytes.Clone(whole)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := restored(flipped); err == nil {
			t.Errorf("Bit %d of byte %d: got a registry, want an error", i%8, i/8)
		}
	}
}

// restored decodes a snapshot all the way.
func restored(data []byte) (*State, error) {
	decoded, err := decodeSnapshot(data)
	if err != nil {
		return nil, err
	}
	return decoded.state(emptyState("", lifetimes{fixed: 30, endpoint: 5}))
}

func TestFailedSaveLeavesTheOldFile(t *testing.T) {
	old := saved(t, sample(t))
	m := loaded(t, kubernetesService("prod", "new", "10.0.0.9"))

	t.Run("the folder is missing", func(t *testing.T) {
		err := m.Save(filepath.Join(t.TempDir(), "nowhere", "registry.snapshot"))
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "save snapshot ") {
			t.Errorf("Save: got %v, want one that names the file", err)
		}
	})
	t.Run("the folder cannot be written", func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, "registry.snapshot")
		writeFile(t, path, old)
		// What stands in the way of the new file cannot be removed, whoever runs the test.
		if err := os.MkdirAll(filepath.Join(path+temporarySuffix, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := m.Save(path); err == nil {
			t.Error("Save: got no error, want one")
		}
		checkFile(t, path, old)
	})
	t.Run("the disk is full", func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, "registry.snapshot")
		writeFile(t, path, old)
		full := errors.New("no space left on device")
		_, err := writeTemporary(path, func(w io.Writer) error {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
			return full
		})
		if !errors.Is(err, full) {
			t.Errorf("Write: got %v, want %v", err, full)
		}
		checkFile(t, path, old)
		checkFolder(t, folder, "registry.snapshot")
	})
	t.Run("the rename fails", func(t *testing.T) {
		folder := t.TempDir()
		path := filepath.Join(folder, "registry.snapshot")
		if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := m.Save(path); err == nil {
			t.Error("Save: got no error, want one")
		}
		checkFolder(t, folder, "registry.snapshot")
	})
}

// TestKilledBeforeTheRename leaves on disk just what a process leaves that dies between the two.
func TestKilledBeforeTheRename(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"all written":  func(w io.Writer) error { return encodeSnapshot(w, loaded(t).State(), 0) },
		"half written": func(w io.Writer) error { _, err := w.Write([]byte(snapshotMagic)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "registry.snapshot")
			old := sample(t)
			writeFile(t, path, saved(t, old))
			if _, err := writeTemporary(path, write); err != nil {
				t.Fatalf("Write: %v", err)
			}
			m := New(Options{TTL: 30, EndpointTTL: 5})
			if err := m.Load(path); err != nil || dump(m.State()) != dump(old.State()) {
				t.Errorf("Load: got %v and another content, want the old one", err)
			}
			if err := m.Save(path); err != nil {
				t.Errorf("Save: %v", err)
			}
			checkFolder(t, folder, "registry.snapshot")
		})
	}
}

// TestSaveDoesNotFollowALink: someone who may write to the folder must not choose what is overwritten.
func TestSaveDoesNotFollowALink(t *testing.T) {
	folder := t.TempDir()
	path, victim := filepath.Join(folder, "registry.snapshot"), filepath.Join(folder, "victim")
	writeFile(t, victim, []byte("precious"))
	if err := os.Symlink(victim, path+temporarySuffix); err != nil {
		t.Fatal(err)
	}
	if err := sample(t).Save(path); err != nil {
		t.Fatalf("Save: %v", err)
	}
	checkFile(t, victim, []byte("precious"))
	checkFolder(t, folder, "registry.snapshot", "victim")
}

func TestSaveWhileChanging(t *testing.T) {
	m := loaded(t)
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			if err := m.Apply(delta(m.State(), nil, numberedService(i, 0))); err != nil {
				t.Errorf("Apply: %v", err)
			}
		}
	}()
	for saving := true; saving; {
		select {
		case <-done:
			saving = false
		default:
		}
		if err := m.Save(path); err != nil {
			t.Fatalf("Save: %v", err)
		}
		again := New(Options{})
		if err := again.Load(path); err != nil {
			t.Fatalf("Load: %v", err)
		}
		if s := again.State(); uint64(s.Resources()) != s.revision-1 {
			t.Fatalf("Snapshot: got %d resources at revision %d, want one for each revision after the first", s.Resources(), s.revision)
		}
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes (%v), want the %d of before", path, len(got), err, len(want))
	}
}

func checkFolder(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("Folder: got %q, want %q", got, want)
	}
}
