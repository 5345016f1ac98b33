package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// stub is a resolver library with a pod's search list, after it a domain of the machine's own, and ndots:5,
// as resolv.conf(5) has it.
type stub struct {
	m      *machine
	client client
}

var searchList = []string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "corp.example."}

const ndots = 5

// lookUp is the addresses of a name, how many queries it took to find them, and the last reply. Without
// addresses nobody has such a name, or none of the type.
func (s stub) lookUp(t *testing.T, name string, qtype uint16) (addresses []string, queries int, last *dns.Msg) {
	t.Helper()
	var candidates []string
	switch bare := dns.Fqdn(name); {
	case dns.IsFqdn(name):
		candidates = []string{name}
	case strings.Count(name, ".") >= ndots:
		candidates = []string{bare}
	default:
		for _, domain := range searchList {
			candidates = append(candidates, bare+domain)
		}
		candidates = append(candidates, bare)
	}
	for _, candidate := range candidates {
		queries++
		last, _ = s.m.reply(t, s.client, candidate+" "+dns.TypeToString[qtype])
		if got := last.Question[0].Name; got != candidate {
			t.Errorf("Question: got %s, want %s", got, candidate)
		}
		// No data, NXDOMAIN and a failure alike: on to the next.
		if addresses = follows(last, candidate); len(addresses) > 0 {
			break
		}
	}
	return addresses, queries, last
}

// follows is the addresses that a library accepts for the name that it asked for: at the name itself, or
// at the end of a chain of aliases that begins there, in order.
func follows(reply *dns.Msg, name string) []string {
	var addresses []string
	for _, rr := range reply.Answer {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		switch rr := rr.(type) {
		case *dns.CNAME:
			name = rr.Target
		case *dns.A:
			addresses = append(addresses, rr.A.String())
		case *dns.AAAA:
			addresses = append(addresses, rr.AAAA.String())
		}
	}
	slices.Sort(addresses)
	return addresses
}

// pathed is a server block with autopath or without, which knows ldap.corp.example besides what
// programs.Upstream does.
func pathed(t *testing.T, syncer, autopath string) *machine {
	t.Helper()
	return newChain(t, syncer, autopath+"\nmeshvm {\n"+follow+"\nsearch corp.example\n}\n"+
		"hosts {\n192.0.2.7 ldap.corp.example\nfallthrough\n}\nforward . "+programs.Upstream(t))
}

