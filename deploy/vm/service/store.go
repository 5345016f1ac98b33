package service

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coredns/caddy"
)

// store keeps the service manager's copy of the sockets in step with what DNS is served from. It is safe for concurrent use.
type store struct {
	manager manager

	mu sync.Mutex
	// kept are the sockets that the manager has, by the names it has them under.
	kept map[string]bool
}

func newStore(m manager, sockets []inherited) *store {
	s := &store{manager: m, kept: map[string]bool{}}
	for _, socket := range sockets {
		s.kept[socket.kept] = true
	}
	return s
}

// keep leaves the sockets of an instance with the manager, and has it close those that are not served from any more: what came to
// one of them would never be read.
func (s *store) keep(instance *caddy.Instance) error {
	if !s.manager.present() {
		return nil
	}
	sockets, err := served(instance)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bool{}
	var errs []error
	for _, socket := range sockets {
		name := socket.name()
		wanted[name] = true
		if s.kept[name] {
			continue
		}
		// Nothing is polled: an error on a socket is no reason to lose it.
		if err := s.manager.tell("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, socket.fd); err != nil {
			errs = append(errs, fmt.Errorf("leave %s %s with the service manager: %w", socket.network, socket.address, err))
			continue
		}
		s.kept[name] = true
	}
	for name := range s.kept {
		if wanted[name] {
			continue
		}
		if err := s.manager.tell("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
			errs = append(errs, fmt.Errorf("have the service manager close %s: %w", name, err))
			continue
		}
		delete(s.kept, name)
	}
	return errors.Join(errs...)
}

// unread is how long connections that were accepted already have, for a client to send its query.
const unread = 100 * time.Millisecond

// handOver leaves what comes from now on to the next process, as far as the manager keeps the sockets for it. Queries over UDP are
// read, and answered, until the servers stop.
func (s *store) handOver() error {
	instance := current()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == 0 || instance == nil {
		return nil
	}
	sockets, err := served(instance)
	if err != nil {
		return err
	}
	sockets = slices.DeleteFunc(sockets, func(socket socket) bool { return !s.kept[socket.name()] })
	if err := deafen(sockets); err != nil {
		return err
	}
	<-time.After(unread)
	return nil
}

// served are the sockets that an instance serves plain DNS from: those of this process at the addresses of servers that have both
// UDP and TCP. Each is there once, whatever number of file descriptors it has.
func served(instance *caddy.Instance) ([]socket, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("find the sockets of this process: %w", err)
	}
	var found []socket
	seen := map[uint64]bool{}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A file descriptor that was closed meanwhile is not one that DNS is served from.
		s, err := describe(fd)
		if err != nil || seen[s.inode] {
			continue
		}
		for _, server := range instance.Servers() {
			udp, tcp := server.LocalAddr(), server.Addr()
			if udp == nil || tcp == nil {
				continue
			}
			if s.network == "udp" && sameAddress(s.address, udp) || s.network == "tcp" && sameAddress(s.address, tcp) {
				seen[s.inode] = true
				found = append(found, s)
				break
			}
		}
	}
	return found, nil
}
