package mirror

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// manyServices are Services with a cluster IP each, twenty to a namespace.
func manyServices(count int) []*registryv1.Resource {
	resources := make([]*registryv1.Resource, count)
	for i := range count {
		resources[i] = numberedService(i, 0)
	}
	return resources
}

// numberedService is the i-th of manyServices; another version has another address.
func numberedService(i int, version byte) *registryv1.Resource {
	namespace, name := fmt.Sprintf("team-%d", i/20), fmt.Sprintf("reviews-%d", i)
	ip := netip.AddrFrom4([4]byte{10 + version, byte(i >> 16), byte(i >> 8), byte(i)})
	return kubernetesService(namespace, name, ip.String())
}

func numberedName(i int) string { return fmt.Sprintf("reviews-%d.team-%d.svc.cluster.local", i, i/20) }

// mixedServices are services as a mesh has them: of ten, five have a cluster IP and two ports, three a
// cluster IP and one port, one is headless with a slice of three endpoints, and one is the host of a
// ServiceEntry.
func mixedServices(count int) []*registryv1.Resource {
	port := func(name string, number uint32) *registryv1.Port {
		return &registryv1.Port{Name: name, Number: number, Protocol: registryv1.Protocol_PROTOCOL_TCP}
	}
	resources := make([]*registryv1.Resource, 0, count+count/10+count/20)
	for i := range count {
		namespace, name := fmt.Sprintf("team-%d", i/20), fmt.Sprintf("reviews-%d", i)
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		if i%20 == 0 {
			resources = append(resources, namespaceResource(namespace))
		}
		switch kind := i % 10; {
		case kind < 5:
			resources = append(resources, portedService(namespace, name, ip, port("http", 80), port("metrics", 9090)))
		case kind < 8:
			resources = append(resources, portedService(namespace, name, ip, port("grpc", 8443)))
		case kind == 8:
			endpoints := make([]*registryv1.Endpoint, 3)
			for n := range endpoints {
				endpoints[n] = ready(fmt.Sprintf("%s-%d", name, n), netip.AddrFrom4([4]byte{172, byte(i >> 14), byte(i >> 6), byte(i<<2) + byte(n)}).String())
			}
			resources = append(resources, headlessService(namespace, name), endpointSlice(namespace, name, name, endpoints...))
		default:
			resources = append(resources, serviceEntry(namespace, name, name+".example.com", ip))
		}
	}
	return resources
}

func portedService(namespace, name, ip string, ports ...*registryv1.Port) *registryv1.Resource {
	return serviceResource(registryv1.ServiceKey("", namespace, name), &registryv1.Service{
		Host: name + "." + namespace + ".svc." + testDomain, Namespace: namespace, Name: name,
		Origin: registryv1.Origin_ORIGIN_KUBERNETES, Addresses: encodedAddresses(ip),
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, Ports: ports, CreatedAt: 1_700_000_000,
	})
}

// registries of 100,000 services.
var registries = map[string]func(count int) []*registryv1.Resource{"addresses": manyServices, "mixed": mixedServices}

var sizes = map[string]int{"1k": 1_000, "10k": 10_000, "100k": 100_000}

func BenchmarkMirrorApply(b *testing.B) {
	for _, size := range []string{"1k", "10k", "100k"} {
		b.Run(size, func(b *testing.B) {
			count := sizes[size]
			m := loaded(b, manyServices(count)...)
			deltas := make([]*registryv1.Resource, 0, 2000)
			for version := range byte(2) {
				for i := range 1000 {
					deltas = append(deltas, numberedService(i*count/1000, 1-version))
				}
			}
			b.ReportAllocs()
			revision := m.State().revision
			i := 0
			for b.Loop() {
				err := m.Apply(Change{
					Generation: testGeneration, View: testView, ClusterDomain: testDomain,
					From: revision, To: revision + 1, Upserts: deltas[i%len(deltas) : i%len(deltas)+1],
				})
				if err != nil {
					b.Fatal(err)
				}
				revision++
				i++
			}
		})
	}
}

func BenchmarkMirrorApplySlice(b *testing.B) {
	for _, endpoints := range []int{10, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("%d endpoints", endpoints), func(b *testing.B) {
			const perSlice = 100
			resources := []*registryv1.Resource{headlessService("prod", "db")}
			for i := 0; i < endpoints; i += perSlice {
				resources = append(resources, numberedSlice(i/perSlice, min(perSlice, endpoints), 0))
			}
			m := loaded(b, resources...)
			deltas := []*registryv1.Resource{numberedSlice(0, min(perSlice, endpoints), 1), numberedSlice(0, min(perSlice, endpoints), 0)}
			b.ReportAllocs()
			revision := m.State().revision
			i := 0
			for b.Loop() {
				err := m.Apply(Change{
					Generation: testGeneration, View: testView, ClusterDomain: testDomain,
					From: revision, To: revision + 1, Upserts: deltas[i%2 : i%2+1],
				})
				if err != nil {
					b.Fatal(err)
				}
				revision++
				i++
			}
		})
	}
}

