package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// TestStatusReachesVMs measures, on a real API server, how long after a change of a ServiceEntry's status a
// VM answers with the new address.
func TestStatusReachesVMs(t *testing.T) {
	const rounds = 20
	// bound is generous, for machines that are busy with other tests: it is to hold for one second.
	const bound = 5 * time.Second
	c := newCluster(t, controlplane.WithIstioCRDs())
	m := newMachine(t, []string{c.address})
	m.isReady()
	c.createServiceEntry("payments", "payments.example.com")
	var took []time.Duration
	for i := range rounds {
		address := fmt.Sprintf("240.240.7.%d", i+1)
		began := time.Now()
		c.allocate("payments", "payments.example.com", address)
		m.answers("payments.example.com.", dns.TypeA, address)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from the patch of the status to the VM's answer: median %v, worst %v of %d", took[rounds/2], took[rounds-1], rounds)
	if took[rounds/2] > bound {
		t.Errorf("Median: got %v, want at most %v", took[rounds/2], bound)
	}
}

// restartWith starts another syncer with other flags, where the first one was.
func (c *cluster) restartWith(flags ...string) {
	c.t.Helper()
	c.syncer.Stop(c.t, syscall.SIGTERM)
	c.syncer = programs.Start(c.t, programs.Syncer, append(c.arguments, flags...)...)
	eventually(c.t, "the syncer is ready", func() error { return status("http://"+c.http+"/readyz", 200) })
}

// syncerMetric waits until a syncer exposes a line.
func syncerMetric(t *testing.T, http, line string) {
	t.Helper()
	eventually(t, "metric "+line, func() error {
		body, _, err := get("http://" + http + "/metrics")
		if err == nil && !slices.Contains(strings.Split(body, "\n"), line) {
			err = fmt.Errorf("not among the metrics")
		}
		return err
	})
}

// TestPendingVirtualIP: a host whose virtual IP is awaited has no address until it comes, and is passed on
// when that takes too long.
func TestPendingVirtualIP(t *testing.T) {
	c := newCluster(t, controlplane.WithIstioCRDs())
	c.restartWith("--vip-pending", "nodata", "--vip-pending-timeout", "15s")
	m := newMachine(t, []string{c.address})
	m.isReady()

	c.createServiceEntry("payments", "payments.example.com")
	m.answers("payments.example.com.", dns.TypeA, "")
	m.answersNow("payments.example.com.", dns.TypeHTTPS, "")
	showsVIP(t, c.http, "payments.example.com", vip.Pending, "")
	syncerMetric(t, c.http, "meshvm_syncer_vip_pending_hosts 1")
	c.allocate("payments", "payments.example.com", "240.240.7.7")
	t.Logf("allocated in %v", m.answers("payments.example.com.", dns.TypeA, "240.240.7.7"))
	showsVIP(t, c.http, "payments.example.com", vip.Assigned, "240.240.7.7")
	syncerMetric(t, c.http, "meshvm_syncer_vip_pending_hosts 0")

	c.createServiceEntry("forgotten", "forgotten.example.com")
	m.answers("forgotten.example.com.", dns.TypeA, "")
	t.Logf("passed on after %v", m.answers("forgotten.example.com.", dns.TypeA, programs.Outside))
	syncerMetric(t, c.http, "meshvm_syncer_vip_pending_hosts 1")

	// Whoever starts now does not hold it back again.
	c.restartWith("--vip-pending", "nodata", "--vip-pending-timeout", "15s")
	late := newMachine(t, []string{c.address})
	late.isReady()
	late.answersNow("forgotten.example.com.", dns.TypeA, programs.Outside)
	late.answersNow("payments.example.com.", dns.TypeA, "240.240.7.7")
}
