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
	{"PTR", "77.0.97.10.in-addr.arpa.", dns.TypePTR, 4},
}

// crowd is the mesh of the tests with ten thousand services more.
func crowd() []*registryv1.Resource {
	resources := mesh()
	for i := range 10_000 {
		ip := fmt.Sprintf("10.97.%d.%d", i/250, i%250)
		resources = append(resources, service(fmt.Sprintf("service-%d", i), "prod", ip))
	}
	return resources
}

// sink is a client that wants nothing of the reply.
type sink struct{ test.ResponseWriter }

func (*sink) WriteMsg(*dns.Msg) error { return nil }

func BenchmarkServeDNS(b *testing.B) {
	m := serving(b, defaultConfig(), crowd())
	for _, q := range queries {
		b.Run(q.name, func(b *testing.B) {
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

// TestAllocations holds what a query may allocate in the plugin: the message, and the records that are
// not prepared. Packing is not counted.
func TestAllocations(t *testing.T) {
	m := serving(t, defaultConfig(), crowd())
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
