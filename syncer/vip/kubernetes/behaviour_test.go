package kubernetes

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/vip"
)

// grantLease lets the syncer hold another Lease, in place of LeaseName.
func (f *fixture) grantLease(name string) {
	f.t.Helper()
	role, err := f.admin.RbacV1().Roles(f.ledger).Get(f.t.Context(), "meshvm-syncer-vip", metav1.GetOptions{})
	f.do(err)
	role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{name}, Verbs: []string{"get", "update"}})
	_, err = f.admin.RbacV1().Roles(f.ledger).Update(f.t.Context(), role, metav1.UpdateOptions{})
	f.do(err)
}

// impatient solves conflicts at once.
func impatient(c *Config) { c.Allocation.Patience = time.Millisecond }

// first is the first address of a status, without its host.
func first(pairs []string) string {
	_, address, _ := strings.Cut(pairs[0], "=")
	return address
}

func TestAddressesOfAnotherAllocatorAreAdopted(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("theirs", "theirs.test"))
	f.setStatus("theirs", "theirs.test=240.240.0.77", "theirs.test=2001:2::77")
	version := f.get("theirs").GetResourceVersion()
	f.start()
	f.settle()
	f.expectAddresses("theirs", "theirs.test=240.240.0.77", "theirs.test=2001:2::77")
	if got := f.get("theirs").GetResourceVersion(); got != version {
		t.Error("the ServiceEntry was written, want it left alone")
	}
	if record := f.records()[netip.MustParseAddr("240.240.0.77")]; record.Host != "theirs.test" || !record.InUse() {
		t.Errorf("record of an adopted address: got %+v, want that theirs.test has it", record)
	}
	// Somebody changes it while the leader runs: no duel.
	f.setStatus("theirs", "theirs.test=240.240.0.78", "theirs.test=2001:2::78")
	f.settle()
	f.expectAddresses("theirs", "theirs.test=240.240.0.78", "theirs.test=2001:2::78")
	if record := f.records()[netip.MustParseAddr("240.240.0.77")]; record.Host != "theirs.test" || record.InUse() {
		t.Errorf("record of the address before: got %+v, want that it rests", record)
	}
}

func TestHostThatComesBackGetsItsOldAddress(t *testing.T) {
	small := within("240.240.0.0/28")
	tests := map[string]func(f *fixture, r *replica) *replica{
		"the leader sees it go":           func(_ *fixture, r *replica) *replica { return r },
		"the leader is another than then": func(f *fixture, r *replica) *replica { r.stop(); return f.start(small) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			r := f.start(small)
			f.create(f.serviceEntry("gone", "gone.test"))
			before := f.awaitAddresses("gone", 1)
			f.delete("gone")
			f.eventually("the address to rest", func() bool { return !f.records()[netip.MustParseAddr(first(before))].InUse() })
			r = change(f, r)
			// All others want an address: fifteen are in the range that may be given, one rests.
			for i := range 20 {
				f.create(f.serviceEntry(fmt.Sprintf("other%d", i), fmt.Sprintf("other%d.test", i)))
			}
			r.expectMetric(14, "used_addresses", "range", "240.240.0.0/28")
			for i := range 20 {
				if got := f.addresses(fmt.Sprintf("other%d", i)); len(got) > 0 && first(got) == first(before) {
					t.Errorf("address of another host: got %s, which rests", first(got))
				}
			}
			f.create(f.serviceEntry("again", "GONE.test"))
			f.expectAddresses("again", "GONE.test="+first(before))
		})
	}
}

func TestDeletionThatNobodySawIsQuarantined(t *testing.T) {
	f := newFixture(t)
	r := f.start()
	f.create(f.serviceEntry("gone", "gone.test"))
	before := f.awaitAddresses("gone", 2)
	r.stop()
	f.delete("gone")
	r = f.start()
	r.awaitLeading()
	for _, pair := range before {
		_, text, _ := strings.Cut(pair, "=")
		address := netip.MustParseAddr(text)
		f.eventually("the address to rest", func() bool { return !f.records()[address].InUse() })
		if record := f.records()[address]; record.Host != "gone.test" {
			t.Errorf("record of %s: got host %q, want gone.test", address, record.Host)
		}
	}
	r.expectMetric(1, "quarantined_addresses", "range", "240.240.0.0/24")
}

