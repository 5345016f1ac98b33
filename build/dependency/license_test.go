package dependency

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"
)

// textOf is the text of a license, as the library knows it.
func textOf(t *testing.T, id string) string {
	t.Helper()
	texts := map[string]string{
		"ISC": `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
`,
		// What every file under it says.
		"GPL-3.0-or-later": `This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.

This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the implied
warranty of MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more details.

You should have received a copy of the GNU General Public License along with this program. If not, see
<https://www.gnu.org/licenses/>.
`,
	}
	text := texts[id]
	if got := licensecheck.Scan([]byte(text)); len(got.Match) == 0 {
		t.Fatalf("%s: the text is none that is known", id)
	}
	return text
}

// moduleOf makes a module of files, with packages in folders.
func moduleOf(t *testing.T, files map[string]string, folders ...string) Module {
	t.Helper()
	module := Module{Path: "example.com/borrowed", Version: "v1.2.3", Dir: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(module.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range folders {
		path := filepath.Join(module.Dir, folder)
		if err := os.MkdirAll(path, 0o750); err != nil {
			t.Fatal(err)
		}
		module.Folders = append(module.Folders, path)
	}
	return module
}

func TestJudge(t *testing.T) {
	isc, gpl := textOf(t, "ISC"), textOf(t, "GPL-3.0-or-later")
	own := "Whoever bakes bread on a Tuesday may use this program, if the bread is good and nobody else wants it.\n"
	tests := []struct {
		name    string
		files   map[string]string
		folders []string
		want    []string // files that hold for the module
		faults  []string // what the error says; none: it is allowed
	}{
		{name: "an allowed license", files: map[string]string{"LICENSE": isc}, folders: []string{"."}, want: []string{"LICENSE"}},
		{name: "spelled otherwise", files: map[string]string{"licence.md": isc}, folders: []string{"."}, want: []string{"licence.md"}},
		{name: "that of the module holds for a package below", files: map[string]string{"COPYING": isc}, folders: []string{"a/b"}, want: []string{"COPYING"}},
		{
			name:  "a notice beside it goes along",
			files: map[string]string{"LICENSE": isc, "NOTICE": own}, folders: []string{"."}, want: []string{"LICENSE", "NOTICE"},
		},
		{
			name:  "a name is no license: code that is about licenses",
			files: map[string]string{"LICENSE": isc, "license.go": own}, folders: []string{"."}, want: []string{"LICENSE"},
		},
		{
			name:  "that of documentation does not count: no program has any of it",
			files: map[string]string{"LICENSE": isc, "LICENSE.docs": gpl}, folders: []string{"."}, want: []string{"LICENSE"},
		},
		{
			name:  "that of documentation alone",
			files: map[string]string{"LICENSE.docs": isc}, folders: []string{"."},
			faults: []string{"no license file"},
		},
		{
			name:  "copyleft in a folder that is not used does not count",
			files: map[string]string{"LICENSE": isc, "tool/LICENSE": gpl}, folders: []string{".", "a"}, want: []string{"LICENSE"},
		},
		{
			name:  "copyleft",
			files: map[string]string{"LICENSE": gpl}, folders: []string{"."}, want: []string{"LICENSE"},
			faults: []string{"example.com/borrowed@v1.2.3", "LICENSE", "GPL-3.0-or-later", "not allowed"},
		},
		{
			name:  "of several licenses one is copyleft",
			files: map[string]string{"LICENSE": isc, "LICENSE.gpl": gpl}, folders: []string{"."}, want: []string{"LICENSE", "LICENSE.gpl"},
			faults: []string{"LICENSE.gpl", "GPL-3.0-or-later"},
		},
		{
			name:  "of two licenses in a file one is copyleft",
			files: map[string]string{"LICENSE": isc + "\n" + gpl}, folders: []string{"."}, want: []string{"LICENSE"},
			faults: []string{"GPL-3.0-or-later"},
		},
		{
			name:  "copyleft for the folder that is used",
			files: map[string]string{"LICENSE": isc, "a/LICENSE": gpl}, folders: []string{".", "a/b"}, want: []string{"LICENSE", "a/LICENSE"},
			faults: []string{"a/LICENSE", "GPL-3.0-or-later"},
		},
		{
			name:  "nobody knows it",
			files: map[string]string{"LICENSE": own}, folders: []string{"."}, want: []string{"LICENSE"},
			faults: []string{"example.com/borrowed@v1.2.3", "no license that is known"},
		},
		{
			name:  "conditions were added",
			files: map[string]string{"LICENSE": isc + strings.Repeat(own, 5)}, folders: []string{"."}, want: []string{"LICENSE"},
			faults: []string{"no license that is known", "ISC"},
		},
		{
			name:  "none",
			files: map[string]string{"README.md": isc}, folders: []string{"."},
			faults: []string{"example.com/borrowed@v1.2.3", "no license file"},
		},
		{
			name:  "a notice alone",
			files: map[string]string{"NOTICE": isc}, folders: []string{"."}, want: []string{"NOTICE"},
			faults: []string{"no license file"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			module := moduleOf(t, test.files, test.folders...)
			licenses, err := module.Licenses()
			if err != nil {
				t.Fatal(err)
			}
			var files []string
			for _, license := range licenses {
				files = append(files, license.File)
				if got := string(license.Text); got != test.files[license.File] {
					t.Errorf("%s: got text %.40q, want %.40q", license.File, got, test.files[license.File])
				}
			}
			if !slices.Equal(files, test.want) {
				t.Errorf("files: got %q, want %q", files, test.want)
			}
			err = Judge(module, licenses)
			if (err == nil) != (len(test.faults) == 0) {
				t.Fatalf("got error %v, want it to say %q", err, test.faults)
			}
			for _, want := range test.faults {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestLicensesOfAFolderElsewhere(t *testing.T) {
	module := moduleOf(t, map[string]string{"LICENSE": textOf(t, "ISC")}, ".")
	module.Folders = append(module.Folders, t.TempDir())
	if _, err := module.Licenses(); err == nil || !strings.Contains(err.Error(), "is not within") {
		t.Errorf("got error %v, want one that says that the folder is not within the module", err)
	}
}
