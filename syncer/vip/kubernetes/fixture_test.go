package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/transcript"
)

var cluster = controlplane.NewShared(controlplane.WithIstioCRDs())

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// patience bounds what a test waits for. It is long for a loaded machine, and no test waits it out
// when all is well.
const patience = 60 * time.Second

var serviceEntries = entryResources[0]

// quickLease has leaders change soon.
var quickLease = LeaseTimes{Duration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond}

// fixture is a namespace with ServiceEntries, and the administrator's clients.
type fixture struct {
	t         *testing.T
	plane     *controlplane.ControlPlane
	admin     *clientset.Clientset
	dynamic   dynamic.Interface
	namespace string
	// ledger is the namespace of Lease and ledger.
	ledger string
	// version that ServiceEntries are spoken of in. Nil: the first.
	version *schema.GroupVersionResource
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, cluster.ControlPlane(t))
}

func newFixtureOn(t *testing.T, plane *controlplane.ControlPlane) *fixture {
	t.Helper()
	f := &fixture{t: t, plane: plane}
	var err error
	f.admin, err = clientset.NewForConfig(plane.RESTConfig())
	f.do(err)
	f.dynamic, err = dynamic.NewForConfig(plane.RESTConfig())
	f.do(err)
	f.namespace = plane.Namespace(t)
	f.ledger = plane.Namespace(t)
	f.do(plane.GrantSyncerRole(t.Context()))
	f.do(plane.GrantSyncerVIPRole(t.Context(), f.ledger))
	return f
}

func (f *fixture) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	f.within(patience, what, holds)
}

func (f *fixture) within(limit time.Duration, what string, holds func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ; !holds(); <-ticker.C {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// replica is a controller that runs, with the role that is shipped.
type replica struct {
	*Controller
	f       *fixture
	log     *transcript.Transcript
	metrics *prometheus.Registry
	stop    func()
}

// start runs a replica until the test ends.
func (f *fixture) start(changes ...func(*Config)) *replica {
	f.t.Helper()
	reach, err := f.plane.RESTConfigFor(controlplane.SyncerUser)
	f.do(err)
	ranges, err := vip.ParseRanges([]string{"240.240.0.0/24", "2001:2::/48"})
	f.do(err)
	r := &replica{f: f, log: &transcript.Transcript{}, metrics: prometheus.NewRegistry()}
	config := Config{
		REST:       reach,
		Namespace:  f.ledger,
		Allocation: vip.Options{Ranges: ranges},
		Lease:      quickLease,
		Version:    "1.2.3",
		Log:        slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics:    r.metrics,
	}
	for _, change := range changes {
		change(&config)
	}
	r.Controller, err = New(config)
	f.do(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.t.Errorf("Run: got %v, want no error", err)
			}
		case <-time.After(patience):
			f.t.Error("Run does not return")
		}
	})
	f.t.Cleanup(r.stop)
	f.t.Cleanup(func() {
		if f.t.Failed() {
			f.t.Logf("log of replica %s:\n%s", r.config.Identity, r.log)
		}
	})
	return r
}

// within takes addresses from other ranges than the default of tests.
func within(texts ...string) func(*Config) {
	return func(c *Config) {
		ranges, err := vip.ParseRanges(texts)
		if err != nil {
			panic(err)
		}
		c.Allocation.Ranges = ranges
	}
}

// through has all requests pass through something.
func through(c *cut) func(*Config) {
	return func(config *Config) {
		config.REST = rest.CopyConfig(config.REST)
		config.REST.Wrap(c.wrap)
	}
}

// leads reports whether the replica has planned something.
func (r *replica) leads() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.term == nil {
		return false
	}
	_, ready := r.term.table()
	return ready
}

func (r *replica) awaitLeading() {
	r.f.t.Helper()
	r.f.eventually("the replica to lead", r.leads)
}

