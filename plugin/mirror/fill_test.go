package mirror

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// crowd is a registry of every kind of resource, large enough for several workers. Some hosts have several
// claims, some of them far apart.
func crowd(services int) []*registryv1.Resource {
	var resources []*registryv1.Resource
	for i := range services {
		switch i % 10 {
		case 0:
			namespace, name := fmt.Sprintf("team-%d", i/20), fmt.Sprintf("db-%d", i)
			resources = append(resources, namespaceResource(namespace), headlessService(namespace, name),
				endpointSlice(namespace, name+"-1", name, ready("a", fmt.Sprintf("172.16.%d.%d", i/250, i%250)), ready("", "172.17.0.1")),
				endpointSlice(namespace, name+"-2", name, ready("a", fmt.Sprintf("172.18.%d.%d", i/250, i%250)), notReady("b", "172.17.0.1")))
		case 1:
			resources = append(resources, serviceEntry("prod", fmt.Sprintf("entry-%d", i), fmt.Sprintf("host-%d.example.com", i%500), "192.0.2.1", "2001:db8::1"))
		case 2:
			resources = append(resources, serviceEntry("prod", fmt.Sprintf("wild-%d", i), fmt.Sprintf("*.host-%d.example.com", i%5000), "192.0.2.2"))
		case 3:
			// A host of its own where an endpoint would answer.
			resources = append(resources, serviceEntry("prod", fmt.Sprintf("shadow-%d", i), fmt.Sprintf("a.db-%d.team-%d.svc.cluster.local", i/20*20, i/20), "192.0.2.3"))
		default:
			resources = append(resources, numberedService(i, 0))
		}
	}
	seen := map[string]bool{}
	var unique []*registryv1.Resource
	for _, r := range resources {
		if !seen[r.Key] {
			seen[r.Key] = true
			unique = append(unique, r)
		}
	}
	return unique
}

// TestFillEqualsEdit holds what several workers make of a registry against what one edit makes of it.
func TestFillEqualsEdit(t *testing.T) {
	resources := crowd(2 * perWorker)
	filled := loaded(t, resources...)
	checkInvariants(t, filled.State())

	edited := loaded(t, resources[0])
	mustApply(t, edited, delta(edited.State(), nil, resources[1:]...))
	want := dump(edited.State())
	if dump(filled.State()) != want {
		t.Error("A full sync makes another State than an edit")
	}

	path := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := filled.Save(path); err != nil {
		t.Fatal(err)
	}
	again := New(Options{Namespace: testView, TTL: 30, EndpointTTL: 5})
	if err := again.Load(path); err != nil {
		t.Fatal(err)
	}
	if dump(again.State()) != want {
		t.Error("A snapshot makes another State than an edit")
	}

	rand.New(rand.NewPCG(5, 6)).Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
	if dump(loaded(t, resources...).State()) != want {
		t.Error("Another order of the resources makes another State")
	}
}

func TestFillNamesWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		resource *registryv1.Resource
		err      string
	}{
		"a body that does not decode": {&registryv1.Resource{Key: "bad", Body: []byte{0xff}}, `resource "bad": decode body`},
		"no body":                     {&registryv1.Resource{Key: "bad"}, `resource "bad": has no body`},
		"no DNS name":                 {kubernetesService("prod", "Web", "10.0.0.1"), "is not a DNS name"},
		"a key twice":                 {numberedService(7, 1), "comes twice"},
	}
	resources := manyServices(2*perWorker + 10)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			m := New(Options{})
			all := append(slices.Clip(resources), tc.resource)
			err := m.Apply(Change{Generation: testGeneration, View: testView, ClusterDomain: testDomain, To: 1, Replace: true, Upserts: all})
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Apply: got %v, want %q", err, tc.err)
			}
			if m.State().Loaded() {
				t.Error("Loaded: got true, want nothing to have changed")
			}
		})
	}
}

// TestHostIsMadeOnce: however many ask for a name first, all get the one Host, and so do those that ask for
// it after another name changed.
func TestHostIsMadeOnce(t *testing.T) {
	m := loaded(t, headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "10.1.0.1")),
		kubernetesService("prod", "web", "10.0.0.1"), serviceEntry("prod", "x", "*.example.com", "192.0.2.1"))
	const askers = 8
	var hosts [askers][4]*Host
	var asking sync.WaitGroup
	for i := range hosts {
		asking.Go(func() {
			s := m.State()
			hosts[i] = [4]*Host{
				s.Host("db.prod.svc.cluster.local"), s.Host("db-0.db.prod.svc.cluster.local"),
				s.Host("web.prod.svc.cluster.local"), s.Wildcard("a.example.com"),
			}
		})
	}
	asking.Wait()
	for i := range hosts {
		if hosts[i] != hosts[0] {
			t.Errorf("Hosts of asker %d: got %p, want %p as all others", i, hosts[i], hosts[0])
		}
	}
	mustApply(t, m, delta(m.State(), nil, kubernetesService("prod", "other", "10.0.0.2")))
	if got := m.State().Host("web.prod.svc.cluster.local"); got != hosts[0][2] {
		t.Errorf("Host after another's change: got %p, want %p", got, hosts[0][2])
	}
}
