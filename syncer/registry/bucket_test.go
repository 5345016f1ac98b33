package registry

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// TestBucketsFollowTheRegistry holds bucket digests and sections of random registries against what
// Content says.
func TestBucketsFollowTheRegistry(t *testing.T) {
	visibilities := []Visibility{Public(), Public(), Nobody(), VisibleTo("vm"), VisibleTo("vm", "other"), VisibleTo("other")}
	for seed := range uint64(10) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			r := New(Options{})
			s := r.AddSource("test")
			for range 300 {
				name := fmt.Sprintf("object-%d", random.IntN(100))
				if random.IntN(3) == 0 {
					mustApply(t, s, gone(name))
					continue
				}
				mustApply(t, s, update(name, visibilities[random.IntN(len(visibilities))], serviceBody(name, byte(random.IntN(5)))))
			}
			for _, view := range []string{"vm", "other", "third", ""} {
				for _, count := range []int{1, 8, 64, registryv1.MaxBuckets} {
					want := make([]registryv1.Digest, count)
					for _, e := range r.Content(view).Entries {
						want[registryv1.Bucket(e.Key, count)].Add(e.Digest)
					}
					got := r.BucketDigests(view, count)
					if !slices.Equal(got.Digests, want) || got.Revision != r.Revision() {
						t.Errorf("View %q, %d buckets: got other digests than its content has, or revision %d", view, count, got.Revision)
					}
					checkSection(t, r, random, view, count)
				}
			}
			for i := range 100 {
				mustApply(t, s, gone(fmt.Sprintf("object-%d", i)))
			}
			for bucket, digest := range r.sums.public.buckets {
				if digest != 0 || len(r.sections[bucket]) > 0 {
					t.Fatalf("Bucket %d of an empty registry: got digest %x and %d entries", bucket, digest, len(r.sections[bucket]))
				}
			}
			if len(r.sums.namespaces) > 0 {
				t.Errorf("Namespaces of an empty registry: got %d, want none", len(r.sums.namespaces))
			}
		})
	}
}

// checkSection takes a mirror, which has some buckets wrong and the others as they were at a revision, to
// the present by a section.
func checkSection(t *testing.T, r *Registry, random *rand.Rand, view string, count int) {
	t.Helper()
	var buckets []uint32
	for bucket := range count {
		if random.IntN(3) == 0 {
			buckets = append(buckets, uint32(bucket))
		}
	}
	since := uint64(random.IntN(int(r.Revision())))
	past, err := r.Changes(view, 0, since)
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]registryv1.Digest{}
	for _, e := range r.Content(view).Entries {
		present[e.Key] = e.Digest
	}
	section, err := r.Section(view, count, buckets, since)
	if err != nil {
		t.Fatalf("Section: %v", err)
	}
	inside := func(key string) bool { return slices.Contains(buckets, uint32(registryv1.Bucket(key, count))) }
	got := map[string]registryv1.Digest{}
	for _, e := range past.Upserts {
		if !inside(e.Key) {
			got[e.Key] = e.Digest
		}
	}
	for _, e := range section.Others.Upserts {
		if inside(e.Key) {
			t.Fatalf("Section: %q is named among the others", e.Key)
		}
		got[e.Key] = e.Digest
	}
	for _, key := range section.Others.Removals {
		if _, found := got[key]; !found || inside(key) {
			t.Fatalf("Section: removal of %q, which is inside or was not there", key)
		}
		delete(got, key)
	}
	for _, e := range section.Entries {
		if !inside(e.Key) {
			t.Fatalf("Section: %q is not in its buckets", e.Key)
		}
		got[e.Key] = e.Digest
	}
	if !maps.Equal(got, present) || section.Revision != r.Revision() {
		t.Errorf("View %q, %d of %d buckets since %d: got %d resources at revision %d, want the %d of revision %d",
			view, len(buckets), count, since, len(got), section.Revision, len(present), r.Revision())
	}
}

func TestSectionThatTheLogHasForgotten(t *testing.T) {
	r := New(Options{LogBytes: 1})
	s := r.AddSource("test")
	mustApply(t, s, update("a", Public(), serviceBody("a")))
	mustApply(t, s, update("b", Public(), serviceBody("b")))
	if _, err := r.Section("vm", 1, []uint32{0}, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("Section since 1: got %v, want %v", err, ErrCompacted)
	}
	section, err := r.Section("vm", 1, []uint32{0}, 2)
	if got := keysOf(section.Entries); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Section since 2: got %q, %v, want a and b", got, err)
	}
}

func BenchmarkBucketDigests(b *testing.B) {
	r := New(Options{})
	s := r.AddSource("bench")
	var updates []Update
	for i := range 10_000 {
		name := fmt.Sprintf("service-%d", i)
		updates = append(updates, update(name, Public(), serviceBody(name+".example.com", 1)))
	}
	if err := s.Apply(r.now(), updates...); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.BucketDigests("vm", registryv1.BucketsFor(10_000))
	}
}
