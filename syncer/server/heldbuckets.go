package server

import (
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// heldBuckets are what a VM holds in some buckets.
type heldBuckets struct {
	// buckets are in ascending order, and ends where each of them ends among the digests.
	buckets []uint32
	ends    []int
	// digests are short.
	digests []uint32
}

// count takes in how many resources the buckets hold.
func (h *heldBuckets) count(counts []uint32, limit uint64) error {
	if len(counts) != len(h.buckets) {
		return status.Errorf(codes.InvalidArgument, "resource digests of %d buckets: %d differ", len(counts), len(h.buckets))
	}
	end := uint64(0)
	for _, count := range counts {
		if end += uint64(count); end > limit {
			return status.Errorf(codes.InvalidArgument, "%d resource digests or more: hello said that the VM holds %d", end, limit)
		}
		h.ends = append(h.ends, int(end))
	}
	return nil
}

// size is how many digests there are to be.
func (h *heldBuckets) size() int {
	if len(h.ends) == 0 {
		return 0
	}
	return h.ends[len(h.ends)-1]
}

// check holds the digests against those of the buckets.
func (h *heldBuckets) check(theirs []uint32) error {
	if len(h.digests) != h.size() {
		return status.Errorf(codes.InvalidArgument, "%d resource digests: by their counts the buckets hold %d", len(h.digests), h.size())
	}
	for i, bucket := range h.buckets {
		var sum uint32
		for _, digest := range h.in(i) {
			sum += digest
		}
		if sum != theirs[i] {
			return status.Errorf(codes.InvalidArgument, "the resource digests of bucket %d add up to %08x: its own is %08x", bucket, sum, theirs[i])
		}
	}
	return nil
}

// start is where a bucket, by its place among the buckets, begins among the digests.
func (h *heldBuckets) start(place int) int {
	if place == 0 {
		return 0
	}
	return h.ends[place-1]
}

// in are the digests of a bucket, by its place among the buckets.
func (h *heldBuckets) in(place int) []uint32 { return h.digests[h.start(place):h.ends[place]] }

// difference is what takes a VM that holds these resources in a section's buckets, of count, and the view as
// it was elsewhere, to the section's revision. Removed are the places of what the view does not have.
func difference(section registry.Section, count int, held heldBuckets) (changes registry.Changes, removed []uint32) {
	changes = registry.Changes{To: section.Revision, Upserts: section.Others.Upserts, Removals: section.Others.Removals}
	stays := make([]bool, len(held.digests))
	for _, entry := range section.Entries {
		if i, found := held.find(entry, count, stays); found {
			stays[i] = true
			continue
		}
		changes.Upserts = append(changes.Upserts, entry)
	}
	for i := range held.digests {
		if !stays[i] {
			removed = append(removed, uint32(i))
		}
	}
	return changes, removed
}

// find is where an entry is among the digests of its bucket, beyond what stays already.
func (h *heldBuckets) find(entry *registry.Entry, count int, stays []bool) (at int, found bool) {
	place, found := slices.BinarySearch(h.buckets, uint32(registryv1.Bucket(entry.Key, count)))
	if !found {
		return 0, false
	}
	for i, digest := range h.in(place) {
		if at := h.start(place) + i; digest == entry.Digest.Short() && !stays[at] {
			return at, true
		}
	}
	return 0, false
}
