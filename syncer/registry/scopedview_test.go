package registry

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// mirrored follows one view by its changes, as a VM does.
type mirrored struct {
	view      *View
	namespace string
	egress    []string // nil: no scope
	cursor    uint64
	has       map[string]registryv1.Digest
}

// modelled is a resource as the model sees it.
type modelled struct {
	update Update
	host   string
	ports  []uint32 // nil: any
	free   bool     // nothing hides it
}

var (
	modelHosts  = []string{"a.prod.svc.cluster.local", "b.prod.svc.cluster.local", "a.dev.svc.cluster.local", "example.com", "v1.example.com", "*.example.com", "*.v1.example.com"}
	modelEgress = []string{"*/*", "./*", "prod/*", "dev/*", "*/a.prod.svc.cluster.local", "prod/*.prod.svc.cluster.local", "*/*.example.com", "dev/v1.example.com", "~/*", "~prod/*", "~*/*.v1.example.com", "~./a.dev.svc.cluster.local"}
)

// imports is Istio's rule in its own words, the plainest way.
func (m modelled) imports(egress []string, vm string) bool {
	covers := func(pattern, host string) bool {
		if wild, isWild := strings.CutPrefix(pattern, "*"); isWild {
			return strings.HasSuffix(strings.TrimPrefix(host, "*"), wild)
		}
		return pattern == host
	}
	return slices.ContainsFunc(egress, func(listener string) bool {
		hosts := listener
		if port, rest, found := strings.Cut(listener, ":"); found {
			hosts = rest
			if m.ports != nil && !slices.ContainsFunc(m.ports, func(p uint32) bool { return fmt.Sprint(p) == port }) {
				return false
			}
		}
		imported := false
		for text := range strings.FieldsSeq(hosts) {
			namespace, host, _ := strings.Cut(text, "/")
			excluded := strings.HasPrefix(namespace, "~")
			if namespace = strings.TrimPrefix(namespace, "~"); namespace == "" {
				namespace = "*"
			} else if namespace == "." {
				namespace = vm
			}
			if (namespace == "*" || namespace == m.update.Object.Namespace) && covers(host, m.host) {
				if excluded {
					return false
				}
				imported = true
			}
		}
		return imported
	})
}

func (m *mirrored) want(model map[string]modelled) map[string]registryv1.Digest {
	want := map[string]registryv1.Digest{}
	for _, object := range model {
		for _, resource := range object.update.Resources {
			if resource.Visibility.In(m.namespace) && (m.egress == nil || object.free || object.imports(m.egress, m.namespace)) {
				entries, err := encode(object.update, false)
				if err != nil {
					panic(err) // a body that does not encode
				}
				want[resource.Key] = entries[0].Digest
			}
		}
	}
	return want
}

// follow brings the mirror up to date and holds everything that the view says against it.
func (m *mirrored) follow(t *testing.T, r *Registry, model map[string]modelled) {
	t.Helper()
	changes, err := m.view.Changes(m.cursor, r.Revision())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range changes.Upserts {
		m.has[e.Key] = e.Digest
	}
	for _, key := range changes.Removals {
		if _, found := m.has[key]; !found {
			t.Fatalf("Removal of %q, which was never there", key)
		}
		delete(m.has, key)
	}
	m.cursor = changes.To
	if want := m.want(model); !maps.Equal(m.has, want) {
		t.Fatalf("Scope %q of %s: got %v, want %v", m.egress, m.namespace, slices.Sorted(maps.Keys(m.has)), slices.Sorted(maps.Keys(want)))
	}
	m.check(t, r)
}

