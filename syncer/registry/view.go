package registry

import (
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Changes is what a view went through between two revisions: the latest state of each key.
type Changes struct {
	// From is exclusive, To inclusive.
	From, To uint64
	// Upserts are resources that are new to the view or differ from what it had at From.
	Upserts []*Entry
	// Removals are keys that the view had at From and has no longer at To.
	Removals []string
	// ObservedAt is when the oldest change that the view sees was observed. Zero without any.
	ObservedAt time.Time
}

// Changes is what a watcher in namespace that has come to from needs in order to come to to. It
// fails with ErrCompacted when the log does not reach back to from, and with ErrFuture when to has
// not happened or lies before from.
func (r *Registry) Changes(namespace string, from, to uint64) (Changes, error) {
	return r.view(namespace).Changes(from, to)
}

// changes is Changes with mu held.
func (r *Registry) changes(who audience, from, to uint64) (Changes, error) {
	records, err := r.log.between(from, to)
	if err != nil {
		return Changes{}, err
	}
	changes := Changes{From: from, To: to}
	// The first record of a key knows what the view had, the last one what it has now.
	type span struct{ first, last int }
	spans := make(map[string]span, len(records))
	for i, record := range records {
		if s, found := spans[record.key]; found {
			spans[record.key] = span{s.first, i}
		} else {
			spans[record.key] = span{i, i}
		}
	}
	for i, record := range records {
		s := spans[record.key]
		if s.first != i {
			continue
		}
		had := who.sees(record.was, record.wasDestination)
		now := records[s.last].entry
		has := now != nil && who.sees(now.Visibility, now.destination)
		switch {
		case has && (!had || now.Digest != record.wasDigest):
			changes.Upserts = append(changes.Upserts, now)
		case had && !has:
			changes.Removals = append(changes.Removals, record.key)
		default:
			continue
		}
		if changes.ObservedAt.IsZero() || record.observed.Before(changes.ObservedAt) {
			changes.ObservedAt = record.observed
		}
	}
	return changes, nil
}

// Content is a whole view at one revision.
type Content struct {
	Revision uint64
	// Entries are in no particular order.
	Entries []*Entry
}

// Content is everything that a watcher in namespace sees.
func (r *Registry) Content(namespace string) Content { return r.view(namespace).Content() }

// Proof is what a mirror of a view must hold at one revision.
type Proof struct {
	Revision  uint64
	Digest    registryv1.Digest
	Resources int
}

// Proof is the proof of the view of namespace at the latest revision. It costs O(1).
func (r *Registry) Proof(namespace string) Proof { return r.view(namespace).Proof() }

// sum is the digest and size of a set of resources.
type sum struct {
	digest    registryv1.Digest
	resources int
}

func (s *sum) add(e *Entry)    { s.digest.Add(e.Digest); s.resources++ }
func (s *sum) remove(e *Entry) { s.digest.Remove(e.Digest); s.resources-- }

// sums keeps what everyone sees apart from what single namespaces see beside that. A view is the
// sum of two sums, so an entry costs as much as its exportTo is long, however many views there are.
type sums struct {
	public struct {
		sum
		// buckets are the digests of the finest buckets.
		buckets [registryv1.MaxBuckets]registryv1.Digest
	}
	namespaces map[string]*namespaceSum
}

// namespaceSum is of what one namespace sees and not everyone. Many namespaces have little of that, so
// only the buckets that are not empty cost anything.
type namespaceSum struct {
	sum
	buckets bucketSums
}

func newSums() *sums { return &sums{namespaces: map[string]*namespaceSum{}} }

func (s *sums) add(e *Entry) {
	if e.Visibility.public {
		s.public.add(e)
		s.public.buckets[e.bucket].Add(e.Digest)
		return
	}
	for _, namespace := range e.Visibility.namespaces {
		own := s.namespaces[namespace]
		if own == nil {
			own = &namespaceSum{buckets: bucketSums{}}
			s.namespaces[namespace] = own
		}
		own.add(e)
		own.buckets.add(e)
	}
}

func (s *sums) remove(e *Entry) {
	if e.Visibility.public {
		s.public.remove(e)
		s.public.buckets[e.bucket].Remove(e.Digest)
		return
	}
	for _, namespace := range e.Visibility.namespaces {
		own := s.namespaces[namespace]
		own.remove(e)
		own.buckets.remove(e)
		if own.resources == 0 {
			delete(s.namespaces, namespace)
		}
	}
}

func (s *sums) of(namespace string) sum {
	total := s.public.sum
	if own := s.namespaces[namespace]; own != nil {
		total.digest.Add(own.digest)
		total.resources += own.resources
	}
	return total
}

// addBuckets adds the digests of the finest buckets of the view of namespace, however many they are to be.
func (s *sums) addBuckets(namespace string, digests []registryv1.Digest) {
	for bucket, digest := range s.public.buckets {
		digests[bucket&(len(digests)-1)].Add(digest)
	}
	if own := s.namespaces[namespace]; own != nil {
		own.buckets.addTo(digests)
	}
}
