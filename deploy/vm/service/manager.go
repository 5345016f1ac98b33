package service

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// manager is the service manager as sd_notify(3) speaks to it. The zero manager is none: what it is told goes nowhere.
type manager struct{ socket string }

// newManager is the one that started this process. Its address is taken out of the environment, since it is for this process only.
func newManager() manager {
	m := manager{socket: os.Getenv("NOTIFY_SOCKET")}
	_ = os.Unsetenv("NOTIFY_SOCKET") // never fails on Unix
	return m
}

func (m manager) present() bool { return m.socket != "" }

// tell sends assignments, a line each, and with them file descriptors that the manager is to keep.
func (m manager) tell(state string, fds ...int) (err error) {
	if !m.present() {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { err = errors.Join(err, os.NewSyscallError("close", unix.Close(fd))) }()
	unix.CloseOnExec(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: m.socket}, 0); err != nil {
		return fmt.Errorf("tell the service manager at %s: %w", m.socket, os.NewSyscallError("sendmsg", err))
	}
	return nil
}
