package registry

import (
	"iter"
	"slices"
	"time"
)

// replace notes what applying an update, which comes right after, does.
func (g *guard) replace(update encoded) {
	if g == nil {
		return
	}
	before := g.registry.entriesOf(update.object)
	if update.held != nil {
		g.passed.forget(update.object)
		g.add(update.entries, 0, +1)
		g.hold(update.object, update.entries, update.held)
		return
	}
	if held := g.held[update.object]; held != nil {
		g.end(held, ReleasedReturned)
		g.add(before, 0, -1)
	} else {
		g.add(before, -1, 0)
	}
	g.add(update.entries, +1, 0)
	g.passed.forget(update.object)
	if update.meant {
		for s := range g.scopesOf(before) {
			s.meant++
		}
	}
	if g.active && len(update.entries) == 0 && len(before) > 0 && !update.present {
		g.passed.add(&passedRemoval{update.object, before, g.batch, g.registry.now(), update.meant}, g.options.Window)
	}
}

// add changes the counts of the entries' scopes.
func (g *guard) add(entries []*Entry, live, held int) {
	for s := range g.scopesOf(entries) {
		s.live += live
		s.held += held
		if !s.dirty {
			s.dirty = true
			g.dirty = append(g.dirty, s)
		}
	}
}

// settle ends a batch. It returns the removals of what is held no longer, because as much as vanished is
// there again under other names. Stale objects beside their successors would do harm.
func (g *guard) settle() []encoded {
	if g == nil {
		return nil
	}
	now := g.registry.now()
	replaced := false
	for _, s := range g.dirty {
		replaced = replaced || s.replaced()
	}
	var removals []encoded
	if replaced {
		removals = g.release(ReleasedReplaced, g.picked(func(held *hold) bool {
			for s := range g.scopesOf(g.registry.entriesOf(held.object)) {
				if s.base > 0 && !s.replaced() {
					return false
				}
			}
			return true
		}))
	}
	for owner, why := range g.endedOwners {
		owned := slices.DeleteFunc(g.owned[owner], func(h *hold) bool { return h.ended })
		delete(g.owned, owner)
		removals = append(removals, g.release(why, owned)...)
	}
	clear(g.endedOwners)
	for _, s := range g.dirty {
		s.settle(now, g.batch, now.Add(-g.options.Window))
	}
	g.dirty = g.dirty[:0]
	g.sweep(now)
	return removals
}

// sweep forgets scopes that have been empty for a window.
func (g *guard) sweep(now time.Time) {
	if now.Sub(g.swept) < g.options.Window {
		return
	}
	g.swept = now
	for name, s := range g.scopes {
		if peak, _ := s.peak(now.Add(-g.options.Window)); peak == 0 && s.held == 0 {
			delete(g.scopes, name)
		}
	}
}

// scopesOf is each scope of each of the entries. Nobody misses what nobody sees.
func (g *guard) scopesOf(entries []*Entry) iter.Seq[*scope] {
	return func(yield func(*scope) bool) {
		for _, entry := range entries {
			for name := range scopeNames(entry.Object.Kind, entry.Visibility) {
				if !yield(g.scope(name)) {
					return
				}
			}
		}
	}
}

// ownerOf is the object without which entries are of no use: the Service that endpoints belong to, or what
// selects what these stand for. False: the entries are something else.
func ownerOf(entries []*Entry) (Object, bool) {
	if len(entries) == 0 {
		return Object{}, false
	}
	if object := entries[0].Object; object.Of != (Owner{}) {
		return Object{Kind: object.Of.Kind, Namespace: object.Namespace, Name: object.Of.Name, Cluster: object.Cluster}, true
	}
	if entries[0].subject.service == (serviceName{}) {
		return Object{}, false
	}
	of := entries[0].subject.service
	return Object{Kind: "Service", Namespace: of.namespace, Name: of.name, Cluster: of.cluster}, true
}

func (g *guard) scope(name scopeName) *scope {
	s := g.scopes[name]
	if s == nil {
		s = &scope{name: name}
		g.scopes[name] = s
	}
	return s
}

// entriesOf is what an object yields at present.
func (r *Registry) entriesOf(object Object) []*Entry {
	keys := r.keys[object]
	entries := make([]*Entry, 0, len(keys))
	for _, key := range keys {
		entries = append(entries, r.entries[key])
	}
	return entries
}

// taken reports whether a key of the entries is in use.
func (r *Registry) taken(entries []*Entry) bool {
	for _, entry := range entries {
		if r.entries[entry.Key] != nil {
			return true
		}
	}
	return false
}
