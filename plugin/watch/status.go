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
