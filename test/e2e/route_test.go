package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// route is a way over TCP that can be cut: what is open ends, and what is dialled is refused.
type route struct {
	address string
	server  string

	tasks sync.WaitGroup
	mu    sync.Mutex
	// listener is nil while the route is cut.
	listener net.Listener
	ends     map[net.Conn]bool
}

// newRoute is a way to a server that is open, until the test ends.
func newRoute(t *testing.T, address, server string) *route {
	t.Helper()
	r := &route{address: address, server: server, ends: map[net.Conn]bool{}}
	r.mend(t)
	t.Cleanup(func() {
		r.cut()
		r.tasks.Wait()
	})
	return r
}

// mend opens the route.
func (r *route) mend(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.listener = listener
	r.mu.Unlock()
	r.tasks.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.tasks.Go(func() { r.serve(listener, client) })
		}
	})
}

// cut closes the route.
func (r *route) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for end := range r.ends {
		end.Close()
	}
}

func (r *route) serve(of net.Listener, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return // the client sees what it would see of a server that is gone
	}
	defer server.Close()
	r.mu.Lock()
	if r.listener != of {
		r.mu.Unlock()
		return // cut while it was being made
	}
	r.ends[client], r.ends[server] = true, true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ends, client)
		delete(r.ends, server)
	}()
	// Either end closes both. What got through until then is all that a cut leaves.
	r.tasks.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	_, _ = io.Copy(client, server)
}
