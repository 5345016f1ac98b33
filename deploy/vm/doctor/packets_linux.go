package doctor

import (
	"net"

	"golang.org/x/sys/unix"
)

// packets looks how large packets on a connection can be. DNS over UDP has no other path than this machine's loopback.
func packets(conn net.Conn, address string) []Finding {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return []Finding{unknown("run doctor on the VM", err)}
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return []Finding{unknown("run doctor on the VM", err)}
	}
	if infoErr != nil {
		return []Finding{unknown("run doctor on the VM", infoErr)}
	}
	return path(info.Pmtu, address)
}
