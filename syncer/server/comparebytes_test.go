package server

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// BenchmarkCompareBytes reports the messages' bytes of a Compare in so many buckets, in percent of the
// whole view's: registryv1.BucketsFor is chosen by it. A view of which nothing has changed is compared by
// its one digest, and costs none of this.
func BenchmarkCompareBytes(b *testing.B) {
	for _, size := range []int{1_000, 10_000, 100_000} {
		var updates []registry.Update
		for i := range size {
			updates = append(updates, numberedService(i, 0))
		}
		r := registry.New(registry.Options{})
		source := r.AddSource("bench")
		if err := source.Apply(time.Now(), updates...); err != nil {
			b.Fatal(err)
		}
		full := encodeContent(r.Content("prod"), 256<<10).bytes
		for _, changes := range []int{1, 100, 1_000} {
			theirs := r.Content("prod").Entries
			for i := range changes {
				if err := source.Apply(time.Now(), numberedService(i*size/changes, changes)); err != nil {
					b.Fatal(err)
				}
			}
			for count := 16; count <= registryv1.MaxBuckets; count *= 2 {
				name := fmt.Sprintf("%d services, %d changed, %d buckets", size, changes, count)
				if count == registryv1.BucketsFor(size) {
					name += " (chosen)"
				}
				b.Run(name, func(b *testing.B) {
					var bytes int
					for b.Loop() {
						bytes = compareBytes(b, r, count, theirs)
					}
					b.ReportMetric(float64(bytes), "bytes")
					b.ReportMetric(100*float64(bytes)/float64(full), "%")
				})
			}
		}
	}
}

func numberedService(i, version int) registry.Update {
	return service(fmt.Sprintf("team-%d", i/20), fmt.Sprintf("reviews-%d", i), fmt.Sprintf("10.%d.%d.%d", version%251, i>>8&255, i&255), registry.Public())
}

// compareBytes is the size of what is said when a VM that holds these entries is compared.
func compareBytes(b *testing.B, r *registry.Registry, count int, theirs []*registry.Entry) int {
	b.Helper()
	digests := make([]uint32, count)
	for _, entry := range theirs {
		digests[registryv1.Bucket(entry.Key, count)] += entry.Digest.Short()
	}
	ours := r.BucketDigests("prod", count)
	var differing []uint32
	for bucket, digest := range ours.Digests {
		if digest.Short() != digests[bucket] {
			differing = append(differing, uint32(bucket))
		}
	}
	section, err := r.Section("prod", count, differing, ours.Revision)
	if err != nil {
		b.Fatal(err)
	}
	inBucket := make([][]uint32, count)
	for _, entry := range theirs {
		bucket := registryv1.Bucket(entry.Key, count)
		inBucket[bucket] = append(inBucket[bucket], entry.Digest.Short())
	}
	held := heldBuckets{buckets: differing}
	var counts []uint32
	for _, bucket := range differing {
		held.digests = append(held.digests, inBucket[bucket]...)
		held.ends = append(held.ends, len(held.digests))
		counts = append(counts, uint32(len(inBucket[bucket])))
	}
	said := proto.Size(&registryv1.BucketDigests{Digests: digests}) +
		proto.Size(&registryv1.DifferingBuckets{Buckets: differing}) +
		proto.Size(&registryv1.ResourceDigests{Counts: counts, Digests: held.digests})
	changes, removed := difference(section, count, held)
	return said + encodeDifference(changes, removed, 256<<10).bytes
}