func TestAutoPath(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", town())
	write(t, folder, "crowd.yaml", crowd())
	_, syncer, _ := syncerOn(t, folder)
	with, without := pathed(t, syncer, "autopath @meshvm"), pathed(t, syncer, "")
	with.isReady()
	without.isReady()

	clients := map[string]client{"UDP": {}, "EDNS": {size: 1232}, "TCP": {tcp: true}, "TCP with EDNS": {tcp: true, size: 1232, do: true}}
	lookups := map[string]struct {
		name    string
		qtype   uint16
		want    string
		queries [2]int // with autopath and without
	}{
		"the VM's namespace":        {"local", dns.TypeA, "10.96.0.12", [2]int{1, 1}},
		"another namespace":         {"reviews.prod", dns.TypeA, "10.96.0.10", [2]int{1, 2}},
		"another namespace, AAAA":   {"reviews.prod", dns.TypeAAAA, "fd00:96::10", [2]int{1, 2}},
		"mixed case":                {"Reviews.PROD", dns.TypeA, "10.96.0.10", [2]int{1, 2}},
		"with svc":                  {"reviews.prod.svc", dns.TypeA, "10.96.0.10", [2]int{1, 3}},
		"headless":                  {"db.prod", dns.TypeA, "10.244.0.1 10.244.0.2", [2]int{1, 2}},
		"endpoint":                  {"db-0.db.prod", dns.TypeA, "10.244.0.1", [2]int{1, 2}},
		"alias":                     {"www.prod", dns.TypeA, programs.Outside, [2]int{1, 2}},
		"chain of aliases":          {"first.prod", dns.TypeA, "10.96.0.10", [2]int{1, 2}},
		"the machine's own domain":  {"ldap", dns.TypeA, "192.0.2.7", [2]int{1, 4}},
		"the own domain in full":    {"ldap.corp.example", dns.TypeA, "192.0.2.7", [2]int{1, 5}},
		"outside":                   {"www.example.org", dns.TypeA, programs.Outside, [2]int{1, 5}},
		"ServiceEntry":              {"api.shop.example.com", dns.TypeA, "240.240.0.1", [2]int{1, 5}},
		"wildcard":                  {"any.wild.shop.example.com", dns.TypeA, "240.240.0.2", [2]int{1, 5}},
		"five dots are asked as is": {"a.b.c.www.example.org", dns.TypeA, programs.Outside, [2]int{1, 1}},
		"absolute":                  {"reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.10", [2]int{1, 1}},
		"absolute, outside":         {"www.example.org.", dns.TypeA, programs.Outside, [2]int{1, 1}},
		"nowhere":                   {"nobody.invalid", dns.TypeA, "", [2]int{5, 5}},
		"nowhere, AAAA":             {"nobody.invalid", dns.TypeAAAA, "", [2]int{5, 5}},
	}
	for what, tc := range lookups {
		for how, c := range clients {
			t.Run(what+", "+how, func(t *testing.T) {
				for i, m := range []*machine{with, without} {
					addresses, queries, last := stub{m, c}.lookUp(t, tc.name, tc.qtype)
					if got := strings.Join(addresses, " "); got != tc.want {
						t.Errorf("%s: got %q, want %q", []string{"With", "Without"}[i], got, tc.want)
					}
					if queries != tc.queries[i] {
						t.Errorf("%s: got %d queries, want %d", []string{"With", "Without"}[i], queries, tc.queries[i])
					}
					if (last.IsEdns0() != nil) != (c.size > 0) {
						t.Errorf("OPT: got %v, want it only where asked for", last.IsEdns0())
					}
				}
			})
		}
	}

	// The records of the answer, with the alias that makes them the answer.
	t.Run("alias", func(t *testing.T) {
		for question, want := range map[string][]string{
			"local.vm.svc.cluster.local. A": {"local.vm.svc.cluster.local. A 10.96.0.12"},
			"Reviews.prod.vm.svc.cluster.local. A": {
				"Reviews.prod.vm.svc.cluster.local. CNAME Reviews.prod.svc.cluster.local.",
				"Reviews.prod.svc.cluster.local. A 10.96.0.10",
			},
			"www.example.org.vm.svc.cluster.local. A": {
				"www.example.org.vm.svc.cluster.local. CNAME www.example.org.",
				"www.example.org. A " + programs.Outside,
			},
			"ldap.vm.svc.cluster.local. A": {
				"ldap.vm.svc.cluster.local. CNAME ldap.corp.example.",
				"ldap.corp.example. A 192.0.2.7",
			},
			"third.prod.vm.svc.cluster.local. A": {
				"third.prod.vm.svc.cluster.local. CNAME third.prod.svc.cluster.local.",
				"third.prod.svc.cluster.local. CNAME reviews.prod.svc.cluster.local.",
				"reviews.prod.svc.cluster.local. A 10.96.0.10",
			},
		} {
			for range 2 { // the second time, too: the prepared records must be as they were
				reply, _ := with.reply(t, client{}, question)
				if got := lines(reply.Answer); !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", question, got, want)
				}
			}
		}
	})
	t.Run("too large for UDP", func(t *testing.T) {
		const question = "crowd.prod.vm.svc.cluster.local. A"
		reply, size := with.reply(t, client{size: 1232}, question)
		if !reply.Truncated || size > 1232 {
			t.Errorf("UDP: got TC %t and %d bytes, want TC and at most 1232", reply.Truncated, size)
		}
		reply, _ = with.reply(t, client{tcp: true}, question)
		if got := len(follows(reply, "crowd.prod.vm.svc.cluster.local.")); got != crowdSize || reply.Truncated {
			t.Errorf("TCP: got %d addresses and TC %t, want %d and none", got, reply.Truncated, crowdSize)
		}
	})

	// What is not below the first domain of the list, or is found there, is as without autopath.
	for _, question := range []string{
		"local.vm.svc.cluster.local. A",
		"local.vm.svc.cluster.local. AAAA",
		"_http._tcp.local.vm.svc.cluster.local. SRV",
		"vm.svc.cluster.local. A",
		"nobody.vm.svc.cluster.local. A",
		"nobody.invalid.vm.svc.cluster.local. AAAA",
		"reviews.prod.svc.cluster.local. A",
		"reviews.prod.svc.cluster.local. AAAA",
		"reviews.prod.svc.cluster.local. TXT",
		"_http._tcp.reviews.prod.svc.cluster.local. SRV",
		"www.example.org.svc.cluster.local. A",
		"www.example.org.prod.svc.cluster.local. A",
		"www.example.org.cluster.local. A",
		"ldap.svc.cluster.local. A",
		"first.prod.svc.cluster.local. A",
		"cluster.local. NS",
		"ldap.corp.example. A",
		"ldap.corp.example. AAAA",
		"nobody.corp.example. A",
		"api.shop.example.com. A",
		"api.shop.example.com. HTTPS",
		"www.example.org. A",
		"www.example.org. AAAA",
		"nobody.invalid. A",
		"10.0.96.10.in-addr.arpa. PTR",
		"1.2.0.192.in-addr.arpa. PTR",
	} {
		t.Run("unchanged: "+question, func(t *testing.T) {
			for _, c := range clients {
				got, _ := with.reply(t, c, question)
				want, _ := without.reply(t, c, question)
				sameRcode(t, got, want.Rcode)
				sameLines(t, "Answer", got.Answer, lines(want.Answer)...)
				sameOwners(t, "Authority", got.Ns, ownersOf(want.Ns))
				sameLines(t, "Additional", got.Extra, lines(want.Extra)...)
				if got.Authoritative != want.Authoritative || got.RecursionAvailable != want.RecursionAvailable {
					t.Errorf("Flags: got %v, want %v", got.MsgHdr, want.MsgHdr)
				}
			}
		})
	}
}

