package mirror

import (
	"iter"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Holding says what the State holds, so that a syncer can compare it; nil when not loaded. The caller may
// keep it and change it.
func (s *State) Holding() *registryv1.Holding {
	if !s.loaded {
		return nil
	}
	return &registryv1.Holding{View: s.view, ClusterDomain: s.clusterDomain, Digest: uint64(s.digest), Resources: uint64(s.Resources())}
}

// BucketDigests is the digest of each of count buckets, a power of two up to registryv1.MaxBuckets.
//
// It walks all resources. Keeping the digests with every State instead would cost every change a copy of
// a part of them, and every VM their memory, for something that is asked for when a syncer is lost and
// the registry has changed; the walk takes some ten milliseconds for 100,000 resources and holds up
// nobody. It also leaves nothing that could drift from what is really held.
func (s *State) BucketDigests(count int) []uint64 {
	digests := make([]uint64, count)
	for key, held := range s.resources.All() {
		digests[registryv1.Bucket(key, count)] += uint64(held.digest(key))
	}
	return digests
}

// InBuckets is key and digest of every resource in those of count buckets that are named, in no order.
func (s *State) InBuckets(count int, named func(bucket int) bool) iter.Seq2[string, registryv1.Digest] {
	return func(yield func(string, registryv1.Digest) bool) {
		for key, held := range s.resources.All() {
			if named(registryv1.Bucket(key, count)) && !yield(key, held.digest(key)) {
				return
			}
		}
	}
}
