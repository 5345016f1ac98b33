package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// TestSyncerKilledWhileThingsChange kills the syncer in the middle of its work, three times, and has names
// come, change and go before it is back.
func TestSyncerKilledWhileThingsChange(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	for i := range 20 {
		write(t, folder, fmt.Sprintf("s%d.yaml", i), service(fmt.Sprintf("s%d.prod", i), fmt.Sprintf("10.96.1.%d", 1+i)))
	}
	syncer, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers("s19.prod.svc.cluster.local.", dns.TypeA, "10.96.1.20")
	m.agreesWith(address, http, map[string]string{"www.example.org.": "192.0.2.53"})
	before := levelOf(t, m.metrics)

	const rounds = 3
	for round := range rounds {
		// It is killed with changes on their way.
		for i := range 10 {
			write(t, folder, fmt.Sprintf("s%d.yaml", i), service(fmt.Sprintf("s%d.prod", i), fmt.Sprintf("10.96.%d.%d", 10+round, 1+i)))
		}
		syncer.Stop(t, syscall.SIGKILL)
		m.metric(`coredns_meshvm_connected{namespace="vm",syncers="` + address + `"} 0`)

		last, gone := fmt.Sprintf("added-%d.prod", round), fmt.Sprintf("s%d.prod", 10+round)
		if err := os.Remove(filepath.Join(folder, fmt.Sprintf("s%d.yaml", 10+round))); err != nil {
			t.Fatal(err)
		}
		write(t, folder, "s19.yaml", service("s19.prod", fmt.Sprintf("10.96.20.%d", 1+round)))
		write(t, folder, last+".yaml", service(last, fmt.Sprintf("10.96.21.%d", 1+round)))
		m.answersNow(gone+".svc.cluster.local.", dns.TypeA, fmt.Sprintf("10.96.1.%d", 11+round))

		syncer = syncerAt(t, folder, address, http)
		m.answers(last+".svc.cluster.local.", dns.TypeA, fmt.Sprintf("10.96.21.%d", 1+round))
		m.agreesWith(address, http, map[string]string{
			gone + ".svc.cluster.local.":      "NXDOMAIN",
			"s9.prod.svc.cluster.local.":      fmt.Sprintf("10.96.%d.10", 10+round),
			"s19.prod.svc.cluster.local.":     fmt.Sprintf("10.96.20.%d", 1+round),
			"added-0.prod.svc.cluster.local.": "10.96.21.1",
			"wild.wild.shop.example.com.":     "240.240.0.2",
		})
		m.metric(fmt.Sprintf(`coredns_meshvm_syncs_total{mode="compare"} %d`, 1+round))
	}
	m.metric(`coredns_meshvm_syncs_total{mode="full"} 1`)
	backAt(t, "CoreDNS", m.metrics, before)
}

// TestCoreDNSKilledWhileThingsChange kills CoreDNS over and over, in the middle of a change each time. It
// must come back with a registry that was, and come to the one that is.
func TestCoreDNSKilledWhileThingsChange(t *testing.T) {
	t.Parallel()
	const changing, lasting = "changing.prod.svc.cluster.local.", "reviews.prod.svc.cluster.local."
	folder := t.TempDir()
	number := 0
	change := func() string {
		number++
		address := fmt.Sprintf("10.96.8.%d", number)
		write(t, folder, "changing.yaml", service("changing.prod", address))
		return address
	}
	write(t, folder, "town.yaml", town())
	first := change()
	_, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers(changing, dns.TypeA, first)
	m.saved()
	before, syncer := levelOf(t, m.metrics), levelOf(t, http)
	for range 8 {
		m.answers(changing, dns.TypeA, change())
		change()
		m.coredns.Stop(t, syscall.SIGKILL)
		m.boot()
		m.answersNow(lasting, dns.TypeA, "10.96.0.10")
		got, err := m.ask(changing, dns.TypeA)
		var last int
		if _, scan := fmt.Sscanf(got, "10.96.8.%d", &last); err != nil || scan != nil || last < 1 || last > number {
			t.Errorf("%s after the start: got %q, %v, want an address that it has had", changing, got, err)
		}
	}
	last := change()
	m.answers(changing, dns.TypeA, last)
	m.agreesWith(address, http, map[string]string{changing: last})
	backAt(t, "CoreDNS", m.metrics, before)
	backAt(t, "The syncer", http, syncer)
}
