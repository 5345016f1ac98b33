package watch

import (
	"context"
	"sync/atomic"
	"time"
)

// watchdog ends a stream that does not come forward, whatever the connection beneath it says.
type watchdog struct {
	timer *time.Timer
	cause atomic.Pointer[failure]
}

// newWatchdog is a watchdog that is not armed. What it ends has a *failure as its context's cause.
func newWatchdog(end context.CancelCauseFunc) *watchdog {
	w := &watchdog{}
	w.timer = time.AfterFunc(time.Hour, func() { end(w.cause.Load()) })
	w.timer.Stop()
	return w
}

// arm ends the stream for this cause unless it is armed anew or disarmed in time.
func (w *watchdog) arm(patience time.Duration, cause *failure) {
	w.timer.Stop()
	w.cause.Store(cause)
	w.timer.Reset(patience)
}

func (w *watchdog) disarm() { w.timer.Stop() }