// numberedSlice is a slice of the Service prod/db; another version differs in one endpoint.
func numberedSlice(slice, size int, version byte) *registryv1.Resource {
	endpoints := make([]*registryv1.Endpoint, size)
	for i := range endpoints {
		endpoints[i] = ready("", netip.AddrFrom4([4]byte{10, byte(slice), byte(i), 1}).String())
	}
	endpoints[0] = ready("", netip.AddrFrom4([4]byte{10, byte(slice), 0, 1 + version}).String())
	return endpointSlice("prod", fmt.Sprintf("db-%d", slice), "db", endpoints...)
}

// BenchmarkMirrorApplyWorkload changes the address of one of many workloads behind a ServiceEntry.
func BenchmarkMirrorApplyWorkload(b *testing.B) {
	for _, workloads := range []int{10, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("%d workloads", workloads), func(b *testing.B) {
			workload := func(i int, version byte) *registryv1.Resource {
				s := entry("prod", "db", "db.example.com", fmt.Sprintf("10.%d.%d.%d", version, i>>8, i&255))
				s.AddressKind = registryv1.AddressKind_ADDRESS_KIND_ENDPOINT
				return serviceResource(registryv1.WorkloadEntryHostKey("", "prod", fmt.Sprint("vm-", i), "db", "db.example.com"), s)
			}
			resources := []*registryv1.Resource{serviceResource(registryv1.ServiceEntryKey("", "prod", "db", "db.example.com"), entry("prod", "db", "db.example.com"))}
			for i := range workloads {
				resources = append(resources, workload(i, 0))
			}
			m := loaded(b, resources...)
			b.ReportAllocs()
			revision := m.State().revision
			for i := byte(0); b.Loop(); i++ {
				err := m.Apply(Change{
					Generation: testGeneration, View: testView, ClusterDomain: testDomain,
					From: revision, To: revision + 1, Upserts: []*registryv1.Resource{workload(0, 1+i%2)},
				})
				if err != nil {
					b.Fatal(err)
				}
				revision++
			}
		})
	}
}

func BenchmarkStateHost(b *testing.B) {
	resources := append(manyServices(100_000),
		serviceEntry("prod", "wild", "*.wild.example.com", "192.0.2.1"),
		headlessService("prod", "db"),
		endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")))
	m := loaded(b, resources...)
	names := make([]string, 1<<12)
	for i := range names {
		names[i] = numberedName(i * 24)
	}
	lookup := func(find func(*State, int) *Host, want bool) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if found := find(m.State(), i) != nil; found != want {
					b.Fatalf("Found: got %t, want %t", found, want)
				}
				i++
			}
		}
	}
	b.Run("hit", lookup(func(s *State, i int) *Host { return s.Host(names[i%len(names)]) }, true))
	b.Run("hit same", lookup(func(s *State, _ int) *Host { return s.Host(names[0]) }, true))
	b.Run("miss", lookup(func(s *State, _ int) *Host { return s.Host("nobody.team-1.svc.cluster.local") }, false))
	b.Run("wildcard", lookup(func(s *State, _ int) *Host { return s.Wildcard("a.b.wild.example.com") }, true))
	b.Run("endpoint", lookup(func(s *State, _ int) *Host { return s.Host("db-1.db.prod.svc.cluster.local") }, true))
}

func BenchmarkSnapshotSave(b *testing.B) {
	m := loaded(b, manyServices(100_000)...)
	path := filepath.Join(b.TempDir(), "registry.snapshot")
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Save(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshotLoad(b *testing.B) {
	for name, resources := range registries {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "registry.snapshot")
			if err := loaded(b, resources(100_000)...).Save(path); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := New(Options{}).Load(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHeapPerService(b *testing.B) {
	const count = 100_000
	for name, resources := range registries {
		path := filepath.Join(b.TempDir(), "registry.snapshot")
		if err := loaded(b, resources(count)...).Save(path); err != nil {
			b.Fatal(err)
		}
		load := func(b *testing.B) *Mirror {
			m := New(Options{TTL: 30, EndpointTTL: 5})
			if err := m.Load(path); err != nil {
				b.Fatal(err)
			}
			return m
		}
		sources := map[string]func(*testing.B) *Mirror{
			"replace":  func(b *testing.B) *Mirror { return loaded(b, resources(count)...) },
			"snapshot": load,
			"every name asked for": func(b *testing.B) *Mirror {
				m := load(b)
				for host := range m.State().Hosts() { // which makes it
					runtime.KeepAlive(host)
				}
				return m
			},
		}
		for source, fill := range sources {
			b.Run(name+"/"+source, func(b *testing.B) {
				for b.Loop() {
					before := heap()
					m := fill(b)
					b.ReportMetric(float64(heap()-before)/count, "bytes/service")
					runtime.KeepAlive(m)
				}
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
