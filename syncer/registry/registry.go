package registry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// DefaultLogBytes bounds the change log where Options do not. At 10,000 services it reaches back
// over more than a hundred thousand changes.
const DefaultLogBytes = 32 << 20

// Options of a Registry. The zero value is ready for use.
type Options struct {
	// LogBytes bounds the memory that the change log may hold on to. Zero: DefaultLogBytes.
	LogBytes int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Guard says when removals are held back. The zero value: never.
	Guard GuardOptions
	// Scopes has the registry keep what a Scope goes by. Without it every scope hides nothing.
	Scopes bool
}

// Registry is described in the package's documentation.
type Registry struct {
	generation string
	now        func() time.Time
	ready      chan struct{}
	guarding   guarding

	mu       sync.RWMutex
	sources  []*Source
	revision uint64
	changed  chan struct{} // closed and replaced with every revision
	entries  map[string]*Entry
	keys     map[Object][]string
	index    index
	sums     *sums
	sections *sections
	scoped   *scoped // nil: there are no scopes
	log      changeLog
}

// New is an empty registry of a new generation.
func New(opts Options) *Registry {
	if opts.LogBytes == 0 {
		opts.LogBytes = DefaultLogBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &Registry{
		generation: rand.Text(),
		now:        opts.Now,
		ready:      make(chan struct{}),
		guarding:   newGuarding(opts.Guard),
		changed:    make(chan struct{}),
		entries:    map[string]*Entry{},
		keys:       map[Object][]string{},
		index:      index{},
		sums:       newSums(),
		sections:   &sections{},
		log:        changeLog{limit: opts.LogBytes},
	}
	if opts.Scopes {
		r.scoped = newScoped()
	}
	return r
}

// Entry is a resource as the registry holds it. It is immutable.
type Entry struct {
	Key string
	// Body is the encoded registryv1.Body that travels.
	Body []byte
	// Digest is of Key and Body.
	Digest     registryv1.Digest
	Visibility Visibility
	// Object is what the resource comes from.
	Object Object

	subject subject
	// destination is nil where no Scope hides the resource, and where there are no scopes.
	destination *Destination
	// bucket is the finest bucket that the key falls into.
	bucket uint16
}

// Generation names this registry's sequence of revisions. No two registries share one.
func (r *Registry) Generation() string { return r.generation }

// Revision is the latest revision; zero before the first change.
func (r *Registry) Revision() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.revision
}

// Changed is closed as soon as the revision is beyond after.
func (r *Registry) Changed(after uint64) <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.revision > after {
		return closed
	}
	return r.changed
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// encoded is an Update whose resources are ready to be stored.
type encoded struct {
	object  Object
	entries []*Entry
	// held is not nil where the object is gone for its source and comes back nevertheless. See guard.
	held *Loss
	// present is as in Update, and meant is set where what goes is no loss. See guard.
	present, meant bool
}

func (r *Registry) apply(guard *guard, observed time.Time, updates []Update) error {
	var problems []error
	ready := make([]encoded, 0, len(updates))
	for _, update := range updates {
		entries, err := encode(update, r.scoped != nil)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		ready = append(ready, encoded{object: update.Object, entries: entries, present: update.Present})
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.revision + 1
	for _, update := range guard.admit(ready) {
		if err := r.checkOwnership(update); err != nil {
			problems = append(problems, err)
			continue
		}
		guard.replace(update)
		r.replaceObject(next, observed, update)
	}
	for _, removal := range guard.settle() {
		r.replaceObject(next, observed, removal)
	}
	r.commit(next)
	return errors.Join(problems...)
}

// commit makes next the latest revision if anything was stored for it.
func (r *Registry) commit(next uint64) {
	if r.log.last() != next {
		return
	}
	r.revision = next
	r.log.trim()
	close(r.changed)
	r.changed = make(chan struct{})
}

func encode(update Update, scopes bool) ([]*Entry, error) {
	entries := make([]*Entry, 0, len(update.Resources))
	keys := make(map[string]bool, len(update.Resources))
	for _, resource := range update.Resources {
		if resource.Key == "" || resource.Body == nil {
			return nil, fmt.Errorf("apply %s: resource %q needs a key and a body", update.Object, resource.Key)
		}
		if keys[resource.Key] {
			return nil, fmt.Errorf("apply %s: two resources with key %q", update.Object, resource.Key)
		}
		keys[resource.Key] = true
		// Deterministic, so that an object that is read again yields the same bytes and no change.
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(resource.Body)
		if err != nil {
			return nil, fmt.Errorf("apply %s: encode resource %q: %w", update.Object, resource.Key, err)
		}
		entry := &Entry{
			Key:        resource.Key,
			Body:       body,
			Digest:     registryv1.DigestResource(resource.Key, body),
			Visibility: resource.Visibility,
			Object:     update.Object,
			subject:    subjectOf(resource.Body),
			bucket:     uint16(registryv1.Bucket(resource.Key, registryv1.MaxBuckets)),
		}
		if scopes {
			entry.destination = destinationOf(update.Object, resource)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (r *Registry) checkOwnership(update encoded) error {
	for _, entry := range update.entries {
		if held, found := r.entries[entry.Key]; found && held.Object != update.object {
			return fmt.Errorf("apply %s: key %q belongs to %s", update.object, entry.Key, held.Object)
		}
	}
	return nil
}

// replaceObject makes the update's entries the object's only ones.
func (r *Registry) replaceObject(revision uint64, observed time.Time, update encoded) {
	keys := make([]string, 0, len(update.entries))
	stays := make(map[string]bool, len(update.entries))
	for _, entry := range update.entries {
		keys = append(keys, entry.Key)
		stays[entry.Key] = true
		held := r.entries[entry.Key]
		if held != nil && held.Digest == entry.Digest && held.Visibility.Equal(entry.Visibility) && held.destination.equal(entry.destination) {
			continue
		}
		r.store(revision, observed, entry.Key, held, entry)
	}
	for _, key := range r.keys[update.object] {
		if !stays[key] {
			r.store(revision, observed, key, r.entries[key], nil)
		}
	}
	if len(keys) == 0 {
		delete(r.keys, update.object)
	} else {
		r.keys[update.object] = keys
	}
}

// store replaces one entry, nil where there is none, in everything that holds it.
func (r *Registry) store(revision uint64, observed time.Time, key string, held, entry *Entry) {
	record := record{revision: revision, observed: observed, key: key, entry: entry}
	if held != nil {
		record.was, record.wasDigest, record.wasDestination = held.Visibility, held.Digest, held.destination
		r.index.remove(held)
		r.sums.remove(held)
		r.sections.remove(held)
		if r.scoped != nil {
			r.scoped.remove(held)
		}
		delete(r.entries, key)
	}
	if entry != nil {
		r.index.add(entry)
		r.sums.add(entry)
		r.sections.add(entry)
		if r.scoped != nil {
			r.scoped.add(entry)
		}
		r.entries[key] = entry
	}
	r.log.append(record)
}
