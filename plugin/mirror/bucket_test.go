package mirror

import (
	"errors"
	"maps"
	"slices"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestBuckets(t *testing.T) {
	resources := manyServices(500)
	s := loaded(t, resources...).State()
	for _, count := range []int{1, 16, registryv1.MaxBuckets} {
		want := make([]uint64, count)
		inside := map[string]registryv1.Digest{}
		named := func(bucket int) bool { return bucket%3 == 0 }
		for _, r := range resources {
			digest, bucket := registryv1.DigestResource(r.GetKey(), r.GetBody()), registryv1.Bucket(r.GetKey(), count)
			want[bucket] += uint64(digest)
			if named(bucket) {
				inside[r.GetKey()] = digest
			}
		}
		if got := s.BucketDigests(count); !slices.Equal(got, want) {
			t.Errorf("BucketDigests(%d): got other digests than the resources have", count)
		}
		if got := maps.Collect(s.InBuckets(count, named)); !maps.Equal(got, inside) {
			t.Errorf("InBuckets(%d): got %d resources, want %d", count, len(got), len(inside))
		}
	}
}

func TestHolding(t *testing.T) {
	if got := New(Options{}).State().Holding(); got != nil {
		t.Errorf("Holding of an empty mirror: got %v, want none", got)
	}
	s := loaded(t, manyServices(3)...).State()
	want := &registryv1.Holding{View: testView, ClusterDomain: testDomain, Digest: uint64(s.Digest()), Resources: 3}
	if got := s.Holding(); got.String() != want.String() {
		t.Errorf("Holding: got %v, want %v", got, want)
	}
}

// TestApplyCompared takes a mirror to another generation, from what it holds.
func TestApplyCompared(t *testing.T) {
	const replica = "replica"
	resources := manyServices(3)
	at := func(m *Mirror) *registryv1.Position { return m.State().Position() }
	tests := map[string]struct {
		edit func(*Change)
		err  error
	}{
		"what differs":           {func(*Change) {}, nil},
		"of the same generation": {func(c *Change) { c.Generation = testGeneration }, nil},
		"compared at another revision": {func(c *Change) {
			c.Compared.Revision++
		}, ErrPosition},
		"compared at another generation": {func(c *Change) { c.Compared.Generation = replica }, ErrPosition},
		"of another view":                {func(c *Change) { c.View = "elsewhere" }, ErrPosition},
		"of another cluster domain":      {func(c *Change) { c.ClusterDomain = "other.example" }, ErrPosition},
		"not compared":                   {func(c *Change) { c.Compared = nil }, ErrPosition},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := loaded(t, resources...)
			before := m.State()
			change := Change{
				Generation: replica, View: testView, ClusterDomain: testDomain, Compared: at(m),
				// The other replica may have come less far.
				To:      0,
				Upserts: []*registryv1.Resource{numberedService(0, 1), numberedService(7, 0)}, Removals: []string{resources[1].GetKey()},
			}
			tc.edit(&change)
			err := m.Apply(change)
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("Apply: got %v, want %v", err, tc.err)
			}
			if err != nil {
				if m.State() != before {
					t.Error("A change that was refused has changed the mirror")
				}
				return
			}
			want := loaded(t, numberedService(0, 1), resources[2], numberedService(7, 0)).State()
			if got, want := dump(m.State()), dump(want); got != want {
				t.Errorf("Got\n%s\n\nwant\n%s", got, want)
			}
			if got := at(m); got.GetGeneration() != change.Generation || got.GetRevision() != 0 {
				t.Errorf("Position: got %v, want revision 0 of %s", got, change.Generation)
			}
		})
	}
	t.Run("a mirror that holds nothing", func(t *testing.T) {
		err := New(Options{}).Apply(Change{Generation: replica, View: testView, ClusterDomain: testDomain, Compared: &registryv1.Position{}})
		if !errors.Is(err, ErrPosition) {
			t.Errorf("Apply: got %v, want %v", err, ErrPosition)
		}
	})
	t.Run("nothing differs", func(t *testing.T) {
		m := loaded(t, resources...)
		serial := m.State().Serial()
		if err := m.Apply(Change{Generation: replica, View: testView, ClusterDomain: testDomain, Compared: at(m), To: 5}); err != nil {
			t.Fatal(err)
		}
		if got := m.State().Serial(); got != serial {
			t.Errorf("Serial: got %d, want %d as before: the zone is the same", got, serial)
		}
	})
}

func BenchmarkBuckets(b *testing.B) {
	s := loaded(b, manyServices(100_000)...).State()
	b.Run("digests", func(b *testing.B) {
		for b.Loop() {
			s.BucketDigests(registryv1.MaxBuckets)
		}
	})
	b.Run("listing", func(b *testing.B) {
		for b.Loop() {
			for range s.InBuckets(registryv1.MaxBuckets, func(bucket int) bool { return bucket%40 == 0 }) {
			}
		}
	})
}
