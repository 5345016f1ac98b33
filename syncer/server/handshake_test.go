package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// slowHandshake goes on until it is told to end.
type slowHandshake struct {
	credentials.TransportCredentials

	begun chan struct{}
	end   chan struct{}
}

func (s slowHandshake) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s.begun <- struct{}{}
	<-s.end
	return conn, nil, nil
}

func (s slowHandshake) Clone() credentials.TransportCredentials { return s }

func TestHandshakesTakeTurns(t *testing.T) {
	tests := map[string]struct {
		patience time.Duration
		// waits: the third waits until one of the two before has ended.
		waits bool
	}{
		"while others shake hands": {time.Hour, true},
		"not for slow ones":        {time.Millisecond, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			slow := slowHandshake{insecure.NewCredentials(), make(chan struct{}, 3), make(chan struct{})}
			turns := newTurns(context.Background(), slow, 2, test.patience).Clone()
			var group sync.WaitGroup
			defer group.Wait()
			for range 3 {
				group.Go(func() {
					if _, _, err := turns.ServerHandshake(nil); err != nil {
						t.Errorf("ServerHandshake: %v", err)
					}
				})
			}
			begins := func() {
				select {
				case <-slow.begun:
				case <-time.After(patience):
					t.Error("a handshake does not begin")
				}
			}
			begins()
			begins()
			if test.waits {
				select {
				case <-slow.begun:
					t.Error("three handshakes at once, want two")
				case <-time.After(20 * time.Millisecond):
				}
				slow.end <- struct{}{}
			}
			begins()
			close(slow.end)
		})
	}
}

func TestNoHandshakeBeginsAfterTheStop(t *testing.T) {
	stopping, stop := context.WithCancelCause(context.Background())
	stop(errStopping)
	turns := newTurns(stopping, insecure.NewCredentials(), 0, time.Hour)
	if _, _, err := turns.ServerHandshake(nil); !errors.Is(err, errStopping) {
		t.Errorf("got %v, want %v", err, errStopping)
	}
}
