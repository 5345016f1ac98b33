//go:build linux

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestNetworkPartition cuts both ways between a machine and its syncer, and heals them when the machine's
// registry has become stale.
func TestNetworkPartition(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	links := m.between(m.vm, m.syncers[0].host)
	suffer(fault{cut: true}, links...)
	m.change()
	m.lost(silenceBound)
	m.stale(true)
	suffer(fault{}, links...)
	m.stale(false)
	m.recovered(stop)
}

// TestNetworkHalfOpen cuts one way only. Whoever still hears must find out too.
func TestNetworkHalfOpen(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		machineHears bool
		// bound is when the machine must have noticed. What is on the way to it when its own words begin to be
		// lost still arrives.
		bound time.Duration
	}{
		"the machine hears nothing": {false, silenceBound},
		"the syncer hears nothing":  {true, silenceBound + heartbeatInterval},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, 1)
			stop := m.asking()
			way := m.link(m.syncers[0].host, m.vm)
			if tc.machineHears {
				way = m.link(m.vm, m.syncers[0].host)
			}
			suffer(fault{cut: true}, way)
			m.change()
			begin := time.Now()
			m.lost(tc.bound)
			m.alone(m.syncers[0])
			m.within("the syncer knows that nobody watches", time.Since(begin), keepaliveBound)
			suffer(fault{}, way)
			m.recovered(stop)
		})
	}
}

// TestNetworkLossAndDelay changes objects while every third packet is lost and a round trip takes 400 ms.
// A machine that knows nothing yet must get there too, so nothing heals.
func TestNetworkLossAndDelay(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	links := m.between(m.vm, m.syncers[0].host)
	suffer(fault{loss: 0.3, delay: 200 * time.Millisecond}, links...)
	var slowest, oldest time.Duration
	for losses(links...) < 40 {
		m.change()
		slowest = max(slowest, m.arrived())
		oldest = max(oldest, m.staleness())
	}
	for range 20 {
		m.change()
	}
	m.recovered(stop)
	t.Logf("%d changes, %d packets lost, slowest change %v", m.version, losses(links...), slowest.Round(time.Millisecond))
	// The worst is a stream that falls silent and is opened anew, and that takes a while too.
	m.within("The registry was at most stale", oldest, silenceBound+heartbeatInterval+30*time.Second)
}

// TestNetworkFailover cuts the syncer off that a machine follows: it goes to the other. When that falls silent
// too, it comes back.
func TestNetworkFailover(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	stop := m.asking()
	first, second := m.syncers[0], m.syncers[1]
	if m.watchers(first) == 0 {
		first, second = second, first
	}
	for _, way := range []struct{ from, to *meshSyncer }{{first, second}, {second, first}} {
		links := m.between(m.vm, way.from.host)
		suffer(fault{cut: true}, links...)
		m.change()
		m.within("the other syncer's change arrived", m.arrived(), silenceBound)
		if got := m.watchers(way.to); got != 1 {
			t.Errorf("Watchers of the other syncer: got %v, want 1", got)
		}
		suffer(fault{}, links...)
		m.alone(way.from)
	}
	m.recovered(stop)
}

// TestNetworkSyncerKilled kills a syncer, changes objects and starts it again.
func TestNetworkSyncerKilled(t *testing.T) {
	t.Parallel()
	t.Run("the process", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t, 1)
		stop := m.asking()
		for range 3 {
			m.syncers[0].process.Stop(t, syscall.SIGKILL)
			m.lost(0)
			m.change()
			m.syncers[0].start()
			m.arrived()
		}
		m.recovered(stop)
	})
	// Nobody says goodbye, and after the restart nobody knows of the connection.
	t.Run("its host loses power", func(t *testing.T) {
		t.Parallel()
		m := newMesh(t, 1)
		stop := m.asking()
		links := m.between(m.vm, m.syncers[0].host)
		suffer(fault{cut: true}, links...)
		m.syncers[0].process.Stop(t, syscall.SIGKILL)
		m.change()
		m.syncers[0].start()
		suffer(fault{}, links...)
		m.within("the restarted syncer's change arrived", m.arrived(), silenceBound)
		m.recovered(stop)
	})
}

// TestNetworkFlapping cuts a link again and again, each time until TCP must have noticed.
func TestNetworkFlapping(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	there, back := m.link(m.vm, m.syncers[0].host), m.link(m.syncers[0].host, m.vm)
	for range 4 {
		for _, cut := range [][]*link{{there, back}, {there}, {back}} {
			before := losses(cut...)
			suffer(fault{cut: true}, cut...)
			m.change()
			eventually(t, "packets are lost", func() error {
				if lost := losses(cut...) - before; lost < 3 {
					return fmt.Errorf("%d lost", lost)
				}
				return nil
			})
			suffer(fault{}, cut...)
			m.arrived()
		}
	}
	m.recovered(stop)
}
