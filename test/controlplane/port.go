package controlplane

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a free TCP port of 127.0.0.1, held for as long as the control plane
// lives.
//
// The socket is bound and never listens: it takes no connection, but while it
// exists the kernel gives the port to nobody who asks for any free one, be it
// another test or an outgoing connection. Only a server that sets SO_REUSEPORT
// under the same user can listen there. So a stopped server finds its port free
// when it comes back, and a client meets "connection refused" meanwhile.
type port struct {
	number int
	socket int
}

func reservePort() (*port, error) {
	// The lock keeps a child started just now from inheriting the socket.
	syscall.ForkLock.RLock()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserve a loopback port: %w", err)
	}
	p := &port{socket: socket}
	if err := p.bind(); err != nil {
		return nil, fmt.Errorf("reserve a loopback port: %w", errors.Join(err, p.release()))
	}
	return p, nil
}

func (p *port) bind() error {
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(p.socket, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(p.socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	name, err := unix.Getsockname(p.socket)
	if err != nil {
		return err
	}
	address, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("bound to an address of type %T", name)
	}
	p.number = address.Port
	return nil
}

// release gives the port back.
func (p *port) release() error { return unix.Close(p.socket) }

// url is the port's address with a scheme.
func (p *port) url(scheme string) string {
	return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number))
}
