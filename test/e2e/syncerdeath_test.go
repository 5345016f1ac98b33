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
