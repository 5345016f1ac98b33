package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// TestSyncersReplacedByOthers kills one syncer after the other under a machine: another replica takes
// over, on another port, and then one that starts anew. The manifests stay as they are, so no resource
// travels, and whoever asks notices nothing.
func TestSyncersReplacedByOthers(t *testing.T) {
	const name, want = "s7.prod.svc.cluster.local.", "10.96.0.7"
	const full, compare = `coredns_meshvm_syncs_total{mode="full"}`, `coredns_meshvm_syncs_total{mode="compare"}`
	const upserts = `coredns_meshvm_changes_total{change="upsert"}`
	folder := t.TempDir()
	manifests := make([]string, 200)
	for i := range manifests {
		manifests[i] = service(fmt.Sprintf("s%d.prod", i), fmt.Sprintf("10.96.0.%d", i))
	}
	write(t, folder, "town.yaml", documents(manifests...))
	first, firstAddress, firstHTTP := syncerOn(t, folder)
	secondAddress, secondHTTP := programs.FreeAddress(t), programs.FreeAddress(t)
	m := newMachine(t, []string{firstAddress, secondAddress})
	m.answers(name, dns.TypeA, want)
	m.metric(full + " 1")
	resources := m.value("coredns_meshvm_resources")
	m.metric(fmt.Sprint(upserts, " ", resources))

	stop := make(chan struct{})
	var asking sync.WaitGroup
	asked := 0
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if got, err := m.ask(name, dns.TypeA); err != nil || got != want {
				t.Errorf("Answer number %d: got %q, %v, want %q", asked, got, err, want)
				return
			}
			asked++
		}
	})
	inStep := func(compared int) {
		t.Helper()
		m.metric(fmt.Sprint(compare, " ", compared))
		m.metric(full + " 1")
		m.metric(fmt.Sprint(upserts, " ", resources))
	}
	second := syncerAt(t, folder, secondAddress, secondHTTP)
	second.WaitFor(t, "serving")
	first.Stop(t, syscall.SIGKILL)
	inStep(1)
	second.Stop(t, syscall.SIGKILL)
	syncerAt(t, folder, firstAddress, firstHTTP)
	inStep(2)
	close(stop)
	asking.Wait()
	if asked == 0 {
		t.Error("Nothing was asked meanwhile: the test shows less than it says")
	}

	// It follows from there.
	write(t, folder, "new.yaml", service("new.prod", "10.96.1.1"))
	m.answers("new.prod.svc.cluster.local.", dns.TypeA, "10.96.1.1")
	m.metric(fmt.Sprint(upserts, " ", resources+1))
}

// value is what CoreDNS exposes of the one metric of a name.
func (m *machine) value(name string) (value int) {
	m.t.Helper()
	eventually(m.t, "metric "+name, func() error {
		body, _, err := m.get(m.metrics, "/metrics")
		if err != nil {
			return err
		}
		sum, there := 0, false
		for line := range strings.Lines(body) {
			if rest, found := strings.CutPrefix(line, name+"{"); found {
				_, number, _ := strings.Cut(rest, "} ")
				one, err := strconv.Atoi(strings.TrimSpace(number))
				if err != nil {
					return err
				}
				sum, there = sum+one, true
			}
		}
		if !there {
			return errors.New("not among the metrics")
		}
		value = sum
		return nil
	})
	return value
}
