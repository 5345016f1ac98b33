package istio

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/source/manifest"
)

// TestRandomNames makes up meshes and holds every name that VMs of each namespace answer, or do not, against
// Istio's table for a proxy there: with Sidecars that hide some of it, and without.
//
// ServiceEntries have no endpoints here: Istio never answers them, and we do on purpose. A Sidecar has one
// listener: with several, Istio chooses the namespace of a host for each, and we once. Its hosts are wildcards:
// of a ServiceEntry with several addresses that is imported by its exact name, Istio takes one.
func TestRandomNames(t *testing.T) {
	for _, sidecars := range []bool{false, true} {
		for seed := range uint64(12) {
			t.Run(fmt.Sprintf("sidecars %t, seed %d", sidecars, seed), func(t *testing.T) {
				random := randomMesh{rand.New(rand.NewPCG(seed, 31))}
				mesh := random.objects(sidecars)
				var objects []unstructured.Unstructured
				for _, object := range parse(t, mesh) {
					objects = append(objects, *object)
				}
				want := nameTables(t, objects, namespaces...)
				got := answeredFrom(t, mesh, sidecars)
				for _, namespace := range namespaces {
					compareTables(t, namespace, got[namespace], want[namespace])
				}
				if t.Failed() {
					t.Logf("The mesh:\n%s", strings.ReplaceAll(mesh, "---\n", "\n"))
				}
			})
		}
	}
}

func compareTables(t *testing.T, namespace string, got, want map[string][]string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(want))
	for name := range got {
		if _, both := want[name]; !both {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if answered, istio := join(got[name]), join(want[name]); answered != istio {
			t.Errorf("%s from %s: got %q, want %q as Istio has it", name, namespace, answered, istio)
		}
	}
}

// randomMesh makes up objects that may have to do with each other.
type randomMesh struct{ *rand.Rand }

func (r randomMesh) objects(sidecars bool) string {
	var all strings.Builder
	for number := range 25 {
		if r.IntN(4) == 0 {
			all.WriteString(r.service(number))
		} else {
			all.WriteString(r.entry(number))
		}
	}
	for number := 0; sidecars && number < 2; number++ {
		all.WriteString(r.sidecar(number))
	}
	return all.String()
}

func (r randomMesh) pick(from ...string) string { return from[r.IntN(len(from))] }

func (r randomMesh) metadata(name, more string) string {
	// Two objects at a time are of the same age.
	return fmt.Sprintf("metadata: {name: %s, namespace: %s, creationTimestamp: '2026-01-01T00:00:%02dZ'%s}\n", name, r.pick(namespaces...), r.IntN(12), more)
}

func (r randomMesh) service(number int) string {
	export := r.pick("", "", "", ", annotations: {networking.istio.io/exportTo: '.'}", ", annotations: {networking.istio.io/exportTo: 'far'}", ", annotations: {networking.istio.io/exportTo: '~'}")
	return "apiVersion: v1\nkind: Service\n" + r.metadata(fmt.Sprintf("service-%d", number), export) +
		fmt.Sprintf("spec: {clusterIP: 10.96.9.%d, clusterIPs: [10.96.9.%d], ports: [{name: http, port: 80, protocol: TCP}]}\n---\n", number+1, number+1)
}

func (r randomMesh) host() string {
	return r.pick("", "", "*.") + r.pick("a.example.com", "b.a.example.com", "b.example.com", "c.example.com", "d.example.com", "service-1.near.svc.cluster.local")
}

