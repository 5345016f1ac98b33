package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// wide is a ServiceEntry of many hosts with many ports each, as large as can be: some 1.2 MB of resources in
// 30 kB of manifest. The number tells two of them apart.
func wide(number int) string {
	var hosts, ports []string
	for i := range 64 {
		hosts = append(hosts, fmt.Sprintf("wide-%d.example.com", i))
	}
	for i := range 250 {
		ports = append(ports, fmt.Sprintf("{number: %d, name: tls-%059d, protocol: TLS}", 1+i, i))
	}
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wide, namespace: prod}
spec:
  hosts: [%s]
  addresses: [240.240.0.%d]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [%s]
`, strings.Join(hosts, ", "), number, strings.Join(ports, ", "))
}

// TestMachinesThatDoNotListen has more changes than the change log holds while one machine is down, one is
// stopped until then, and one for so long that the syncer gives it up. One machine follows all the time
// and must notice nothing.
func TestMachinesThatDoNotListen(t *testing.T) {
	t.Parallel()
	const marker = "marker.prod.svc.cluster.local."
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	number := 0
	change := func() {
		number++
		write(t, folder, "wide.yaml", documents(wide(number), service("marker.prod", fmt.Sprintf("10.97.0.%d", number))))
	}
	change()
	_, address, http := syncerOn(t, folder)
	var machines [4]*machine
	for i := range machines {
		machines[i] = newMachine(t, []string{address})
	}
	quick, down, stopped, stalled := machines[0], machines[1], machines[2], machines[3]

	// compact has so many times the changes that the log holds.
	compact := func(times int, while string) {
		t.Helper()
		first := number
		var took []time.Duration
		for forgotten := false; !forgotten; {
			change()
			took = append(took, quick.answers(marker, dns.TypeA, fmt.Sprintf("10.97.0.%d", number)))
			samples, err := samplesOf(http)
			if err != nil {
				t.Fatal(err)
			}
			forgotten = times*int(samples.the("meshvm_syncer_registry_log_revisions")) < number-first
		}
		slices.Sort(took)
		t.Logf("%d changes while %s: the quick machine answered after %v, the median, and after %v at most",
			len(took), while, took[len(took)/2], took[len(took)-1])
	}
	// rest ends with names that fit into an answer.
	rest := func() map[string]string {
		t.Helper()
		number++
		address := fmt.Sprintf("10.97.0.%d", number)
		write(t, folder, "wide.yaml", documents(serviceEntry("wide.prod", "wide-0.example.com", "240.240.9.9"), service("marker.prod", address)))
		return map[string]string{marker: address, "wide-0.example.com.": "240.240.9.9", "wide-1.example.com.": "192.0.2.53"}
	}
	agree := func(want map[string]string, machines ...*machine) {
		t.Helper()
		for _, m := range machines {
			m.answers(marker, dns.TypeA, want[marker])
			m.agreesWith(address, http, want)
		}
	}

	// The log is full when the levels are taken, as it is to be full in the end. The cache of encoded deltas
	// need not be.
	compact(1, "all listen")
	agree(rest(), machines[:]...)
	syncer := levelOf(t, http)
	syncer.heap += 64 << 20
	levels := make([]level, len(machines))
	for i, m := range machines {
		levels[i] = levelOf(t, m.metrics)
	}

	down.coredns.Stop(t, syscall.SIGKILL)
	stopped.coredns.Signal(t, syscall.SIGSTOP)
	stalled.coredns.Signal(t, syscall.SIGSTOP)
	// What a machine that is stopped has not read fills the buffers of its connection, and only what is after
	// that is the log's.
	compact(2, "one listens")
	want := rest()
	agree(want, quick)
	// Nothing is kept for those that do not listen.
	backAt(t, "The syncer of machines that do not listen", http, syncer)
	stopped.coredns.Signal(t, syscall.SIGCONT)
	down.boot()
	agree(want, quick, down, stopped)
	down.metric(`coredns_meshvm_syncs_total{mode="compare"} 1`)
	samples, err := samplesOf(stopped.metrics)
	if err != nil {
		t.Fatal(err)
	}
	// In the stream that it had, or after a syncer that is quicker than this test has given it up.
	full, compared := samples.the("coredns_meshvm_syncs_total", `mode="full"`), samples.the("coredns_meshvm_syncs_total", `mode="compare"`)
	if full != 2 && compared != 1 {
		t.Errorf("The stopped machine: got %v full syncs and %v Compares, want one more of either: the log no longer had what it missed", full, max(0, compared))
	}

	// Because it does not read, or because it answers no ping: that is ten seconds later at most.
	eventually(t, "the syncer gives the stalled machine up", func() error {
		samples, err := samplesOf(http)
		if got := samples.the("meshvm_syncer_watchers"); err == nil && got != float64(len(machines)-1) {
			err = fmt.Errorf("%v machines have a stream; %v send timeouts", got, samples.the("meshvm_syncer_send_timeouts_total"))
		}
		return err
	})
	want = rest()
	agree(want, quick)
	stalled.coredns.Signal(t, syscall.SIGCONT)
	agree(want, machines[:]...)
	if seen, want := quick.value("coredns_meshvm_syncs_total"), 1; seen != want {
		t.Errorf("Streams of the quick machine: got %d, want %d", seen, want)
	}
	eventually(t, "each machine has one stream", func() error {
		samples, err := samplesOf(http)
		if got := samples.the("meshvm_syncer_watchers"); err == nil && got != float64(len(machines)) {
			err = fmt.Errorf("got %v", got)
		}
		return err
	})
	backAt(t, "The syncer", http, syncer)
	for i, m := range machines {
		backAt(t, fmt.Sprintf("CoreDNS %d", i), m.metrics, levels[i])
	}
}
