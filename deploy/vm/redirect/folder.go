package redirect

import (
	"os"
	"path/filepath"
)

// makeFolder makes a folder that everybody can look into, and those above it that are missing, whatever the umask is: CoreDNS's user
// and systemd-resolved's read what is in them. One that is there keeps its mode.
func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if os.IsExist(err) {
			return nil
		}
		return err
	}
	return os.Chmod(path, 0o755) // #nosec G302 -- see above
}
