package compare

import (
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
)

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for !condition() {
		select {
		case <-ticks.C:
		case <-timeout.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// TestFleetStaysBalanced has one of two syncers end under two hundred VMs, and come back. Everybody goes to the
// other, nobody loses or is sent again what it holds, and when the time of their connections is over they are
// spread over both again.
func TestFleetStaysBalanced(t *testing.T) {
	const vms, size = 200, 50
	young := func(o *server.Options) {
		o.MaxConnectionAge, o.ConnectionAgeGrace = 3*time.Second, 200*time.Millisecond
	}
	var address atomic.Value
	first := startReplica(t, registry.Options{}, young, services(size)...)
	address.Store(first.address)
	// What stands for the first syncer keeps its address.
	way := startRelay(t, func() string { return address.Load().(string) })
	t.Cleanup(way.close)
	second := startReplica(t, registry.Options{}, young, services(size)...)

	mirrors, followers := make([]*mirror.Mirror, vms), make([]*follower, vms)
	for i := range vms {
		mirrors[i] = newMirror()
		followers[i] = follow(t, mirrors[i], "vm", way.address, second.address)
	}
	for _, f := range followers {
		f.await("in step", inStep)
	}
	// Of 200 that choose at random, fewer than 50 choose one of two in one case of 10^12.
	balanced := func(a, b *replica) bool {
		return a.watchers() >= vms/4 && b.watchers() >= vms/4 && a.watchers()+b.watchers() >= vms
	}
	eventually(t, "both serve a fair part", func() bool { return balanced(first, second) })

	first.stop()
	way.cut()
	eventually(t, "the other serves all", func() bool { return second.watchers() == vms })
	change := numbered(3, 1<<23)
	second.apply(t, change)
	revision := second.registry.Revision()
	for i, f := range followers {
		f.await("the change", func(tally) bool { return mirrors[i].State().Position().GetRevision() == revision })
	}

	back := startReplica(t, registry.Options{}, young, services(size)...)
	back.apply(t, change)
	address.Store(back.address)
	eventually(t, "both serve a fair part again", func() bool { return balanced(back, second) })
	for i, f := range followers {
		f.stop()
		if !maps.Equal(held(mirrors[i]), second.content("vm")) {
			t.Errorf("VM %d holds something else than the syncers", i)
		}
		if seen := f.await("its tally", inStep); seen.full != 1 || seen.mismatches+seen.refused > 0 {
			t.Errorf("VM %d: got %+v, want one full sync and no fault", i, seen)
		}
	}
}
