package compare

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
)

// mustEqual holds a mirror against what a replica shows a namespace, by resources and by digest.
func mustEqual(t *testing.T, m *mirror.Mirror, r *replica, namespace string) {
	t.Helper()
	if got, want := held(m), r.content(namespace); !maps.Equal(got, want) {
		t.Errorf("The mirror holds %d resources, want the %d of the replica", len(got), len(want))
	}
	proof := r.registry.Proof(namespace)
	if got := m.State(); got.Digest() != proof.Digest || got.Resources() != proof.Resources {
		t.Errorf("The mirror has %d resources with digest %x, want %d with %x", got.Resources(), got.Digest(), proof.Resources, proof.Digest)
	}
	if got, want := m.State().Position().GetGeneration(), r.registry.Generation(); got != want {
		t.Errorf("The mirror is of generation %s, want %s", got, want)
	}
}

var visibilities = []registry.Visibility{
	registry.Public(), registry.Public(), registry.Nobody(), registry.VisibleTo("vm"), registry.VisibleTo("other"), registry.VisibleTo("vm", "other"),
}

// randomUpdate is one of a number of Services, that is there or not, in one of a few forms.
func randomUpdate(random *rand.Rand, services int) registry.Update {
	name := fmt.Sprintf("service-%d", random.IntN(services))
	if random.IntN(4) == 0 {
		return gone("prod", name)
	}
	return service("prod", name, uint32(random.IntN(4)), visibilities[random.IntN(len(visibilities))])
}

// TestFailoverSendsJustWhatDiffers takes mirrors from one replica to another, for random registries that
// have most in common, and holds what came against what differs.
func TestFailoverSendsJustWhatDiffers(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 7))
			size := 1 << (1 + random.IntN(11))
			var common []registry.Update
			for range 2 * size {
				common = append(common, randomUpdate(random, size))
			}
			first, second := startReplica(t, registry.Options{}, nil, common...), startReplica(t, registry.Options{}, nil, common...)
			for range random.IntN(size/8 + 2) {
				first.apply(t, randomUpdate(random, size))
			}
			for range random.IntN(size/8 + 2) {
				second.apply(t, randomUpdate(random, size))
			}
			for _, namespace := range []string{"vm", "other", "third", ""} {
				m := newMirror()
				if seen := once(t, m, namespace, first); seen.full != 1 {
					t.Fatalf("An empty mirror: got %+v, want a full sync", seen)
				}
				mustEqual(t, m, first, namespace)
				want := tally{compared: 1}
				before, after := held(m), second.content(namespace)
				for key, digest := range after {
					if before[key] != digest {
						want.upserts++
					}
				}
				for key := range before {
					if _, stays := after[key]; !stays {
						want.removals++
					}
				}
				got := once(t, m, namespace, second)
				mustEqual(t, m, second, namespace)
				if maps.Equal(before, after) && got.digestBytes > 0 {
					t.Errorf("Nothing differs, and %d bytes of digests were exchanged", got.digestBytes)
				}
				got.heartbeats, got.digestBytes = 0, 0
				if got != want {
					t.Errorf("View of %q, %d resources: got %+v, want %+v", namespace, len(after), got, want)
				}
			}
		})
	}
}

// TestFailoverWhileChanging takes mirrors to and fro between two replicas that change all the time.
func TestFailoverWhileChanging(t *testing.T) {
	const size = 400
	tests := map[string]int{"the log holds it": 1 << 20, "the log holds little": 3000}
	for name, logBytes := range tests {
		t.Run(name, func(t *testing.T) {
			log := registry.Options{LogBytes: logBytes}
			random := rand.New(rand.NewPCG(1, uint64(logBytes)))
			var updates []registry.Update
			for range 2 * size {
				updates = append(updates, randomUpdate(random, size))
			}
			replicas := []*replica{startReplica(t, log, nil, updates...), startReplica(t, log, nil, updates...)}
			stop := make(chan struct{})
			var changing sync.WaitGroup
			for i, r := range replicas {
				changing.Go(func() {
					random := rand.New(rand.NewPCG(2, uint64(i)))
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
							// Few enough that the replicas never come to differ by so much that all is sent.
							r.apply(t, randomUpdate(random, size/10))
						}
					}
				})
			}
			m := newMirror()
			compared, mismatches := 0, 0
			for i := range 40 {
				seen := once(t, m, "vm", replicas[i%2])
				compared += seen.compared
				mismatches += seen.mismatches + seen.refused
			}
			close(stop)
			changing.Wait()
			seen := once(t, m, "vm", replicas[0])
			mustEqual(t, m, replicas[0], "vm")
			if compared += seen.compared; compared < 20 {
				t.Errorf("%d of 41 failovers ended in a Compare: the test shows less than it says", compared)
			}
			if mismatches > 0 {
				t.Errorf("%d streams were not right", mismatches)
			}
		})
	}
}

