package join

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is one of a .tar.gz.
type entry struct {
	name, content string
	kind          byte
}

func pack(t *testing.T, entries ...entry) string {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.content))}
		if e.kind == 0 {
			header.Typeflag = tar.TypeReg
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(path, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadFolder(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"Corefile": "a", "token": "b", ".token-1.tmp": "c"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Read(folder)
	if err != nil || len(b) != 2 || string(b["Corefile"]) != "a" || string(b["token"]) != "b" {
		t.Errorf("Read: got %q, %v, want Corefile and token", b, err)
	}
	if err := os.Mkdir(filepath.Join(folder, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(folder); err == nil || !strings.Contains(err.Error(), `"more" in it is not a regular file`) {
		t.Errorf("Read with a folder in it: got %q, %v, want an error that names it", b, err)
	}
}

func TestReadTar(t *testing.T) {
	large := strings.Repeat("x", maxFile+1)
	tests := map[string]struct {
		entries []entry
		want    string // of the error; empty: Corefile is "a"
	}{
		"at the top":           {[]entry{{name: "Corefile", content: "a"}}, ""},
		"from here":            {[]entry{{name: "./", kind: tar.TypeDir}, {name: "./Corefile", content: "a"}}, ""},
		"in a folder":          {[]entry{{name: "vm-1/", kind: tar.TypeDir}, {name: "vm-1/Corefile", content: "a"}, {name: "vm-1/token", content: "b"}}, ""},
		"in two folders":       {[]entry{{name: "a/Corefile", content: "a"}, {name: "b/token", content: "b"}}, `"b/token" in it: want all files in one folder`},
		"deep":                 {[]entry{{name: "a/b/Corefile", content: "a"}}, "want all files in one folder"},
		"a link":               {[]entry{{name: "Corefile", kind: tar.TypeSymlink}}, `"Corefile" in it is not a regular file`},
		"a device":             {[]entry{{name: "Corefile", kind: tar.TypeChar}}, `"Corefile" in it is not a regular file`},
		"twice":                {[]entry{{name: "Corefile", content: "a"}, {name: "./Corefile", content: "b"}}, `"Corefile" is in it twice`},
		"a large one":          {[]entry{{name: "Corefile", content: large}}, "Corefile has more than 1048576 bytes"},
		"a name with a line":   {[]entry{{name: "a\nb", content: "a"}}, `"a\nb" in it: want names`},
		"outside of its place": {[]entry{{name: "../../etc/Corefile", content: "a"}, {name: "../token", content: "b"}}, "want all files in one folder"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := Read(pack(t, test.entries...))
			if test.want == "" {
				if err != nil || string(b["Corefile"]) != "a" {
					t.Errorf("got %q, %v, want Corefile", b, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadOther(t *testing.T) {
	text := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(text, []byte(". {\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ from, want string }{
		"nothing": {filepath.Join(t.TempDir(), "none"), "no such file"},
		"a file":  {text, "want a folder or a .tar.gz"},
		"device":  {"/dev/null", "want a folder or a .tar.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read(test.from); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.from) {
				t.Errorf("got %v, want %q and the path", err, test.want)
			}
		})
	}
}
