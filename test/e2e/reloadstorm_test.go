package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestReloadStorm reloads CoreDNS fifty times while names come and change and somebody asks all the time:
// with the Corefile as it was, with another TTL, and with another namespace, for which a new stream is
// opened. SIGHUP, which a lost terminal sends, is to change nothing.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	const name, want = "reviews.prod.svc.cluster.local.", "10.96.0.10"
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers(name, dns.TypeA, want)
	m.agreesWith(address, http, nil)
	syncer := levelOf(t, http)

	stop := make(chan struct{})
	var asking sync.WaitGroup
	var asked atomic.Int64
	for range 3 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if got, err := m.ask(name, dns.TypeA); err != nil || got != want {
					t.Errorf("Answer number %d: got %q, %v, want %q", asked.Load(), got, err, want)
					return
				}
				asked.Add(1)
			}
		})
	}
	const reloads = 50
	corefiles := [][]string{
		{"insecure", "namespace vm"},
		{"insecure", "namespace vm", "ttl 77"},
		{"insecure", "namespace other"},
		{"insecure", "namespace vm"},
	}
	reload := func(i int) {
		t.Helper()
		m.configure([]string{address}, corefiles[i%len(corefiles)]...)
		write(t, folder, "new.yaml", service("new.prod", fmt.Sprintf("10.96.7.%d", 1+i)))
		m.coredns.Signal(t, syscall.SIGUSR1)
		m.coredns.WaitFor(t, "Reloading complete")
	}
	// What the first reloads bring, such as the runtime's own goroutines for signals, is no leak.
	for i := range corefiles {
		reload(i)
	}
	before := levelOf(t, m.metrics)
	for i := len(corefiles); i < reloads; i++ {
		reload(i)
	}
	// Last, a storm that nobody waits for. CoreDNS keeps one signal that it has not handled and drops others:
	// either is followed by a reload that sees what is written last.
	for range 20 {
		m.coredns.Signal(t, syscall.SIGUSR1)
	}
	m.configure([]string{address}, "insecure", "namespace vm", "ttl 88")
	m.coredns.Signal(t, syscall.SIGUSR1)
	eventually(t, "the last Corefile counts", func() error {
		reply, err := m.exchange(name, dns.TypeA)
		if err == nil && (len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != 88) {
			err = fmt.Errorf("got %v", reply.Answer)
		}
		return err
	})
	// A signal that CoreDNS ignores.
	for range 20 {
		m.coredns.Signal(t, syscall.SIGHUP)
	}
	close(stop)
	asking.Wait()
	if asked.Load() < reloads {
		t.Errorf("%d queries went through %d reloads: the test shows less than it says", asked.Load(), reloads)
	}
	t.Logf("%d queries through %d reloads", asked.Load(), reloads)

	last := fmt.Sprintf("10.96.7.%d", reloads)
	m.answers("new.prod.svc.cluster.local.", dns.TypeA, last)
	eventually(t, "there is one stream", func() error {
		samples, err := samplesOf(http)
		if got := samples.the("meshvm_syncer_watchers"); err == nil && got != 1 {
			err = fmt.Errorf("got %v", got)
		}
		return err
	})
	m.agreesWith(address, http, map[string]string{"new.prod.svc.cluster.local.": last})
	for _, fault := range []string{"panic", "[ERROR]"} {
		if at := strings.Index(m.coredns.Output(), fault); at >= 0 {
			t.Errorf("CoreDNS said %.300s", m.coredns.Output()[at:])
		}
	}
	backAt(t, "CoreDNS", m.metrics, before)
	backAt(t, "The syncer", http, syncer)
}