func (r *replica) expectLog(parts ...string) {
	r.f.t.Helper()
	r.f.eventually("a log line with "+strings.Join(parts, ", "), func() bool {
		for line := range strings.SplitSeq(r.log.String(), "\n") {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	})
}

// gauge is a metric's value, with labels as `name value` pairs.
func (r *replica) metric(name string, labels ...string) float64 {
	r.f.t.Helper()
	families, err := r.metrics.Gather()
	r.f.do(err)
	for _, family := range families {
		if family.GetName() != "meshvm_syncer_vip_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			var pairs []string
			for _, label := range metric.GetLabel() {
				pairs = append(pairs, label.GetName(), label.GetValue())
			}
			if slices.Equal(pairs, labels) {
				return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func (r *replica) expectMetric(want float64, name string, labels ...string) {
	r.f.t.Helper()
	r.f.eventually(fmt.Sprintf("metric %s %q to be %v", name, labels, want), func() bool { return r.metric(name, labels...) == want })
}

// serviceEntry is a ServiceEntry with resolution DNS.
func (f *fixture) serviceEntry(name string, hosts ...string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": cmp.Or(f.version, &serviceEntries).GroupVersion().String(),
		"kind":       "ServiceEntry",
		"metadata":   map[string]any{"name": name, "namespace": f.namespace},
		"spec": map[string]any{
			"hosts":      anys(hosts),
			"resolution": "DNS",
			"ports":      []any{map[string]any{"name": "http", "number": int64(80), "protocol": "HTTP"}},
		},
	}}
}

func anys(texts []string) []any {
	var list []any
	for _, text := range texts {
		list = append(list, text)
	}
	return list
}

func (f *fixture) entries() dynamic.ResourceInterface {
	return f.dynamic.Resource(*cmp.Or(f.version, &serviceEntries)).Namespace(f.namespace)
}

func (f *fixture) create(entry *unstructured.Unstructured) *unstructured.Unstructured {
	f.t.Helper()
	created, err := f.entries().Create(f.t.Context(), entry, metav1.CreateOptions{})
	f.do(err)
	return created
}

func (f *fixture) delete(name string) {
	f.t.Helper()
	f.do(f.entries().Delete(f.t.Context(), name, metav1.DeleteOptions{}))
}

// merge changes a ServiceEntry, or with the subresource its status.
func (f *fixture) merge(name, patch string, subresources ...string) {
	f.t.Helper()
	_, err := f.entries().Patch(f.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
	f.do(err)
}

// setStatus writes addresses to a status as somebody else does: `host=address`.
func (f *fixture) setStatus(name string, pairs ...string) {
	f.t.Helper()
	list := []map[string]string{}
	for _, pair := range pairs {
		host, value, _ := strings.Cut(pair, "=")
		list = append(list, map[string]string{"host": host, "value": value})
	}
	encoded, err := json.Marshal(map[string]any{"status": map[string]any{"addresses": list}})
	f.do(err)
	f.merge(name, string(encoded), "status")
}

func (f *fixture) get(name string) *unstructured.Unstructured {
	f.t.Helper()
	got, err := f.entries().Get(f.t.Context(), name, metav1.GetOptions{})
	f.do(err)
	return got
}

// addresses are what a status says, `host=address`, in order.
func (f *fixture) addresses(name string) []string {
	f.t.Helper()
	return addressesOf(f.t, f.get(name))
}

func addressesOf(t *testing.T, entry *unstructured.Unstructured) []string {
	t.Helper()
	list, _, err := unstructured.NestedSlice(entry.Object, "status", "addresses")
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, element := range list {
		fields, _ := element.(map[string]any)
		pairs = append(pairs, fmt.Sprintf("%v=%v", fields["host"], fields["value"]))
	}
	return pairs
}

// awaitAddresses returns the addresses of a ServiceEntry as soon as there are as many as wanted.
func (f *fixture) awaitAddresses(name string, count int) []string {
	f.t.Helper()
	var got []string
	f.eventually(fmt.Sprintf("%d addresses of %s", count, name), func() bool {
		got = f.addresses(name)
		return len(got) == count
	})
	return got
}

// expectAddresses waits until a status says what is wanted.
func (f *fixture) expectAddresses(name string, want ...string) {
	f.t.Helper()
	var got []string
	deadline := time.Now().Add(patience)
	for {
		if got = f.addresses(name); slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("addresses of %s: got %q, want %q", name, got, want)
		}
		pause(f.t.Context(), 10*time.Millisecond)
	}
}

// condition is what ours says, as `status reason: message`. Empty: there is none.
func (f *fixture) condition(name string) string {
	f.t.Helper()
	list, _, err := unstructured.NestedSlice(f.get(name).Object, "status", "conditions")
	f.do(err)
	for _, element := range list {
		if fields, _ := element.(map[string]any); fields["type"] == ConditionType {
			return fmt.Sprintf("%v %v: %v", fields["status"], fields["reason"], fields["message"])
		}
	}
	return ""
}

// event reports whether there is an Event on a ServiceEntry.
func (f *fixture) event(name, reason string) bool {
	f.t.Helper()
	list, err := f.admin.CoreV1().Events(f.namespace).List(f.t.Context(), metav1.ListOptions{})
	f.do(err)
	return slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
		return e.InvolvedObject.Kind == "ServiceEntry" && e.InvolvedObject.Name == name && e.Reason == reason
	})
}

// records are the ledger, by their addresses.
func (f *fixture) records() map[netip.Addr]vip.Record {
	f.t.Helper()
	l, err := readLedger(f.t.Context(), f.admin.CoreV1().ConfigMaps(f.ledger), nil)
	f.do(err)
	all := map[netip.Addr]vip.Record{}
	for _, record := range l.records() {
		all[record.Address] = record
	}
	return all
}

// settle waits until all that has happened up to now was seen by the replica: a ServiceEntry that is made now
// has its addresses.
func (f *fixture) settle() {
	f.t.Helper()
	created := f.create(f.serviceEntry("settle", "settle.test"))
	f.awaitAddresses(created.GetName(), 2)
	f.delete("settle")
}
