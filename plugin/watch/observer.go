package watch

import "time"

// Observer is told what happens, for metrics. Its methods are called by the goroutine of Run, one at a
// time: they must be quick.
type Observer interface {
	// Connected: a syncer has welcomed this VM.
	Connected(address string)
	// ConnectFailed: an attempt ended before a Welcome.
	ConnectFailed(address string, cause Cause)
	// Disconnected: a stream ended after its Welcome.
	Disconnected(address string, cause Cause)
	// Resumed: the syncer goes on from where the mirror is.
	Resumed()
	// Compared: the mirror and the syncer's view were compared, and what differed has been applied. Bytes
	// is the size of the digests exchanged for that.
	Compared(bytes int)
	// FullSync: the mirror has been replaced as a whole.
	FullSync()
	// Applied: a delta has been applied, a full sync's too.
	Applied(delta Applied)
	// Heartbeat: the mirror equals the syncer's view. The registry was current at that time, zero where
	// the syncer did not say.
	Heartbeat(current time.Time)
	// Mismatch: the mirror does not equal the syncer's view. A Compare follows, or a full sync.
	Mismatch()
	// Refused: the syncer said something that cannot be followed.
	Refused(reason Reason)
}

// Applied is a delta that has been applied.
type Applied struct {
	// Frames is the number of messages it came in, Bytes the size of its keys, bodies and digests.
	Frames, Bytes int
	// Upserts and Removals are numbers of resources.
	Upserts, Removals int
	// Replace: it was the whole view.
	Replace bool
	// ObservedAt is when the oldest change in it was seen by the syncer's source; zero where that is not
	// known, as for initial state. AppliedAt is when a query could see it. The clocks are of two machines.
	ObservedAt, AppliedAt time.Time
}

// longestDelay is the longest that is believed: a VM that has been away for longer has fallen off any log.
const longestDelay = 24 * time.Hour

// Delay is from commit to applied, never below zero. It is false where it is not known, or absurd.
func (a Applied) Delay() (time.Duration, bool) {
	delay := a.AppliedAt.Sub(a.ObservedAt)
	if a.ObservedAt.IsZero() || delay > longestDelay {
		return 0, false
	}
	return max(0, delay), true
}

// Ignore is an Observer that does nothing. Embed it to implement only some methods.
type Ignore struct{}

// Connected implements Observer.
func (Ignore) Connected(string) {}

// ConnectFailed implements Observer.
func (Ignore) ConnectFailed(string, Cause) {}

// Disconnected implements Observer.
func (Ignore) Disconnected(string, Cause) {}

// Resumed implements Observer.
func (Ignore) Resumed() {}

// Compared implements Observer.
func (Ignore) Compared(int) {}

// FullSync implements Observer.
func (Ignore) FullSync() {}

// Applied implements Observer.
func (Ignore) Applied(Applied) {}

// Heartbeat implements Observer.
func (Ignore) Heartbeat(time.Time) {}

// Mismatch implements Observer.
func (Ignore) Mismatch() {}

// Refused implements Observer.
func (Ignore) Refused(Reason) {}
