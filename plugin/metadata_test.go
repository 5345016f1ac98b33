package meshvm

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func question(name string, qtype uint16) request.Request {
	return request.Request{W: &test.ResponseWriter{}, Req: new(dns.Msg).SetQuestion(name, qtype)}
}

// labelsOf is the metadata of a query, by the last part of the label.
func labelsOf(t *testing.T, m *Meshvm, name string, qtype uint16) map[string]string {
	t.Helper()
	ctx := m.Metadata(metadata.ContextWithMetadata(t.Context()), question(name, qtype))
	labels := map[string]string{}
	for label, value := range metadata.ValueFuncs(ctx) {
		if !metadata.IsLabel(label) {
			t.Errorf("Label: got %q, want one that the metadata plugin takes", label)
		}
		labels[strings.TrimPrefix(label, "meshvm/")] = value()
	}
	return labels
}

// object is the labels of a host, NAMESPACE/NAME.
func object(name, source, kind string) map[string]string {
	namespace, name, _ := strings.Cut(name, "/")
	return map[string]string{"name": name, "namespace": namespace, "source": source, "kind": kind, "stale": "false"}
}

func TestMetadata(t *testing.T) {
	resources := append(mesh(),
		kindOfEntry("literal", "literal.example.com", registryv1.AddressKind_ADDRESS_KIND_LITERAL, "192.0.2.1"),
		kindOfEntry("static", "static.example.com", registryv1.AddressKind_ADDRESS_KIND_ENDPOINT, "192.0.2.2"),
		kindOfEntry("soon", "soon.example.com", registryv1.AddressKind_ADDRESS_KIND_PENDING),
		kindOfEntry("twin", "twin.example.com", registryv1.AddressKind_ADDRESS_KIND_LITERAL, "240.240.0.1"),
		kindOfEntry("later", "later.prod.svc.cluster.local", registryv1.AddressKind_ADDRESS_KIND_UNSPECIFIED),
		serviceResource(registryv1.ServiceKey("", "prod", "imported"), &registryv1.Service{
			Host: "imported.prod.svc.cluster.local", Namespace: "prod", Name: "imported",
			Origin: registryv1.Origin_ORIGIN_SERVICE_IMPORT, Addresses: addresses("10.96.0.99"),
			AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
		}),
	)
	ours, none := map[string]string{"stale": "false"}, map[string]string{}
	tests := []struct {
		name  string
		query string // NAME TYPE
		want  map[string]string
	}{
		{"service", "reviews.prod.svc.cluster.local. A", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"service, another spelling", "Reviews.PROD.svc.cluster.local. A", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"service, a type that it has not", "reviews.prod.svc.cluster.local. TXT", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"service in another zone", "reviews.prod.svc.mesh.example.org. A", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"port of a service", "_http._tcp.reviews.prod.svc.cluster.local. SRV", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"headless service", "db.prod.svc.cluster.local. A", object("prod/db", "Kubernetes", "headless")},
		{"headless service without endpoints", "idle.prod.svc.cluster.local. A", object("prod/idle", "Kubernetes", "headless")},
		{"endpoint", "db-0.db.prod.svc.cluster.local. A", object("prod/db", "Kubernetes", "endpoint")},
		{"alias", "ext.prod.svc.cluster.local. A", object("prod/ext", "Kubernetes", "external-name")},
		{"import", "imported.prod.svc.cluster.local. A", object("prod/imported", "ServiceImport", "cluster-ip")},
		{"short name", "short. A", object("vm/short", "Kubernetes", "cluster-ip")},
		{"virtual IP", "api.example.com. A", object("mesh/api", "ServiceEntry", "virtual-ip")},
		{"virtual IP of a wildcard", "a.b.wild.example.com. A", object("mesh/wild", "ServiceEntry", "virtual-ip")},
		{"literal address", "literal.example.com. A", object("mesh/literal", "ServiceEntry", "literal")},
		{"endpoints of a ServiceEntry", "static.example.com. A", object("mesh/static", "ServiceEntry", "endpoint")},
		{"a virtual IP that is awaited", "soon.example.com. A", object("mesh/soon", "ServiceEntry", "pending")},
		{"no address, in a zone", "later.prod.svc.cluster.local. A", object("mesh/later", "ServiceEntry", "none")},
		{"no address, outside", "bare.example.com. A", none},
		{"port of an overlaid host", "_https._tcp.api.example.com. SRV", object("mesh/api", "ServiceEntry", "virtual-ip")},
		{"port of an exact host below a wildcard", "_x._tcp.exact.wild.example.com. SRV", none},
		{"port that an overlaid host has not", "_nope._tcp.api.example.com. SRV", none},
		{"port without underscores", "https.tcp.api.example.com. SRV", none},
		{"port with one underscore", "_https.tcp.api.example.com. SRV", none},
		{"port of no host", "_https._tcp.www.example.com. SRV", none},
		{"address of a service", "10.0.96.10.in-addr.arpa. PTR", object("prod/reviews", "Kubernetes", "cluster-ip")},
		{"address of an endpoint", "1.0.0.10.in-addr.arpa. PTR", object("prod/db", "Kubernetes", "endpoint")},
		{"address of two hosts", "1.0.240.240.in-addr.arpa. PTR", object("mesh/api", "ServiceEntry", "virtual-ip")},
		{"another type of an address", "1.2.0.192.in-addr.arpa. TXT", none},
		{"address of nobody", "9.2.0.192.in-addr.arpa. PTR", none},
		{"address of nobody, in a reverse zone", "77.7.96.10.in-addr.arpa. PTR", ours},
		{"network in a reverse zone", "7.96.10.in-addr.arpa. PTR", ours},
		{"zone", "cluster.local. SOA", ours},
		{"unknown name in a zone", "nope.prod.svc.cluster.local. A", ours},
		{"namespace", "prod.svc.cluster.local. A", ours},
		{"name of the rest of the world", "www.example.org. A", none},
		{"root", ". NS", none},
	}
	config := defaultConfig()
	config.Zones = []string{DefaultZone, "mesh.example.org.", "96.10.in-addr.arpa."}
	config.ShortNames = true
	m := serving(t, config, resources)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name, qtype, _ := strings.Cut(test.query, " ")
			if got := labelsOf(t, m, name, dns.StringToType[qtype]); !maps.Equal(got, test.want) {
				t.Errorf("Labels of %s: got %v, want %v", test.query, got, test.want)
			}
		})
	}
}

