package kubernetes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// historian sees every status of a namespace that there ever is. With a quarantine that outlasts the test, an
// address belongs to one host for ever, and a host has one address of a family for ever.
type historian struct {
	mu        sync.Mutex
	hostOf    map[string]string
	addressOf map[string]string
	wrong     []string
}

func newHistorian(f *fixture) *historian {
	f.t.Helper()
	h := &historian{hostOf: map[string]string{}, addressOf: map[string]string{}}
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(f.dynamic, 0, f.namespace, nil)
	informer := factory.ForResource(serviceEntries).Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { h.see(f.t, object) },
		UpdateFunc: func(_, object any) { h.see(f.t, object) },
	})
	f.do(err)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { informer.RunWithContext(ctx) })
	f.t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	f.eventually("the history to begin", informer.HasSynced)
	return h
}

func (h *historian) see(t *testing.T, object any) {
	t.Helper()
	entry, ok := object.(*unstructured.Unstructured)
	if !ok {
		return // Nothing else is listed.
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pair := range addressesOf(t, entry) {
		host, address, _ := strings.Cut(pair, "=")
		if before, known := h.addressOf[host]; known && before != address {
			h.wrong = append(h.wrong, fmt.Sprintf("%s: got %s, had %s before", host, address, before))
		}
		if other, known := h.hostOf[address]; known && other != host {
			h.wrong = append(h.wrong, fmt.Sprintf("%s: got %s, which was the address of %s", host, address, other))
		}
		h.addressOf[host], h.hostOf[address] = address, host
	}
}

func (h *historian) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, wrong := range h.wrong {
		t.Error(wrong)
	}
	if len(h.addressOf) == 0 {
		t.Error("no host ever had an address")
	}
}

// Leaders die one after the other, at any request, while ServiceEntries come, change and go.
func TestLeadersThatDieWhileThingsChange(t *testing.T) {
	const rounds = 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFixture(t)
	h := newHistorian(f)
	mortal := LeaseTimes{Duration: time.Second, RenewDeadline: 800 * time.Millisecond, RetryPeriod: 100 * time.Millisecond}
	current := map[string][]string{}
	change := func() {
		name := fmt.Sprintf("e%d", random.IntN(20))
		hosts := []string{fmt.Sprintf("h%d.test", random.IntN(30)), fmt.Sprintf("h%d.test", random.IntN(30))}
		hosts = hosts[:1+random.IntN(2)]
		slices.Sort(hosts)
		hosts = slices.Compact(hosts)
		switch {
		case current[name] == nil:
			f.create(f.serviceEntry(name, hosts...))
			current[name] = hosts
		case random.IntN(2) == 0:
			f.delete(name)
			delete(current, name)
		default:
			f.merge(name, `{"spec":{"hosts":["`+strings.Join(hosts, `","`)+`"]}}`)
			current[name] = hosts
		}
	}
	for range rounds {
		kind := []func(*http.Request) bool{isPatch, isLedgerWrite}[random.IntN(2)]
		death := newCut(random.IntN(2) == 0, nth(int32(1+random.IntN(6)), kind))
		r := f.start(within("240.240.0.0/26"), through(death), func(c *Config) { c.Lease = mortal })
		var dead atomic.Bool
		for range 15 {
			change()
			select {
			case <-death.died:
				dead.Store(true)
			default:
			}
		}
		for !dead.Load() {
			// It has to have something to do in order to die.
			change()
			select {
			case <-death.died:
				dead.Store(true)
			case <-time.After(100 * time.Millisecond):
			}
		}
		change()
		r.stop()
	}
	f.start(within("240.240.0.0/26"))
	for name, hosts := range current {
		got := f.awaitAddressesOf(name, hosts)
		if len(got) != len(hosts) {
			t.Errorf("addresses of %s: got %q, want one of each of %q", name, got, hosts)
		}
	}
	h.check(t)
}

// awaitAddressesOf waits until exactly these hosts have addresses in a status.
func (f *fixture) awaitAddressesOf(name string, hosts []string) []string {
	f.t.Helper()
	var got []string
	f.eventually(fmt.Sprintf("addresses of %q in %s", hosts, name), func() bool {
		got = f.addresses(name)
		var have []string
		for _, pair := range got {
			host, _, _ := strings.Cut(pair, "=")
			have = append(have, host)
		}
		slices.Sort(have)
		return slices.Equal(have, hosts)
	})
	return got
}

// A Lease that somebody else takes ends all writing.
func TestLeaseThatIsTaken(t *testing.T) {
	f := newFixture(t)
	r := f.start(func(c *Config) { c.Identity = "first" })
	f.create(f.serviceEntry("a", "a.test"))
	before := f.awaitAddresses("a", 2)
	leases := f.admin.CoordinationV1().Leases(f.ledger)
	f.eventually("the Lease to be taken", func() bool {
		lease, err := leases.Get(t.Context(), LeaseName, metav1.GetOptions{})
		f.do(err)
		other, now, seconds := "other", metav1.NowMicro(), int32(5)
		lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &other, &now, &seconds
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
		return err == nil // It renews it, and may come in between.
	})
	r.expectLog("no longer leading")
	f.create(f.serviceEntry("b", "b.test"))
	if table, err := r.Table(t.Context()); err != nil || table.Allocator != "other" {
		t.Errorf("Table: got allocator %q, %v, want other", table.Allocator, err)
	}
	if got := f.addresses("b"); len(got) > 0 {
		t.Errorf("addresses: got %q, want none from who was deposed", got)
	}
	// The other never renews it.
	f.awaitAddresses("b", 2)
	f.expectAddresses("a", before...)
}
