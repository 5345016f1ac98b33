// Package queue makes room for the queries that wait while a service is restarted.
//
// A process without privileges is held to net.core.rmem_max, which is enough for some 550 queries in each socket: at 2,000 a second
// that is a quarter of a second. So the service offers its sockets, to its own user and to root, and root gives them more room. They
// keep it for as long as anybody has them open: the service manager's hold on them carries it over restarts.
package queue

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each side of an exchange.
const patience = 5 * time.Second

// pause follows a connection that could not be accepted.
const pause = time.Second

// most is how many sockets are offered, as many as one message may carry.
const most = 253

// Offerer offers the sockets of a service at the path of a Unix socket. It is safe for concurrent use.
type Offerer struct {
	listener *net.UnixListener
	running  sync.WaitGroup
	closed   chan struct{}
}

// Offer hands what sockets returns, file descriptors, to everybody who connects to path, until Close. Only the user of this process
// and root can.
func Offer(path string, sockets func() ([]int, error)) (*Offerer, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("offer sockets: %w", err), listener.Close())
	}
	o := &Offerer{listener: listener, closed: make(chan struct{})}
	o.running.Go(func() { o.serve(sockets) })
	return o, nil
}

func (o *Offerer) serve(sockets func() ([]int, error)) {
	for {
		connection, err := o.listener.AcceptUnix()
		switch {
		case err == nil:
			_ = hand(connection, sockets) // who asked sees that nothing came
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		// The process may have no file descriptor left for a moment.
		select {
		case <-time.After(pause):
		case <-o.closed:
			return
		}
	}
}

// Close ends the offer. It is called once.
func (o *Offerer) Close() error {
	close(o.closed)
	err := o.listener.Close()
	o.running.Wait()
	return err
}

func hand(connection *net.UnixConn, sockets func() ([]int, error)) (err error) {
	defer func() { err = errors.Join(err, connection.Close()) }()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	fds, err := sockets()
	if err != nil || len(fds) == 0 {
		return err
	}
	_, _, err = connection.WriteMsgUnix([]byte{1}, unix.UnixRights(fds[:min(len(fds), most)]...), nil)
	return err
}

// Widen has every UDP socket that is offered at path hold this many bytes of packets that were not read yet, as the kernel counts
// them: about 768 a query. It returns how many sockets were widened. It needs CAP_NET_ADMIN.
func Widen(path string, bytes int) (widened int, err error) {
	connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, fmt.Errorf("ask for the sockets: %w", err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	message, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*most))
	_, n, _, _, err := connection.ReadMsgUnix(message, rights)
	if errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("ask for the sockets: %s offers none", path)
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the sockets: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return 0, fmt.Errorf("read the sockets: %w", err)
	}
	var errs []error
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		errs = append(errs, err)
		for _, fd := range fds {
			done, err := widen(fd, bytes)
			errs = append(errs, err, os.NewSyscallError("close", unix.Close(fd)))
			if done && err == nil {
				widened++
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return widened, fmt.Errorf("widen the queue of a socket: %w", err)
	}
	return widened, nil
}