// TestWhatCannotBeResumedIsCompared is the ways in which a VM comes to hold what the log cannot take from
// there.
func TestWhatCannotBeResumedIsCompared(t *testing.T) {
	const size = 500
	tests := map[string]struct {
		log registry.Options
		// arrange makes the replica and the mirror, which holds its first content, what they are to be.
		arrange func(t *testing.T, first *replica) *replica
		// reboot has the mirror come back from its snapshot.
		reboot bool
		want   tally
	}{
		"restart with the same content": {
			arrange: func(t *testing.T, first *replica) *replica {
				first.stop()
				return startReplica(t, registry.Options{}, nil, services(size)...)
			},
			want: tally{compared: 1},
		},
		"another replica, content in another order": {
			arrange: func(t *testing.T, _ *replica) *replica {
				r := startReplica(t, registry.Options{}, nil)
				for _, update := range services(size) {
					r.apply(t, update)
				}
				return r
			},
			want: tally{compared: 1},
		},
		"restart with changes": {
			arrange: func(t *testing.T, first *replica) *replica {
				first.stop()
				return startReplica(t, registry.Options{}, nil,
					append(services(size), numbered(7, 9999), numbered(8, 9998), gone("team-0", "reviews-9"), numbered(size, 1))...)
			},
			want: tally{compared: 1, upserts: 3, removals: 1},
		},
		"the log has been compacted": {
			log: registry.Options{LogBytes: 4000},
			arrange: func(t *testing.T, first *replica) *replica {
				for i := range 50 {
					first.apply(t, numbered(3, uint32(10_000+i)))
				}
				return first
			},
			want: tally{compared: 1, upserts: 1},
		},
		"a snapshot from the disk": {
			arrange: func(t *testing.T, _ *replica) *replica {
				return startReplica(t, registry.Options{}, nil, append(services(size), numbered(7, 9999))...)
			},
			reboot: true,
			want:   tally{compared: 1, upserts: 1},
		},
		"nearly all is new": {
			arrange: func(t *testing.T, _ *replica) *replica {
				updates := services(size)
				for i := range updates {
					updates[i] = numbered(i, uint32(20_000+i))
				}
				return startReplica(t, registry.Options{}, nil, updates...)
			},
			want: tally{full: 1, upserts: size},
		},
		"far more than is held": {
			arrange: func(t *testing.T, _ *replica) *replica {
				return startReplica(t, registry.Options{}, nil, services(2*size)...)
			},
			want: tally{full: 1, upserts: 2 * size},
		},
		"far less than is held": {
			arrange: func(t *testing.T, _ *replica) *replica {
				return startReplica(t, registry.Options{}, nil, services(3)...)
			},
			want: tally{full: 1, upserts: 3},
		},
		"another cluster domain": {
			arrange: func(t *testing.T, _ *replica) *replica {
				return startReplica(t, registry.Options{}, func(o *server.Options) { o.ClusterDomain = "other.example" }, services(size)...)
			},
			want: tally{full: 1, upserts: size},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			first := startReplica(t, test.log, nil, services(size)...)
			m := newMirror()
			once(t, m, "vm", first)
			r := test.arrange(t, first)
			if test.reboot {
				path := filepath.Join(t.TempDir(), "registry.snapshot")
				if err := m.Save(path); err != nil {
					t.Fatal(err)
				}
				m = newMirror()
				if err := m.Load(path); err != nil {
					t.Fatal(err)
				}
			}
			got := once(t, m, "vm", r)
			mustEqual(t, m, r, "vm")
			got.heartbeats, got.digestBytes = 0, 0
			if got != test.want {
				t.Errorf("Got %+v, want %+v", got, test.want)
			}
		})
	}
	t.Run("another view", func(t *testing.T) {
		r := startReplica(t, registry.Options{}, nil, services(size)...)
		m := newMirror()
		once(t, m, "vm", r)
		if got := once(t, m, "other", r); got.full != 1 || got.compared != 0 {
			t.Errorf("Got %+v, want a full sync", got)
		}
		mustEqual(t, m, r, "other")
	})
}

// TestMismatchIsRepairedByCompare corrupts a mirror under a stream.
func TestMismatchIsRepairedByCompare(t *testing.T) {
	const size = 500
	r := startReplica(t, registry.Options{}, nil, services(size)...)
	m := newMirror()
	f := follow(t, m, "vm", r.address)
	f.await("in step", inStep)
	state := m.State()
	at := state.Position()
	if err := m.Apply(mirror.Change{
		Generation: at.GetGeneration(), View: at.GetView(), ClusterDomain: state.ClusterDomain(), From: at.GetRevision(), To: at.GetRevision(),
		Removals: []string{registryv1.ServiceKey("", "team-0", "reviews-3")},
	}); err != nil {
		t.Fatal(err)
	}
	seen := f.await("compared", func(seen tally) bool { return seen.compared > 0 })
	heartbeats := seen.heartbeats
	seen = f.await("in step again", func(seen tally) bool { return seen.heartbeats > heartbeats })
	f.stop()
	mustEqual(t, m, r, "vm")
	if seen.mismatches != 1 || seen.full != 1 || seen.upserts != size+1 {
		t.Errorf("Got %+v, want one mismatch, one full sync in the beginning and one resource after it", seen)
	}
}

