//go:build unix

package doctor

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// roomy is how much room a disk should have for a registry and its successor, in bytes.
const roomy = 64 << 20

// snapshot looks whether CoreDNS can keep its registry.
func snapshot(_ context.Context, e *examination) []Finding {
	folders := make(map[string]bool)
	for _, mirror := range e.report.Mirrors {
		if mirror.SnapshotFile != "" {
			folders[filepath.Dir(mirror.SnapshotFile)] = true
		}
	}
	if len(folders) == 0 && e.reportErr != nil {
		folders["/var/lib/meshvm"] = true
	}
	if len(folders) == 0 {
		return []Finding{bad(Warning, "name a file under snapshot in the Corefile", "no registry is kept: without a syncer at the start, no name of the mesh resolves")}
	}
	var findings []Finding
	for folder := range folders {
		findings = append(findings, e.folder(folder)...)
	}
	return orFine(findings, "registries are kept")
}

func (e *examination) folder(folder string) []Finding {
	info, err := os.Stat(e.path(folder))
	if err != nil {
		return []Finding{bad(Problem, "make it, for the user meshvm", "%v", err)}
	}
	var findings []Finding
	if user, known := e.user("meshvm"); known {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && (stat.Uid != user || info.Mode().Perm()&0o300 != 0o300) && info.Mode().Perm()&0o003 != 0o003 {
			findings = append(findings, bad(Problem, "chown meshvm "+folder+", and chmod u+rwx", "user meshvm cannot write in %s (of user %d, %s)", folder, stat.Uid, info.Mode().Perm()))
		}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(e.path(folder), &disk); err != nil {
		return append(findings, unknown("run doctor as root", err))
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < roomy { // #nosec G115 -- a block has a size
		verdict := Warning
		if free == 0 {
			verdict = Problem
		}
		findings = append(findings, bad(verdict, "make room on the disk", "%d MiB are free in %s", free>>20, folder))
	}
	return findings
}
