package watch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// dialFunc opens a TCP connection to host:port.
type dialFunc func(ctx context.Context, address string) (net.Conn, error)

// dialTCP is the dialFunc outside of tests, with the patience that all addresses of a name have between them.
// With insecure it refuses, whatever `localhost` resolves to, an address that is not on loopback.
func dialTCP(insecure bool, patience time.Duration) dialFunc {
	dialer := &net.Dialer{}
	if insecure {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if remote, err := netip.ParseAddrPort(address); err != nil || !remote.Addr().Unmap().IsLoopback() {
				return fmt.Errorf("insecure is for loopback only, and %s is not", address)
			}
			return nil
		}
	}
	r := resolver{lookUp: net.DefaultResolver.LookupNetIP, dial: dialer.DialContext, patience: patience}
	return r.connect
}

// connection is one gRPC connection, and knows when nothing of it is left.
type connection struct {
	*grpc.ClientConn
	sockets sockets
}

// window is how much of the whole view may be on its way, in bytes: over a path of 200 ms, 5 MB/s.
const window = 1 << 20

// connect makes a connection ready with the credentials that are on disk now. Nothing is sent yet.
func (c *Client) connect(address string) (*connection, error) {
	taken, fresh := c.files.take()
	if fresh {
		c.pardon()
	}
	if taken.fault != nil {
		return nil, taken.fault
	}
	conn := &connection{}
	options := []grpc.DialOption{
		grpc.WithContextDialer(conn.track(c.dial, address)),
		grpc.WithUserAgent("meshvm/" + c.config.Version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.limits.message)),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		// Windows that adapt would cost the syncer the answer to a ping for every Delta of every VM.
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		// The watchdog ends an attempt before gRPC does, and says so in words.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: 2 * c.limits.connect}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: c.limits.keepaliveTime, Timeout: c.limits.keepaliveTimeout}),
		// Retries, addresses and settings are this package's own: gRPC takes none from DNS or the
		// environment.
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(),
		grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
	}
	if taken.tls != nil {
		options = append(options, grpc.WithTransportCredentials(explainedTLS{credentials.NewTLS(taken.tls)}))
	} else {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	if taken.token != nil {
		options = append(options, grpc.WithPerRPCCredentials(*taken.token))
	}
	// The passthrough scheme leaves the look-up of names to the dialer.
	client, err := grpc.NewClient("passthrough:///"+url.PathEscape(address), options...)
	if err != nil {
		return nil, fmt.Errorf("prepare connection: %w", err)
	}
	conn.ClientConn = client
	return conn, nil
}

// close ends the connection and waits until it has ended.
func (c *connection) close() error {
	err := c.Close()
	c.sockets.close()
	return err
}

func (c *connection) track(dial dialFunc, address string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		if !c.sockets.enter() {
			return nil, net.ErrClosed
		}
		socket, err := dial(ctx, address)
		if err != nil {
			c.sockets.leave()
			return nil, err
		}
		return &trackedConn{Conn: socket, closed: sync.OnceFunc(c.sockets.leave)}, nil
	}
}

// trackedConn says when it has been closed.
type trackedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

// sockets counts dials under way and sockets open. gRPC may begin a dial even while it is closed, which
// a sync.WaitGroup does not allow for.
type sockets struct {
	mu     sync.Mutex
	open   int
	closed bool
	// none is closed when the last has gone; nil while nobody waits.
	none chan struct{}
}

// enter counts one more, unless close has been called.
func (s *sockets) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open++
	return true
}

func (s *sockets) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.open == 0 && s.none != nil {
		close(s.none)
	}
}

// close lets no more in and waits until none is left. It is called once.
func (s *sockets) close() {
	s.mu.Lock()
	s.closed = true
	if s.open == 0 {
		s.mu.Unlock()
		return
	}
	s.none = make(chan struct{})
	s.mu.Unlock()
	<-s.none
}
