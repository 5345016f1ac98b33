package hostile

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/plugin/watch"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/source"
)

// etcdLimit is what an object may be in etcd, about.
const etcdLimit = 3 << 19

func entryOf(edit func(*networking.ServiceEntry)) *networkingv1.ServiceEntry {
	e := &networkingv1.ServiceEntry{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "large"}}
	e.Spec.Resolution = networking.ServiceEntry_DNS
	edit(&e.Spec)
	return e
}

func texts(count int, format string) []string {
	made := make([]string, count)
	for i := range made {
		made[i] = fmt.Sprintf(format, i)
	}
	return made
}

func addresses(count int) []string {
	made := make([]string, count)
	for i := range made {
		made[i] = fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
	}
	return made
}

// TestLargeObjects: an object as large as etcd takes it is served where a VM can take it, or named and rejected. It
// never becomes much more than it was, and never stops anything else.
func TestLargeObjects(t *testing.T) {
	tests := []struct {
		name   string
		object metav1.Object
		// resources is what it yields.
		resources int
		effects   []source.Effect
	}{
		{"hosts", entryOf(func(e *networking.ServiceEntry) { e.Hosts = texts(50_000, "h%d.example.com") }), 50_000, nil},
		{"addresses", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.Addresses = []string{"a.example.com"}, addresses(registryv1.MaxAddresses)
		}), 1, nil},
		{"too many addresses", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.Addresses = []string{"a.example.com"}, addresses(100_000)
		}), 0, []source.Effect{source.Rejected}},
		{"hosts with addresses each", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.Addresses = texts(40_000, "h%d.example.com"), addresses(4000)
		}), 0, []source.Effect{source.Rejected}},
		{"hosts with ports each", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts = texts(40_000, "h%d.example.com")
			e.Ports = slices.Repeat([]*networking.ServicePort{{Number: 80, Name: strings.Repeat("p", 200)}}, 1000)
		}), 0, []source.Effect{source.Rejected}},
		{"hosts exported to namespaces each", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.ExportTo = texts(40_000, "h%d.example.com"), texts(4000, "ns-%d")
		}), 0, []source.Effect{source.Rejected}},
		{"hosts for every workload", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.WorkloadSelector = texts(40_000, "h%d.example.com"), &networking.WorkloadSelector{Labels: map[string]string{"app": "vm"}}
		}), 0, []source.Effect{source.Rejected}},
		{"hosts that are none", entryOf(func(e *networking.ServiceEntry) { e.Hosts = texts(50_000, "\x1b[%dA") }), 0, []source.Effect{source.Partial}},
		{"one host of a megabyte", entryOf(func(e *networking.ServiceEntry) { e.Hosts = []string{strings.Repeat("\x1b", 1<<20)} }), 0, []source.Effect{source.Partial}},
		{"endpoints", entryOf(func(e *networking.ServiceEntry) {
			e.Hosts, e.Resolution = texts(256, "h%d.example.com"), networking.ServiceEntry_STATIC
			for _, address := range addresses(3000) {
				e.Endpoints = append(e.Endpoints, &networking.WorkloadEntry{Address: address, Labels: map[string]string{"x": "y"}})
			}
		}), 256, nil},
		{"labels and annotations", &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: "large", Labels: numbered(20_000), Annotations: map[string]string{"a": strings.Repeat("\x1b[2J\n", 200_000)},
			},
			Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1"},
		}, 1, nil},
		{"ports of a Service", &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "large"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: slices.Repeat([]corev1.ServicePort{{Port: 80}}, 20_000)},
		}, 0, []source.Effect{source.Rejected}},
		{"ports of every endpoint", largeSlice(1000, 20_000), 0, []source.Effect{source.Rejected}},
		{"endpoints of a slice", largeSlice(1000, 256), 1, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMesh(t)
			if _, isSlice := test.object.(*discoveryv1.EndpointSlice); isSlice {
				m.change(present(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}))
			}
			held := m.mirror.State().Resources()
			before := allocated()
			began := time.Now()
			problems := m.change(present(test.object))
			t.Logf("took %s and %d MiB", time.Since(began).Round(time.Millisecond), (allocated()-before)>>20)
			if got := m.mirror.State().Resources() - held; got != test.resources {
				t.Errorf("Resources: got %d, want %d", got, test.resources)
			}
			if got := effects(problems); !slices.Equal(got, test.effects) {
				t.Errorf("Problems: got %v, want of effects %v", problems, test.effects)
			}
			if limit := 32; len(problems) > limit {
				t.Errorf("Problems: got %d, want at most %d", len(problems), limit)
			}
			if took := allocated() - before; took > 300*etcdLimit {
				t.Errorf("Allocated: got %d MiB for an object of %d MiB at most", took>>20, etcdLimit>>20)
			}
			m.change(present(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.2"}}))
			if m.mirror.State().Host("web."+namespace+".svc."+domain) == nil {
				t.Error("Another Service: got none, want it served as ever")
			}
		})
	}
}

func numbered(count int) map[string]string {
	labels := make(map[string]string, count)
	for i := range count {
		labels[fmt.Sprintf("label-%d", i)] = "\x1b[2J"
	}
	return labels
}

func largeSlice(endpoints, ports int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, address := range addresses(endpoints) {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	for i := range ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new(fmt.Sprintf("p-%d", i)), Port: new(int32(1 + i))})
	}
	return s
}

// allocated is what the process has allocated since it began, in bytes.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// TestLargeResourceOnTheWire: a resource larger than a frame, and as large as any, reaches a VM through a real
// syncer, and the next change too.
func TestLargeResourceOnTheWire(t *testing.T) {
	m := newMesh(t)
	large := largeSlice(1000, 256)
	for i := range large.Endpoints {
		large.Endpoints[i].Zone, large.Endpoints[i].NodeName = new(strings.Repeat("z", registryv1.MaxText)), new(strings.Repeat("n", registryv1.MaxText))
	}
	if problems := m.change(present(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}), present(large)); len(problems) > 0 {
		t.Fatalf("Problems: got %v, want none", problems)
	}
	syncer, err := server.New(m.registry, server.Options{FrameBytes: 4 << 10, CoalesceWindow: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	vms, people := listen(t), listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- syncer.Serve(ctx, vms, people) }()
	vm := newMirror()
	client, err := watch.New(watch.Config{Addresses: []string{vms.Addr().String()}, Insecure: true, Namespace: namespace, Node: "vm-1"}, vm, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	follows := func(what string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for proof := m.registry.Proof(namespace); vm.State().Digest() != proof.Digest || vm.State().Resources() != proof.Resources; {
			select {
			case <-vm.Changed():
			case <-deadline:
				t.Fatalf("%s: the VM holds %d resources after a minute, want %d; %+v", what, vm.State().Resources(), proof.Resources, client.Status())
			}
		}
	}
	follows("the whole view")
	large.Endpoints = large.Endpoints[1:]
	m.change(present(large))
	follows("a change of it")
	cancel()
	<-ended
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
