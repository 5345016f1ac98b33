package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// TestStaleAnswers takes the syncer away from machines that mind after a second, and from one that does
// not.
func TestStaleAnswers(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town()+"---\n"+crowd())
	syncer, address, http := syncerOn(t, folder)
	upstream := programs.Upstream(t)
	start := func(option string) *machine {
		m := newChain(t, address, "meshvm {\n"+follow+"\n"+option+"\n}\nforward . "+upstream)
		m.isReady()
		return m
	}
	patient, serving, failing := start("max_stale 1h"), start("max_stale 1s"), start("max_stale 1s fail")
	syncer.Stop(t, syscall.SIGKILL)

	const name = "reviews.prod.svc.cluster.local."
	withEDNS := client{size: 1232}
	eventually(t, "the answer is said to be stale", func() error {
		reply, _, err := withEDNS.exchange(t.Context(), serving.address, name, dns.TypeA)
		if err == nil && !slices.Equal(codesOf(reply), []uint16{dns.ExtendedErrorCodeStaleAnswer}) {
			err = fmt.Errorf("got %v", reply)
		}
		return err
	})
	failing.answers(name, dns.TypeA, "SERVFAIL")

	// What each machine says once it is stale: the same records, but for the one that is to fail.
	tests := map[string]struct {
		question string
		rcode    int
		mesh     bool // else the next plugin's
	}{
		"service":           {name + " A", dns.RcodeSuccess, true},
		"endpoints":         {"db.prod.svc.cluster.local. A", dns.RcodeSuccess, true},
		"ports":             {"_sql._tcp.db.prod.svc.cluster.local. SRV", dns.RcodeSuccess, true},
		"alias":             {"www.prod.svc.cluster.local. A", dns.RcodeSuccess, true},
		"no data":           {name + " TXT", dns.RcodeSuccess, true},
		"NXDOMAIN":          {"nope.prod.svc.cluster.local. A", dns.RcodeNameError, true},
		"zone":              {"cluster.local. NS", dns.RcodeSuccess, true},
		"pointer":           {"10.0.96.10.in-addr.arpa. PTR", dns.RcodeSuccess, true},
		"host":              {"api.shop.example.com. A", dns.RcodeSuccess, true},
		"HTTPS of a host":   {"api.shop.example.com. HTTPS", dns.RcodeSuccess, true},
		"port of a host":    {"_tls._tcp.api.shop.example.com. SRV", dns.RcodeSuccess, true},
		"too large for UDP": {"crowd.prod.svc.cluster.local. A", dns.RcodeSuccess, true},
		"outside":           {"www.example.org. A", dns.RcodeSuccess, false},
		"outside, NXDOMAIN": {"nobody.invalid. A", dns.RcodeNameError, false},
		"foreign pointer":   {"1.2.0.192.in-addr.arpa. PTR", dns.RcodeNameError, false},
	}
	clients := map[string]client{"EDNS": withEDNS, "EDNS over TCP": {size: 1232, tcp: true}, "no EDNS": {}, "no EDNS over TCP": {tcp: true}}
	for what, tc := range tests {
		for how, c := range clients {
			t.Run(what+", "+how, func(t *testing.T) {
				fresh, _ := patient.reply(t, c, tc.question)
				sameRcode(t, fresh, tc.rcode)
				sameCodes(t, fresh)
				var wanted []uint16
				if tc.mesh && c.size > 0 {
					wanted = []uint16{dns.ExtendedErrorCodeStaleAnswer}
				}

				stale, size := serving.reply(t, c, tc.question)
				sameRcode(t, stale, tc.rcode)
				sameCodes(t, stale, wanted...)
				if !c.tcp && size > max(512, int(c.size)) || stale.Truncated != fresh.Truncated {
					t.Errorf("Size: got %d bytes and TC %t, want at most what the client takes and TC %t", size, stale.Truncated, fresh.Truncated)
				}
				if !stale.Truncated {
					sameLines(t, "Answer", stale.Answer, lines(fresh.Answer)...)
					sameOwners(t, "Authority", stale.Ns, ownersOf(fresh.Ns))
					sameLines(t, "Additional", stale.Extra, lines(fresh.Extra)...)
				}

				failed, _ := failing.reply(t, c, tc.question)
				if !tc.mesh {
					sameRcode(t, failed, tc.rcode)
					sameCodes(t, failed)
					return
				}
				sameRcode(t, failed, dns.RcodeServerFailure)
				sameLines(t, "Answer of a failure", failed.Answer)
				sameCodes(t, failed, wanted...)
			})
		}
	}

	// The syncer is back: nothing is stale any more.
	syncerAt(t, folder, address, http)
	failing.answers(name, dns.TypeA, "10.96.0.10")
	eventually(t, "the answer is fresh", func() error {
		reply, _, err := withEDNS.exchange(t.Context(), serving.address, name, dns.TypeA)
		if err == nil && len(codesOf(reply)) > 0 {
			err = fmt.Errorf("got %v", reply)
		}
		return err
	})
}

// sameCodes compares the extended errors of a reply.
func sameCodes(t *testing.T, reply *dns.Msg, want ...uint16) {
	t.Helper()
	if got := codesOf(reply); !slices.Equal(got, want) {
		t.Errorf("Extended errors: got %v, want %v", got, want)
	}
}
