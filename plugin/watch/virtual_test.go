package watch

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// virtual is a client and its syncers under a fake clock: gRPC for real, over connections in memory.
type virtual struct {
	t        *testing.T
	mirror   *mirror.Mirror
	recorder *recorder
	log      *logBook
	client   *Client
	syncers  map[string]*scriptedSyncer
	lines    map[string]*line
	ended    chan error
	stop     context.CancelFunc
	// jumped is how far the time of day has jumped ahead, as after a suspension.
	jumped atomic.Int64
}

// line is the way to one syncer.
type line struct {
	listener *bufconn.Listener
	// cut refuses connections, stuck makes them hang.
	cut, stuck atomic.Bool
	// linger is how long a dial that hangs takes to end when it is told to.
	linger atomic.Int64
	// dials counts attempts, hanging those that hang now.
	dials, hanging atomic.Int64
	// last is the connection made last.
	last atomic.Pointer[frozenConn]
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

func (l *line) dial(ctx context.Context) (net.Conn, error) {
	l.dials.Add(1)
	if l.cut.Load() {
		return nil, errRefused
	}
	if l.stuck.Load() {
		l.hanging.Add(1)
		defer l.hanging.Add(-1)
		<-ctx.Done()
		time.Sleep(time.Duration(l.linger.Load()))
		return nil, ctx.Err()
	}
	conn, err := l.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	frozen := &frozenConn{Conn: conn}
	l.last.Store(frozen)
	return frozen, nil
}

// frozenConn is a connection that can go half-open: what is written gets lost, and nothing comes.
type frozenConn struct {
	net.Conn
	frozen atomic.Bool
}

func (c *frozenConn) Write(b []byte) (int, error) {
	if c.frozen.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *frozenConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.frozen.Load() {
			return n, err
		}
	}
}

// inVirtualTime runs a test under a fake clock, with a client of these syncers. Whatever the client
// leaves behind makes it fail.
func inVirtualTime(t *testing.T, m *mirror.Mirror, addresses []string, play func(*virtual)) {
	t.Helper()
	inVirtualTimeWith(t, m, addresses, func(*Config) {}, play)
}

// inVirtualTimeWith has settings edited before the client begins, under the fake clock.
func inVirtualTimeWith(t *testing.T, m *mirror.Mirror, addresses []string, edit func(*Config), play func(*virtual)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := &virtual{
			t: t, mirror: m, recorder: newRecorder(), log: &logBook{},
			syncers: map[string]*scriptedSyncer{}, lines: map[string]*line{}, ended: make(chan error, 1),
		}
		dials := map[string]func(context.Context) (net.Conn, error){}
		for _, address := range addresses {
			l := &line{listener: bufconn.Listen(1 << 20)}
			v.lines[address], dials[address] = l, l.dial
			v.syncers[address] = startSyncer(t, l.listener)
		}
		config := Config{Addresses: addresses, Insecure: true, Namespace: view, Node: "vm-1", Version: "1.0"}
		edit(&config)
		client, err := New(config, m, v.log.logger(), v.recorder)
		if err != nil {
			t.Fatalf("New: %v", err)
		}
		client.dial = dialOnly(dials)
		// The longest delay every time, so that tests can tell.
		longest := func(ceiling time.Duration) time.Duration { return ceiling }
		client.backoff.jitter, client.refusals.jitter, client.files.jitter = longest, longest, longest
		client.files.now = func() time.Time { return time.Now().Add(time.Duration(v.jumped.Load())) }
		v.client = client
		ctx, cancel := context.WithCancel(t.Context())
		v.stop = cancel
		go func() { v.ended <- client.Run(ctx) }()
		play(v)
		cancel()
		if err := <-v.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want %v", err, context.Canceled)
		}
	})
}

// only is the one syncer.
func (v *virtual) only() *scriptedSyncer {
	for _, syncer := range v.syncers {
		return syncer
	}
	return nil
}

func (v *virtual) line() *line {
	for _, l := range v.lines {
		return l
	}
	return nil
}

// settle waits until nobody has anything to do before time goes on.
func (v *virtual) settle() { synctest.Wait() }
