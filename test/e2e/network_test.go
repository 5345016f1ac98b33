//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// network joins hosts, each with a kernel network of its own, by carrying their packets in this process.
// So TCP is the kernel's at both ends, and what becomes of a packet is the test's to say: see link. It
// needs root, or the root of a user namespace, and /dev/net/tun: no bridge, no filter, no program. The
// kernel takes everything back when the test and the programs that it started have ended, however they end.
type network struct {
	t     *testing.T
	hosts []*host
	links map[direction]*link
	tasks sync.WaitGroup
}

// direction is from one host to another.
type direction struct{ from, to netip.Addr }

// host is one machine on a network.
type host struct {
	t *testing.T
	// ip is its address. It has loopback too, which no other host shares.
	ip netip.Addr
	// namespace is the network namespace, device where its packets come out and go in.
	namespace, device *os.File
}

// newNetwork makes a network of so many hosts. Packets go through until a link is told otherwise.
func newNetwork(t *testing.T, hosts int) *network {
	t.Helper()
	n := &network{t: t, links: map[direction]*link{}}
	// The last of the cleanups to run: the programs have ended.
	t.Cleanup(n.end)
	for i := range hosts {
		n.hosts = append(n.hosts, newHost(t, netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)})))
	}
	for _, from := range n.hosts {
		for _, to := range n.hosts {
			if from != to {
				l := newLink(to.deliver)
				n.links[direction{from.ip, to.ip}] = l
				n.tasks.Go(l.run)
			}
		}
	}
	for _, h := range n.hosts {
		n.tasks.Go(func() { n.carry(h) })
	}
	return n
}

func (n *network) end() {
	for _, h := range n.hosts {
		if err := errors.Join(h.device.Close(), h.namespace.Close()); err != nil {
			n.t.Errorf("end network: %v", err)
		}
	}
	for _, l := range n.links {
		l.end()
	}
	n.tasks.Wait()
}

// link is the way from one host to another.
func (n *network) link(from, to *host) *link { return n.links[direction{from.ip, to.ip}] }

// between is both ways between two hosts.
func (n *network) between(a, b *host) []*link { return []*link{n.link(a, b), n.link(b, a)} }

// carry hands each packet that leaves a host to the link that it is for. What is for nobody, such as the
// kernel's own looking around, is lost.
func (n *network) carry(from *host) {
	packet := make([]byte, maxPacket)
	for {
		size, err := from.device.Read(packet)
		if errors.Is(err, fs.ErrClosed) {
			return
		}
		if err != nil {
			n.t.Errorf("read a packet of %s: %v", from.ip, err)
			return
		}
		// RFC 791, section 3.1: the version is in the first four bits, the destination from byte 16.
		if size < 20 || packet[0]>>4 != 4 {
			continue
		}
		to := netip.AddrFrom4([4]byte(packet[16:20]))
		if l := n.links[direction{from.ip, to}]; l != nil {
			l.take(packet[:size])
		}
	}
}

// maxPacket is more than the 1500 bytes of the devices.
const maxPacket = 2048

func newHost(t *testing.T, ip netip.Addr) *host {
	t.Helper()
	h := &host{t: t, ip: ip}
	var furnished error
	err := inNamespace(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() { furnished = h.furnish() })
	if err := errors.Join(err, furnished); err != nil {
		t.Fatalf("make a network namespace with a TUN device: %v (it takes root, or user namespaces, and /dev/net/tun)", err)
	}
	return h
}

// furnish brings up loopback and the device in the namespace of this thread.
func (h *host) furnish() (err error) {
	if h.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if err := bringUp("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return err
	}
	const name = "mesh0"
	if h.device, err = openTUN(name); err != nil {
		return err
	}
	return bringUp(name, netip.PrefixFrom(h.ip, 24))
}

// deliver gives the host a packet. It does not block: the kernel takes a packet at once, or loses it.
func (h *host) deliver(packet []byte) {
	if _, err := h.device.Write(packet); err != nil && !errors.Is(err, fs.ErrClosed) {
		h.t.Errorf("write a packet to %s: %v", h.ip, err)
	}
}

// inside runs a function with the host's network: sockets that its goroutine opens and programs that it
// starts are the host's, and stay so. Goroutines that it starts are elsewhere.
func (h *host) inside(run func()) error {
	return inNamespace(func() error { return unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET) }, run)
}

// dial opens a connection from the host.
func (h *host) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if err := h.inside(func() { conn, err = new(net.Dialer).DialContext(ctx, network, address) }); err != nil {
		return nil, err
	}
	return conn, err
}

// at is the host's address with a port.
func (h *host) at(port uint16) string { return netip.AddrPortFrom(h.ip, port).String() }

// inNamespace runs a function on a thread of its own that has entered a network namespace, and waits for it.
// The thread does not come back, which only root may: it ends.
func inNamespace(enter func() error, run func()) error {
	var err error
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = enter(); err == nil {
			run()
		}
		returned = true
	}()
	<-done
	if !returned { // run has ended the test
		runtime.Goexit()
	}
	return err
}

// openTUN makes a network device in the namespace of this thread. What the kernel sends through it is read
// from the file, a packet at a time, and what is written to the file the kernel receives.
func openTUN(name string) (*os.File, error) {
	const path = "/dev/net/tun"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make device %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// bringUp gives a device of the namespace of this thread an address and switches it on.
func bringUp(name string, address netip.Prefix) (err error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	ip := address.Addr().As4()
	steps := []struct {
		what    string
		request uint
		set     func(*unix.Ifreq) error
	}{
		{"address", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(ip[:]) }},
		{"netmask", unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error {
			return r.SetInet4Addr(net.CIDRMask(address.Bits(), 32))
		}},
		{"flags", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
			r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			return nil
		}},
	}
	for _, step := range steps {
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = step.set(request)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, step.request, request)
		}
		if err != nil {
			return fmt.Errorf("set %s of device %s: %w", step.what, name, err)
		}
	}
	return nil
}
