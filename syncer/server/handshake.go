package server

import (
	"context"
	"net"
	"runtime"
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

// turns has connections shake hands in the order in which they came, a bounded number at once. Of these as many compute at
// once as there are processors, and half as many while strangers abound: the others serve VMs meanwhile.
type turns struct {
	credentials.TransportCredentials

	places     chan struct{}
	processors chan struct{}
	fewer      chan struct{} // while strangers abound
	patience   time.Duration
	stopping   context.Context
}

func newTurns(stopping context.Context, inner credentials.TransportCredentials, atOnce int, patience time.Duration) *turns {
	return &turns{
		TransportCredentials: inner, patience: patience, stopping: stopping,
		places:     make(chan struct{}, atOnce),
		processors: make(chan struct{}, runtime.GOMAXPROCS(0)), fewer: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// ServerHandshake implements credentials.TransportCredentials. The wait counts against the connection's
// deadline.
func (t *turns) ServerHandshake(conn net.Conn) (secured net.Conn, info credentials.AuthInfo, err error) {
	var on *trial
	if accepted, isOurs := conn.(*connection); isOurs {
		on = accepted.trial.Load()
	}
	if on != nil {
		if err := on.hear(); err != nil {
			return nil, nil, err
		}
	}
	select {
	case t.places <- struct{}{}:
	case <-t.stopping.Done():
		return nil, nil, context.Cause(t.stopping)
	}
	leave := sync.OnceFunc(func() { <-t.places })
	defer leave()
	defer time.AfterFunc(t.patience, leave).Stop()
	if on == nil {
		return t.TransportCredentials.ServerHandshake(conn)
	}
	err = on.shake(t.processors, t.fewer, func() error {
		secured, info, err = t.TransportCredentials.ServerHandshake(conn)
		return err
	})
	return secured, info, err
}

// Clone implements credentials.TransportCredentials. The clone shares the places.
func (t *turns) Clone() credentials.TransportCredentials {
	clone := *t
	clone.TransportCredentials = t.TransportCredentials.Clone()
	return &clone
}
