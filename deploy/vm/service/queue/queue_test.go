//go:build linux

package queue

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWiden: root gives the UDP sockets that are offered more room than the machine allows others, and takes nothing from the rest.
func TestWiden(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queue.sock")
	offer, err := Offer(path, func() ([]int, error) { return []int{descriptor(t, udp), descriptor(t, tcp)}, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(offer.Close(), udp.Close(), tcp.Close()); err != nil {
			t.Error(err)
		}
	})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("permissions: got %v and %v, want 0600", info.Mode(), err)
	}

	const bytes = 8 << 20
	before := size(t, tcp)
	for range 2 {
		widened, err := Widen(path, bytes)
		if os.Geteuid() != 0 {
			if !errors.Is(err, syscall.EPERM) {
				t.Fatalf("without privileges: got %d sockets and %v, want %v", widened, err, syscall.EPERM)
			}
			return
		}
		if err != nil || widened != 1 {
			t.Fatalf("got %d sockets and %v, want 1 and no error", widened, err)
		}
	}
	if got := size(t, udp); got != bytes {
		t.Errorf("room of the UDP socket: got %d bytes, want %d", got, bytes)
	}
	if got := size(t, tcp); got != before {
		t.Errorf("room of the TCP socket: got %d bytes, want %d as before", got, before)
	}
}

func TestNothingToWiden(t *testing.T) {
	folder := t.TempDir()
	none := filepath.Join(folder, "none.sock")
	offer, err := Offer(none, func() ([]int, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := offer.Close(); err != nil {
			t.Error(err)
		}
	})
	tests := []struct{ name, path, want string }{
		{"nothing is offered", none, "offers none"},
		{"nobody offers", filepath.Join(folder, "nobody.sock"), "no such file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Widen(test.path, 1<<20); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// descriptor is good while the socket is open.
func descriptor(t *testing.T, socket syscall.Conn) (fd int) {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Error(err)
		return -1
	}
	if err := raw.Control(func(f uintptr) { fd = int(f) }); err != nil {
		t.Error(err)
	}
	return fd
}

func size(t *testing.T, socket syscall.Conn) int {
	t.Helper()
	bytes, err := unix.GetsockoptInt(descriptor(t, socket), unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
