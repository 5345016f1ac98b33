package manifest

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/syncer/vip/statefile"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// book is a ledger that can fail, and what was saved of it last.
type book struct {
	saved []vip.Record
	fault error
	saves int
}

func (b *book) Save(records []vip.Record) error {
	if b.fault != nil {
		return b.fault
	}
	b.saved, b.saves = slices.Clone(records), b.saves+1
	return nil
}

func (b *book) holds(address string) bool {
	return slices.ContainsFunc(b.saved, func(r vip.Record) bool { return r.Address.String() == address && !r.Rests() })
}

// desk is an allocation of IPv4 addresses with a clock and a ledger.
type desk struct {
	t   *testing.T
	now time.Time
	book
	allocation *allocation
	// served are the addresses of every host that was handed on, by its ServiceEntry and host.
	served map[string]string
}

const quarantine = time.Hour

func newDesk(t *testing.T, ranges ...string) *desk {
	t.Helper()
	if len(ranges) == 0 {
		ranges = []string{"240.240.0.0/24"}
	}
	d := &desk{t: t, now: noon}
	d.open(ranges...)
	return d
}

// open is what a syncer does that starts.
func (d *desk) open(ranges ...string) {
	d.t.Helper()
	parsed, err := vip.ParseRanges(ranges)
	if err != nil {
		d.t.Fatal(err)
	}
	metrics, err := newAllocationMetrics(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.served = map[string]string{}
	d.allocation = newAllocation(&Allocation{
		Options: vip.Options{Ranges: parsed, Quarantine: quarantine, Now: func() time.Time { return d.now }},
		Records: d.saved,
		Ledger:  &d.book,
	}, slog.New(slog.DiscardHandler), metrics)
}

// follow hands changes on, and holds the allocation to its promise: what is served is in the ledger.
func (d *desk) follow(changes ...source.Change) {
	d.t.Helper()
	for _, change := range d.allocation.follow(changes, func(source.Change) bool { return true }, d.now) {
		if change.Object.Kind != source.KindServiceEntry {
			continue
		}
		maps.DeleteFunc(d.served, func(key, _ string) bool { return strings.HasPrefix(key, change.Object.Name+" ") })
		if entry, there := change.State.(*networkingv1.ServiceEntry); there {
			for _, given := range entry.Status.GetAddresses() {
				d.served[change.Object.Name+" "+given.GetHost()] = given.GetValue()
				if !d.holds(given.GetValue()) {
					d.t.Errorf("%s of %s is served and not in the ledger", given.GetValue(), given.GetHost())
				}
			}
		}
	}
}

func (d *desk) expect(what string, want map[string]string) {
	d.t.Helper()
	if !maps.Equal(d.served, want) {
		d.t.Errorf("%s: got %v, want %v", what, d.served, want)
	}
}

func entryOf(name string, edits ...func(*networkingv1.ServiceEntry)) source.Change {
	e := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name}}
	e.Spec.Hosts = []string{name + ".example.com"}
	e.Spec.Resolution = networking.ServiceEntry_DNS
	for _, edit := range edits {
		edit(e)
	}
	return source.Change{Object: registry.Object{Kind: source.KindServiceEntry, Namespace: "prod", Name: name}, State: e}
}

func withoutState(change source.Change) source.Change { return source.Change{Object: change.Object} }

func hosts(hosts ...string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
}

func statusOf(host, address string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) {
		e.Status.Addresses = append(e.Status.Addresses, &networking.ServiceEntryAddress{Host: host, Value: address})
	}
}

func literal(address string) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{address} }
}

func aged(age time.Duration) func(*networkingv1.ServiceEntry) {
	return func(e *networkingv1.ServiceEntry) { e.CreationTimestamp = metav1.NewTime(noon.Add(-age)) }
}

func serviceAt(name, address string) source.Change {
	return source.Change{
		Object: registry.Object{Kind: source.KindService, Namespace: "prod", Name: name},
		State:  &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: address}},
	}
}

