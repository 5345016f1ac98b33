package kubernetes

import (
	"sync"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// freeWrites is how often a status may be written again without a pause. More often is a duel: somebody
	// else undoes what is written.
	freeWrites = 5
	firstPause = time.Second
	maxPause   = 5 * time.Minute
	// calm is how long a status has to be left alone until its writes are free again.
	calm = 10 * time.Minute
)

// pace slows the writes of a status down that somebody else keeps undoing. The zero value is ready.
type pace struct {
	mu     sync.Mutex
	writes map[vip.Owner]writes
}

type writes struct {
	count int
	last  time.Time
}

// wrote notes a write that succeeded.
func (p *pace) wrote(owner vip.Owner, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writes == nil {
		p.writes = map[vip.Owner]writes{}
	}
	w := p.writes[owner]
	if now.Sub(w.last) > calm {
		w.count = 0
	}
	p.writes[owner] = writes{w.count + 1, now}
}

// delay is how long the next write has to wait.
func (p *pace) delay(owner vip.Owner, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.writes[owner]
	if w.count < freeWrites || now.Sub(w.last) > calm {
		return 0
	}
	pause := min(firstPause<<min(w.count-freeWrites, 16), maxPause)
	return max(0, w.last.Add(pause).Sub(now))
}

// forget drops what is known of a ServiceEntry that is gone.
func (p *pace) forget(owner vip.Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.writes, owner)
}
