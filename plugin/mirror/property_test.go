package mirror

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// TestDeltasEqualReplace applies random changes one after the other. After each the mirror must be what
// a mirror is that was given the same content at once, while readers look on.
func TestDeltasEqualReplace(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := randomResources{rand.New(rand.NewPCG(seed, 1))}
			m := loaded(t)
			content := map[string]*registryv1.Resource{}

			stop := make(chan struct{})
			var readers sync.WaitGroup
			defer readers.Wait()
			defer close(stop)
			for range 2 {
				readers.Go(func() { readUntil(t, m, stop) })
			}

			for step := range 100 {
				var upserts []*registryv1.Resource
				var removals []string
				for range random.IntN(6) {
					r := random.resource()
					touched := func(held *registryv1.Resource) bool { return held.Key == r.Key }
					if slices.ContainsFunc(upserts, touched) || slices.Contains(removals, r.Key) {
						continue
					}
					if content[r.Key] != nil && random.IntN(3) == 0 {
						removals = append(removals, r.Key)
						delete(content, r.Key)
						continue
					}
					upserts = append(upserts, r)
					content[r.Key] = r
				}
				mustApply(t, m, delta(m.State(), removals, upserts...))

				all := make([]*registryv1.Resource, 0, len(content))
				for _, r := range content {
					all = append(all, r) // in any order
				}
				if got, want := dump(m.State()), dump(loaded(t, all...).State()); got != want {
					t.Fatalf("After change %d with upserts %v and removals %q: got\n%s\n\nwant\n%s", step, upserts, removals, got, want)
				}
				checkInvariants(t, m.State())
			}
		})
	}
}

// readUntil looks up what the random resources may have, and fails when a record set is not of its
// owner.
func readUntil(t *testing.T, m *Mirror, stop <-chan struct{}) {
	names := []string{
		"db.prod.svc.cluster.local", "vm-10.0.0.1.db.prod.svc.cluster.local", "db-0.db.prod.svc.cluster.local", "10-0-0-1.db.prod.svc.cluster.local",
		"web.dev.svc.cluster.local", "a.example.com",
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		s := m.State()
		for _, name := range names {
			if host := s.Host(name); host != nil && host.A != nil && host.A.RRs[0].Header().Name != name+"." {
				t.Errorf("Host(%q): got records of %s", name, host.A.RRs[0].Header().Name)
				return
			}
		}
		s.Wildcard("x.y.example.com")
		s.Encloses("prod.svc.cluster.local")
		s.Pointers(netip.AddrFrom4([4]byte{10, 0, 0, 1}))
	}
}

// randomResources are few names, keys and addresses, so that they meet.
type randomResources struct{ *rand.Rand }

func (r randomResources) pick(from ...string) string { return from[r.IntN(len(from))] }

func (r randomResources) addresses() []string {
	var addresses []string
	for range r.IntN(4) {
		addresses = append(addresses, r.pick("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "2001:db8::1", "2001:db8::2", "2001:db8::"))
	}
	return addresses
}

func (r randomResources) resource() *registryv1.Resource {
	namespace := r.pick("prod", "dev", "qa")
	cluster := r.pick("", "", "east")
	switch r.IntN(10) {
	case 0:
		return resourceOf(registryv1.NamespaceKey(cluster, namespace), &registryv1.Body{Body: &registryv1.Body_Namespace{
			Namespace: &registryv1.Namespace{Name: namespace, Cluster: cluster},
		}})
	case 1, 2, 3:
		return r.service(cluster, namespace)
	case 4, 5, 6:
		return r.slice(cluster, namespace)
	default:
		return r.entry(cluster, namespace)
	}
}

func (r randomResources) service(cluster, namespace string) *registryv1.Resource {
	name := r.pick("web", "db")
	s := &registryv1.Service{
		Host: name + "." + namespace + ".svc." + testDomain, Namespace: namespace, Name: name, Cluster: cluster,
		Origin: registryv1.Origin_ORIGIN_KUBERNETES, CreatedAt: int64(r.IntN(3)),
	}
	switch r.IntN(6) {
	case 0:
		s.ExternalName = "x.example.com"
	case 1, 2, 3:
		s.Headless = true
	default:
		s.Addresses = encodedAddresses(r.addresses()...)
		s.AddressKind = registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP
	}
	return serviceResource(registryv1.ServiceKey(cluster, namespace, name), s)
}

func (r randomResources) slice(cluster, namespace string) *registryv1.Resource {
	name := r.pick("slice-1", "slice-2", "slice-3")
	s := &registryv1.EndpointSlice{Namespace: namespace, Name: name, Cluster: cluster, Service: r.pick("web", "db")}
	for range r.IntN(4) {
		endpoint := ready(r.pick("", "", "db-0", "db-1"), r.addresses()...)
		endpoint.Ready = r.IntN(4) > 0
		if r.IntN(4) == 0 {
			endpoint.Name = r.pick("vm-10.0.0.1", "vm-10.0.0.2", "0.0.1", "vm.db-0")
		}
		s.Endpoints = append(s.Endpoints, endpoint)
	}
	return resourceOf(registryv1.EndpointSliceKey(cluster, namespace, name), &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: s}})
}

func (r randomResources) entry(cluster, namespace string) *registryv1.Resource {
	host := r.pick("a.example.com", "*.example.com", "*.y.example.com", "db.prod.svc.cluster.local", "db-0.db.prod.svc.cluster.local",
		"x.db-0.db.prod.svc.cluster.local", "*.prod.svc.cluster.local", "vm-10.0.0.1.db.prod.svc.cluster.local", "0.1.db.prod.svc.cluster.local", "10-0-0-1.web.dev.svc.cluster.local")
	s := entry(namespace, r.pick("one", "two"), host, r.addresses()...)
	s.Cluster, s.CreatedAt = cluster, int64(r.IntN(3))
	s.AddressKind = registryv1.AddressKind(r.IntN(6))
	s.Headless, s.Derived, s.ExportedByName = r.IntN(20) == 0, r.IntN(4) == 0, r.IntN(3) == 0
	// One key may move from host to host, as no syncer does and a mirror must bear.
	return serviceResource(registryv1.ServiceEntryKey(cluster, namespace, s.Name, r.pick("first", "second")), s)
}
