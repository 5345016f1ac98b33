package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Bounds of what a VM that is turned away is asked to wait. The longest is within what VMs honour.
const (
	shortestHint = time.Second
	longestHint  = time.Minute
)

// firstTurn is what a turn is taken to last before one has been measured.
const firstTurn = 100 * time.Millisecond

// admission has VMs brought up to date a few at a time, in the order in which they came. A bounded number
// waits for a place, for a bounded time. Others are told when to come again: each later than the one before,
// so that a crowd comes back at the pace at which it can be served.
type admission struct {
	places chan struct{}
	// room is how many may wait.
	room int
	// patience is how long a stream that has a place keeps others from it.
	patience time.Duration
	metrics  *metrics

	mu      sync.Mutex
	waiting int
	// turn is how long a place was held lately, on average.
	turn time.Duration
	// promised is when the last that was turned away is to come again.
	promised time.Time
}

func newAdmission(places, room int, patience time.Duration, m *metrics) *admission {
	return &admission{places: make(chan struct{}, places), room: room, patience: patience, metrics: m, turn: firstTurn}
}

// admit waits until a stream may be brought up to date. What it returns gives the place to the next one; a
// stream that takes long loses it earlier. The error is a status with a hint where there is no place within
// the time that a VM waits for its Welcome.
func (s *Server) admit(ctx context.Context) (release func(), err error) {
	return s.admission.enter(ctx, s.opts.FullSyncWait)
}

// admitAgain is admit for a VM that has been welcomed, and takes three heartbeat intervals of silence for
// a fault.
func (s *Server) admitAgain(ctx context.Context) (release func(), err error) {
	return s.admission.enter(ctx, min(s.opts.FullSyncWait, s.opts.HeartbeatInterval))
}

// enter waits for a place, no longer than for wait.
func (a *admission) enter(ctx context.Context, wait time.Duration) (release func(), err error) {
	select {
	case a.places <- struct{}{}:
		a.metrics.admissions.WithLabelValues(admittedAtOnce).Inc()
		return a.begin(), nil
	default:
	}
	if !a.queue() {
		a.metrics.admissions.WithLabelValues(turnedAway).Inc()
		return nil, a.comeAgain("%d VMs wait already to be brought up to date", a.room)
	}
	defer a.unqueue()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	// A channel serves those who wait in the order in which they came.
	select {
	case a.places <- struct{}{}:
		a.metrics.admissions.WithLabelValues(admittedLater).Inc()
		return a.begin(), nil
	case <-timeout.C:
		a.metrics.admissions.WithLabelValues(waitedInVain).Inc()
		return nil, a.comeAgain("no turn to be brought up to date within %s", wait)
	case <-ctx.Done():
		a.metrics.admissions.WithLabelValues(leftTheQueue).Inc()
		return nil, context.Cause(ctx)
	}
}

// begin starts a turn.
func (a *admission) begin() (release func()) {
	began := time.Now()
	give := sync.OnceFunc(func() {
		<-a.places
		a.mu.Lock()
		defer a.mu.Unlock()
		a.turn += (time.Since(began) - a.turn) / 8
	})
	patience := time.AfterFunc(a.patience, give)
	return func() {
		patience.Stop()
		give()
	}
}

func (a *admission) queue() (entered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting >= a.room {
		return false
	}
	a.waiting++
	return true
}

func (a *admission) unqueue() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
}

// load is how many have a place and how many wait for one.
func (a *admission) load() (placed, waiting int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.places), a.waiting
}

// comeAgain is what a VM is told that has no turn now.
func (a *admission) comeAgain(format string, arguments ...any) error {
	return turnAway(a.hint(), format, arguments...)
}

// hint is when to come again: after all that have a place or wait for one, and all that have been turned
// away before.
func (a *admission) hint() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, places := time.Now(), cap(a.places)
	share := max(a.turn/time.Duration(places), time.Microsecond)
	last := now.Add(share * time.Duration(len(a.places)+a.waiting))
	if a.promised.After(last) {
		last = a.promised
	}
	a.promised = last.Add(share)
	if hint := a.promised.Sub(now); hint < longestHint {
		hint = max(hint, shortestHint)
		return min(longestHint, hint+rand.N(hint/4))
	}
	// Beyond that nothing is worth promising, and only chance is left to spread them.
	a.promised = now.Add(longestHint)
	return longestHint/2 + rand.N(longestHint/2)
}

// turnAway is a status that asks the VM to come again after a time: google.rpc.RetryInfo.
func turnAway(hint time.Duration, format string, arguments ...any) error {
	said := status.Newf(codes.ResourceExhausted, format+"; come again in %s or try another syncer", append(arguments, hint.Round(100*time.Millisecond))...)
	detailed, err := said.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(hint)})
	if err != nil {
		return fmt.Errorf("say when to come again: %w", err)
	}
	return detailed.Err()
}
