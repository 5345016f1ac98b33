//go:build linux

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestPartition cuts both ways between a machine and its syncer, and heals them when the machine's
// registry has become stale.
func TestPartition(t *testing.T) {
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

// TestHalfOpen cuts one way only. Whoever still hears must find out too.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	tests := map[string]func(m *mesh) *link{
		"the machine hears nothing": func(m *mesh) *link { return m.link(m.syncers[0].host, m.vm) },
		"the syncer hears nothing":  func(m *mesh) *link { return m.link(m.vm, m.syncers[0].host) },
	}
	for name, way := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, 1)
			stop := m.asking()
			suffer(fault{cut: true}, way(m))
			m.change()
			m.lost(silenceBound)
			m.alone(m.syncers[0])
			suffer(fault{}, way(m))
			m.recovered(stop)
		})
	}
}

// TestLossAndDelay changes objects while every third packet is lost and a round trip takes 400 ms.
func TestLossAndDelay(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	links := m.between(m.vm, m.syncers[0].host)
	suffer(fault{loss: 0.3, delay: 200 * time.Millisecond}, links...)
	for losses(links...) < 50 {
		m.change()
		m.machine.answers(moving, dns.TypeA, m.names[moving])
	}
	for range 20 {
		m.change()
	}
	m.agrees()
	t.Logf("%d versions, %d packets lost", m.version, losses(links...))
	suffer(fault{}, links...)
	m.recovered(stop)
}

// TestSilentFailover cuts the syncer off that a machine follows: it goes to the other.
func TestSilentFailover(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	stop := m.asking()
	first := m.followed()
	links := m.between(m.vm, first.host)
	suffer(fault{cut: true}, links...)
	m.change()
	took := m.machine.answers(moving, dns.TypeA, m.names[moving])
	if took > silenceBound {
		t.Errorf("Failover: took %v, want at most %v", took, silenceBound)
	}
	if second := m.followed(); second == first {
		t.Errorf("Followed: got %s, which is cut off", first.host.ip)
	}
	suffer(fault{}, links...)
	m.recovered(stop)
}

// TestKilledSyncer kills a syncer and changes objects before it is back.
func TestKilledSyncer(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	for range 3 {
		m.syncers[0].process.Stop(t, syscall.SIGKILL)
		m.lost(silenceBound)
		m.change()
		m.syncers[0].start()
		m.agrees()
	}
	m.recovered(stop)
}

// TestFlappingLink cuts a link again and again, until TCP has noticed each time.
func TestFlappingLink(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	stop := m.asking()
	there, back := m.link(m.vm, m.syncers[0].host), m.link(m.syncers[0].host, m.vm)
	for range 3 {
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
			m.machine.answers(moving, dns.TypeA, m.names[moving])
		}
	}
	m.recovered(stop)
}
