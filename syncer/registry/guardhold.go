package registry

import (
	"context"
	"slices"
	"time"
)

// Release says why a removal is held back no longer.
type Release string

// The ways in which a removal is held back no longer. All but the first take the resources away.
const (
	// ReleasedReturned: the object is there again.
	ReleasedReturned Release = "returned"
	// ReleasedReplaced: as much as vanished is there again under other names.
	ReleasedReplaced Release = "replaced"
	// ReleasedExpired: it was held back for as long as removals are.
	ReleasedExpired Release = "expired"
	// ReleasedOperator: somebody said so. See ReleaseHeld.
	ReleasedOperator Release = "operator"
)

// Releases is every Release.
func Releases() []Release {
	return []Release{ReleasedReturned, ReleasedReplaced, ReleasedExpired, ReleasedOperator}
}

// hold is an object that is gone for its source and still in the registry.
type hold struct {
	object    Object
	resources int
	loss      *Loss
	until     time.Time
	ended     bool
}

// hold holds an object back. Its counts are the caller's.
func (g *guard) hold(object Object, entries []*Entry, loss *Loss) {
	now := g.registry.now()
	held := &hold{object: object, resources: len(entries), loss: loss, until: now.Add(g.options.Hold)}
	if owner, found := ownerOf(entries); found && loss.Kind != object.Kind {
		g.owned[owner] = append(g.owned[owner], held)
	}
	g.held[object] = held
	if len(g.queue) > 2*len(g.held)+16 {
		g.queue = slices.DeleteFunc(g.queue, func(h *hold) bool { return h.ended })
	}
	g.queue = append(g.queue, held)
	g.begun(held, now)
	select {
	case g.registry.guarding.wake <- struct{}{}:
	default:
	}
}

// end ends a hold. Its counts are the caller's.
func (g *guard) end(held *hold, why Release) {
	held.ended = true
	delete(g.held, held.object)
	if held.object.Kind == "Service" || held.object.Kind == "ServiceEntry" {
		g.endedOwners[held.object] = why
	}
	g.ended(held, why)
}

// release ends holds and returns the removals that were held back.
func (g *guard) release(why Release, holds []*hold) []encoded {
	removals := make([]encoded, 0, len(holds))
	for _, held := range holds {
		g.end(held, why)
		g.add(g.registry.entriesOf(held.object), 0, -1)
		removals = append(removals, encoded{object: held.object})
	}
	return removals
}

// picked is the holds that are picked.
func (g *guard) picked(pick func(*hold) bool) []*hold {
	var holds []*hold
	for _, held := range g.queue {
		if !held.ended && pick(held) {
			holds = append(holds, held)
		}
	}
	return holds
}

// expired is the holds that are over, and when the next will be; zero: there is none.
func (g *guard) expired(now time.Time) (over []*hold, next time.Time) {
	for len(g.queue) > 0 {
		held := g.queue[0]
		if !held.ended && held.until.After(now) {
			return over, held.until
		}
		if !held.ended {
			over = append(over, held)
		}
		g.queue[0] = nil
		g.queue = g.queue[1:]
	}
	return over, time.Time{}
}

// RunGuard lets removals go that were held back for long enough, until the context ends. Whoever asks for
// a guard runs it, once; without a guard it only waits.
func (r *Registry) RunGuard(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if next := r.releaseExpired(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(next.Sub(r.now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.guarding.wake:
		case <-timer.C:
		}
	}
}

// releaseExpired lets go what is over, and says when the next will be. Zero: nothing is held back.
func (r *Registry) releaseExpired() (next time.Time) {
	for _, s := range r.guarded() {
		s.releaseHeld(func(g *guard) []encoded {
			over, later := g.expired(r.now())
			if next.IsZero() || !later.IsZero() && later.Before(next) {
				next = later
			}
			return g.release(ReleasedExpired, over)
		})
	}
	return next
}

// ReleaseHeld lets go at once what is held back of a source and a kind, all where they are empty. What
// else vanishes of those kinds within the next Window may go too: it is meant. It returns the number of
// resources that went.
func (r *Registry) ReleaseHeld(source, kind string) int {
	resources := 0
	for _, s := range r.guarded() {
		if source != "" && s.name != source {
			continue
		}
		resources += s.releaseHeld(func(g *guard) []encoded {
			holds := g.picked(func(h *hold) bool { return kind == "" || h.object.Kind == kind })
			for _, held := range holds {
				for _, kind := range []string{held.object.Kind, held.loss.Kind} {
					g.released[kind] = r.now().Add(g.options.Window)
					delete(g.terminating, kind)
				}
			}
			return g.release(ReleasedOperator, holds)
		})
	}
	return resources
}

// releaseHeld applies what release lets go as one revision, observed now: nobody was late before. It
// returns how many resources went.
func (s *Source) releaseHeld(release func(*guard) []encoded) int {
	defer s.guard.tell()
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	before, next := len(r.entries), r.revision+1
	for _, removal := range release(s.guard) {
		r.replaceObject(next, r.now(), removal)
	}
	for _, removal := range s.guard.settle() {
		r.replaceObject(next, r.now(), removal)
	}
	r.commit(next)
	return before - len(r.entries)
}

// guarded is the sources that have a guard.
func (r *Registry) guarded() []*Source {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(r.sources), func(s *Source) bool { return s.guard == nil })
}
