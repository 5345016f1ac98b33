package watch

import (
	"log/slog"
	"maps"
	"time"
)

// faults logs why streams end: the first time at once, the same again at most every so often, with how
// many went unsaid.
type faults struct {
	log   *slog.Logger
	every time.Duration
	last  map[faultKey]fault
}

// faultKey is what makes two faults the same. Texts differ too easily, by a port for instance.
type faultKey struct {
	message, address string
	cause            Cause
	reason           string
}

type fault struct {
	logged time.Time
	unsaid int
}

func newFaults(log *slog.Logger, every time.Duration) faults {
	return faults{log: log, every: every, last: make(map[faultKey]fault)}
}

// report logs that there is no stream to an address, or none any more, and what to do. It returns whether it did.
func (f *faults) report(message, address string, failed *failure, remedy string) bool {
	now := time.Now()
	key := faultKey{message, address, failed.cause, failed.reason}
	last, seen := f.last[key]
	if seen && now.Sub(last.logged) < f.every {
		last.unsaid++
		f.last[key] = last
		return false
	}
	attributes := []any{"address", address, "cause", string(failed.cause), "error", failed.err}
	if failed.refused() {
		attributes = append(attributes, "remedy", remedy)
	}
	if last.unsaid > 0 {
		attributes = append(attributes, "not_logged_since", last.unsaid)
	}
	f.log.Warn(message, attributes...)
	f.last[key] = fault{logged: now}
	return true
}

// forget has the next fault of an address logged at once: it has been well for long enough.
func (f *faults) forget(address string) {
	maps.DeleteFunc(f.last, func(key faultKey, _ fault) bool { return key.address == address })
}
