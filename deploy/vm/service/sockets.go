package service

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// socket is a socket that DNS is, or was, served from.
type socket struct {
	fd      int
	network string // udp or tcp
	address netip.AddrPort
	// inode is the socket's own number, the same in every process that has it.
	inode uint64
}

// name is what the service manager knows it by. It has no colon, which the manager does not allow.
func (s socket) name() string { return s.network + "-" + strconv.FormatUint(s.inode, 10) }

// inherited is a socket that an earlier process left with the service manager.
type inherited struct {
	socket
	file *os.File
	// kept is the name that it was left under. It may be another where somebody else left it.
	kept string
}

// inherit takes what the service manager hands over. The caller closes the files.
func inherit() ([]inherited, error) {
	var all []inherited
	for _, file := range activation.Files(true) {
		s, err := describe(int(file.Fd()))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("take over file descriptor %s from the service manager: %w", file.Name(), err), file.Close())
		}
		all = append(all, inherited{socket: s, file: file, kept: file.Name()})
	}
	return all, nil
}

// errOther is why a file descriptor is not a socket of a DNS server.
var errOther = errors.New("not a UDP socket or a TCP listener")

// describe looks at a file descriptor.
func describe(fd int) (socket, error) {
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return socket{}, err
	}
	number, isSocket := strings.CutPrefix(link, "socket:[")
	if !isSocket {
		return socket{}, errOther
	}
	s := socket{fd: fd}
	if s.inode, err = strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err != nil {
		return socket{}, fmt.Errorf("inode of %s: %w", link, err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return socket{}, os.NewSyscallError("getsockname", err)
	}
	switch local := local.(type) {
	case *unix.SockaddrInet4:
		s.address = netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port)) // #nosec G115 -- a port
	case *unix.SockaddrInet6:
		s.address = netip.AddrPortFrom(netip.AddrFrom16(local.Addr).WithZone(zone(local.ZoneId)), uint16(local.Port)) // #nosec G115 -- a port
	default:
		return socket{}, errOther
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return socket{}, os.NewSyscallError("getsockopt", err)
	}
	switch kind {
	case unix.SOCK_DGRAM:
		s.network = "udp"
		return s, nil
	case unix.SOCK_STREAM:
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil {
			return socket{}, os.NewSyscallError("getsockopt", err)
		}
		if listens == 1 {
			s.network = "tcp"
			return s, nil
		}
	}
	return socket{}, errOther
}

// zone is the name of an interface, as net.Addr has it.
func zone(id uint32) string {
	if id == 0 {
		return ""
	}
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// sameAddress compares an address with one of package net, where 0.0.0.0 and :: may stand for each other.
func sameAddress(a netip.AddrPort, other net.Addr) bool {
	b, err := netip.ParseAddrPort(other.String())
	if err != nil || a.Port() != b.Port() {
		return false
	}
	if a.Addr().IsUnspecified() {
		return b.Addr().IsUnspecified()
	}
	return a.Addr().Unmap() == b.Addr().Unmap()
}
