package server

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

const stalledVMs = 50

// stall opens streams of VMs that are up to date and then read nothing more.
func (s *syncer) stall() (stalled []*vm) {
	s.t.Helper()
	for i := range stalledVMs {
		stalled = append(stalled, watch(s.t, s.dial(), &registryv1.Hello{Node: fmt.Sprint("stalled", i), Namespace: "prod"}))
	}
	return stalled
}

// churn changes large resources a number of times, one step of the publisher after the other.
func (s *syncer) churn(reader *vm, rounds int) {
	s.t.Helper()
	const resources = 20
	for range rounds {
		round := s.registry.Revision()
		var updates []registry.Update
		for i := range resources {
			name := fmt.Sprintf("large%d-%s", i, strings.Repeat("x", 40))
			addresses := make([]string, 200)
			for a := range addresses {
				addresses[a] = fmt.Sprintf("10.%d.%d.%d", round%250, i, a)
			}
			updates = append(updates, claim(&registryv1.Service{
				Host: name + ".prod.svc.cluster.local", Namespace: "prod", Name: name,
				Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY, AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL,
				Addresses: encodeAddresses(addresses...),
			}, registry.Public()))
		}
		s.apply(updates...)
		want := s.registry.Revision()
		reader.until("the round", func() bool { return reader.revision >= want })
	}
}

func heapNow() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestStalledVMsCostOthersNothing has fifty VMs that read nothing while fifty times what fits a connection is
// sent. What is held for them does not grow, and one that reads gets every change.
func TestStalledVMsCostOthersNothing(t *testing.T) {
	const bound = 1 << 20
	s := startUnsynced(t, registry.Options{LogBytes: bound}, func(o *Options) {
		o.SendTimeout = time.Hour
		o.CacheBytes = bound
	})
	s.source.Synced()
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	s.stall()
	reader := watch(t, s.dial(), &registryv1.Hello{Node: "reader", Namespace: "prod"})
	s.churn(reader, 50) // until all stalled ones are stuck, and log and cache full
	goroutines, before := runtime.NumGoroutine(), heapNow()
	s.churn(reader, 200)
	if got := runtime.NumGoroutine(); got > goroutines+5 {
		t.Errorf("%d goroutines, were %d", got, goroutines)
	}
	// Without a bound, 200 rounds of 20 resources of more than 1 KiB would be held for each of them: 200 MiB.
	if after := heapNow(); after > before+8*bound {
		t.Errorf("the heap grew from %d to %d KiB while %d VMs read nothing", before>>10, after>>10, stalledVMs)
	}
	if got := len(s.server.Watchers()); got != stalledVMs+1 {
		t.Errorf("%d watch, want %d: nobody's time is over", got, stalledVMs+1)
	}
	s.stop() // the stalled do not hold it up
}

// TestStalledVMsAreSentOff and find everything when they are back.
func TestStalledVMsAreSentOff(t *testing.T) {
	s := startUnsynced(t, registry.Options{LogBytes: 1 << 20}, func(o *Options) { o.SendTimeout = 100 * time.Millisecond })
	s.source.Synced()
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	stalled := s.stall()
	// One that reads is given its time by the test, which reads between rounds.
	reader := watch(t, s.dial(), &registryv1.Hello{Node: "reader", Namespace: "prod"})
	for counterValue(t, s.server.metrics.sendTimeouts) < stalledVMs {
		s.churn(reader, 1)
	}
	eventually(t, "only the reader watches", func() bool { return len(s.server.Watchers()) == 1 })
	for _, v := range stalled[:5] {
		if err := v.failure(); status.Code(err) != codes.Aborted {
			t.Errorf("got %v, want Aborted", err)
		}
		again := s.returning(s.registry.Content("prod").Entries)
		again.compare()
		again.until("a proof", func() bool { return again.heartbeat != nil })
	}
}