// TestFallenOffTheLogIsCompared has more change at once than the log holds: VMs that are connected are sent
// just that all the same.
func TestFallenOffTheLogIsCompared(t *testing.T) {
	const size, changes = 2_000, 100
	r := startReplica(t, registry.Options{LogBytes: 2_000}, nil, services(size)...)
	m := newMirror()
	f := follow(t, m, "vm", r.address)
	f.await("in step", inStep)
	r.apply(t, changed(size, changes)...)
	last := r.registry.Revision()
	f.await("in step again", func(tally) bool { return m.State().Position().GetRevision() == last })
	f.stop()
	mustEqual(t, m, r, "vm")
	seen := f.await("its tally", inStep)
	if seen.full != 1 || seen.compared != 1 || seen.mismatches+seen.refused > 0 || seen.upserts != size+changes {
		t.Errorf("Got %+v, want one full sync, one Compare, and what changed", seen)
	}
}

// TestManyFailOverAtOnce has more VMs come over than are admitted at once, while the registry changes.
func TestManyFailOverAtOnce(t *testing.T) {
	const size, vms = 2_000, 40
	all := services(size)
	first := startReplica(t, registry.Options{}, nil, all...)
	mirrors := make([]*mirror.Mirror, vms)
	for i := range mirrors {
		mirrors[i] = newMirror()
		once(t, mirrors[i], "vm", first)
	}
	second := startReplica(t, registry.Options{}, func(o *server.Options) { o.FullSyncs = 2 }, all...)
	second.apply(t, changed(size, 50)...)
	followers := make([]*follower, vms)
	for i, m := range mirrors {
		followers[i] = follow(t, m, "vm", second.address)
	}
	for i := range 20 {
		second.apply(t, numbered(i*90, uint32(1<<22+i)))
	}
	last := second.registry.Revision()
	for i, f := range followers {
		f.await("in step", func(seen tally) bool {
			return seen.heartbeats > 0 && mirrors[i].State().Position().GetRevision() == last
		})
		f.stop()
		mustEqual(t, mirrors[i], second, "vm")
		if seen := f.await("its tally", inStep); seen.compared != 1 || seen.full != 0 || seen.mismatches+seen.refused > 0 || seen.upserts > 200 {
			t.Errorf("VM %d: got %+v, want one Compare and no more than what differs", i, seen)
		}
	}
}

// TestFailoverIsCheap holds failovers against the bytes of a full sync, as they go over TCP.
func TestFailoverIsCheap(t *testing.T) {
	const size = 10_000
	tests := map[string]struct {
		changes int
		percent float64
	}{
		"nothing changed":   {0, 0.5},
		"one change":        {1, 0.5},
		"ten changes":       {10, 1},
		"a hundred changes": {100, 2},
	}
	all := services(size)
	first := startReplica(t, registry.Options{}, nil, all...)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMirror()
			before := first.bytes.Load()
			once(t, m, "vm", first)
			full := first.bytes.Load() - before
			second := startReplica(t, registry.Options{}, nil, all...)
			second.apply(t, changed(size, test.changes)...)
			once(t, m, "vm", second)
			mustEqual(t, m, second, "vm")
			failover := second.bytes.Load()
			if percent := 100 * float64(failover) / float64(full); percent > test.percent {
				t.Errorf("Failover took %d bytes, %.2f %% of the full sync's %d, want at most %g %%", failover, percent, full, test.percent)
			}
		})
	}
}

// changed are so many of size services, spread, with other addresses.
func changed(size, changes int) []registry.Update {
	var updates []registry.Update
	for i := range changes {
		number := i * size / changes
		updates = append(updates, numbered(number, uint32(1<<23+number)))
	}
	return updates
}

// BenchmarkFailover reports what a failover takes over TCP, beside a full sync.
func BenchmarkFailover(b *testing.B) {
	for _, size := range []int{1_000, 10_000, 100_000} {
		all := services(size)
		first := startReplica(b, registry.Options{}, nil, all...)
		for _, changes := range []int{0, 1, 100, 1_000} {
			b.Run(fmt.Sprintf("%d services, %d changed", size, changes), func(b *testing.B) {
				second := startReplica(b, registry.Options{}, nil, all...)
				second.apply(b, changed(size, changes)...)
				var full, failover, times int64
				for b.Loop() {
					b.StopTimer()
					m := newMirror()
					before := first.bytes.Load()
					once(b, m, "vm", first)
					full += first.bytes.Load() - before
					before = second.bytes.Load()
					b.StartTimer()
					once(b, m, "vm", second)
					failover += second.bytes.Load() - before
					times++
				}
				b.ReportMetric(float64(full/times), "full-bytes")
				b.ReportMetric(float64(failover/times), "failover-bytes")
				b.ReportMetric(100*float64(failover)/float64(full), "%")
			})
		}
		first.stop()
	}
}
