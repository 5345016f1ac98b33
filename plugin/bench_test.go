package meshvm

import (
	"context"
	"fmt"
	"testing"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// queries are the kinds of query that the benchmark times and whose allocations a test holds.
var queries = []struct {
	name  string
	query string
	qtype uint16
	most  float64 // allocations
}{
	{"hit", "service-77.prod.svc.cluster.local.", dns.TypeA, 1},
	{"hit, spelling", "Service-77.prod.svc.cluster.local.", dns.TypeA, 4},
	{"overlaid", "api.example.com.", dns.TypeA, 1},
	{"wildcard", "a.b.wild.example.com.", dns.TypeA, 3},
	{"headless", "db.prod.svc.cluster.local.", dns.TypeA, 1},
	{"endpoint", "db-0.db.prod.svc.cluster.local.", dns.TypeA, 1},
	{"nodata", "service-77.prod.svc.cluster.local.", dns.TypeAAAA, 3},
	{"nodata, overlaid", "api.example.com.", dns.TypeAAAA, 3},
	{"miss", "nope.prod.svc.cluster.local.", dns.TypeA, 3},
	{"SRV", "_http._tcp.ported.prod.svc.cluster.local.", dns.TypeSRV, 3},
	{"SRV, spelling", "_http._tcp.Ported.prod.svc.cluster.local.", dns.TypeSRV, 4},
	{"SRV, headless of 100", "_sql._tcp.shards.prod.svc.cluster.local.", dns.TypeSRV, 8},
	{"SRV, overlaid", "_https._tcp.api.example.com.", dns.TypeSRV, 3},
	{"SRV, wildcard", "_tls._tcp.a.wild.example.com.", dns.TypeSRV, 6},
	{"port unknown", "_nope._tcp.ported.prod.svc.cluster.local.", dns.TypeSRV, 3},
	{"above a port", "_tcp.ported.prod.svc.cluster.local.", dns.TypeSRV, 5},
	{"alias", "second.prod.svc.cluster.local.", dns.TypeA, 4},
	{"PTR", "77.0.97.10.in-addr.arpa.", dns.TypePTR, 4},
}

// crowd is the mesh of the tests with a thousand times as many services and a headless one of a hundred
// endpoints.
func crowd(thousands int) []*registryv1.Resource {
	shards := make([]*registryv1.Endpoint, 100)
	for i := range shards {
		shards[i] = &registryv1.Endpoint{Addresses: addresses(fmt.Sprintf("10.1.0.%d", i)), Hostname: fmt.Sprintf("shard-%d", i), Ready: true}
	}
	resources := append(mesh(),
		withPorts(service("ported", "prod", "10.96.1.1"), tcp("http", 80), tcp("metrics", 9090)),
		headless("shards", "prod"),
		withPorts(slice("shards-1", "shards", "prod", shards...), tcp("sql", 3306)),
	)
	for i := range thousands * 1000 {
		ip := fmt.Sprintf("10.%d.%d.%d", 97+i/62500, i/250%250, i%250)
		resources = append(resources, service(fmt.Sprintf("service-%d", i), "prod", ip))
	}
	return resources
}

// sink is a client that wants nothing of the reply.
type sink struct{ test.ResponseWriter }

func (*sink) WriteMsg(*dns.Msg) error { return nil }

func BenchmarkServeDNS(b *testing.B) {
	for _, thousands := range []int{1, 10, 100} {
		m := serving(b, defaultConfig(), crowd(thousands))
		for _, q := range queries {
			b.Run(fmt.Sprintf("services=%dk/%s", thousands, q.name), func(b *testing.B) {
				r := new(dns.Msg).SetQuestion(q.query, q.qtype)
				ctx := context.Background()
				w := &sink{}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := m.ServeDNS(ctx, w, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestAllocations holds what a query may allocate in the plugin: the message, and the records that are
// not prepared. Packing is not counted.
func TestAllocations(t *testing.T) {
	m := serving(t, defaultConfig(), crowd(10))
	ctx := context.Background()
	w := &sink{}
	for _, q := range queries {
		t.Run(q.name, func(t *testing.T) {
			r := new(dns.Msg).SetQuestion(q.query, q.qtype)
			got := testing.AllocsPerRun(100, func() {
				if _, err := m.ServeDNS(ctx, w, r); err != nil {
					t.Fatal(err)
				}
			})
			if got > q.most {
				t.Errorf("Allocations: got %v, want at most %v", got, q.most)
			}
		})
	}
}
