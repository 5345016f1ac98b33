package status

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// MaxPath bounds the name of a socket, in bytes: sockaddr_un has room for 107, and a draft's is longer by one.
const MaxPath = 106

// permissions of the socket: the process's user and group may ask.
const permissions = 0o660

// ErrInUse is that another process answers at a socket.
var ErrInUse = errors.New("another process answers there")

// socket is a listener with a name in the file system.
type socket struct {
	net.Listener
	path string
	// named is the file that it made.
	named fs.FileInfo
}

// listen makes a socket. One that nobody answers on gives way; any other file stays.
func listen(path string) (*socket, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("listen at %s: the name is longer than %d bytes", path, MaxPath)
	}
	if err := abandoned(path); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	// It comes to its name when its permissions are right, and takes the place of one that was left behind.
	draft := path + "~"
	if err := abandoned(draft); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", draft, err)
	}
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	named, err := publish(draft, path)
	if err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(draft))
	}
	return &socket{Listener: listener, path: path, named: named}, nil
}

func publish(draft, path string) (fs.FileInfo, error) {
	if err := os.Chmod(draft, permissions); err != nil {
		return nil, err
	}
	named, err := os.Lstat(draft)
	if err != nil {
		return nil, err
	}
	return named, os.Rename(draft, path)
}

// abandoned returns nil where there is no file, or a socket that nobody listens on.
func abandoned(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("there is a file that is no socket")
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		return errors.Join(ErrInUse, conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// remove removes the socket's file, unless it is another's by now.
func (s *socket) remove() error {
	switch info, err := os.Lstat(s.path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !os.SameFile(info, s.named):
		return nil
	}
	return os.Remove(s.path)
}
