package redirect

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFolderForAll: the unit of CoreDNS has a umask, and so may an operator. Not parallel: the umask is the process's.
func TestFolderForAll(t *testing.T) {
	root := t.TempDir()
	own := filepath.Join(root, "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	if err := makeFolder(filepath.Join(own, "run", "meshvm-redirect")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"own": 0o700, "own/run": 0o755, "own/run/meshvm-redirect": 0o755} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("Mode of %s: got %v, want %v", path, got, want)
		}
	}
}