func (r randomMesh) entry(number int) string {
	label := r.pick("", "", "", ", labels: {"+firstLabel+"'"+r.pick("false", "False", "true", "no")+"'}")
	hosts := []string{r.host()}
	if other := r.host(); r.IntN(3) == 0 && other != hosts[0] {
		hosts = append(hosts, other)
	}
	resolution := r.pick("NONE", "DNS", "STATIC", "DNS_ROUND_ROBIN", "DYNAMIC_DNS")
	text := "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n" + r.metadata(fmt.Sprintf("entry-%d", number), label) +
		"spec:\n  hosts: ['" + strings.Join(hosts, "', '") + "']\n  ports: [{number: 443, name: tls, protocol: TLS}]\n  resolution: " + resolution + "\n"
	switch r.IntN(6) {
	case 0:
		text += fmt.Sprintf("  addresses: [198.51.100.%d, '2001:db8::%d/128']\n", number+1, number+1)
	case 1:
		text += fmt.Sprintf("  addresses: [198.51.100.%d/32, 203.0.113.0/24]\n", number+1)
	}
	text += r.pick("", "", "  exportTo: ['*']\n", "  exportTo: ['.']\n", "  exportTo: [far]\n", "  exportTo: [near, far]\n")
	given := append([]string{"gone.example.com"}, hosts...)
	if resolution != "DYNAMIC_DNS" {
		// Istio's allocator takes such an address away, and its table has it until then. Ours never has.
		given = slices.DeleteFunc(given, func(host string) bool { return strings.HasPrefix(host, "*.") })
	}
	if r.IntN(3) > 0 {
		text += "status:\n  addresses:\n"
		for range 1 + r.IntN(4) {
			address := fmt.Sprintf("240.240.%d.%d", number, 1+r.IntN(9))
			if r.IntN(3) == 0 {
				address = fmt.Sprintf("2001:2::%d:%d", number, 1+r.IntN(9))
			}
			text += fmt.Sprintf("  - {host: '%s', value: '%s'}\n", r.pick(given...), address)
		}
	}
	return text + "---\n"
}

func (r randomMesh) sidecar(number int) string {
	egress := func() string {
		return "'" + r.pick("*", ".", "near", "far") + "/" + r.pick("*", "*.example.com", "*.a.example.com", "*.near.svc.cluster.local") + "'"
	}
	text := "apiVersion: networking.istio.io/v1\nkind: Sidecar\n" + r.metadata(fmt.Sprintf("sidecar-%d", number), "") + "spec:\n  egress:\n"
	hosts := []string{egress()}
	for range r.IntN(3) {
		hosts = append(hosts, egress())
	}
	return text + "  - hosts: [" + strings.Join(hosts, ", ") + "]\n---\n"
}

// answeredFrom is every name that VMs of each namespace answer with addresses.
func answeredFrom(t *testing.T, objects string, scoped bool) map[string]map[string][]string {
	t.Helper()
	folder := t.TempDir()
	check(t, os.WriteFile(filepath.Join(folder, "mesh.yaml"), []byte(objects), 0o600))
	names := registry.New(registry.Options{Scopes: scoped})
	var translation source.Options
	if scoped {
		translation.Sidecars = source.NewSidecars()
	}
	follow, err := manifest.New(manifest.Config{Dir: folder, Registry: names.AddSource("manifests"), Translation: translation})
	check(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- follow.Run(t.Context()) }()
	select {
	case <-names.Ready():
	case err := <-stopped:
		t.Fatalf("Read the mesh: %v", err)
	}
	tables := map[string]map[string][]string{}
	for _, namespace := range namespaces {
		var scope *registry.Scope
		if scoped {
			scope, _ = translation.Sidecars.Scope(namespace, "", netip.Addr{})
		}
		view := names.OpenView(namespace, scope)
		tables[namespace] = answeredBy(t, view.Content(), namespace)
		view.Close()
	}
	return tables
}

func answeredBy(t *testing.T, content registry.Content, namespace string) map[string][]string {
	t.Helper()
	change := mirror.Change{Generation: "one", View: namespace, ClusterDomain: source.DefaultClusterDomain, To: content.Revision, Replace: true}
	for _, entry := range content.Entries {
		change.Upserts = append(change.Upserts, &registryv1.Resource{Key: entry.Key, Body: entry.Body})
	}
	m := mirror.New(mirror.Options{TTL: 30, EndpointTTL: 5})
	check(t, m.Apply(change))
	answered := map[string][]string{}
	for host := range m.State().Hosts() {
		for _, set := range []*mirror.RRset{host.A, host.AAAA} {
			if set == nil {
				continue
			}
			for _, rr := range set.RRs {
				name := strings.TrimSuffix(host.FQDN(), ".")
				answered[name] = append(answered[name], dns.Field(rr, 1))
			}
		}
	}
	return answered
}
