package compare

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// relay stands between one VM and the replicas. It connects to any of them, can hold back what they say and
// can cut the line.
type relay struct {
	address string
	choose  func() string

	listener net.Listener
	tasks    sync.WaitGroup
	// held is locked while nothing goes through.
	held sync.RWMutex

	mu    sync.Mutex
	conns []net.Conn
	over  bool
}

// startRelay relays to the address that choose names for each connection, until close.
func startRelay(tb testing.TB, choose func() string) *relay {
	tb.Helper()
	r := &relay{choose: choose, listener: listen(tb)}
	r.address = r.listener.Addr().String()
	r.tasks.Go(func() {
		for {
			conn, err := r.listener.Accept()
			if err != nil {
				return
			}
			r.tasks.Go(func() { r.serve(conn) })
		}
	})
	return r
}

func (r *relay) serve(vm net.Conn) {
	replica, err := net.Dial("tcp", r.choose())
	if err != nil {
		_ = vm.Close() // the VM sees what it would see of a replica that is gone
		return
	}
	if !r.enter(vm, replica) {
		return
	}
	r.tasks.Go(func() { r.copy(replica, vm) })
	r.copy(vm, replica)
	r.leave(vm, replica)
}

// enter notes a line's two ends, unless the relay is closed already.
func (r *relay) enter(ends ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		closeAll(ends)
		return false
	}
	r.conns = append(r.conns, ends...)
	return true
}

func (r *relay) leave(ends ...net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	closeAll(ends)
	r.conns = slices.DeleteFunc(r.conns, func(c net.Conn) bool { return slices.Contains(ends, c) })
}

// copy carries bytes one way until either end is closed, and then closes both.
func (r *relay) copy(to, from net.Conn) {
	defer closeAll([]net.Conn{to, from})
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			r.held.RLock()
			_, failed := to.Write(buffer[:n])
			r.held.RUnlock()
			if failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends every connection. New ones are served.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	closeAll(r.conns)
}

// close ends everything, and must not be called while the relay is held.
func (r *relay) close() {
	r.mu.Lock()
	r.over = true
	closeAll(append([]io.Closer{r.listener}, closers(r.conns)...))
	r.mu.Unlock()
	r.tasks.Wait()
}

func closers(conns []net.Conn) []io.Closer {
	all := make([]io.Closer, len(conns))
	for i, conn := range conns {
		all[i] = conn
	}
	return all
}

// closeAll closes what may be closed already.
func closeAll[C io.Closer](all []C) {
	for _, c := range all {
		_ = c.Close()
	}
}
