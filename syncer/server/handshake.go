package server

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// Bounds of TLS handshakes. One costs about a millisecond of CPU. When thousands of VMs come at once, all of
// whom make progress, none is ready in time, the listener's queue runs over, and what was done was in vain.
const (
	handshakesAtOnce = 256
	// handshakePatience is how long one of them counts: a VM that is far away, or silent, does not hold up
	// others for longer. So a thousand a second begin at least.
	handshakePatience = 250 * time.Millisecond
)

// turns has connections shake hands in the order in which they came, a bounded number at once.
type turns struct {
	credentials.TransportCredentials

	places   chan struct{}
	patience time.Duration
	stopping context.Context
}

func newTurns(stopping context.Context, inner credentials.TransportCredentials, atOnce int, patience time.Duration) *turns {
	return &turns{TransportCredentials: inner, places: make(chan struct{}, atOnce), patience: patience, stopping: stopping}
}

// ServerHandshake implements credentials.TransportCredentials. The wait counts against the connection's
// deadline.
func (t *turns) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	select {
	case t.places <- struct{}{}:
	case <-t.stopping.Done():
		return nil, nil, context.Cause(t.stopping)
	}
	leave := sync.OnceFunc(func() { <-t.places })
	defer leave()
	defer time.AfterFunc(t.patience, leave).Stop()
	return t.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials. The clone shares the places.
func (t *turns) Clone() credentials.TransportCredentials {
	clone := *t
	clone.TransportCredentials = t.TransportCredentials.Clone()
	return &clone
}
