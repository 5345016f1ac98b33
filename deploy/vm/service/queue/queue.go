//go:build linux

// Package queue makes room for the queries that wait while a service is restarted.
package queue

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Widen has every UDP socket of a process that is bound to a port below 1024, or to one of the ports given, hold this many bytes of
// packets that were not read yet, as the kernel counts them: about 768 a query. It returns how many sockets were widened.
//
// A process without privileges is held to net.core.rmem_max, which is enough for some 500 queries: at 2,000 a second that is a
// quarter of a second. Widen needs CAP_NET_ADMIN and CAP_SYS_PTRACE, and Linux 5.6. The sockets keep it for as long as anybody
// has them open, so that the manager's hold on them carries it over restarts.
func Widen(pid, bytes int, ports ...int) (widened int, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("reach process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	defer func() { err = errors.Join(err, unix.Close(process)) }()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return 0, fmt.Errorf("find the sockets of process %d: %w", pid, err)
	}
	for _, entry := range entries {
		link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + entry.Name())
		number, notNumber := strconv.Atoi(entry.Name())
		if err != nil || notNumber != nil || !strings.HasPrefix(link, "socket:") {
			continue // closed meanwhile, or no socket
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EBADF) {
			continue // closed meanwhile
		}
		if err != nil {
			return widened, fmt.Errorf("reach a socket of process %d: %w", pid, os.NewSyscallError("pidfd_getfd", err))
		}
		done, err := widen(fd, bytes, ports)
		if err := errors.Join(err, os.NewSyscallError("close", unix.Close(fd))); err != nil {
			return widened, fmt.Errorf("widen the queue of a socket of process %d: %w", pid, err)
		}
		if done {
			widened++
		}
	}
	return widened, nil
}

func widen(fd, bytes int, ports []int) (bool, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		return false, os.NewSyscallError("getsockopt", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return false, os.NewSyscallError("getsockname", err)
	}
	var port int
	switch local := local.(type) {
	case *unix.SockaddrInet4:
		port = local.Port
	case *unix.SockaddrInet6:
		port = local.Port
	}
	if !served(port, ports) {
		return false, nil
	}
	// The kernel doubles what is asked for, for its own bookkeeping.
	return true, os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes/2))
}

// served reports whether DNS may be served at a port. The others are those that queries were sent from.
func served(port int, ports []int) bool {
	const firstUnprivileged = 1024
	return port > 0 && port < firstUnprivileged || slices.Contains(ports, port)
}