func TestAllocation(t *testing.T) {
	t.Run("every host has one address, whichever ServiceEntry claims it", func(t *testing.T) {
		d := newDesk(t)
		d.follow(entryOf("a", hosts("x.example.com", "y.example.com")), entryOf("b", hosts("x.example.com")))
		if d.served["a x.example.com"] == "" || d.served["a x.example.com"] != d.served["b x.example.com"] || d.served["a x.example.com"] == d.served["a y.example.com"] {
			t.Errorf("Served: got %v, want one address for each host", d.served)
		}
	})
	t.Run("both families", func(t *testing.T) {
		d := newDesk(t, "240.240.0.0/24", "2001:2::/64")
		d.follow(entryOf("a"))
		if got := len(d.saved); got != 2 {
			t.Errorf("Records: got %d, want one of each family", got)
		}
	})
	t.Run("a ServiceEntry that does not qualify has what its manifest says", func(t *testing.T) {
		d := newDesk(t)
		d.follow(entryOf("a", literal("192.0.2.1")), entryOf("b", func(e *networkingv1.ServiceEntry) { e.Labels = map[string]string{source.AutoAllocateLabel: "false"} }))
		d.expect("served", map[string]string{})
	})
	t.Run("a status that is written is taken, whatever the ranges", func(t *testing.T) {
		d := newDesk(t)
		d.follow(entryOf("a", statusOf("a.example.com", "240.240.0.9")), entryOf("b", statusOf("b.example.com", "198.51.100.1")))
		d.expect("served", map[string]string{"a a.example.com": "240.240.0.9", "b b.example.com": "198.51.100.1"})
		d.follow(entryOf("a"), entryOf("b", statusOf("b.example.com", "198.51.100.2")))
		d.expect("after one was taken out and one was changed", map[string]string{"a a.example.com": "240.240.0.9", "b b.example.com": "198.51.100.2"})
	})
	t.Run("what is written for one host leaves the others alone", func(t *testing.T) {
		d := newDesk(t)
		d.follow(entryOf("a", hosts("x.example.com", "y.example.com")))
		before := d.served["a y.example.com"]
		d.follow(entryOf("a", hosts("x.example.com", "y.example.com"), statusOf("X.example.com.", "198.51.100.1")))
		d.expect("served", map[string]string{"a X.example.com.": "198.51.100.1", "a y.example.com": before})
	})
	t.Run("a given address is not lost to one who writes it while its own manifest is edited", func(t *testing.T) {
		d := newDesk(t)
		d.follow(entryOf("a"))
		given := d.served["a a.example.com"]
		d.follow(entryOf("a", func(e *networkingv1.ServiceEntry) { e.Spec.ExportTo = []string{"."} }), entryOf("thief", statusOf("thief.example.com", given)))
		if got := d.served["a a.example.com"]; got != given {
			t.Errorf("Served: got %q, want %q as before", got, given)
		}
	})
	t.Run("of two that write one address the elder keeps it, and the other is told and gets another", func(t *testing.T) {
		d := newDesk(t)
		young, old := entryOf("young", aged(time.Hour), statusOf("young.example.com", "240.240.0.9")), entryOf("old", aged(2*time.Hour), statusOf("old.example.com", "240.240.0.9"))
		d.follow(young, old)
		problems := d.allocation.problemsOf(young.Object)
		if len(problems) != 1 || !strings.Contains(problems[0].What, "AddressConflict: host young.example.com: host old.example.com of ServiceEntry prod/old has 240.240.0.9") {
			t.Errorf("Problems of the younger: got %v, want the conflict", problems)
		}
		if problems := d.allocation.problemsOf(old.Object); len(problems) != 0 {
			t.Errorf("Problems of the elder: got %v, want none", problems)
		}
		d.now = d.allocation.wake()
		d.follow()
		if d.served["old old.example.com"] != "240.240.0.9" || d.served["young young.example.com"] == "240.240.0.9" || d.served["young young.example.com"] == "" {
			t.Errorf("Served when patience is over: got %v, want 240.240.0.9 for the elder and another for the younger", d.served)
		}
		if problems := d.allocation.problemsOf(young.Object); len(problems) != 0 {
			t.Errorf("Problems of the younger when it has another: got %v, want none", problems)
		}
	})
	t.Run("an address that becomes a Service's or a spec's own is changed", func(t *testing.T) {
		for name, holder := range map[string]func(string) source.Change{
			"Service": func(address string) source.Change { return serviceAt("web", address) },
			"spec":    func(address string) source.Change { return entryOf("literal", literal(address)) },
			"network": func(address string) source.Change { return entryOf("literal", literal(address+"/32")) },
		} {
			t.Run(name, func(t *testing.T) {
				d := newDesk(t)
				d.follow(entryOf("a"))
				before := d.served["a a.example.com"]
				d.follow(holder(before))
				for wake := d.allocation.wake(); !wake.IsZero() && wake.Before(noon.Add(quarantine)); wake = d.allocation.wake() {
					d.now = wake.Add(time.Nanosecond)
					d.follow()
				}
				if got := d.served["a a.example.com"]; got == "" || got == before {
					t.Errorf("Served: got %q, want another than %s", got, before)
				}
			})
		}
	})
	t.Run("nothing of a Service's or a spec's own is given", func(t *testing.T) {
		d := newDesk(t, "240.240.0.0/30")
		d.follow(serviceAt("web", "240.240.0.1"), entryOf("literal", literal("240.240.0.2")), entryOf("a"))
		d.expect("served", map[string]string{"a a.example.com": "240.240.0.3"})
	})
	t.Run("when none is free the host is told of, and gets one when there is", func(t *testing.T) {
		d := newDesk(t, "240.240.0.4/31")
		d.follow(entryOf("a"), entryOf("b"))
		late := entryOf("late")
		d.follow(late)
		problems := d.allocation.problemsOf(late.Object)
		if len(problems) != 1 || !strings.Contains(problems[0].What, "AddressesExhausted: host late.example.com: no IPv4 address is free in 240.240.0.4/31") {
			t.Errorf("Problems: got %v, want that none is free", problems)
		}
		if len(d.served) != 2 {
			t.Errorf("Served: got %v, want the other two", d.served)
		}
		d.follow(withoutState(entryOf("a")))
		if d.served["late late.example.com"] != "" {
			t.Errorf("Served in quarantine: got %v, want none for the late one", d.served)
		}
		d.now = d.allocation.wake().Add(time.Nanosecond)
		d.follow()
		if d.served["late late.example.com"] == "" || len(d.allocation.problemsOf(late.Object)) != 0 {
			t.Errorf("After the quarantine: got %v and problems %v, want an address and none", d.served, d.allocation.problemsOf(late.Object))
		}
	})
}

