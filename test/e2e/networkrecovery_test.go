//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"syscall"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// recovered ends a test: whoever has asked until now got right answers, the machine agrees with the
// syncer, no fault has cost a full copy, and nothing has leaked. Then what the machine saves is held
// against what one saves that knows of no fault.
func (m *mesh) recovered(stop func()) {
	t := m.t
	t.Helper()
	m.agrees()
	stop()
	m.thrifty()
	m.leakFree()
	held := m.stopped()
	m.machine.boot()
	m.agrees()
	pristine := m.stopped()
	got, want := m.digests(held), m.digests(pristine)
	if held.Digest() != pristine.Digest() || !maps.Equal(got, want) {
		t.Errorf("Digest: got %016x of %d resources, a new machine has %016x of %d", held.Digest(), len(got), pristine.Digest(), len(want))
	}
}

// agrees holds the machine against the syncer: what it holds has the revision, the number of resources and
// the digest that the syncer has now, and every name is answered at once as the manifests say.
func (m *mesh) agrees() {
	m.t.Helper()
	m.arrived()
	m.proven()
	for q, want := range m.want {
		m.machine.answersNow(q.name, q.qtype, want)
	}
}

// proven waits for a heartbeat from now on that the mirror equals, and whose revision is the syncer's
// latest.
func (m *mesh) proven() {
	m.t.Helper()
	const equal, unequal = `coredns_meshvm_heartbeats_total{equal="true"}`, `coredns_meshvm_heartbeats_total{equal="false"}`
	before := m.machineMetrics()[equal]
	var now map[string]float64
	eventuallyAt(m.t, slowly, "a heartbeat proves the mirror equal", func() error {
		if now = m.machineMetrics(); now[equal] <= before {
			return fmt.Errorf("%v heartbeats proved it, as before", now[equal])
		}
		syncer, err := m.follows()
		if err != nil {
			return err
		}
		for what, of := range map[string]string{"revision": "registry_revision", "resources": "registry_resources"} {
			if got, want := mirrorGauge(now, what), syncer["meshvm_syncer_"+of]; got != want {
				return fmt.Errorf("%s: got %v, the syncer has %v", what, got, want)
			}
		}
		return nil
	})
	if now[unequal] > 0 {
		m.t.Errorf("Heartbeats that the mirror did not equal: got %v, want none", now[unequal])
	}
}

// thrifty holds what has been sent against what has happened: the whole registry once, and of each change
// its two Services.
func (m *mesh) thrifty() {
	m.t.Helper()
	now := m.machineMetrics()
	if got := now[`coredns_meshvm_syncs_total{mode="full"}`]; got != 1 {
		m.t.Errorf("Full syncs: got %v, want 1", got)
	}
	const perChange = 2
	most := mirrorGauge(now, "resources") + perChange*float64(m.version)
	if got := now[`coredns_meshvm_changes_total{change="upsert"}`]; got > most {
		m.t.Errorf("Resources sent: got %v, want at most %v", got, most)
	}
}

// stopped stops the machine and takes its snapshot away from it.
func (m *mesh) stopped() *mirror.State {
	t := m.t
	t.Helper()
	m.machine.coredns.Stop(t, syscall.SIGTERM)
	held := mirror.New(mirror.Options{})
	if err := held.Load(m.machine.snapshot); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(m.machine.snapshot); err != nil {
		t.Fatal(err)
	}
	return held.State()
}

func (m *mesh) digests(state *mirror.State) map[string]registryv1.Digest {
	return maps.Collect(state.InBuckets(1, func(int) bool { return true }))
}

// footprint is what programs take: all syncers together, because a machine may have gone from one to
// another, and CoreDNS.
type footprint struct{ syncers, machine taken }

type taken struct{ goroutines, heap float64 }

func (t *taken) add(values map[string]float64) {
	t.goroutines += values["go_goroutines"]
	t.heap += values["go_memstats_heap_inuse_bytes"]
}

// exceeds reports whether a program has more goroutines than before, or so much more heap that it is
// not just garbage.
func (t taken) exceeds(before taken) bool {
	return t.goroutines > before.goroutines || t.heap > before.heap+16<<20
}

func (m *mesh) footprint() (f footprint) {
	m.t.Helper()
	for _, s := range m.syncers {
		values, err := s.metrics()
		if err != nil {
			m.t.Fatal(err)
		}
		f.syncers.add(values)
	}
	f.machine.add(m.machineMetrics())
	return f
}

// leakFree waits until the programs take no more than before.
func (m *mesh) leakFree() {
	m.t.Helper()
	eventuallyAt(m.t, slowly, "nothing has leaked", func() error {
		if now := m.footprint(); now.syncers.exceeds(m.before.syncers) || now.machine.exceeds(m.before.machine) {
			return fmt.Errorf("goroutines and bytes of heap, syncers and CoreDNS: got %v, had %v", now, m.before)
		}
		return nil
	})
}
