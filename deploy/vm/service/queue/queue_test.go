//go:build linux

package queue

import (
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWiden on this process's own sockets. It needs the rights that the package says, as whoever runs it has in CI.
func TestWiden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the kernel has to refuse")
	}
	listen := func() (*net.UDPConn, int) {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		return socket, socket.LocalAddr().(*net.UDPAddr).Port
	}
	served, port := listen()
	other, _ := listen()
	before := size(t, other)

	const bytes = 8 << 20
	widened, err := Widen(os.Getpid(), bytes, port)
	if os.Geteuid() != 0 {
		if err == nil && size(t, served) < bytes {
			t.Error("got no error and no room, want one of the two")
		}
		return
	}
	if err != nil || widened != 1 {
		t.Fatalf("got %d sockets and %v, want 1 and no error", widened, err)
	}
	if got := size(t, served); got != bytes {
		t.Errorf("room of the served socket: got %d bytes, want %d", got, bytes)
	}
	if got := size(t, other); got != before {
		t.Errorf("room of another socket: got %d bytes, want %d as before", got, before)
	}
}

func TestWidenOfNobody(t *testing.T) {
	if _, err := Widen(1<<22+1, 1<<20); err == nil { // more than the kernel gives to processes
		t.Error("got no error, want one that names the process")
	}
}

func size(t *testing.T, socket syscall.Conn) int {
	t.Helper()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	var inner error
	if err := raw.Control(func(fd uintptr) { bytes, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }); err != nil || inner != nil {
		t.Fatal(err, inner)
	}
	return bytes
}
