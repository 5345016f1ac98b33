package doctor

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// socket is one that others can send to, as /proc/net has it.
type socket struct {
	protocol string
	address  netip.AddrPort
	user     string
	inode    string
}

// process holds a socket.
type process struct {
	pid  int
	name string
}

// listening is TCP_LISTEN as /proc/net has it.
const listening = "0A"

// ports looks who holds the addresses that CoreDNS answers at.
func ports(_ context.Context, e *examination) []Finding {
	var findings []Finding
	ours := make(map[int]bool)
	held := 0
	holders, err := e.holders()
	if err != nil {
		return []Finding{unknown("run doctor as root", err)}
	}
	for _, protocol := range []string{"udp", "udp6", "tcp", "tcp6"} {
		sockets, err := e.sockets(protocol)
		if err != nil {
			return []Finding{unknown("run doctor on the VM, as root", err)}
		}
		for _, s := range sockets {
			if !slices.ContainsFunc(e.servers(), func(server netip.AddrPort) bool { return overlap(server, s.address) }) {
				continue
			}
			held++
			for _, p := range holders[s.inode] {
				// The service manager keeps CoreDNS's sockets across a restart.
				if strings.HasPrefix(p.name, "coredns") {
					ours[p.pid] = true
				} else if p.pid != 1 {
					findings = append(findings, bad(Problem, fmt.Sprintf("stop it (systemctl status %d says what it belongs to), or have CoreDNS listen at another port", p.pid),
						"%s %s is held by %s (process %d)", s.protocol, s.address, p.name, p.pid))
				}
			}
			if len(holders[s.inode]) == 0 && e.reportErr != nil {
				findings = append(findings, bad(Unknown, "run doctor as root to see by which process", "%s %s is held by a process of user %s", s.protocol, s.address, s.user))
			}
		}
	}
	if len(ours) > 1 {
		findings = append(findings, bad(Problem, "stop the copy that meshvm.service did not start", "%d copies of CoreDNS hold its port", len(ours)))
	}
	if held == 0 {
		findings = append(findings, bad(Problem, "systemctl start meshvm, and see journalctl -u meshvm", "nobody listens at %s", e.servers()))
	}
	return orFine(findings, "CoreDNS holds %s", e.servers())
}

// overlap: who has one address cannot have the other.
func overlap(a, b netip.AddrPort) bool {
	one, other := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (one == other || one.IsUnspecified() && (one.Is6() || other.Is4()) || other.IsUnspecified() && (other.Is6() || one.Is4()))
}

func (m Machine) sockets(protocol string) ([]socket, error) {
	content, err := m.read("/proc/net/" + protocol)
	if err != nil {
		return nil, err
	}
	var sockets []socket
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 10 || strings.HasPrefix(protocol, "tcp") && fields[3] != listening {
			continue
		}
		if address, ok := kernelAddress(fields[1]); ok {
			sockets = append(sockets, socket{protocol, address, fields[7], fields[9]})
		}
	}
	return sockets, nil
}

// kernelAddress parses an address of /proc/net: words of 32 bits in the machine's order, and a port.
func kernelAddress(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	bytes := make([]byte, 0, len(words))
	for word := range slices.Chunk(words, 4) {
		bytes = binary.NativeEndian.AppendUint32(bytes, binary.BigEndian.Uint32(word))
	}
	address, ok := netip.AddrFromSlice(bytes)
	return netip.AddrPortFrom(address, uint16(number)), ok
}

// holders are the processes by the inode of a socket. Others' processes are seen by root alone.
func (m Machine) holders() (map[string][]process, error) {
	links, err := filepath.Glob(m.path("/proc") + "/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	holders := make(map[string][]process)
	for _, link := range links {
		target, err := os.Readlink(link)
		inode, found := strings.CutPrefix(target, "socket:[")
		if err != nil || !found {
			continue // closed since, or no socket
		}
		folder := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(folder, "comm")) // #nosec G304 -- a process's
		if err != nil {
			continue // it has ended since
		}
		inode = strings.TrimSuffix(inode, "]")
		if p := (process{pid, strings.TrimSpace(string(name))}); !slices.Contains(holders[inode], p) {
			holders[inode] = append(holders[inode], p)
		}
	}
	return holders, nil
}
