package registry

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// guard watches over the removals of one source. A nil guard lets everything pass. It is guarded by
// registry.mu but for tell.
type guard struct {
	registry *Registry
	source   string
	options  GuardOptions
	// active is false until the source has synced: nobody has seen anything yet that could vanish.
	active bool

	scopes map[scopeName]*scope
	dirty  []*scope  // whose counts changed in this batch
	swept  time.Time // when scopes were last cleared of those that are empty
	batch  uint64    // counts batches of updates
	passed passed
	held   map[Object]*hold
	queue  []*hold // in order of their ends, with some that ended before
	// owned are the holds of those that are held with a Service, or with what selects them, and endedOwners those
	// whose hold ended in this batch: theirs end with it.
	owned       map[Object][]*hold
	endedOwners map[Object]Release
	// terminating are the kinds that all objects are being deleted of.
	terminating map[string]bool
	// released is until when an operator lets all removals of a kind pass.
	released map[string]time.Time
	kinds    map[string]*kindHolds
	holds    uint64
	releases map[Release]uint64
	news     []slog.Record
	untold   atomic.Bool // whether there is news
}

func newGuard(r *Registry, source string) *guard {
	if r.guarding.options.Share == 0 {
		return nil
	}
	return &guard{
		registry: r,
		source:   source,
		options:  r.guarding.options,
		scopes:   map[scopeName]*scope{},
		passed:   passed{byObject: map[Object]*passedRemoval{}},
		held:     map[Object]*hold{},

		owned:       map[Object][]*hold{},
		endedOwners: map[Object]Release{},

		terminating: map[string]bool{},
		released:    map[string]time.Time{},
		kinds:       map[string]*kindHolds{},
		releases:    map[Release]uint64{},
	}
}

// start has the guard hold back what vanishes from now on.
func (g *guard) start() {
	if g == nil || g.active {
		return
	}
	g.active = true
	for _, s := range g.scopes {
		s.settled, s.levels = s.live, nil
	}
}

// admit decides on the removals among updates that are about to be applied as one. It returns what is to
// be applied: without the removals that are held back, and with what has to come back because its removal
// was let pass before it was known to be one of many.
func (g *guard) admit(updates []encoded) []encoded {
	if g == nil || !g.active {
		return updates
	}
	g.batch++
	if !g.anyRemoval(updates) {
		return updates
	}
	v := g.judge(updates)
	admitted := make([]encoded, 0, len(updates))
	for i, update := range updates {
		if v.held[update.object] == nil {
			update.meant = v.meant[update.object] && v.last[update.object] == i
			admitted = append(admitted, update)
		}
	}
	for _, removal := range v.removals {
		if loss := v.held[removal.object]; loss != nil {
			g.add(removal.entries, -1, +1)
			g.hold(removal.object, removal.entries, loss)
		}
	}
	return append(admitted, g.takeBack(v)...)
}

// anyRemoval reports whether an update takes something away that is there, or may do so and mean it.
func (g *guard) anyRemoval(updates []encoded) bool {
	for _, update := range updates {
		if (len(update.entries) == 0 || update.present) && len(g.registry.keys[update.object]) > 0 {
			return true
		}
	}
	return false
}

// verdict is what is to become of a batch.
type verdict struct {
	// last is the index of each object's final update.
	last map[Object]int
	// removals are what would go.
	removals []encoded
	// held are the objects that keep their last state, and the losses that this is for.
	held map[Object]*Loss
	// losses are the scopes that were judged. Nil: it does not lose too much.
	losses map[*scope]*Loss
	// back are the objects that the batch brings.
	back map[Object]bool
	// meant are the objects that may yield less and are no loss: they are still there, or it is another object
	// that is gone, without which they are of no use.
	meant map[Object]bool
}

