package registry

import (
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Object names the object that a source read: where a resource comes from.
type Object struct {
	// Kind as Kubernetes spells it: Service, ServiceEntry, EndpointSlice, Namespace.
	Kind string
	// Namespace and Name of the object. Namespace is empty for a Namespace.
	Namespace, Name string
	// Cluster is the source cluster, empty for the only one.
	Cluster string
	// Of is set where this is only what the object yields for another one: a WorkloadEntry for a ServiceEntry
	// that selects it. Without that other one it is of no use.
	Of Owner
}

// Owner names an object in the same namespace and cluster.
type Owner struct{ Kind, Name string }

// String is `Kind namespace/name`.
func (o Object) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	if o.Cluster != "" {
		name += "@" + o.Cluster
	}
	return o.Kind + " " + name
}

// Resource is one entry of the registry before it is encoded.
type Resource struct {
	// Key is one of registryv1's keys. Two objects must not use one key.
	Key string
	// Visibility decides who is sent the resource. It does not travel.
	Visibility Visibility
	// Destination is what a Scope goes by where the body does not say it. Nil: what a Service says of itself.
	Destination *Destination
	// Body is encoded when the resource is applied and not kept.
	Body *registryv1.Body
}

// Update is an object's present state: all resources that it yields. None: the object is gone, or
// yields no names.
type Update struct {
	Object    Object
	Resources []Resource
	// Present says that the object is there, though it may yield nothing, or what nobody sees: whatever went,
	// nothing has vanished, and no guard counts or holds it back.
	Present bool
}

// Source is one feeder's access to the registry. Its methods are safe for concurrent use, but
// updates of one object must be applied in the order in which they happened.
type Source struct {
	registry *Registry
	name     string
	guard    *guard // nil: none

	// Guarded by registry.mu.
	synced         bool
	unhealthySince time.Time
}

// AddSource registers a source by name. Until its Synced the registry is not Ready. Register all
// sources before the first Synced.
func (r *Registry) AddSource(name string) *Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	source := &Source{registry: r, name: name, guard: newGuard(r, name)}
	r.sources = append(r.sources, source)
	return source
}

// Apply replaces what the registry knows of the updates' objects. All updates become visible
// together, as one revision; updates that change nothing make no revision. observed is when the
// source saw the change. An error names the resource that could not be encoded or whose key belongs
// to another object; that update's object keeps its last good state, and all others are applied.
//
// Once the source has synced, removals may be held back: see GuardOptions. Everything else is as the
// updates say.
func (s *Source) Apply(observed time.Time, updates ...Update) error {
	defer s.guard.tell()
	return s.registry.apply(s.guard, observed, updates)
}

// SetTerminating says whether all objects of a kind are being deleted because their definition is, a
// CustomResourceDefinition. The guard then knows with the first removal that all others will follow.
func (s *Source) SetTerminating(kind string, terminating bool) {
	if s.guard == nil {
		return
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if terminating {
		s.guard.terminating[kind] = true
	} else {
		delete(s.guard.terminating, kind)
	}
}

// Synced says that the source has put in everything that exists. Saying it again is harmless.
func (s *Source) Synced() {
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	s.synced = true
	s.guard.start()
	r.announceReady()
}

// SetHealthy says whether the source's picture is current. While it is not, CurrentAt stands still.
func (s *Source) SetHealthy(healthy bool) {
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case healthy:
		s.unhealthySince = time.Time{}
	case s.unhealthySince.IsZero():
		s.unhealthySince = r.now()
	}
}

// SourceStatus is a source's state for people.
type SourceStatus struct {
	Name   string
	Synced bool
	// CurrentAt is the time up to which the source's picture is known to be current.
	CurrentAt time.Time
}

// Sources lists the state of every source, in the order of registration.
func (r *Registry) Sources() []SourceStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	statuses := make([]SourceStatus, 0, len(r.sources))
	for _, s := range r.sources {
		statuses = append(statuses, SourceStatus{Name: s.name, Synced: s.synced, CurrentAt: r.sourceCurrentAt(s)})
	}
	return statuses
}

// CurrentAt is the time up to which every source's picture is known to be current.
func (r *Registry) CurrentAt() time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	current := r.now()
	for _, s := range r.sources {
		if at := r.sourceCurrentAt(s); at.Before(current) {
			current = at
		}
	}
	return current
}

func (r *Registry) sourceCurrentAt(s *Source) time.Time {
	if s.unhealthySince.IsZero() {
		return r.now()
	}
	return s.unhealthySince
}

// Ready is closed once every registered source has synced.
func (r *Registry) Ready() <-chan struct{} { return r.ready }

func (r *Registry) announceReady() {
	for _, s := range r.sources {
		if !s.synced {
			return
		}
	}
	select {
	case <-r.ready:
	default:
		close(r.ready)
	}
}
