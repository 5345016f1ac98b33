package watch

import (
	"context"
	"sync/atomic"
	"time"
)

// acknowledger says how far the mirror has come, from a goroutine of its own: a syncer that does not
// read must not keep the receiver waiting.
type acknowledger struct {
	// interval is the least time between two Acks.
	interval time.Duration
	send     func(revision uint64) error

	revision atomic.Uint64
	wake     chan struct{}
}

func newAcknowledger(interval time.Duration, send func(uint64) error) *acknowledger {
	return &acknowledger{interval: interval, send: send, wake: make(chan struct{}, 1)}
}

// acknowledge has a revision sent soon. A later one may take its place; the last is always sent. It does
// not wait.
func (a *acknowledger) acknowledge(revision uint64) {
	a.revision.Store(revision)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sends until the context ends or the stream takes no more, which the receiver learns by itself.
func (a *acknowledger) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		if a.send(a.revision.Load()) != nil {
			return
		}
		pause.Reset(a.interval)
	}
}
