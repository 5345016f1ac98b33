package registry

import "time"

// maxPassed bounds the removals that a guard can take back.
const maxPassed = 100_000

// passed are the removals of late that were let pass, for the case that they turn out to be some of many.
type passed struct {
	order    []*passedRemoval // oldest first
	byObject map[Object]*passedRemoval
}

type passedRemoval struct {
	object  Object
	entries []*Entry // nil: the object is there again
	batch   uint64
	at      time.Time
	meant   bool // Its owner was gone: it comes back with that only.
}

func (p *passed) add(removal *passedRemoval, window time.Duration) {
	p.order = append(p.order, removal)
	p.byObject[removal.object] = removal
	for len(p.order) > maxPassed || p.order[0].entries == nil || removal.at.Sub(p.order[0].at) > window {
		oldest := p.order[0]
		p.order[0] = nil
		p.order = p.order[1:]
		if p.byObject[oldest.object] == oldest {
			delete(p.byObject, oldest.object)
		}
	}
}

// forget is told that an object is there again.
func (p *passed) forget(object Object) {
	if removal := p.byObject[object]; removal != nil {
		removal.entries = nil
		delete(p.byObject, object)
	}
}