func TestExhaustionIsSaidAndEnds(t *testing.T) {
	f := newFixture(t)
	r := f.start(within("240.240.0.0/30"), func(c *Config) { c.Allocation.Quarantine = time.Second })
	for _, name := range []string{"a", "b", "c"} {
		f.create(f.serviceEntry(name, name+".test"))
		f.awaitAddresses(name, 1)
	}
	versions := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		versions[name] = f.get(name).GetResourceVersion()
	}
	f.create(f.serviceEntry("d", "d.test"))
	f.merge("d", `{"status":{"conditions":[{"type":"Reconciled","status":"True"}]}}`, "status")
	f.eventually("a condition", func() bool { return strings.HasPrefix(f.condition("d"), "False AddressesExhausted: d.test: no IPv4") })
	f.eventually("an Event", func() bool { return f.event("d", "AddressesExhausted") })
	r.expectMetric(1, "exhausted_hosts")
	r.expectLog("problem with virtual IPs", "AddressesExhausted", "host=d.test")
	for name, version := range versions {
		if f.get(name).GetResourceVersion() != version {
			t.Errorf("%s was written because another host got no address", name)
		}
	}

	f.delete("b")
	f.awaitAddresses("d", 1)
	f.eventually("the condition to go", func() bool { return f.condition("d") == "" })
	r.expectMetric(0, "exhausted_hosts")
	status, _ := f.get("d").Object["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	if len(conditions) != 1 {
		t.Fatalf("conditions: got %v, want the one of somebody else", conditions)
	}
	if fields, _ := conditions[0].(map[string]any); fields["type"] != "Reconciled" || fields["status"] != "True" {
		t.Errorf("condition of somebody else: got %v, want it as it was", conditions[0])
	}
}

func TestConditionThatALeaderBeforeLeftGoes(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("a", "a.test"))
	f.merge("a", `{"status":{"conditions":[{"type":"`+ConditionType+`","status":"False","reason":"AddressesExhausted","message":"old"}]}}`, "status")
	f.start()
	f.awaitAddresses("a", 2)
	f.eventually("the condition to go", func() bool { return f.condition("a") == "" })
}

func TestAddressThatAUserWritesIntoASpecIsTheirs(t *testing.T) {
	f := newFixture(t)
	f.start(impatient)
	f.create(f.serviceEntry("given", "given.test"))
	before := f.awaitAddresses("given", 2)
	literal := f.serviceEntry("literal", "literal.test")
	literal.Object["spec"].(map[string]any)["addresses"] = []any{first(before)}
	f.create(literal)
	f.eventually("another address", func() bool {
		now := f.addresses("given")
		return len(now) == 2 && !slices.Contains(now, before[0])
	})
	if now := f.addresses("given"); !slices.Contains(now, before[1]) {
		t.Errorf("addresses: got %q, want still %q among them", now, before[1])
	}
	if got := f.addresses("literal"); len(got) > 0 {
		t.Errorf("addresses of a ServiceEntry with its own: got %q, want none", got)
	}
}

func TestClusterIPIsTheServices(t *testing.T) {
	f := newFixture(t)
	// The API server's range of cluster IPs covers the first of these.
	r := f.start(impatient, within("10.96.200.0/24", "240.240.0.0/24"))
	f.create(f.serviceEntry("a", "a.test"))
	if got := f.awaitAddresses("a", 1); !strings.HasPrefix(first(got), "240.240.0.") {
		t.Errorf("address: got %s, want one outside the cluster IPs", first(got))
	}
	r.expectLog("a range of virtual IPs cannot be used", "range=10.96.200.0/24", "ServiceCIDR")
	r.expectMetric(1, "range_overlaps", "range", "10.96.200.0/24")
	f.eventually("an Event on the ServiceCIDR", func() bool {
		list, err := f.admin.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		f.do(err)
		return slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "ServiceCIDR" && e.Reason == "OverlapsVirtualIPs"
		})
	})
	// Somebody has given an address of it all the same, and then a Service gets the same one.
	f.create(f.serviceEntry("b", "b.test"))
	f.awaitAddresses("b", 1)
	f.setStatus("b", "b.test=10.96.200.7")
	f.settleOne()
	f.expectAddresses("b", "b.test=10.96.200.7")
	_, err := f.admin.CoreV1().Services(f.namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "taker"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.200.7", Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	f.do(err)
	f.eventually("another address", func() bool {
		now := f.addresses("b")
		return len(now) == 1 && strings.HasPrefix(first(now), "240.240.0.")
	})
}

// settleOne is settle where there is one family.
func (f *fixture) settleOne() {
	f.t.Helper()
	f.create(f.serviceEntry("settle", "settle.test"))
	f.awaitAddresses("settle", 1)
	f.delete("settle")
}

