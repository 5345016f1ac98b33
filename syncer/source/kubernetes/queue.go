package kubernetes

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

// queue takes the changes of all informers and hands them on in batches. Of each object it holds
// the latest state only, so it is never longer than there are objects.
type queue struct {
	wake chan struct{} // Has one element while there is something to take.

	mu      sync.Mutex
	pending map[registry.Object]metav1.Object // Nil: gone.
	order   []registry.Object
	since   time.Time // When the first pending change came.
	known   map[string]map[registry.Object]bool
}

func newQueue() *queue {
	return &queue{
		wake:    make(chan struct{}, 1),
		pending: map[registry.Object]metav1.Object{},
		known:   map[string]map[registry.Object]bool{},
	}
}

// put notes an object's present state. Nil: it is gone.
func (q *queue) put(object registry.Object, state metav1.Object) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(object, state)
}

func (q *queue) add(object registry.Object, state metav1.Object) {
	if q.known[object.Kind] == nil {
		q.known[object.Kind] = map[registry.Object]bool{}
	}
	if state != nil {
		q.known[object.Kind][object] = true
	} else {
		delete(q.known[object.Kind], object)
	}
	if _, queued := q.pending[object]; !queued {
		q.order = append(q.order, object)
	}
	q.pending[object] = state
	if q.since.IsZero() {
		q.since = time.Now()
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// removeKind notes that all objects of a kind are gone.
func (q *queue) removeKind(kind string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for object := range q.known[kind] {
		q.add(object, nil)
	}
}

// change is one object's present state.
type change struct {
	object registry.Object
	state  metav1.Object
}

// take hands out at most limit changes, the oldest first, and when the first of them came.
func (q *queue) take(limit int) (changes []change, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	changes = make([]change, 0, min(limit, len(q.order)))
	for _, object := range q.order[:cap(changes)] {
		changes = append(changes, change{object, q.pending[object]})
		delete(q.pending, object)
	}
	since = q.since
	if q.order = q.order[len(changes):]; len(q.order) == 0 {
		q.order, q.since = nil, time.Time{}
	}
	return changes, since
}

// count is the number of objects of a kind.
func (q *queue) count(kind string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.known[kind])
}
