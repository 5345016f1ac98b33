package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// TestReplySize asks for more than a datagram holds, and for all of it.
func TestReplySize(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "crowd.yaml", crowd())
	_, syncer, _ := syncerOn(t, folder)
	plain := newChain(t, syncer, "meshvm {\n"+follow+"\n}")
	narrow := newChain(t, syncer, "bufsize 700\nmeshvm {\n"+follow+"\n}")
	plain.isReady()
	narrow.isReady()

	const four, six = "crowd.prod.svc.cluster.local. A", "crowd6.prod.svc.cluster.local. AAAA"
	const ports = "_sql._tcp.crowd.prod.svc.cluster.local. SRV"
	tests := map[string]struct {
		machine  *machine
		client   client
		question string
		size     int  // at most, in bytes
		whole    bool // all records, and no TC
	}{
		"UDP":                           {plain, client{}, four, 512, false},
		"UDP, AAAA":                     {plain, client{}, six, 512, false},
		"UDP, SRV":                      {plain, client{}, ports, 512, false},
		"EDNS below the least":          {plain, client{size: 100}, four, 512, false},
		"EDNS 1232":                     {plain, client{size: 1232}, four, 1232, false},
		"EDNS 1232, SRV":                {plain, client{size: 1232}, ports, 1232, false},
		"EDNS 4096":                     {plain, client{size: 4096}, four, 4096, false},
		"EDNS of all that UDP can hold": {plain, client{size: 65507}, four, 65507, true},
		"TCP":                           {plain, client{tcp: true}, four, 65535, true},
		"TCP, AAAA":                     {plain, client{tcp: true}, six, 65535, true},
		"TCP, SRV":                      {plain, client{tcp: true}, ports, 65535, true},
		"TCP with EDNS 512":             {plain, client{tcp: true, size: 512}, four, 65535, true},
		"TCP with EDNS 1232, SRV":       {plain, client{tcp: true, size: 1232}, ports, 65535, true},
		"bufsize below EDNS":            {narrow, client{size: 4096}, four, 700, false},
		"bufsize above EDNS":            {narrow, client{size: 600}, four, 600, false},
		"bufsize without EDNS":          {narrow, client{}, four, 512, false},
		"bufsize over TCP":              {narrow, client{tcp: true, size: 4096}, four, 65535, true},
	}
	everyone, everyone6 := map[string]bool{}, map[string]bool{}
	for i := range crowdSize {
		everyone[crowdAddress(i)], everyone6[crowdAddress6(i)] = true, true
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reply, size := tc.machine.reply(t, tc.client, tc.question)
			sameRcode(t, reply, dns.RcodeSuccess)
			if size > tc.size {
				t.Errorf("Size: got %d, want at most %d", size, tc.size)
			}
			if reply.Truncated == tc.whole {
				t.Errorf("TC: got %t, want %t", reply.Truncated, !tc.whole)
			}
			seen := map[string]bool{}
			for _, rr := range reply.Answer {
				if name, _, _ := strings.Cut(tc.question, " "); rr.Header().Name != name {
					t.Fatalf("Owner: got %s, want %s", rr.Header().Name, name)
				}
				data, known := "", everyone
				switch rr := rr.(type) {
				case *dns.A:
					data = rr.A.String()
				case *dns.AAAA:
					data, known = rr.AAAA.String(), everyone6
				case *dns.SRV:
					data = strings.ReplaceAll(strings.TrimSuffix(rr.Target, ".crowd.prod.svc.cluster.local."), "-", ".")
				}
				if !known[data] || seen[data] {
					t.Fatalf("Record: got %v, want each endpoint at most once", rr)
				}
				seen[data] = true
			}
			if got := len(seen); tc.whole && got != crowdSize || got == 0 || got > crowdSize {
				t.Errorf("Records: got %d, want %d, or some where they do not fit", got, crowdSize)
			}
			if !tc.whole || !strings.HasSuffix(tc.question, "SRV") {
				return
			}
			additional := map[string]bool{}
			for _, record := range lines(reply.Extra) {
				owner, address, _ := strings.Cut(record, " A ")
				if !everyone[address] || owner != strings.ReplaceAll(address, ".", "-")+".crowd.prod.svc.cluster.local." || additional[address] {
					t.Fatalf("Additional: got %s, want each target's own address at most once", record)
				}
				additional[address] = true
			}
			if len(additional) == 0 || len(additional) == crowdSize {
				t.Errorf("Additional: got %d, want as many as fit", len(additional))
			}
		})
	}
}

