package server

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// connections is a listener that knows what it has accepted. It closes at once what goes beyond its bounds,
// so that nobody, with an identity or without, can take all that the process may open. And it can end
// everything: gRPC waits for connections that are still in their handshake, and one that says nothing there
// would hold up a shutdown.
type connections struct {
	net.Listener
	// most may be open, and mostOfOne from one source.
	most, mostOfOne int
	// refused is told why one was closed at once, and where it came from.
	refused func(reason string, source netip.Prefix)
	// strangers, unless nil, bound what connections may take until it is known whose they are, and failed is told
	// why that never was.
	strangers *strangers
	failed    func(reason string)

	mu      sync.Mutex
	open    map[*connection]struct{}
	sources map[netip.Prefix]int
	ended   bool
}

func newConnections(listener net.Listener, most, mostOfOne int, refused func(string, netip.Prefix)) *connections {
	return &connections{
		Listener:  listener,
		most:      most,
		mostOfOne: mostOfOne,
		refused:   refused,
		open:      map[*connection]struct{}{},
		sources:   map[netip.Prefix]int{},
	}
}

// Accept implements net.Listener. It passes over what is beyond the bounds.
func (c *connections) Accept() (net.Conn, error) {
	for {
		accepted, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &connection{Conn: accepted, of: c, source: sourceOf(accepted.RemoteAddr())}
		reason := c.enter(conn)
		if reason == "" {
			return conn, nil
		}
		c.refused(reason, conn.source)
		if tcp, isTCP := accepted.(*net.TCPConn); isTCP && reason == refusedStranger {
			_ = tcp.SetLinger(0) // so that the kernel keeps nothing of it either
		}
		_ = accepted.Close() // nothing is left to do about it
	}
}

// enter takes a connection in, or says why not.
func (c *connections) enter(conn *connection) (refused string) {
	if c.strangers != nil && !c.strangers.admits(conn.source) {
		return refusedStranger
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.open) >= c.most:
		return refusedConnections
	case c.sources[conn.source] >= c.mostOfOne:
		return refusedAddress
	}
	if c.ended {
		_ = conn.Conn.Close() // its reader is told so
	}
	if c.strangers != nil {
		conn.trial.Store(newTrial(conn, c.strangers, c.failed))
	}
	c.open[conn] = struct{}{}
	c.sources[conn.source]++
	return ""
}

// count is how many are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
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
	of     *connections
	source netip.Prefix
	// trial is nil once it is known whose connection it is.
	trial atomic.Pointer[trial]
}

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	if t := c.trial.Load(); t != nil {
		return t.read(p)
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	if t := c.trial.Load(); t != nil {
		return t.write(p)
	}
	return c.Conn.Write(p)
}

// RemoteAddr implements net.Conn. The address leads back to the connection, as it is all of it that gRPC shows to a
// stream.
func (c *connection) RemoteAddr() net.Addr { return (*remoteAddress)(c) }

// remoteAddress is where a connection comes from.
type remoteAddress connection

// Network implements net.Addr.
func (r *remoteAddress) Network() string { return r.Conn.RemoteAddr().Network() }

// String implements net.Addr.
func (r *remoteAddress) String() string { return r.Conn.RemoteAddr().String() }

// Close implements net.Conn. It may be called more than once.
func (c *connection) Close() error {
	c.of.leave(c)
	if t := c.trial.Load(); t != nil {
		t.close()
	}
	return c.Conn.Close()
}

func (c *connections) leave(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, isOpen := c.open[conn]; !isOpen {
		return
	}
	delete(c.open, conn)
	if c.sources[conn.source]--; c.sources[conn.source] == 0 {
		delete(c.sources, conn.source)
	}
}

// sourceOf is what connections are counted by: an IPv4 address, and of an IPv6 address the /64, which is the
// least that a site is given (RFC 6177). What has no IP address is counted as one.
func sourceOf(address net.Addr) netip.Prefix {
	tcp, isTCP := address.(*net.TCPAddr)
	if !isTCP {
		return netip.Prefix{}
	}
	ip, bits := tcp.AddrPort().Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	source, _ := ip.Prefix(bits) // these lengths are always right
	return source
}
