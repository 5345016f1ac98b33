package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/build/dependency"
)

const permissive = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
`

// borrowed makes a module with a license.
func borrowed(t *testing.T, path, license string) dependency.Module {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "LICENSE"), []byte(license), 0o600); err != nil {
		t.Fatal(err)
	}
	return dependency.Module{Path: path, Version: "v1.0.0", Dir: folder, Folders: []string{folder}}
}

// TestCheck holds that every fault is told, and where it is, and each but once.
func TestCheck(t *testing.T) {
	good, odd := borrowed(t, "example.com/good", permissive), borrowed(t, "example.com/odd", "Ask me first.")
	other := borrowed(t, "example.com/other", "Nobody may.")
	tests := []struct {
		name string
		sets []set
		want string
		says []string // what the error says; none: there is none
	}{
		{
			name: "all allowed",
			sets: []set{{name: "one", modules: []dependency.Module{good}}, {name: "two", modules: []dependency.Module{good}}},
			want: "licenses: 1 modules, all allowed\n",
		},
		{
			name: "two that nobody knows",
			sets: []set{{name: "one", modules: []dependency.Module{good, odd}}, {name: "two", modules: []dependency.Module{odd, other}}},
			says: []string{"one: module example.com/odd@v1.0.0", "two: module example.com/other@v1.0.0"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := check(test.sets, &out)
			if got := out.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if (err == nil) != (len(test.says) == 0) {
				t.Fatalf("got error %v, want it to say %q", err, test.says)
			}
			for _, want := range test.says {
				if strings.Count(err.Error(), want) != 1 {
					t.Errorf("got error %v, want %q in it once", err, want)
				}
			}
		})
	}
}

// TestSetOfSeveralMachines holds that what one machine needs beside another is judged too.
func TestSetOfSeveralMachines(t *testing.T) {
	var s set
	s.add([]dependency.Module{{Path: "b", Folders: []string{"b/x"}}})
	s.add([]dependency.Module{{Path: "a", Folders: []string{"a"}}, {Path: "b", Folders: []string{"b", "b/x"}}})
	if len(s.modules) != 2 || s.modules[0].Path != "a" || !slices.Equal(s.modules[1].Folders, []string{"b", "b/x"}) {
		t.Errorf("got %+v, want a, and b with both of its folders", s.modules)
	}
}

func TestWrite(t *testing.T) {
	out := t.TempDir()
	stale := filepath.Join(out, "program", "example.com", "gone@v1.0.0", "LICENSE")
	if err := os.MkdirAll(filepath.Dir(stale), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	module := borrowed(t, "example.com/good", permissive)
	if err := write(t.Context(), out, []set{{name: "program", modules: []dependency.Module{module}}}, t.Output()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "program", "example.com", "good@v1.0.0", "LICENSE")); err != nil || string(got) != permissive {
		t.Errorf("license: got %.40q, %v, want that of the module", got, err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("a module that is no more: got %v, want its license gone", err)
	}
	content, err := os.ReadFile(filepath.Join(out, "program", index))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "std\tgo") || !strings.HasSuffix(lines[0], "\tBSD-3-Clause") || lines[1] != "example.com/good\tv1.0.0\tISC" {
		t.Errorf("index: got %q, want a line for Go's own library and one for example.com/good", lines)
	}
	odd := borrowed(t, "example.com/odd", "Ask me first.")
	if err := write(t.Context(), out, []set{{name: "program", modules: []dependency.Module{odd}}}, t.Output()); err == nil {
		t.Error("a license that nobody knows: got no error, want one")
	}
}
