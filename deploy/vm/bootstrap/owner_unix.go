//go:build unix

package bootstrap

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner and the group of the one that it replaces.
func keepOwner(file *os.File, like fs.FileInfo) error {
	present, err := file.Stat()
	if err != nil {
		return err
	}
	is, ok := present.Sys().(*syscall.Stat_t)
	want, known := like.Sys().(*syscall.Stat_t)
	if !ok || !known || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return file.Chown(int(want.Uid), int(want.Gid))
}
