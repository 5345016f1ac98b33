package registry

import (
	"slices"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// audience is who watches: what of the registry they see follows from it.
type audience struct {
	namespace string
	scope     *Scope // nil: nothing is hidden
}

func (a audience) sees(visibility Visibility, destination *Destination) bool {
	return visibility.In(a.namespace) && a.scope.sees(destination)
}

// View is what the watchers of one namespace and one scope see. It is safe for concurrent use.
type View struct {
	registry *Registry
	audience
	sums *scopedSums // nil without a scope
}

// view is a view without a scope.
func (r *Registry) view(namespace string) View {
	return View{registry: r, audience: audience{namespace: namespace}}
}

// OpenView is the view of a namespace through a scope, nil for none. Opening a scoped one goes through the
// whole registry once, and from then on every change is summed up for it until it is closed; without a scope
// it costs nothing.
func (r *Registry) OpenView(namespace string, scope *Scope) *View {
	v := r.view(namespace)
	if scope != nil && r.scoped != nil {
		r.mu.RLock()
		defer r.mu.RUnlock()
		v.scope = scope
		v.sums = r.scoped.open(v.audience, r.entries)
	}
	return &v
}

// Close ends what OpenView began. Of a closed view the proof and the digests of buckets are worth nothing any
// more.
func (v *View) Close() {
	if v.sums == nil {
		return
	}
	v.registry.mu.RLock()
	defer v.registry.mu.RUnlock()
	v.registry.scoped.close(v.sums)
}

// Changes is as Registry.Changes.
func (v View) Changes(from, to uint64) (Changes, error) {
	r := v.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changes(v.audience, from, to)
}

// Content is as Registry.Content.
func (v View) Content() Content {
	r := v.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	content := Content{Revision: r.revision, Entries: make([]*Entry, 0, v.total().resources)}
	for _, entry := range r.entries {
		if v.sees(entry.Visibility, entry.destination) {
			content.Entries = append(content.Entries, entry)
		}
	}
	return content
}

// Proof is as Registry.Proof.
func (v View) Proof() Proof {
	r := v.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	total := v.total()
	return Proof{Revision: r.revision, Digest: total.digest, Resources: total.resources}
}

// total is the sum of the view. Registry.mu is held.
func (v View) total() sum {
	if v.sums == nil {
		return v.registry.sums.of(v.namespace)
	}
	total := v.registry.scoped.unhidden.of(v.namespace)
	total.digest.Add(v.sums.digest)
	total.resources += v.sums.resources
	return total
}

// BucketDigests is as Registry.BucketDigests.
func (v View) BucketDigests(count int) BucketDigests {
	digests := make([]registryv1.Digest, count)
	r := v.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	// Buckets add up: those of a view over its classes, and the finest into the coarser.
	if v.sums == nil {
		r.sums.addBuckets(v.namespace, digests)
	} else {
		r.scoped.unhidden.addBuckets(v.namespace, digests)
		v.sums.buckets.addTo(digests)
	}
	return BucketDigests{Revision: r.revision, Digests: digests}
}

// Section is as Registry.Section.
func (v View) Section(count int, buckets []uint32, since uint64) (Section, error) {
	r := v.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	others, err := r.changes(v.audience, since, r.revision)
	if err != nil {
		return Section{}, err
	}
	section := Section{Revision: r.revision, Others: others}
	for _, bucket := range buckets {
		for finest := int(bucket); finest < registryv1.MaxBuckets; finest += count {
			for _, entry := range r.sections[finest] {
				if v.sees(entry.Visibility, entry.destination) {
					section.Entries = append(section.Entries, entry)
				}
			}
		}
	}
	inside := func(key string) bool {
		_, found := slices.BinarySearch(buckets, uint32(registryv1.Bucket(key, count)))
		return found
	}
	section.Others.Upserts = slices.DeleteFunc(others.Upserts, func(e *Entry) bool { return inside(e.Key) })
	section.Others.Removals = slices.DeleteFunc(others.Removals, inside)
	return section, nil
}
