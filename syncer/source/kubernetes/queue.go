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
	known   map[feed]map[registry.Object]metav1.Object
}

// feed is where objects of a kind come from. There may be several for a while: an object is gone when it
// is gone from all of them.
type feed struct {
	kind   string
	number int
}

func newQueue() *queue {
	return &queue{
		wake:    make(chan struct{}, 1),
		pending: map[registry.Object]metav1.Object{},
		known:   map[feed]map[registry.Object]metav1.Object{},
	}
}

// put notes an object's present state in a feed. Nil: it is gone.
func (q *queue) put(from feed, object registry.Object, state metav1.Object) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(from, object, state)
}

func (q *queue) add(from feed, object registry.Object, state metav1.Object) {
	if q.known[from] == nil {
		q.known[from] = map[registry.Object]metav1.Object{}
	}
	if state != nil {
		q.known[from][object] = state
	} else {
		delete(q.known[from], object)
		state = q.held(object)
	}
	q.enqueue(object, state)
}

// enqueue has an object's present state handed out.
func (q *queue) enqueue(object registry.Object, state metav1.Object) {
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

// held is an object's state in the latest feed that has it, nil where none has.
func (q *queue) held(object registry.Object) metav1.Object {
	var latest feed
	var state metav1.Object
	for from, objects := range q.known {
		if found := objects[object]; found != nil && from.number >= latest.number {
			latest, state = from, found
		}
	}
	return state
}

// removeFeed notes that all objects of a feed are gone from it.
func (q *queue) removeFeed(from feed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for object := range q.known[from] {
		q.add(from, object, nil)
	}
	delete(q.known, from)
}

// again has the present states of the objects handed out that are picked by them.
func (q *queue) again(picked func(metav1.Object) bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, objects := range q.known {
		for object, state := range objects {
			if picked(state) {
				q.enqueue(object, q.held(object))
			}
		}
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
	count := 0
	for from, objects := range q.known {
		if from.kind == kind {
			count += len(objects)
		}
	}
	return count
}