// TestEDNS holds what the OPT record of a reply says (RFC 6891).
func TestEDNS(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, syncer, _ := syncerOn(t, folder)
	m := newChain(t, syncer, "meshvm {\n"+follow+"\n}\nforward . "+programs.Upstream(t))
	m.isReady()
	questions := map[string]string{
		"hit":       "reviews.prod.svc.cluster.local. A",
		"no data":   "reviews.prod.svc.cluster.local. TXT",
		"NXDOMAIN":  "nope.prod.svc.cluster.local. A",
		"SRV":       "_sql._tcp.db.prod.svc.cluster.local. SRV",
		"host":      "api.shop.example.com. A",
		"alias":     "www.prod.svc.cluster.local. A",
		"circle":    "circle.prod.svc.cluster.local. A",
		"PTR":       "10.0.96.10.in-addr.arpa. PTR",
		"zone":      "cluster.local. SOA",
		"refused":   "cluster.local. AXFR",
		"upstream":  "www.example.org. A",
		"no server": "ns.dns.cluster.local. AAAA",
	}
	clients := map[string]client{
		"without":        {},
		"with":           {size: 1232},
		"with DO":        {size: 1232, do: true},
		"over TCP":       {size: 4096, tcp: true},
		"over TCP, DO":   {size: 4096, tcp: true, do: true},
		"without, TCP":   {tcp: true},
		"version 1":      {size: 1232, version: 1},
		"version 1, TCP": {size: 1232, version: 1, tcp: true},
	}
	for what, question := range questions {
		for how, c := range clients {
			t.Run(what+" "+how, func(t *testing.T) {
				reply, _ := m.reply(t, c, question)
				var opts []*dns.OPT
				for _, rr := range reply.Extra {
					if opt, ok := rr.(*dns.OPT); ok {
						opts = append(opts, opt)
					}
				}
				if c.size == 0 {
					if len(opts) > 0 {
						t.Errorf("OPT: got %v, want none without EDNS in the query", opts)
					}
					return
				}
				if len(opts) != 1 {
					t.Fatalf("OPT: got %d of them, want 1", len(opts))
				}
				opt := opts[0]
				if opt.Version() != 0 {
					t.Errorf("Version: got %d, want 0", opt.Version())
				}
				if c.version != 0 {
					sameRcode(t, reply, dns.RcodeBadVers)
					sameLines(t, "Answer", reply.Answer)
					return
				}
				if reply.Rcode == dns.RcodeBadVers {
					t.Error("Rcode: got BADVERS for version 0")
				}
				if opt.Do() != c.do {
					t.Errorf("DO: got %t, want %t", opt.Do(), c.do)
				}
				if opt.Hdr.Name != "." {
					t.Errorf("Owner: got %s, want the root", opt.Hdr.Name)
				}
			})
		}
	}
}

