package service

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// deafen keeps this process from accepting connections on sockets that the service manager keeps. They wait for the next process,
// which a connection that was accepted here and not yet read from could not.
//
// The file descriptors come to mean a listener that nobody can know. Whoever accepts on them goes on waiting.
func deafen(sockets []socket) (err error) {
	deaf, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { err = errors.Join(err, os.NewSyscallError("close", unix.Close(deaf))) }()
	if err := unix.Bind(deaf, &unix.SockaddrUnix{}); err != nil { // to a name that the kernel chooses
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(deaf, 1); err != nil {
		return os.NewSyscallError("listen", err)
	}
	for _, s := range sockets {
		if s.network != "tcp" {
			continue
		}
		if err := unix.Dup3(deaf, s.fd, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("stop accepting at %s: %w", s.address, os.NewSyscallError("dup3", err))
		}
	}
	return nil
}
