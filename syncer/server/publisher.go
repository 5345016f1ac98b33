package server

import (
	"context"
	"sync"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
)

// publisher moves the heads of the views that are watched, one step for each burst of changes.
type publisher struct {
	registry *registry.Registry
	window   time.Duration
	now      func() time.Time
	// keep is given what takes the streams of a view from one head to the next, before they are woken.
	keep func(key rangeKey, changes registry.Changes)

	mu    sync.Mutex
	views map[string]*view
}

func newPublisher(r *registry.Registry, window time.Duration, now func() time.Time, keep func(rangeKey, registry.Changes)) *publisher {
	return &publisher{registry: r, window: window, now: now, keep: keep, views: map[string]*view{}}
}

// run publishes until the context ends.
func (p *publisher) run(ctx context.Context) {
	var published uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.registry.Changed(published):
		}
		// What follows within the window becomes part of the same step.
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.window):
		}
		published = p.registry.Revision()
		for _, v := range p.watched() {
			v.advance()
		}
	}
}

func (p *publisher) watched() []*view {
	p.mu.Lock()
	defer p.mu.Unlock()
	views := make([]*view, 0, len(p.views))
	for _, v := range p.views {
		views = append(views, v)
	}
	return views
}

// join is the view of a namespace through a scope, its head at the registry's latest revision. Every join needs
// a leave.
func (p *publisher) join(namespace string, scope *registry.Scope) *view {
	name := viewName(namespace, scope)
	p.mu.Lock()
	v, found := p.views[name]
	if !found {
		v = &view{name: name, scope: scope, registry: p.registry, now: p.now, keep: p.keep, moved: make(chan struct{})}
		// It may go through the whole registry, which nobody else is to wait for.
		v.open = sync.OnceValue(func() *registry.View { return p.registry.OpenView(namespace, scope) })
		p.views[name] = v
	}
	v.streams++
	p.mu.Unlock()
	v.advance()
	return v
}

func (p *publisher) leave(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.streams--
	if v.streams == 0 {
		delete(p.views, v.name)
		v.open().Close()
	}
}

// view is what all streams of one namespace and one scope follow.
type view struct {
	name     string
	scope    *registry.Scope
	registry *registry.Registry
	// open is what the view sees.
	open    func() *registry.View
	now     func() time.Time
	keep    func(rangeKey, registry.Changes)
	streams int // guarded by publisher.mu

	advancing sync.Mutex // one advance at a time

	mu    sync.Mutex
	head  head
	steps steps
	moved chan struct{} // closed and replaced when the head moves and the view's content changes
}

// head is how far the streams of a view are to go.
type head struct {
	proof registry.Proof
	// currentAt is the time up to which the registry was current at that revision.
	currentAt time.Time
	// changed is the latest revision at which a stream was woken: what its VM must reach to miss nothing.
	// since is the one before. At all heads from since until changed the view was the same.
	since, changed uint64
}

// step is the range that takes a mirror from the heads before this one to it. It is called by the revisions
// at which the view changed, so that all streams call it the same.
func (h head) step(view string) rangeKey {
	return rangeKey{view: view, from: h.since, to: h.changed}
}

// advance moves the head to the registry's latest revision. Streams are woken only when what they see
// has changed.
func (v *view) advance() {
	v.advancing.Lock()
	defer v.advancing.Unlock()
	// Before the proof, so that a change in between is not vouched for.
	currentAt := v.registry.CurrentAt()
	proof := v.open().Proof()
	last := v.current()
	if proof.Revision <= last.proof.Revision {
		return
	}
	next := head{proof: proof, currentAt: currentAt, since: last.since, changed: last.changed}
	changed := v.changed(last, proof.Revision)
	if changed {
		next.since, next.changed = last.changed, proof.Revision
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	v.head = next
	if changed {
		v.steps.add(next.changed, v.now())
		close(v.moved)
		v.moved = make(chan struct{})
	}
}

// changed reports whether the view is another than it was at its last head. In what goes to keep, so that no
// stream has to find it out again.
func (v *view) changed(last head, to uint64) bool {
	if last.changed == 0 {
		return true // no stream is at a head yet
	}
	changes, err := v.open().Changes(last.proof.Revision, to)
	if err != nil {
		return true // fallen off the log, which the streams will notice
	}
	if len(changes.Upserts)+len(changes.Removals) == 0 {
		return false
	}
	v.keep(rangeKey{view: v.name, from: last.changed, to: to}, changes)
	return true
}

func (v *view) current() head {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head
}

// next is the head now, and what is closed when streams need to look again.
func (v *view) next() (head, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head, v.moved
}

// confirmed is the time up to which a mirror that is at the head is known to be current.
func (v *view) confirmed(h head) time.Time {
	currentAt := v.registry.CurrentAt()
	if v.registry.Revision() == h.proof.Revision {
		return currentAt
	}
	return h.currentAt
}
