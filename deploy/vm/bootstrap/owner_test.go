//go:build unix

package bootstrap

import (
	"io/fs"
	"syscall"
)

// ownerOf is the owner of a file by number; -1 where it is not known.
func ownerOf(info fs.FileInfo) int {
	if known, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(known.Uid)
	}
	return -1
}
