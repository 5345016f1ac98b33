package meshvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	pkgparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"golang.org/x/sys/unix"
)

// CoreDNS sets SO_REUSEPORT on every socket it serves from. So a second copy
// under the same user would start without an error, and the kernel would give it
// half of the queries. The sockets themselves are the lock against that: before
// CoreDNS binds an address, a socket without SO_REUSEPORT is bound to it, which
// the kernel refuses while any other process has the address. Only then is the
// option set on it, so that CoreDNS can bind beside it; and it is closed once
// CoreDNS has. At every moment one of the two holds the address, so of two copies
// started at once only one starts. Nothing is left behind by a process that dies,
// and there is no lock file that another user could hold.

// reservations are the sockets that hold addresses until CoreDNS has bound them.
// A process-wide state, as the addresses are.
var reservations struct {
	sync.Mutex
	held []*reservation
}

// reservation holds one address of the machine for this process.
type reservation struct {
	endpoint endpoint
	socket   io.Closer
}

// endpoint is where a server listens.
type endpoint struct{ network, address string }

// releaseHook is the name of the event hook that ends the reservations.
const releaseHook = "meshvm-release-addresses"

// reserveAddresses makes sure that this process alone will serve the addresses
// of a server block, given by its keys and listening hosts. Addresses that the
// process serves already, as at a reload, are left alone. The error names an
// address that another process has.
func reserveAddresses(keys, hosts []string) error {
	if caddy.IsUpgrade() {
		return nil // the sockets come from the parent, which has them still
	}
	endpoints, err := endpointsOf(keys, hosts)
	if err != nil {
		return err
	}

	reservations.Lock()
	defer reservations.Unlock()
	// SIGUSR1 makes caddy forget every event hook, so look rather than remember.
	if !slices.Contains(caddy.ListPlugins()["event_hooks"], releaseHook) {
		caddy.RegisterEventHook(releaseHook, func(event caddy.EventName, _ any) error {
			if event == caddy.InstanceStartupEvent {
				return ReleaseAddresses()
			}
			return nil
		})
	}
	for _, endpoint := range endpoints {
		if isReserved(endpoint) || isServed(endpoint) {
			continue
		}
		socket, err := endpoint.reserve()
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%s %s is in use: another copy of CoreDNS or another DNS server has it; stop that one, or change the port of the server block or its bind addresses", endpoint.network, endpoint.address)
		}
		if err != nil {
			return fmt.Errorf("reserve %s %s: %w", endpoint.network, endpoint.address, err)
		}
		reservations.held = append(reservations.held, &reservation{endpoint: endpoint, socket: socket})
	}
	return nil
}

// ReleaseAddresses closes all reservations. CoreDNS has bound the addresses by
// then, or given up on them. It happens by itself once CoreDNS has started; what
// looks at the process's sockets at that moment calls it first.
func ReleaseAddresses() error {
	reservations.Lock()
	defer reservations.Unlock()
	errs := make([]error, 0, len(reservations.held))
	for _, r := range reservations.held {
		errs = append(errs, r.socket.Close())
	}
	reservations.held = nil
	return errors.Join(errs...)
}

func isReserved(e endpoint) bool {
	return slices.ContainsFunc(reservations.held, func(r *reservation) bool { return r.endpoint == e })
}

// isServed reports whether a server of this process listens there.
func isServed(e endpoint) bool {
	for _, instance := range caddy.Instances() {
		for _, server := range instance.Servers() {
			local := server.Addr()
			if e.network == "udp" {
				local = server.LocalAddr()
			}
			if local == nil {
				continue
			}
			if at, err := netip.ParseAddrPort(local.String()); err == nil && e.includes(at) {
				return true
			}
		}
	}
	return false
}

// includes reports whether a socket bound to the endpoint may call itself at. A
// host that is left open is 0.0.0.0 or ::, whatever the machine supports.
func (e endpoint) includes(at netip.AddrPort) bool {
	host, port, err := net.SplitHostPort(e.address)
	if err != nil || port != strconv.Itoa(int(at.Port())) {
		return false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.IsUnspecified() {
		return at.Addr().IsUnspecified()
	}
	return addr.Unmap() == at.Addr().Unmap()
}

// endpointsOf returns where the server block with these keys will listen. An
// address whose port the kernel is to choose belongs to nobody yet.
func endpointsOf(keys, hosts []string) ([]endpoint, error) {
	var endpoints []endpoint
	for _, key := range keys {
		scheme, zone := pkgparse.Transport(key)
		_, port, err := plugin.SplitHostPort(zone)
		if err != nil {
			return nil, err
		}
		if port == "0" || port == "" {
			continue
		}
		network := "tcp"
		switch scheme {
		case transport.DNS, transport.QUIC, transport.HTTPS3:
			network = "udp"
		}
		for _, host := range hosts {
			// As CoreDNS does, so that both mean the same by an interface's zone or
			// a port's number.
			addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
			if err != nil {
				return nil, err
			}
			e := endpoint{network: network, address: addr.String()}
			if !slices.Contains(endpoints, e) {
				endpoints = append(endpoints, e)
			}
		}
	}
	return endpoints, nil
}

// reserve binds the address, failing with EADDRINUSE where anybody else has it,
// and then lets CoreDNS bind it too.
func (e endpoint) reserve() (io.Closer, error) {
	var config net.ListenConfig
	if e.network == "udp" {
		socket, err := config.ListenPacket(context.Background(), e.network, e.address)
		if err != nil {
			return nil, err
		}
		udp := socket.(*net.UDPConn)
		return udp, closeOnError(udp, errors.Join(deafen(udp), share(udp)))
	}
	socket, err := config.Listen(context.Background(), e.network, e.address)
	if err != nil {
		return nil, err
	}
	return socket, closeOnError(socket, share(socket.(*net.TCPListener)))
}

func closeOnError(socket io.Closer, err error) error {
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// share lets this process, or one of the same user, bind the address again.
func share(socket syscall.Conn) error {
	return control(socket, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// deafen connects a UDP socket to a port of this machine that sends nothing. The
// kernel then keeps queries from it: they go to CoreDNS or, until CoreDNS listens,
// are refused at once rather than lost.
func deafen(socket *net.UDPConn) error {
	return control(socket, func(fd int) error {
		local, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		const discard = 9
		switch peer := local.(type) {
		case *unix.SockaddrInet4:
			peer.Port = discard
			if peer.Addr == [4]byte{} {
				peer.Addr = [4]byte{127, 0, 0, 1}
			}
		case *unix.SockaddrInet6:
			peer.Port = discard
			if peer.Addr == [16]byte{} {
				peer.Addr = netip.MustParseAddr("::ffff:127.0.0.1").As16()
			}
		}
		return unix.Connect(fd, local)
	})
}

func control(socket syscall.Conn, f func(fd int) error) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
