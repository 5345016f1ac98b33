package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
)

// handshakeCut begins what is said of a connection that ended in the middle of its handshake, as those to a syncer that dies do. Nobody
// has refused anybody, so it is tried again as soon as after any other lost connection.
const handshakeCut = "the connection ended before it was secured: "

// cuts are what such a connection ends in.
var cuts = []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, os.ErrDeadlineExceeded, context.DeadlineExceeded, context.Canceled}

// alertPatience is how long a failed write waits for what the peer said last.
const alertPatience = 100 * time.Millisecond

// explainedTLS is TLS whose failures name the peer's reason. In TLS 1.3 a client is done with the
// handshake before the server has looked at its certificate (RFC 8446, section 4.4.2), so a refusal
// arrives while the client writes already: that write fails with "broken pipe", and the reason, an
// alert, waits to be read.
type explainedTLS struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (e explainedTLS) ClientHandshake(ctx context.Context, authority string, socket net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ClientHandshake(ctx, authority, socket)
	if err != nil && slices.ContainsFunc(cuts, func(cut error) bool { return errors.Is(err, cut) }) {
		return nil, nil, fmt.Errorf(handshakeCut+"%w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	return &explainedConn{Conn: conn, ended: make(chan struct{})}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (e explainedTLS) Clone() credentials.TransportCredentials {
	return explainedTLS{e.TransportCredentials.Clone()}
}

// explainedConn is a connection whose failed write returns the error of the read that fails with it.
type explainedConn struct {
	net.Conn
	once  sync.Once
	err   error
	ended chan struct{} // closed when err is set
}

// Read implements net.Conn.
func (c *explainedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.once.Do(func() {
			c.err = err
			close(c.ended)
		})
	}
	return n, err
}

// Write implements net.Conn.
func (c *explainedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	timeout := time.NewTimer(alertPatience)
	defer timeout.Stop()
	select {
	case <-c.ended:
		if !errors.Is(c.err, io.EOF) {
			return n, c.err
		}
	case <-timeout.C:
	}
	return n, err
}
