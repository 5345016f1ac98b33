package watch

import (
	"sync"
	"time"
)

// Status is where a Client stands, for people.
type Status struct {
	// Address is the syncer that has welcomed this VM. Empty: none at present.
	Address string
	// Since is when the present state, connected or not, began. Zero: Run has not begun.
	Since time.Time
	// Synced: a heartbeat of this stream has proved that the mirror equals the syncer's view.
	Synced bool
	// LastError is why the last stream ended or did not come about, LastErrorAt when. They stay after
	// the fault has gone.
	LastError   string
	LastErrorAt time.Time
	// Credentials are what the files hold now: what the next stream is opened with.
	Credentials []Credential
	// Problem is what keeps the mirror from being in step. Nil: nothing, or a stream has only just begun.
	Problem *Problem
}

// Problem is why no syncer is followed, and what to do. It holds nothing of a secret.
type Problem struct {
	// Since is when the mirror was in step last, or Run began; At is when this came last.
	Since, At time.Time
	// Address is the syncer that it came with.
	Address string
	Cause   Cause
	// Reason is what a syncer says that does not let this VM in, one of registryv1.Refused…, or empty.
	Reason string
	// Message is what went wrong, in the syncer's words where it has said something. Remedy is what to do; empty:
	// nothing but to wait.
	Message, Remedy string
}

// suffer notes a failure. One that somebody must do something about stays until the mirror is in step again, or
// another such takes its place: that another syncer is away says less.
func (s *Status) suffer(problem Problem, failed *failure) {
	if known := s.Problem; known != nil {
		if (&failure{cause: known.Cause}).refused() && !failed.refused() {
			return
		}
		problem.Since = known.Since
	}
	s.Problem = &problem
}

// statusBoard holds a Status that any goroutine may read.
type statusBoard struct {
	mu      sync.Mutex
	present Status
}

func (b *statusBoard) read() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.present
}

func (b *statusBoard) change(edit func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	edit(&b.present)
}