func TestQuarantine(t *testing.T) {
	// Two addresses, so that whoever comes needs the one that rests.
	const ranges = "240.240.0.4/31"
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %t", restart), func(t *testing.T) {
			d := newDesk(t, ranges)
			d.follow(entryOf("a"), entryOf("b"))
			a, b := d.served["a a.example.com"], d.served["b b.example.com"]
			d.follow(withoutState(entryOf("a")))
			again := func() {
				if restart {
					d.open(ranges)
				}
				d.follow(entryOf("b"))
			}
			again()
			d.now = d.now.Add(quarantine / 2)
			d.follow(entryOf("other"))
			d.expect("another host inside the quarantine", map[string]string{"b b.example.com": b})
			again()
			d.follow(entryOf("other"), entryOf("a"))
			d.expect("the host itself", map[string]string{"a a.example.com": a, "b b.example.com": b})
			d.follow(withoutState(entryOf("a")))
			d.now = d.now.Add(quarantine + time.Second)
			again()
			d.follow(entryOf("other"))
			d.expect("another host after the quarantine", map[string]string{"b b.example.com": b, "other other.example.com": a})
		})
	}
}

// TestNothingIsServedThatIsNotSaved has the ledger fail: what was given before goes on, and what is new
// waits. The desk holds that at each step.
func TestNothingIsServedThatIsNotSaved(t *testing.T) {
	d := newDesk(t)
	d.follow(entryOf("a"))
	a := d.served["a a.example.com"]
	d.fault = errors.New("no space left on device")
	d.follow(entryOf("new"), entryOf("a", hosts("a.example.com", "more.example.com")))
	d.expect("while it fails", map[string]string{"a a.example.com": a})
	if wake := d.allocation.wake(); wake.After(d.now.Add(firstRetry)) {
		t.Errorf("Next try: got %v, want after %v", wake.Sub(d.now), firstRetry)
	}

	// Whoever starts now has what the ledger holds.
	other := &desk{t: t, now: d.now, book: book{saved: d.saved, fault: d.fault}}
	other.open("240.240.0.0/24")
	other.follow(entryOf("new"), entryOf("a"))
	other.expect("a start while it fails", map[string]string{"a a.example.com": a})

	for range 20 {
		d.now = d.allocation.wake()
		d.follow()
	}
	if wait := d.allocation.wake().Sub(d.now); wait > longestRetry {
		t.Errorf("Next try after many: got %v, want at most %v", wait, longestRetry)
	}
	d.fault = nil
	d.now = d.allocation.wake()
	d.follow()
	if len(d.served) != 3 || d.served["a a.example.com"] != a {
		t.Errorf("Served when it is saved again: got %v, want all three", d.served)
	}
	saves := d.saves
	d.follow()
	d.follow(entryOf("new"))
	if d.saves != saves {
		t.Errorf("Saves when nothing changes: got %d, want none", d.saves-saves)
	}
}

