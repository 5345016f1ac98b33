package queue

import (
	"os"

	"golang.org/x/sys/unix"
)

// widen gives a UDP socket more room, and leaves others alone.
func widen(fd, bytes int) (bool, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		return false, os.NewSyscallError("getsockopt", err)
	}
	// The kernel doubles what is asked for, for its own bookkeeping.
	return true, os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes/2))
}
