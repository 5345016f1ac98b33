package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Files is the file tree of a machine that is off: what each path is, but for its times.
type Files map[string]string

// restless are paths that differ after any two boots or runs of dpkg, with the reason. A folder stands for all below it.
var restless = map[string]string{
	"etc/.pwd.lock":                       "an empty lock of sysusers and useradd",
	"etc/group-":                          "the backup that useradd and sysusers keep of the file before",
	"etc/gshadow-":                        "as group-",
	"etc/passwd-":                         "as group-",
	"etc/shadow-":                         "as group-",
	"etc/subgid-":                         "as group-",
	"etc/subuid-":                         "as group-",
	"var/cache/apt":                       "apt's caches of what can be installed",
	"var/cache/ldconfig/aux-cache":        "ldconfig's cache, with the times of files",
	"var/lib/apt":                         "apt's lists, and what was installed by hand",
	"var/lib/dhcp":                        "leases with their times",
	"var/lib/dpkg/lock":                   "an empty lock",
	"var/lib/dpkg/lock-frontend":          "an empty lock",
	"var/lib/dpkg/triggers":               "dpkg's locks of triggers",
	"var/lib/dpkg/status-old":             "the status before the last change",
	"var/lib/dpkg/diversions-old":         "as status-old",
	"var/lib/dpkg/statoverride-old":       "as status-old",
	"var/lib/NetworkManager":              "leases, time stamps and a secret key",
	"var/lib/systemd/catalog":             "the journal's catalog, which a boot rewrites",
	"var/lib/systemd/network":             "leases of systemd-networkd",
	"var/lib/systemd/random-seed":         "a seed, new with each boot",
	"var/lib/systemd/timers":              "when timers elapsed last",
	"root/.rpmdb":                         "the database of rpm on Debian",
	"var/log":                             "logs, the journal among them",
	"var/tmp":                             "private folders of services, named at random",
	"tmp":                                 "as var/tmp",
	"run":                                 "gone with the power",
	"var/lib/private/systemd":             "state of systemd's own services",
	"var/lib/systemd/timesync/clock":      "the time of the last shutdown",
	"var/lib/systemd/deb-systemd-helper-": "left by interrupted runs",
	"root/.cache":                         "caches of commands that the test ran",
}

// Snapshot reads the file tree of the machine, which must be off.
func (m *Machine) Snapshot() Files {
	m.tb.Helper()
	if m.nspawn != nil && !exited(m.nspawn) {
		m.tb.Fatal("snapshot of a machine that is on")
	}
	files := Files{}
	err := filepath.WalkDir(m.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(m.root, path)
		if err != nil {
			return err
		}
		if _, ok := restless[name]; ok {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		files[name], err = describe(path)
		return err
	})
	check(m.tb, err)
	if m.Bound {
		files["etc/resolv.conf (mounted)"], err = describe(m.bound())
		check(m.tb, err)
	}
	return files
}

func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	system, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("stat %s: got %T", path, info.Sys())
	}
	text := fmt.Sprintf("%s %d:%d", info.Mode(), system.Uid, system.Gid)
	switch {
	case info.Mode().IsRegular():
		sum, err := hashOf(path)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %d bytes %s", text, info.Size(), sum), nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return text + " -> " + target, err
	}
	return text, nil
}

func hashOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Difference says in which paths other differs from f, a line each. Empty: they are the same, byte for byte.
func (f Files) Difference(other Files) string {
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(f)) {
		switch after, ok := other[path]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("- %s: %s", path, f[path]))
		case after != f[path]:
			lines = append(lines, fmt.Sprintf("! %s: %s, was %s", path, after, f[path]))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(other)) {
		if _, ok := f[path]; !ok {
			lines = append(lines, fmt.Sprintf("+ %s: %s", path, other[path]))
		}
	}
	return strings.Join(lines, "\n")
}
