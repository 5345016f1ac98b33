package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// mostAliases is how many aliases are followed for one query, as many as in CoreDNS's kubernetes plugin.
const mostAliases = 11

// TestExternalNames follows aliases inside the registry, and beyond through the server's own upstream.
func TestExternalNames(t *testing.T) {
	folder := t.TempDir()
	manifests := []string{town()}
	// One alias more than can be followed.
	var long []string
	for i := range mostAliases + 1 {
		manifests = append(manifests, externalName(fmt.Sprintf("long-%d.prod", i), fmt.Sprintf("long-%d.prod.svc.cluster.local", i+1)))
		long = append(long, fmt.Sprintf("long-%d", i+1))
	}
	manifests = append(manifests, service(long[mostAliases]+".prod", "10.96.0.99"))
	write(t, folder, "town.yaml", documents(manifests...))
	_, syncer, _ := syncerOn(t, folder)
	m := newChain(t, syncer, "meshvm cluster.local mesh.example {\n"+follow+"\n}\nforward . "+programs.Upstream(t))
	m.isReady()

	// alias is CNAME records from each name to the next. A name without a dot is a Service in prod.
	alias := func(names ...string) []string {
		var records []string
		for i := range names {
			if !strings.Contains(names[i], ".") {
				names[i] += ".prod.svc.cluster.local."
			}
			if i > 0 {
				records = append(records, names[i-1]+" CNAME "+names[i])
			}
		}
		return records
	}
	const reviews = "reviews.prod.svc.cluster.local."
	tests := map[string]struct {
		question  string
		rcode     int
		answer    []string
		authority []string // OWNER TYPE
	}{
		"outside": {"www.prod.svc.cluster.local. A", dns.RcodeSuccess,
			append(alias("www", "www.example.org."), "www.example.org. A "+programs.Outside), nil},
		"outside, the CNAME alone": {"www.prod.svc.cluster.local. CNAME", dns.RcodeSuccess, alias("www", "www.example.org."), nil},
		"outside, no such type":    {"www.prod.svc.cluster.local. AAAA", dns.RcodeSuccess, alias("www", "www.example.org."), nil},
		"outside, no such name":    {"invalid.prod.svc.cluster.local. A", dns.RcodeNameError, alias("invalid", "nobody.invalid."), nil},
		"chain": {"first.prod.svc.cluster.local. A", dns.RcodeSuccess,
			append(alias("first", "second", "third", "reviews"), reviews+" A 10.96.0.10"), nil},
		"chain, AAAA": {"first.prod.svc.cluster.local. AAAA", dns.RcodeSuccess,
			append(alias("first", "second", "third", "reviews"), reviews+" AAAA fd00:96::10"), nil},
		"chain, SRV": {"first.prod.svc.cluster.local. SRV", dns.RcodeSuccess,
			append(alias("first", "second", "third", "reviews"), reviews+" SRV 0 50 80 "+reviews), nil},
		"chain, no such type": {"first.prod.svc.cluster.local. MX", dns.RcodeSuccess,
			alias("first", "second", "third", "reviews"), []string{"cluster.local. SOA"}},
		"chain that leads outside": {"mixed.prod.svc.cluster.local. A", dns.RcodeSuccess,
			append(alias("mixed", "www", "www.example.org."), "www.example.org. A "+programs.Outside), nil},
		"ServiceEntry": {"shop.prod.svc.cluster.local. A", dns.RcodeSuccess,
			append(alias("shop", "api.shop.example.com."), "api.shop.example.com. A 240.240.0.1"), nil},
		"another zone": {"third.prod.svc.mesh.example. A", dns.RcodeSuccess,
			append(alias("third.prod.svc.mesh.example.", "reviews"), reviews+" A 10.96.0.10"), nil},
		"nothing there":     {"missing.prod.svc.cluster.local. A", dns.RcodeNameError, alias("missing", "nobody"), []string{"cluster.local. SOA"}},
		"circle":            {"circle.prod.svc.cluster.local. A", dns.RcodeServerFailure, nil, nil},
		"circle of itself":  {"self.prod.svc.cluster.local. A", dns.RcodeServerFailure, nil, nil},
		"circle, the CNAME": {"circle.prod.svc.cluster.local. CNAME", dns.RcodeSuccess, alias("circle", "around"), nil},
		"as long as can be": {"long-1.prod.svc.cluster.local. A", dns.RcodeSuccess,
			append(alias(slices.Clone(long)...), long[mostAliases]+".prod.svc.cluster.local. A 10.96.0.99"), nil},
		"longer": {"long-0.prod.svc.cluster.local. A", dns.RcodeServerFailure, nil, nil},
	}
	clients := map[string]client{"UDP": {}, "TCP": {tcp: true}, "EDNS": {size: 1232}, "EDNS with DO over TCP": {tcp: true, size: 1232, do: true}}
	for name, tc := range tests {
		for how, c := range clients {
			t.Run(name+", "+how, func(t *testing.T) {
				reply, _ := m.reply(t, c, tc.question)
				sameRcode(t, reply, tc.rcode)
				sameLines(t, "Answer", reply.Answer, tc.answer...)
				sameOwners(t, "Authority", reply.Ns, tc.authority)
				var want []uint16
				if tc.rcode == dns.RcodeServerFailure && c.size > 0 {
					want = []uint16{dns.ExtendedErrorCodeOther}
				}
				if got := codesOf(reply); !slices.Equal(got, want) {
					t.Errorf("Extended errors: got %v, want %v", got, want)
				}
			})
		}
	}

	t.Run("dead upstream", func(t *testing.T) {
		lonely := newChain(t, syncer, "meshvm {\n"+follow+"\n}\nforward . "+programs.FreeAddress(t))
		lonely.isReady()
		reply, _ := lonely.reply(t, client{}, "www.prod.svc.cluster.local. A")
		sameRcode(t, reply, dns.RcodeSuccess)
		sameLines(t, "Answer", reply.Answer, alias("www", "www.example.org.")...)
		lonely.answersNow("first.prod.svc.cluster.local.", dns.TypeCNAME, "second.prod.svc.cluster.local.")
	})
	t.Run("no upstream", func(t *testing.T) {
		alone := newChain(t, syncer, "meshvm {\n"+follow+"\n}")
		alone.isReady()
		reply, _ := alone.reply(t, client{}, "www.prod.svc.cluster.local. A")
		sameRcode(t, reply, dns.RcodeSuccess)
		sameLines(t, "Answer", reply.Answer, alias("www", "www.example.org.")...)
	})
}
