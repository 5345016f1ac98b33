package kubernetes

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/meshvm/meshvm/test/controlplane"
)

func TestShardThatMakesNoSenseStopsAllocation(t *testing.T) {
	f := newFixture(t)
	r := f.start()
	f.create(f.serviceEntry("a", "a.test"))
	before := f.awaitAddresses("a", 2)
	r.stop()

	maps := f.admin.CoreV1().ConfigMaps(f.ledger)
	name := shardName(shardOf(netip.MustParseAddr(first(before))))
	good, err := maps.Get(t.Context(), name, metav1.GetOptions{})
	f.do(err)
	broken := good.DeepCopy()
	broken.Data[recordsKey] = "garbage\n"
	broken, err = maps.Update(t.Context(), broken, metav1.UpdateOptions{})
	f.do(err)

	r = f.start()
	r.expectLog("the ledger of virtual IPs cannot be understood", "configmap="+f.ledger+"/"+name)
	r.expectMetric(1, "ledger_unreadable")
	f.create(f.serviceEntry("b", "b.test"))
	// It is read again and again, and nothing is given meanwhile.
	tries := strings.Count(r.log.String(), "cannot be understood")
	f.eventually("another try", func() bool { return strings.Count(r.log.String(), "cannot be understood") > tries+1 })
	if got := f.addresses("b"); len(got) > 0 {
		t.Errorf("addresses: got %q, want none while the ledger makes no sense", got)
	}
	if _, err := r.Table(t.Context()); err == nil {
		t.Error("Table: got no error, want what is wrong with the ledger")
	}

	broken.Data = good.Data
	_, err = maps.Update(t.Context(), broken, metav1.UpdateOptions{})
	f.do(err)
	f.awaitAddresses("b", 2)
	f.expectAddresses("a", before...)
	r.expectMetric(0, "ledger_unreadable")
}

func TestLedgerThatIsDeletedIsMadeAnewFromStatuses(t *testing.T) {
	f := newFixture(t)
	r := f.start()
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("e%d", i))
		f.create(f.serviceEntry(names[i], names[i]+".test"))
	}
	for _, name := range names {
		f.awaitAddresses(name, 2)
	}
	before, records := f.statuses(names), f.records()
	for number := range shardCount {
		err := f.admin.CoreV1().ConfigMaps(f.ledger).Delete(t.Context(), shardName(number), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		name := fmt.Sprintf("more%d", i)
		f.create(f.serviceEntry(name, name+".test"))
		f.awaitAddresses(name, 2)
		names = append(names, name)
	}
	after := f.statuses(names)
	expectNoAddressTwice(t, after)
	for host, address := range before {
		if after[host] != address {
			t.Errorf("%s: got %s, want %s as before", host, after[host], address)
		}
	}
	anew := f.records()
	for address, record := range records {
		if got := anew[address]; got.Host != record.Host {
			t.Errorf("record of %s: got host %q, want %q", address, got.Host, record.Host)
		}
	}
	if got := r.metric("ledger_writes_total", "result", "conflict"); got == 0 {
		t.Error("conflicts on the ledger: got none, want some")
	}
}

// A leader that cannot reach the API server stops in time, and its work goes on when it is back.
func TestOutageOfTheAPIServer(t *testing.T) {
	plane := controlplane.Start(t, controlplane.WithIstioCRDs())
	f := newFixtureOn(t, plane)
	r := f.start()
	f.create(f.serviceEntry("a", "a.test"))
	before := f.awaitAddresses("a", 2)
	f.do(plane.StopAPIServer())
	r.expectLog("no longer leading")
	r.expectMetric(0, "leader")
	f.do(plane.StartAPIServer(t.Context()))
	f.create(f.serviceEntry("b", "b.test"))
	f.awaitAddresses("b", 2)
	f.expectAddresses("a", before...)
}

