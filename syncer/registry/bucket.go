package registry

import (
	"slices"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// BucketDigests is what a mirror of a view must have in each bucket, at one revision.
type BucketDigests struct {
	Revision uint64
	Digests  []registryv1.Digest
}

// BucketDigests is the digest of each of count buckets of the view of namespace, at the latest
// revision. Count is a power of two up to registryv1.MaxBuckets. It costs O(registryv1.MaxBuckets),
// however large the view.
func (r *Registry) BucketDigests(namespace string, count int) BucketDigests {
	return r.view(namespace).BucketDigests(count)
}

// Section is some buckets of a view at one revision, and what the others went through before.
type Section struct {
	Revision uint64
	// Entries are all of the buckets, in no particular order.
	Entries []*Entry
	// Others are the changes of the view outside the buckets, from the revision asked for up to Revision.
	Others Changes
}

// Section is the named ones of count buckets of the view of namespace, at the latest revision, and the
// changes of its other buckets after since. It walks those buckets and the log, not the registry. It
// fails with ErrCompacted when the log does not reach back to since.
func (r *Registry) Section(namespace string, count int, buckets []uint32, since uint64) (Section, error) {
	return r.view(namespace).Section(count, buckets, since)
}

// sections are the entries of each of the finest buckets, whoever sees them.
type sections [registryv1.MaxBuckets][]*Entry

func (s *sections) add(e *Entry) { s[e.bucket] = append(s[e.bucket], e) }

func (s *sections) remove(e *Entry) {
	held := s[e.bucket]
	i, last := slices.Index(held, e), len(held)-1
	held[i], held[last] = held[last], nil
	s[e.bucket] = held[:last]
}

// bucketSums are digests of the finest buckets. Zero is as good as absent.
type bucketSums map[uint16]registryv1.Digest

func (s bucketSums) add(e *Entry) { s[e.bucket] += e.Digest }

func (s bucketSums) remove(e *Entry) {
	if s[e.bucket] -= e.Digest; s[e.bucket] == 0 {
		delete(s, e.bucket)
	}
}

// addTo adds them to coarser buckets.
func (s bucketSums) addTo(digests []registryv1.Digest) {
	for bucket, digest := range s {
		digests[int(bucket)&(len(digests)-1)].Add(digest)
	}
}
