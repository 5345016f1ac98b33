//go:build machines

package machines

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/test/machines/machine"
)

// TestLint: lintian and rpmlint have nothing to say that is not answered in build/package.
func TestLint(t *testing.T) {
	tests := map[string]struct {
		command []string
		want    string
	}{
		"lintian": {command: []string{"lintian", "--allow-root", "--fail-on", "error,warning", machine.PackageFile(t, machine.Current, "deb")}},
		"rpmlint": {command: []string{"rpmlint", "-c", inRepository(t, "build/package/rpmlint.toml"), machine.PackageFile(t, machine.Current, "rpm")},
			want: "1 packages and 0 specfiles checked; 0 errors, 0 warnings"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			output, err := exec.CommandContext(t.Context(), test.command[0], test.command[1:]...).CombinedOutput() // #nosec G204 -- linters
			if err != nil || !strings.Contains(string(output), test.want) || test.want == "" && len(output) > 0 {
				t.Errorf("%s: %v, got\n%s\nwant %q", strings.Join(test.command, " "), err, output, test.want)
			}
		})
	}
}

// TestReproducible: the same sources give the same packages, byte for byte.
func TestReproducible(t *testing.T) {
	again := t.TempDir()
	build := exec.CommandContext(t.Context(), "sh", inRepository(t, "build/package/build.sh"), again, "v1.0.0", runtime.GOARCH) // #nosec G204 -- this repository's
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the packages again: %v:\n%s", err, output)
	}
	for _, format := range []string{"deb", "rpm"} {
		first := machine.PackageFile(t, machine.Current, format)
		if err := same(first, filepath.Join(again, filepath.Base(first))); err != nil {
			t.Error(err)
		}
	}
}

func inRepository(t *testing.T, path string) string {
	t.Helper()
	repository, err := machine.Repository()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(repository, path)
}

// same is an error unless both files have the same bytes.
func same(first, again string) error {
	one, err := os.ReadFile(first)
	if err != nil {
		return err
	}
	other, err := os.ReadFile(again)
	if err != nil {
		return err
	}
	if !bytes.Equal(one, other) {
		return fmt.Errorf("%s: a second build gave other bytes", filepath.Base(first))
	}
	return nil
}
