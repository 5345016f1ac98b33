package statefile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

func records(n int) []vip.Record {
	list := make([]vip.Record, 0, n)
	address := netip.MustParseAddr("240.240.0.1")
	for i := range n {
		record := vip.Record{Address: address, Host: fmt.Sprintf("host-%d.example.com", i), Owner: vip.Owner{Namespace: "prod", Name: fmt.Sprint("entry-", i)}, Since: noon}
		if i%3 == 1 {
			record.FreedAt = noon.Add(time.Minute)
		}
		if i%3 == 2 {
			record.Retired = true
		}
		list = append(list, record)
		address = address.Next()
	}
	return list
}

func open(t *testing.T, path string) *File {
	t.Helper()
	file, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func closed(t *testing.T, file *File) {
	t.Helper()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsSavedIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vips.json")
	file := open(t, path)
	if got := file.Records(); len(got) != 0 {
		t.Errorf("Records of a new file: got %v, want none", got)
	}
	for _, n := range []int{0, 1, 500, 2, 0, 7} {
		if err := file.Save(records(n)); err != nil {
			t.Fatal(err)
		}
		closed(t, file)
		file = open(t, path)
		if got := file.Records(); !slices.EqualFunc(got, records(n), vip.Record.Equal) {
			t.Errorf("Records: got %v, want %v", got, records(n))
		}
	}
	closed(t, file)
	if left, err := filepath.Glob(path + "*"); err != nil || !slices.Equal(left, []string{path, path + lockSuffix}) {
		t.Errorf("Files: got %q, %v, want the ledger and its lock", left, err)
	}
}

// TestWhatACrashLeavesBehind: a ledger that was not written to its end is not looked at.
func TestWhatACrashLeavesBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vips.json")
	file := open(t, path)
	if err := file.Save(records(3)); err != nil {
		t.Fatal(err)
	}
	closed(t, file)
	if err := os.WriteFile(path+temporarySuffix, []byte("half a led"), 0o600); err != nil {
		t.Fatal(err)
	}
	file = open(t, path)
	defer closed(t, file)
	if got := file.Records(); len(got) != 3 {
		t.Errorf("Records: got %v, want 3", got)
	}
	if err := file.Save(records(4)); err != nil {
		t.Errorf("Save beside what a crash left: %v", err)
	}
}

func TestOnlyOneMayUseIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vips.json")
	first := open(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another syncer uses it") {
		t.Errorf("Open twice: got %v, want an error that says who has %s", err, path)
	}
	closed(t, first)
	closed(t, open(t, path))
}

// TestDamage changes a good file in every way that a file breaks. It is never taken for an empty one, and
// stays as it is.
func TestDamage(t *testing.T) {
	good, err := encode(records(3))
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	tests := map[string]struct{ content, want string }{
		"empty":                  {"", "it is empty"},
		"zeros":                  {string(make([]byte, 100)), "it is no ledger"},
		"another file":           {"apiVersion: v1\nkind: Service\n", "it is no ledger"},
		"other JSON":             {"{}\n", "it is no ledger"},
		"cut in the header":      {text[:20], "it is no ledger"},
		"cut after the header":   {text[:strings.Index(text, "\n")+1], "its checksum is"},
		"cut in a record":        {text[:len(text)-10], "its checksum is"},
		"cut between records":    {text[:strings.LastIndex(strings.TrimSpace(text), "\n")+1], "its checksum is"},
		"one letter":             {strings.Replace(text, "host-1", "host-9", 1), "its checksum is"},
		"something after it":     {text + "\n", "its checksum is"},
		"a line twice":           {text + text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:], "its checksum is"},
		"a version of tomorrow":  {strings.Replace(text, `"version":1`, `"version":2`, 1), "it has version 2, and this program knows version 1"},
		"a record of no form":    {rewritten(t, "{\n", 1), "line 2: it is no record"},
		"a record with more":     {rewritten(t, `{"address":"240.240.0.1","host":"a","ttl":3}`+"\n", 1), "line 2: it is no record"},
		"a record without host":  {rewritten(t, `{"address":"240.240.0.1"}`+"\n", 1), "line 2: the record of 240.240.0.1 has no host"},
		"a record of no address": {rewritten(t, `{"host":"a"}`+"\n", 1), "line 2: the record has no address"},
		"fewer than it says":     {rewritten(t, `{"address":"240.240.0.1","host":"a"}`+"\n", 2), "it holds 1 records, and should hold 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vips.json")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := Open(path)
			if err == nil {
				t.Fatalf("Open: got %v, want an error", file.Records())
			}
			for _, want := range []string{path, test.want, "from a backup"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Open: got %q, want it to say %q", err, want)
				}
			}
			if left, err := os.ReadFile(path); err != nil || string(left) != test.content {
				t.Errorf("The file: got %q, %v, want it as it was", left, err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			closed(t, open(t, path)) // The lock is not kept.
		})
	}
}

// rewritten is a file whose checksum is good.
func rewritten(t *testing.T, body string, records int) string {
	t.Helper()
	return fmt.Sprintf(`{"kind":%q,"version":%d,"records":%d,"checksum":%q}`+"\n%s", kind, version, records, checksum([]byte(body)), body)
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"in a folder that is not there": filepath.Join(folder, "absent", "vips.json"),
		"a folder":                      filepath.Join(folder, "taken"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("Open: got %v, want an error with %s", err, path)
			}
		})
	}
}

// TestAFailedSave leaves the ledger as it was, and does not keep the next one from being saved.
func TestAFailedSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vips.json")
	file := open(t, path)
	if err := file.Save(records(3)); err != nil {
		t.Fatal(err)
	}
	// Something in the way that cannot be removed: a folder that is not empty.
	if err := os.MkdirAll(filepath.Join(path+temporarySuffix, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := file.Save(records(4)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Save: got %v, want an error with %s", err, path)
	}
	if err := os.RemoveAll(path + temporarySuffix); err != nil {
		t.Fatal(err)
	}
	closed(t, file)
	file = open(t, path)
	defer closed(t, file)
	if got := file.Records(); len(got) != 3 {
		t.Errorf("Records after a Save that failed: got %v, want the 3 of before", got)
	}
	if err := file.Save(records(4)); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		good, err := encode(records(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	f.Add([]byte(`{"kind":"meshvm virtual IPs","version":1,"records":-1,"checksum":""}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		read, err := decode(content)
		if err != nil {
			return
		}
		again, err := encode(read)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		twice, err := decode(again)
		if err != nil || !slices.EqualFunc(read, twice, vip.Record.Equal) {
			t.Errorf("decode what was encoded: got %v, %v, want %v", twice, err, read)
		}
	})
}
