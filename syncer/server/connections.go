package server

import (
	"maps"
	"net"
	"slices"
	"sync"
)

// connections is a listener that can end what it has accepted. gRPC waits for connections that are still in
// their handshake, and one that says nothing there would hold up a shutdown.
type connections struct {
	net.Listener

	mu    sync.Mutex
	open  map[*connection]struct{}
	ended bool
}

func newConnections(listener net.Listener) *connections {
	return &connections{Listener: listener, open: map[*connection]struct{}{}}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: accepted, of: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		_ = accepted.Close() // its reader is told so
	}
	c.open[conn] = struct{}{}
	return conn, nil
}

// end closes every connection that is open or accepted later.
func (c *connections) end() {
	c.mu.Lock()
	c.ended = true
	open := slices.Collect(maps.Keys(c.open))
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close() // nothing is left to do about it
	}
}

// connection is one that its listener knows of until it is closed.
type connection struct {
	net.Conn
	of *connections
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