// judge finds the removals that are too many. An object's last update counts.
func (g *guard) judge(updates []encoded) verdict {
	v := verdict{
		last:   make(map[Object]int, len(updates)),
		held:   map[Object]*Loss{},
		losses: map[*scope]*Loss{},
		back:   map[Object]bool{},
		meant:  map[Object]bool{},
	}
	for i, update := range updates {
		v.last[update.object] = i
	}
	change := map[*scope]int{}
	for i, update := range updates {
		if v.last[update.object] != i {
			continue
		}
		v.back[update.object] = len(update.entries) > 0
		held := g.held[update.object]
		if held != nil && len(update.entries) == 0 && !update.present {
			v.held[update.object] = held.loss // It is gone for the source already.
		}
		if held == nil {
			before := g.registry.entriesOf(update.object)
			gone := len(update.entries) == 0 && len(before) > 0 && !update.present
			if len(before) > 0 && update.present || gone && g.withoutOwner(updates, v, before) {
				v.meant[update.object] = true
			} else {
				for s := range g.scopesOf(before) {
					change[s]--
				}
			}
			if gone {
				v.removals = append(v.removals, encoded{object: update.object, entries: before})
			}
		}
		if !v.meant[update.object] {
			for s := range g.scopesOf(update.entries) {
				change[s]++
			}
		}
	}
	now := g.registry.now()
	for _, removal := range v.removals {
		if v.meant[removal.object] {
			continue // It follows its owner, below.
		}
		for s := range g.scopesOf(removal.entries) {
			loss, judged := v.losses[s]
			if !judged {
				loss = g.exceeds(s, s.live+change[s], now)
				v.losses[s] = loss
			}
			if loss != nil && v.held[removal.object] == nil {
				v.held[removal.object] = loss
			}
		}
	}
	// Endpoints stay with their Services, and what is selected with what selects it.
	for _, removal := range v.removals {
		if loss := g.lossOfOwner(v, removal.entries); loss != nil && v.held[removal.object] == nil {
			v.held[removal.object] = loss
		}
	}
	return v
}

// lossOfOwner is what the owner of entries is held for, nil where it is not.
func (g *guard) lossOfOwner(v verdict, entries []*Entry) *Loss {
	owner, found := ownerOf(entries)
	switch held := g.held[owner]; {
	case !found:
		return nil
	case held != nil && !v.back[owner]:
		return held.loss
	}
	return v.held[owner]
}

// withoutOwner reports whether entries are what an object yields for another one that is gone, or goes with
// these updates.
func (g *guard) withoutOwner(updates []encoded, v verdict, entries []*Entry) bool {
	if entries[0].Object.Of == (Owner{}) {
		return false
	}
	owner, _ := ownerOf(entries)
	if last, updated := v.last[owner]; updated {
		return len(updates[last].entries) == 0
	}
	return g.held[owner] != nil || len(g.registry.keys[owner]) == 0
}

// exceeds is the loss of a scope that is about to have live resources, nil where that is not too much.
func (g *guard) exceeds(s *scope, live int, now time.Time) *Loss {
	loss := &Loss{Kind: s.name.kind, Visibility: s.name.visibility()}
	peak, _ := s.peak(now.Add(-g.options.Window))
	switch {
	case now.Before(g.released[s.name.kind]):
		loss = nil
	case peak-live >= g.options.Minimum && float64(peak-live) > g.options.Share*float64(peak):
		loss.Vanished, loss.Of, loss.Reason = peak-live, peak, LossOfShare
	case g.terminating[s.name.kind] && s.live+s.held >= g.options.Minimum && live < s.live:
		loss.Vanished, loss.Of, loss.Reason = s.live+s.held-live, s.live+s.held, LossOfDefinition
	default:
		loss = nil
	}
	if loss == nil {
		s.exceeded = false
		return nil
	}
	s.base = max(s.base, loss.Of)
	return loss
}

// takeBack is the objects whose removals passed on the way down from the peak of a scope that is found now
// to lose too much. They come back as held.
func (g *guard) takeBack(v verdict) []encoded {
	since := map[*scope]uint64{}
	for s, loss := range v.losses {
		if loss != nil && !s.exceeded {
			s.exceeded = true
			_, since[s] = s.peak(g.registry.now().Add(-g.options.Window))
		}
	}
	if len(since) == 0 {
		return nil
	}
	var back []encoded
	comesBack := func(passed *passedRemoval, loss *Loss) {
		v.held[passed.object] = loss
		back = append(back, encoded{object: passed.object, entries: passed.entries, held: loss})
	}
	var rest []*passedRemoval
	for _, passed := range g.passed.order {
		if passed.entries == nil || v.back[passed.object] || g.registry.taken(passed.entries) {
			continue
		}
		var loss *Loss
		for s := range g.scopesOf(passed.entries) {
			if passed.meant {
				break
			}
			if batch, found := since[s]; found && passed.batch >= batch && loss == nil {
				loss = v.losses[s]
			}
		}
		if loss != nil {
			comesBack(passed, loss)
		} else {
			rest = append(rest, passed)
		}
	}
	for _, passed := range rest {
		if loss := g.lossOfOwner(v, passed.entries); loss != nil {
			comesBack(passed, loss)
		}
	}
	return back
}
