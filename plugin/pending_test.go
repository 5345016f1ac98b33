package meshvm

import (
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// TestPending asks for hosts whose virtual IPs are awaited. Their addresses elsewhere would lead around the
// mesh.
func TestPending(t *testing.T) {
	awaited := func(name, host string) *registryv1.Resource {
		return kindOfEntry(name, host, registryv1.AddressKind_ADDRESS_KIND_PENDING)
	}
	resources := append(mesh(),
		withPorts(awaited("late", "late.example.net"), tcp("https", 443)),
		awaited("wild", "*.late.example.org"),
		awaited("inside", "late.prod.svc.cluster.local"),
		awaited("half", "half.example.net"), kindOfEntry("half-b", "half.example.net", registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP, "240.240.0.9"),
		awaited("twice", "twice.example.net"), kindOfEntry("twice-b", "twice.example.net", registryv1.AddressKind_ADDRESS_KIND_UNSPECIFIED),
		// A kind that this program does not know, as it comes from a syncer that is newer.
		kindOfEntry("newer", "newer.example.net", 77),
	)
	through := defaultConfig()
	through.Fall.SetZonesFromArgs(nil)
	tests := map[string]struct {
		config *Config
		query  string
		qtype  uint16
		want   answer
		counts bool // as pending
	}{
		"A":                               {nil, "late.example.net.", dns.TypeA, noDataOf("late.example.net."), true},
		"AAAA":                            {nil, "late.example.net.", dns.TypeAAAA, noDataOf("late.example.net."), true},
		"SRV":                             {nil, "late.example.net.", dns.TypeSRV, noDataOf("late.example.net."), true},
		"HTTPS":                           {nil, "late.example.net.", dns.TypeHTTPS, noDataOf("late.example.net."), true},
		"MX is not the mesh's to say":     {nil, "late.example.net.", dns.TypeMX, passedOn, false},
		"the name's own spelling":         {nil, "LATE.example.net.", dns.TypeA, noDataOf("LATE.example.net."), true},
		"SRV of a port":                   {nil, "_https._tcp.late.example.net.", dns.TypeSRV, passedOn, false},
		"below a wildcard":                {nil, "any.late.example.org.", dns.TypeA, noDataOf("any.late.example.org."), true},
		"a wildcard's apex":               {nil, "late.example.org.", dns.TypeA, passedOn, false},
		"in a zone":                       {nil, "late.prod.svc.cluster.local.", dns.TypeA, noDataOf(DefaultZone), true},
		"in a zone, with fallthrough":     {through, "late.prod.svc.cluster.local.", dns.TypeA, noDataOf(DefaultZone), true},
		"another claim has an address":    {nil, "half.example.net.", dns.TypeA, records(0, "A 240.240.0.9"), false},
		"another claim has none either":   {nil, "twice.example.net.", dns.TypeA, noDataOf("twice.example.net."), true},
		"no address and no kind":          {nil, "bare.example.com.", dns.TypeA, passedOn, false},
		"no address and an unknown kind":  {nil, "newer.example.net.", dns.TypeA, passedOn, false},
		"no address, no kind, a neighbor": {nil, "pending.prod.svc.cluster.local.", dns.TypeA, noDataOf(DefaultZone), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			config := tc.config
			if config == nil {
				config = defaultConfig()
			}
			before := testutil.ToFloat64(requests[requestType(tc.qtype)][pending])
			check(t, ask(t, serving(t, config, resources), tc.query, tc.qtype, true), tc.want)
			if counted := testutil.ToFloat64(requests[requestType(tc.qtype)][pending]) > before; counted != tc.counts {
				t.Errorf("Counted as pending: got %t, want %t", counted, tc.counts)
			}
		})
	}
}
