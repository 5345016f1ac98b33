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

	mu    sync.Mutex
	views map[string]*view
}

func newPublisher(r *registry.Registry, window time.Duration) *publisher {
	return &publisher{registry: r, window: window, views: map[string]*view{}}
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

// join is the view of a namespace, its head at the registry's latest revision. Every join needs a
// leave.
func (p *publisher) join(namespace string) *view {
	p.mu.Lock()
	v, found := p.views[namespace]
	if !found {
		v = &view{namespace: namespace, registry: p.registry, moved: make(chan struct{})}
		p.views[namespace] = v
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
		delete(p.views, v.namespace)
	}
}

// view is what all streams of one namespace follow.
type view struct {
	namespace string
	registry  *registry.Registry
	streams   int // guarded by publisher.mu

	advancing sync.Mutex // one advance at a time

	mu    sync.Mutex
	head  head
	moved chan struct{} // closed and replaced when the head moves and the view's content changes
}

// head is how far the streams of a view are to go.
type head struct {
	proof registry.Proof
	// currentAt is the time up to which the registry was current at that revision.
	currentAt time.Time
	// changed is the latest revision at which a stream was woken: what its VM must reach to miss nothing.
	changed uint64
}

// advance moves the head to the registry's latest revision. Streams are woken only when what they see
// has changed.
func (v *view) advance() {
	v.advancing.Lock()
	defer v.advancing.Unlock()
	// Before the proof, so that a change in between is not vouched for.
	currentAt := v.registry.CurrentAt()
	proof := v.registry.Proof(v.namespace)
	from := v.current().proof.Revision
	if proof.Revision <= from {
		return
	}
	changes, err := v.registry.Changes(v.namespace, from, proof.Revision)
	changed := err != nil || len(changes.Upserts)+len(changes.Removals) > 0

	v.mu.Lock()
	defer v.mu.Unlock()
	v.head.proof, v.head.currentAt = proof, currentAt
	if changed {
		v.head.changed = proof.Revision
		close(v.moved)
		v.moved = make(chan struct{})
	}
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