func TestNetworksOfNodesAreNotGiven(t *testing.T) {
	f := newFixture(t)
	nodes := f.admin.CoreV1().Nodes()
	created, err := nodes.Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"240.240.0.0/26"}},
	}, metav1.CreateOptions{})
	f.do(err)
	t.Cleanup(func() {
		if err := nodes.Delete(context.Background(), created.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	created.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "240.240.0.65"}, {Type: corev1.NodeHostName, Address: "n"}}
	_, err = nodes.UpdateStatus(t.Context(), created, metav1.UpdateOptions{})
	f.do(err)
	// Of this, the first half are the Pods' and one of the other the node's.
	r := f.start(within("240.240.0.0/25"))
	var hosts []string
	for i := range 70 {
		hosts = append(hosts, fmt.Sprintf("h%d.test", i))
	}
	f.create(f.serviceEntry("many", hosts...))
	r.expectMetric(63, "used_addresses", "range", "240.240.0.0/25")
	for _, pair := range f.awaitAddresses("many", 63) {
		_, text, _ := strings.Cut(pair, "=")
		if address := netip.MustParseAddr(text); address.Compare(netip.MustParseAddr("240.240.0.65")) <= 0 && text != "240.240.0.64" {
			t.Errorf("address: got %s, which is the node's", address)
		}
	}
	r.expectLog("overlaps a network of the cluster", "network=240.240.0.0/26", created.Name)
}

func TestWhatNoLongerQualifiesLosesItsAddresses(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.create(f.serviceEntry("label", "label.test"))
	f.create(f.serviceEntry("hosts", "kept.test", "dropped.test"))
	f.awaitAddresses("label", 2)
	both := f.awaitAddresses("hosts", 4)
	f.merge("label", `{"metadata":{"labels":{"networking.istio.io/enable-autoallocate-ip":"False"}}}`)
	f.merge("hosts", `{"spec":{"hosts":["kept.test"]}}`)
	f.expectAddresses("label")
	f.expectAddresses("hosts", both[:2]...)
	f.merge("label", `{"metadata":{"labels":{"networking.istio.io/enable-autoallocate-ip":"true"}}}`)
	f.awaitAddresses("label", 2)
}

func TestHostOfSeveralServiceEntriesHasOnePair(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.create(f.serviceEntry("one", "shared.test"))
	f.create(f.serviceEntry("two", "Shared.test"))
	one, two := f.awaitAddresses("one", 2), f.awaitAddresses("two", 2)
	for i := range one {
		if !strings.EqualFold(one[i], two[i]) {
			t.Errorf("addresses: got %q and %q, want the same", one, two)
		}
	}
	f.delete("one")
	f.settle()
	f.expectAddresses("two", two...)
}

func TestTableOfLeaderAndFollower(t *testing.T) {
	f := newFixture(t)
	leader := f.start(func(c *Config) { c.Identity = "leader" })
	leader.awaitLeading()
	follower := f.start(func(c *Config) { c.Identity = "follower" })
	f.create(f.serviceEntry("a", "a.test"))
	f.awaitAddresses("a", 2)
	f.create(f.serviceEntry("b", "b.test"))
	f.awaitAddresses("b", 2)
	f.delete("b")
	for _, r := range []*replica{leader, follower} {
		var table vip.Table
		f.eventually("the table of "+r.config.Identity, func() bool {
			var err error
			table, err = r.Table(t.Context())
			f.do(err)
			return len(table.Hosts) == 2 && table.Hosts[0].State == vip.Assigned && table.Hosts[1].State == vip.Quarantined
		})
		if table.Mode != "allocate" || table.Allocator != "leader" {
			t.Errorf("table of %s: got mode %q, allocator %q, want allocate, leader", r.config.Identity, table.Mode, table.Allocator)
		}
		if row := table.Hosts[0]; row.Host != "a.test" || len(row.Addresses) != 2 || len(row.Owners) != 1 || row.Owners[0].Name != "a" || row.Since.IsZero() {
			t.Errorf("row of %s: got %+v, want a.test with two addresses and its owner", r.config.Identity, row)
		}
		if row := table.Hosts[1]; row.Host != "b.test" || !row.Until.After(time.Now()) {
			t.Errorf("row of %s: got %+v, want b.test until its quarantine ends", r.config.Identity, row)
		}
		if len(table.Ranges) != 2 || table.Ranges[0].Used != 1 || table.Ranges[0].Quarantined != 1 {
			t.Errorf("ranges of %s: got %+v, want one address used, one in quarantine", r.config.Identity, table.Ranges)
		}
	}
}