func (m *mirrored) check(t *testing.T, r *Registry) {
	t.Helper()
	const count = 8
	var digest registryv1.Digest
	buckets := make([]registryv1.Digest, count)
	for key, d := range m.has {
		digest.Add(d)
		buckets[registryv1.Bucket(key, count)].Add(d)
	}
	want := Proof{Revision: r.Revision(), Digest: digest, Resources: len(m.has)}
	if got := m.view.Proof(); got != want {
		t.Fatalf("Proof through %q: got %+v, want %+v", m.egress, got, want)
	}
	if got := m.view.BucketDigests(count).Digests; !slices.Equal(got, buckets) {
		t.Fatalf("BucketDigests through %q: got %v, want %v", m.egress, got, buckets)
	}
	content := map[string]registryv1.Digest{}
	for _, e := range m.view.Content().Entries {
		content[e.Key] = e.Digest
	}
	if !maps.Equal(content, m.has) {
		t.Fatalf("Content through %q: got %v, want %v", m.egress, content, m.has)
	}
	section, err := m.view.Section(count, []uint32{1, 5}, r.Revision())
	if err != nil {
		t.Fatal(err)
	}
	inside := map[string]registryv1.Digest{}
	for _, e := range section.Entries {
		inside[e.Key] = e.Digest
	}
	maps.DeleteFunc(content, func(key string, _ registryv1.Digest) bool {
		return registryv1.Bucket(key, count) != 1 && registryv1.Bucket(key, count) != 5
	})
	if !maps.Equal(inside, content) {
		t.Fatalf("Section through %q: got %v, want %v", m.egress, inside, content)
	}
}

// TestScopedViews holds random histories, seen through random scopes that come and go, against the plainest
// model: what a VM has that follows by changes is a filter of the registry, and all sums are its.
func TestScopedViews(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			r := New(Options{Scopes: true})
			source := r.AddSource("test")
			model := map[string]modelled{}
			open := func() *mirrored {
				m := &mirrored{namespace: []string{"prod", "vm"}[random.IntN(2)], has: map[string]registryv1.Digest{}}
				var scope *Scope
				if random.IntN(4) > 0 {
					m.egress = randomEgress(random)
					scope = scopeFor(t, m.namespace, m.egress)
				}
				m.view = r.OpenView(m.namespace, scope)
				return m
			}
			mirrors := []*mirrored{open(), open(), open(), open()}
			for range 120 {
				var batch []Update
				for range 1 + random.IntN(3) {
					object := randomObject(random)
					if _, taken := model[object.update.Object.String()]; taken && random.IntN(3) == 0 {
						object.update.Resources = nil
					}
					model[object.update.Object.String()] = object
					batch = append(batch, object.update)
				}
				mustApply(t, source, batch...)
				if i := random.IntN(len(mirrors)); random.IntN(4) == 0 {
					mirrors[i].view.Close()
					mirrors[i] = open()
				} else {
					mirrors[i].follow(t, r, model)
				}
			}
			for _, m := range mirrors {
				m.follow(t, r, model)
				m.view.Close()
			}
			if len(r.scoped.anywhere)+len(r.scoped.within) != 0 {
				t.Error("Sums are kept for views that are closed")
			}
		})
	}
}

func scopeFor(t *testing.T, namespace string, egress []string) *Scope {
	t.Helper()
	replaced := make([]string, len(egress))
	for i, listener := range egress {
		replaced[i] = strings.ReplaceAll(listener, "./", namespace+"/")
	}
	return scopeOf(t, replaced...)
}

func randomEgress(random *rand.Rand) []string {
	egress := make([]string, 1+random.IntN(3))
	for i := range egress {
		if random.IntN(3) == 0 {
			egress[i] = fmt.Sprintf("%d:", 80+random.IntN(2))
		}
		for range 1 + random.IntN(3) {
			egress[i] += " " + modelEgress[random.IntN(len(modelEgress))]
		}
	}
	return egress
}

// randomObject is a Service, a share in one, a slice or a namespace.
func randomObject(random *rand.Rand) modelled {
	visibilities := []Visibility{Public(), Public(), Nobody(), VisibleTo("vm"), VisibleTo("prod", "vm")}
	namespace := []string{"prod", "dev", "vm"}[random.IntN(3)]
	name := fmt.Sprintf("object-%d", random.IntN(8))
	m := modelled{host: modelHosts[random.IntN(len(modelHosts))], ports: []uint32{}}
	if random.IntN(2) == 0 {
		m.ports = append(m.ports, uint32(80+random.IntN(2)))
	}
	resource := Resource{Visibility: visibilities[random.IntN(len(visibilities))]}
	kind := []string{"Service", "WorkloadEntry", "EndpointSlice", "Namespace"}[random.IntN(4)]
	switch kind {
	case "Service":
		service := &registryv1.Service{Host: m.host, CreatedAt: int64(random.IntN(2))}
		for _, port := range m.ports {
			service.Ports = append(service.Ports, &registryv1.Port{Number: port})
		}
		resource.Body = &registryv1.Body{Body: &registryv1.Body_Service{Service: service}}
	case "WorkloadEntry": // its body says neither the host nor the ports
		resource.Body = serviceBody("vm."+m.host, 1)
		resource.Destination = &Destination{Host: m.host, Ports: m.ports}
	case "EndpointSlice":
		m.ports = nil
		resource.Body = sliceBody(name)
		resource.Destination = &Destination{Host: m.host}
	case "Namespace":
		m.free = true
		resource.Body = namespaceBody(name)
	}
	resource.Key = kind + "/" + namespace + "/" + name
	m.update = Update{Object: Object{Kind: kind, Namespace: namespace, Name: name}, Resources: []Resource{resource}}
	return m
}