// TestAutoPathBeforeAnythingIsLoaded holds that a machine without a mesh yet still gets to the rest of the
// world, in whatever way it asks.
func TestAutoPathBeforeAnythingIsLoaded(t *testing.T) {
	m := pathed(t, programs.FreeAddress(t), "autopath @meshvm")
	for name, want := range map[string]string{
		"www.example.org":                 programs.Outside,
		"www.example.org.":                programs.Outside,
		"ldap":                            "192.0.2.7",
		"ldap.corp.example.":              "192.0.2.7",
		"nobody.invalid.":                 "",
		"reviews.prod.svc.cluster.local.": "",
	} {
		t.Run(name, func(t *testing.T) {
			addresses, _, _ := stub{m, client{}}.lookUp(t, name, dns.TypeA)
			if got := strings.Join(addresses, " "); got != want {
				t.Errorf("Got %q, want %q", got, want)
			}
		})
	}
	m.answersNow("www.example.org.vm.svc.cluster.local.", dns.TypeA, "SERVFAIL")
}

// TestShortNames asks for names of one, two and three labels: some of the mesh, some of the search list.
func TestShortNames(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "town.yaml", documents(town(),
		namespace("corp"),
		service("ldap.corp", "10.96.0.20"),
		service("corp.vm", "10.96.0.21"),
		service("files.corporate", "10.96.0.22"),
		serviceEntry("printer.corp", "printer.corp", "240.240.0.9"),
		service("printer.corp", "10.96.0.23"),
		serviceEntry("any.corp", "*.any.corp", "240.240.0.10"),
	))
	_, syncer, _ := syncerOn(t, folder)
	start := func(options string) *machine {
		m := newChain(t, syncer, "meshvm {\n"+follow+"\n"+options+"\n}\n"+
			"hosts {\n192.0.2.7 ldap.corp\nfallthrough\n}\nforward . "+programs.Upstream(t))
		m.isReady()
		return m
	}
	off, on := start("search corp example.com cluster.local"), start("short_names")
	searching := start("short_names\nsearch corp example.com cluster.local")
	const none, ldap = "NXDOMAIN", "192.0.2.7"
	tests := map[string]struct {
		name               string
		off, on, searching string
	}{
		"service":                       {"local.", none, "10.96.0.12", "10.96.0.12"},
		"service in another namespace":  {"reviews.", none, none, none},
		"with its namespace":            {"reviews.prod.", none, "10.96.0.10", "10.96.0.10"},
		"with svc":                      {"reviews.prod.svc.", none, "10.96.0.10", "10.96.0.10"},
		"headless":                      {"db.prod.", none, "10.244.0.1 10.244.0.2", "10.244.0.1 10.244.0.2"},
		"in full":                       {"reviews.prod.svc.cluster.local.", "10.96.0.10", "10.96.0.10", "10.96.0.10"},
		"below a search domain":         {"ldap.corp.", ldap, "10.96.0.20", ldap},
		"below it, another spelling":    {"LDAP.Corp.", ldap, "10.96.0.20", ldap},
		"below it, with svc":            {"ldap.corp.svc.", none, "10.96.0.20", "10.96.0.20"},
		"below it, in full":             {"ldap.corp.svc.cluster.local.", "10.96.0.20", "10.96.0.20", "10.96.0.20"},
		"two below it":                  {"x.ldap.corp.", none, none, none},
		"the search domain itself":      {"corp.", none, "10.96.0.21", none},
		"ends like a search domain":     {"files.corporate.", none, "10.96.0.22", "10.96.0.22"},
		"nobody below it":               {"nobody.corp.", none, none, none},
		"a host of just that name":      {"printer.corp.", "240.240.0.9", "240.240.0.9", "240.240.0.9"},
		"a wildcard below it":           {"x.any.corp.", "240.240.0.10", "240.240.0.10", "240.240.0.10"},
		"below a longer search domain":  {"ldap.corp.example.com.", programs.Outside, programs.Outside, programs.Outside},
		"a search domain, one of ours":  {"reviews.prod.example.com.", programs.Outside, programs.Outside, programs.Outside},
		"a mesh domain in the list":     {"nope.cluster.local.", none, none, none},
		"two labels, no such namespace": {"reviews.nowhere.", none, none, none},
	}
	for what, tc := range tests {
		t.Run(what, func(_ *testing.T) {
			off.answersNow(tc.name, dns.TypeA, tc.off)
			on.answersNow(tc.name, dns.TypeA, tc.on)
			searching.answersNow(tc.name, dns.TypeA, tc.searching)
		})
	}
	t.Run("types", func(t *testing.T) {
		for question, want := range map[string]string{
			"reviews.prod. AAAA":    "reviews.prod. AAAA fd00:96::10",
			"reviews.prod. HTTPS":   "",
			"ldap.corp. AAAA":       "",
			"local. SRV":            "local. SRV 0 100 80 local.vm.svc.cluster.local.",
			"_http._tcp.local. SRV": "_http._tcp.local. SRV 0 100 80 local.vm.svc.cluster.local.",
		} {
			reply, _ := searching.reply(t, client{}, question)
			sameRcode(t, reply, dns.RcodeSuccess)
			if got := strings.Join(lines(reply.Answer), ", "); got != want {
				t.Errorf("%s: got %q, want %q", question, got, want)
			}
		}
	})
}