// kindOfEntry is a ServiceEntry's host with addresses of a kind.
func kindOfEntry(name, host string, kind registryv1.AddressKind, ips ...string) *registryv1.Resource {
	return serviceResource(registryv1.ServiceEntryKey("", "mesh", name, host), &registryv1.Service{
		Host: host, Namespace: "mesh", Name: name, Origin: entry, Addresses: addresses(ips...), AddressKind: kind,
	})
}

func TestMetadataOfStaleRegistry(t *testing.T) {
	m := serving(t, defaultConfig(), mesh())
	m.follower.age.Store(int64(DefaultMaxStale + time.Second))
	for name, want := range map[string]string{
		"reviews.prod.svc.cluster.local.": "true",
		"nope.prod.svc.cluster.local.":    "true",
		"api.example.com.":                "true",
		"www.example.org.":                "",
	} {
		if got := labelsOf(t, m, name, dns.TypeA)["stale"]; got != want {
			t.Errorf("meshvm/stale of %s: got %q, want %q", name, got, want)
		}
	}
}

func TestMetadataBeforeAnythingIsLoaded(t *testing.T) {
	m := serving(t, defaultConfig(), nil)
	if got, want := labelsOf(t, m, "reviews.prod.svc.cluster.local.", dns.TypeA), (map[string]string{"stale": "false"}); !maps.Equal(got, want) {
		t.Errorf("Labels in a zone: got %v, want %v", got, want)
	}
	if got := labelsOf(t, m, "api.example.com.", dns.TypeA); len(got) > 0 {
		t.Errorf("Labels outside: got %v, want none", got)
	}
}

// TestMetadataIsCheap holds the allocations of a call: it is made for every query.
func TestMetadataIsCheap(t *testing.T) {
	m := serving(t, defaultConfig(), mesh())
	for _, test := range []struct {
		name string
		most float64
	}{
		{"reviews.prod.svc.cluster.local.", 5}, // the map's first labels, and four values
		{"nope.prod.svc.cluster.local.", 1},
		{"www.example.org.", 0},
	} {
		request := question(test.name, dns.TypeA)
		empty := testing.AllocsPerRun(100, func() { metadata.ContextWithMetadata(context.Background()) })
		got := testing.AllocsPerRun(100, func() { m.Metadata(metadata.ContextWithMetadata(context.Background()), request) }) - empty
		if got > test.most {
			t.Errorf("Allocations for %s: got %v, want at most %v", test.name, got, test.most)
		}
	}
}
