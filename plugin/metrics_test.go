package meshvm

import (
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestRequests: each query is counted once, under its type and what became of it.
func TestRequests(t *testing.T) {
	const name = "v4only.prod.svc.cluster.local."
	fail := defaultConfig()
	fail.StaleAction = StaleFail
	tests := map[string]struct {
		config  *Config
		age     time.Duration
		query   string
		qtype   uint16
		kind    string
		outcome outcome
	}{
		"an address":                 {nil, 0, name, dns.TypeA, "A", hit},
		"no address of the family":   {nil, 0, name, dns.TypeAAAA, "AAAA", noData},
		"no name":                    {nil, 0, "nope.prod.svc.cluster.local.", dns.TypeSRV, "SRV", nameError},
		"a rare type":                {nil, 0, name, dns.TypeTLSA, "other", noData},
		"outside":                    {nil, 0, "example.com.", dns.TypeHTTPS, "HTTPS", passed},
		"stale, an address":          {nil, 2 * time.Hour, name, dns.TypeA, "A", stale},
		"stale, none":                {nil, 2 * time.Hour, name, dns.TypeAAAA, "AAAA", stale},
		"stale, no name":             {nil, 2 * time.Hour, "nope.prod.svc.cluster.local.", dns.TypeA, "A", stale},
		"stale, outside":             {nil, 2 * time.Hour, "example.com.", dns.TypeA, "A", passed},
		"stale, the Corefile: fail":  {fail, 2 * time.Hour, name, dns.TypeA, "A", failed},
		"fresh, where stale is fail": {fail, 0, name, dns.TypeA, "A", hit},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			config := tc.config
			if config == nil {
				config = defaultConfig()
			}
			m := serving(t, config, mesh())
			m.follower.age.Store(int64(tc.age))
			count := func() (counts [len(requestTypes)][stale + 1]float64) {
				for kind := range counts {
					for o := range counts[kind] {
						counts[kind][o] = testutil.ToFloat64(requests[kind][o])
					}
				}
				return counts
			}
			before := count()
			ask(t, m, tc.query, tc.qtype, true)
			for kind, outcomes := range count() {
				for o, now := range outcomes {
					want := 0.0
					if requestTypes[kind] == tc.kind && outcome(o) == tc.outcome {
						want = 1
					}
					if got := now - before[kind][o]; got != want {
						t.Errorf("type %s, outcome %d: got %v counted, want %v", requestTypes[kind], o, got, want)
					}
				}
			}
		})
	}
}