func TestStatusOfAManifestThatCannotBeRead(t *testing.T) {
	d := newDesk(t)
	change := entryOf("a", statusOf("a.example.com", "x"), statusOf("", "240.240.0.1"), statusOf("a.example.com", "0.0.0.0"))
	d.follow(change)
	if problems := d.allocation.problemsOf(change.Object); len(problems) != 3 || problems[2].Field != "status.addresses[2]" {
		t.Errorf("Problems: got %v, want one for each of three entries", problems)
	}
	if len(d.served) != 1 {
		t.Errorf("Served: got %v, want an address all the same", d.served)
	}
}

func TestRejectedStatesAreNotTaken(t *testing.T) {
	d := newDesk(t)
	d.follow(entryOf("a"))
	before := maps.Clone(d.served)
	rejected := entryOf("a", hosts("else.example.com"))
	changes := d.allocation.follow([]source.Change{rejected}, func(source.Change) bool { return false }, d.now)
	if len(changes) != 1 || changes[0].State != rejected.State {
		t.Errorf("Changes: got %v, want the rejected one as it is, for the translator to name", changes)
	}
	d.follow()
	d.expect("served", before)
}

const entryManifest = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: prod}
spec: {hosts: [NAME.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
`

func serviceEntry(name string) string { return strings.ReplaceAll(entryManifest, "NAME", name) }

// withLedger has a fixture allocate from now on, from a file.
func (f *fixture) withLedger(path string) (file *statefile.File) {
	f.t.Helper()
	file, err := statefile.Open(path)
	f.do(err)
	ranges, err := vip.ParseRanges([]string{"240.240.0.0/16"})
	f.do(err)
	f.allocation = &Allocation{Options: vip.Options{Ranges: ranges}, Records: file.Records(), Ledger: file}
	f.follow(50 * time.Millisecond)
	return file
}

// TestAFolderIsAllocated goes through files, a ledger on disk and restarts.
func TestAFolderIsAllocated(t *testing.T) {
	f := newFixture(t, "a.yaml", serviceEntry("a"), "b.yaml", serviceEntry("b"))
	f.expect("a.example.com", "b.example.com")
	f.stop()
	path := filepath.Join(t.TempDir(), "vips")
	file := f.withLedger(path)
	first := f.hosts()
	for _, host := range first {
		if !strings.Contains(host, ".example.com 240.240.") {
			t.Errorf("Host: got %q, want it with an address", host)
		}
	}
	if got := f.source.Table(); got.Mode != vip.ModeAllocate || len(got.Hosts) != 2 || got.Hosts[0].State != vip.Assigned || got.Ranges[0].Used != 2 {
		t.Errorf("Table: got %+v, want two hosts that are assigned", got)
	}
	f.write("c.yaml", serviceEntry("c"))
	f.eventually("a third host", func() bool { return len(f.hosts()) == 3 && strings.Contains(f.hosts()[2], " 240.240.") })
	f.do(os.Remove(f.path("b.yaml")))
	f.eventually("the second to go", func() bool { return len(f.hosts()) == 2 })
	f.eventually("its quarantine", func() bool {
		rows := f.source.Table().Hosts
		return len(rows) == 3 && rows[1].State == vip.Quarantined && !rows[1].Until.IsZero()
	})
	for metric, want := range map[string]float64{"used": 2, "quarantined": 1} {
		vec := map[string]float64{
			"used":        testutil.ToFloat64(f.source.allocation.metrics.used.WithLabelValues("240.240.0.0/16")),
			"quarantined": testutil.ToFloat64(f.source.allocation.metrics.quarantined.WithLabelValues("240.240.0.0/16")),
		}
		if vec[metric] != want {
			t.Errorf("Metric %s: got %v, want %v", metric, vec[metric], want)
		}
	}
	third := f.hosts()[1]
	f.stop()
	f.do(file.Close())

	f.write("b.yaml", serviceEntry("b"))
	file = f.withLedger(path)
	f.expect(first[0], first[1], third)
	f.stop()
	f.do(file.Close())

	// Without its ledger an allocator finds the way back, as long as names do not collide.
	f.do(os.Remove(path))
	file = f.withLedger(path)
	f.expect(first[0], first[1], third)
	f.stop()
	f.do(file.Close())
}