func TestScopedViewFallsOffTheLog(t *testing.T) {
	r := New(Options{Scopes: true, LogBytes: 1})
	source := r.AddSource("test")
	view := r.OpenView("vm", scopeOf(t, "*/*"))
	defer view.Close()
	mustApply(t, source, update("a", Public(), serviceBody("a.example.com")))
	if _, err := view.Changes(0, 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("Changes: got %v, want ErrCompacted", err)
	}
	if got := view.Proof().Resources; got != 1 {
		t.Errorf("Resources: got %d, want 1", got)
	}
}

// benchmarkScopes are what views are narrowed by: none, and some of each kind.
func benchmarkScopes(b *testing.B, r *Registry, count int, egress string) []*View {
	views := make([]*View, count)
	for i := range views {
		namespace := fmt.Sprintf("namespace-%d", i)
		views[i] = r.OpenView(namespace, scopeOf(b, strings.ReplaceAll(egress, "NAMESPACE", namespace)))
	}
	return views
}

var benchmarkedScopes = []struct {
	name   string
	scopes bool
	count  int
	egress string
}{
	{"without scopes", false, 0, ""},
	{"scopes, none open", true, 0, ""},
	{"1000 of own namespace", true, 1000, "NAMESPACE/* istio-system/*"},
	{"1 of all namespaces", true, 1, "*/*.example.com"},
	{"100 of all namespaces", true, 100, "*/*.example.com"},
}

// BenchmarkStoreScoped is one change among 10,000 services in 1,000 namespaces.
func BenchmarkStoreScoped(b *testing.B) {
	for _, test := range benchmarkedScopes {
		b.Run(test.name, func(b *testing.B) {
			r := New(Options{Scopes: test.scopes})
			source := r.AddSource("bench")
			change := func(i int, serial byte) {
				u := update(fmt.Sprintf("service-%d", i), Public(), serviceBody(fmt.Sprintf("service-%d.example.com", i), serial, serial/2+1))
				u.Object.Namespace = fmt.Sprintf("namespace-%d", i%1000)
				if err := source.Apply(time.Now(), u); err != nil {
					b.Fatal(err)
				}
			}
			for i := range 10_000 {
				change(i, 1)
			}
			views := benchmarkScopes(b, r, test.count, test.egress)
			b.ReportAllocs()
			for i := byte(0); b.Loop(); i++ {
				change(7, i)
			}
			for _, view := range views {
				view.Close()
			}
		})
	}
}

// BenchmarkProofScoped is one proof of a view of 10,000 services.
func BenchmarkProofScoped(b *testing.B) {
	for _, test := range benchmarkedScopes {
		b.Run(test.name, func(b *testing.B) {
			r := New(Options{Scopes: test.scopes})
			source := r.AddSource("bench")
			for i := range 10_000 {
				name := fmt.Sprintf("service-%d", i)
				if err := source.Apply(time.Now(), update(name, Public(), serviceBody(name+".example.com", 1))); err != nil {
					b.Fatal(err)
				}
			}
			views := benchmarkScopes(b, r, test.count, test.egress)
			if len(views) == 0 {
				views = append(views, r.OpenView("vm", nil))
			}
			b.ReportAllocs()
			for b.Loop() {
				views[0].Proof()
			}
			for _, view := range views {
				view.Close()
			}
		})
	}
}