// TestSpelling asks as clients do that mix upper and lower case so that forged replies show
// (draft-vixie-dnsext-dns0x20), and looks at every owner name.
func TestSpelling(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	_, syncer, _ := syncerOn(t, folder)
	m := newChain(t, syncer, "meshvm cluster.local 10.96.0.0/16 {\n"+follow+"\nshort_names\npods insecure\n}\nforward . "+programs.Upstream(t))
	m.isReady()
	const soa = "cluster.local. SOA"
	tests := map[string]struct {
		question  string
		answer    []string // OWNER TYPE
		authority []string
	}{
		"A":                  {"ReViews.PROD.svc.Cluster.LOCAL. A", []string{"ReViews.PROD.svc.Cluster.LOCAL. A"}, nil},
		"AAAA":               {"REVIEWS.prod.SVC.cluster.local. AAAA", []string{"REVIEWS.prod.SVC.cluster.local. AAAA"}, nil},
		"SRV":                {"_HTTP._tCp.Reviews.prod.svc.cluster.local. SRV", []string{"_HTTP._tCp.Reviews.prod.svc.cluster.local. SRV"}, nil},
		"endpoint":           {"DB-0.Db.Prod.svc.cluster.local. A", []string{"DB-0.Db.Prod.svc.cluster.local. A"}, nil},
		"endpoint, address":  {"10-244-0-2.DB.prod.svc.cluster.local. A", []string{"10-244-0-2.DB.prod.svc.cluster.local. A"}, nil},
		"pod":                {"10-1-2-3.Prod.POD.cluster.local. A", []string{"10-1-2-3.Prod.POD.cluster.local. A"}, nil},
		"PTR in a zone":      {"10.0.96.10.IN-addr.ARPA. PTR", []string{"10.0.96.10.IN-addr.ARPA. PTR"}, nil},
		"PTR outside":        {"1.0.244.10.In-Addr.Arpa. PTR", []string{"1.0.244.10.In-Addr.Arpa. PTR"}, nil},
		"CNAME":              {"WWW.prod.Svc.cluster.local. CNAME", []string{"WWW.prod.Svc.cluster.local. CNAME"}, nil},
		"alias":              {"wWw.prod.svc.cluster.local. A", []string{"wWw.prod.svc.cluster.local. CNAME", "www.example.org. A"}, nil},
		"alias in the mesh":  {"THIRD.prod.svc.cluster.local. A", []string{"THIRD.prod.svc.cluster.local. CNAME", "reviews.prod.svc.cluster.local. A"}, nil},
		"apex SOA":           {"Cluster.Local. SOA", []string{"Cluster.Local. SOA"}, nil},
		"apex NS":            {"Cluster.Local. NS", []string{"Cluster.Local. NS"}, nil},
		"name server":        {"Ns.DNS.cluster.local. A", []string{"Ns.DNS.cluster.local. A"}, nil},
		"version":            {"DNS-version.cluster.local. TXT", []string{"DNS-version.cluster.local. TXT"}, nil},
		"host":               {"API.Shop.Example.COM. A", []string{"API.Shop.Example.COM. A"}, nil},
		"host's port":        {"_TLS._TCP.api.SHOP.example.com. SRV", []string{"_TLS._TCP.api.SHOP.example.com. SRV"}, nil},
		"wildcard":           {"Any.WILD.shop.example.com. A", []string{"Any.WILD.shop.example.com. A"}, nil},
		"short name":         {"LOCAL. A", []string{"LOCAL. A"}, nil},
		"no data":            {"OLD.prod.svc.cluster.local. AAAA", nil, []string{soa}},
		"no data above":      {"PROD.svc.cluster.local. A", nil, []string{soa}},
		"NXDOMAIN":           {"Nope.Prod.svc.cluster.local. A", nil, []string{soa}},
		"NXDOMAIN, reverse":  {"250.0.96.10.in-ADDR.arpa. PTR", nil, []string{"96.10.in-addr.arpa. SOA"}},
		"no data of a host":  {"API.shop.example.com. AAAA", nil, []string{"API.shop.example.com. SOA"}},
		"HTTPS of a host":    {"API.shop.example.com. HTTPS", nil, []string{"API.shop.example.com. SOA"}},
		"outside":            {"Www.Example.ORG. A", []string{"Www.Example.ORG. A"}, nil},
		"outside, NXDOMAIN":  {"Nobody.INVALID. A", nil, nil},
		"no alias of a type": {"THIRD.prod.svc.cluster.local. TXT", []string{"THIRD.prod.svc.cluster.local. CNAME"}, []string{soa}},
	}
	for name, tc := range tests {
		for how, c := range map[string]client{"UDP": {}, "TCP with EDNS": {tcp: true, size: 1232}} {
			t.Run(name+", "+how, func(t *testing.T) {
				reply, _ := m.reply(t, c, tc.question)
				asked, _, _ := strings.Cut(tc.question, " ")
				if got := reply.Question[0].Name; got != asked {
					t.Errorf("Question: got %s, want %s", got, asked)
				}
				sameOwners(t, "Answer", reply.Answer, tc.answer)
				sameOwners(t, "Authority", reply.Ns, tc.authority)
			})
		}
	}
}

// sameOwners compares owners and types of records, OWNER TYPE each, in order.
func sameOwners(t *testing.T, section string, records []dns.RR, want []string) {
	t.Helper()
	if got := ownersOf(records); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", section, got, want)
	}
}

// ownersOf is owners and types of records, as sameOwners compares them.
func ownersOf(records []dns.RR) []string {
	var owners []string
	for _, rr := range records {
		owners = append(owners, rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype])
	}
	return owners
}