func TestServiceEntriesThatComeLateAndGo(t *testing.T) {
	plane := controlplane.Start(t)
	f := newFixtureOn(t, plane)
	r := f.start()
	r.awaitLeading()
	f.do(plane.InstallIstioCRDs(t.Context()))
	f.create(f.serviceEntry("a", "a.test"))
	before := f.awaitAddresses("a", 2)
	r.expectMetric(1, "used_addresses", "range", "240.240.0.0/24")

	f.do(plane.RemoveIstioCRDs(t.Context()))
	r.expectMetric(0, "used_addresses", "range", "240.240.0.0/24")
	r.expectMetric(1, "quarantined_addresses", "range", "240.240.0.0/24")
	f.do(plane.InstallIstioCRDs(t.Context()))
	f.create(f.serviceEntry("a", "a.test"))
	f.expectAddresses("a", before...)
}

func TestVersionOfServiceEntriesThatIsServed(t *testing.T) {
	plane := controlplane.Start(t, controlplane.WithIstioCRDs())
	f := newFixtureOn(t, plane)
	f.serve(0, false) // v1
	r := f.start()
	r.expectLog("following ServiceEntries", "version=v1beta1")
	beta := *f
	beta.version = &entryResources[1]
	beta.create(beta.serviceEntry("a", "a.test"))
	before := beta.awaitAddresses("a", 2)

	f.serve(0, true)
	r.expectLog("following ServiceEntries", "version=v1")
	f.create(f.serviceEntry("b", "b.test"))
	f.awaitAddresses("b", 2)
	f.expectAddresses("a", before...)
}

// serve has a version served or not.
func (f *fixture) serve(number int, served bool) {
	f.t.Helper()
	definitions := f.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	raw, err := definitions.Get(f.t.Context(), definitionName, metav1.GetOptions{})
	f.do(err)
	versions, _ := raw.Object["spec"].(map[string]any)["versions"].([]any)
	at := slices.IndexFunc(versions, func(version any) bool {
		return version.(map[string]any)["name"] == entryResources[number].Version
	})
	_, err = definitions.Patch(f.t.Context(), definitionName, types.JSONPatchType,
		fmt.Appendf(nil, `[{"op":"replace","path":"/spec/versions/%d/served","value":%t}]`, at, served), metav1.PatchOptions{})
	f.do(err)
	f.eventually("the version to be served or not", func() bool {
		_, err := f.dynamic.Resource(entryResources[number]).List(f.t.Context(), metav1.ListOptions{Limit: 1})
		return apierrors.IsNotFound(err) != served
	})
}

// What is shipped lets a syncer give virtual IPs, and write nothing else.
func TestRoleIsNarrow(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("a", "a.test"))
	f.start()
	f.awaitAddresses("a", 2)
	reach, err := f.plane.RESTConfigFor(controlplane.SyncerUser)
	f.do(err)
	syncer, err := dynamic.NewForConfig(reach)
	f.do(err)
	patch := func(ctx context.Context, resource schema.GroupVersionResource, name string) error {
		_, err := syncer.Resource(resource).Namespace(f.namespace).Patch(ctx, name, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
		return err
	}
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	if err := patch(t.Context(), serviceEntries, "a"); !apierrors.IsForbidden(err) {
		t.Errorf("patch a ServiceEntry itself: got %v, want forbidden", err)
	}
	if err := patch(t.Context(), configMaps, shardName(0)); !apierrors.IsForbidden(err) {
		t.Errorf("patch a ConfigMap of another namespace: got %v, want forbidden", err)
	}
	if _, err := syncer.Resource(configMaps).Namespace(f.namespace).Get(t.Context(), shardName(0), metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("get a ConfigMap of another namespace: got %v, want forbidden", err)
	}
	if err := syncer.Resource(serviceEntries).Namespace(f.namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("delete a ServiceEntry: got %v, want forbidden", err)
	}
}

// Somebody keeps taking addresses away. They are given again, but ever more slowly.
func TestNoDuel(t *testing.T) {
	f := newFixture(t)
	f.start()
	f.create(f.serviceEntry("a", "a.test"))
	before := f.awaitAddresses("a", 2)
	for range freeWrites - 1 {
		f.setStatus("a")
		f.expectAddresses("a", before...)
	}
	// Now there is a pause of one second before the next write, and of two before that after it.
	began := time.Now()
	for range 2 {
		f.setStatus("a")
		f.expectAddresses("a", before...)
	}
	if got, want := time.Since(began), 2*time.Second; got < want {
		t.Errorf("time until addresses are given again and again: got %s, want more than %s", got, want)
	}
}
