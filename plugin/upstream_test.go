package meshvm

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// leaks is what came to the upstream server about names in the plugin's zones.
type leaks struct{ names []string }

// upstream answers nothing and keeps what it was asked.
func (l *leaks) upstream(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	l.names = append(l.names, r.Question[0].Name+" "+dns.Type(r.Question[0].Qtype).String())
	return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNameError))
}

// inner are names in the zones of TestZonesStayInside.
var inner = []string{
	"cluster.local.", "CLUSTER.local.", "cLuStEr.LoCaL.", "local.cluster.local.", "cluster.local.cluster.local.",
	"svc.cluster.local.", "pod.cluster.local.", "prod.svc.cluster.local.", "nope.svc.cluster.local.",
	"reviews.prod.svc.cluster.local.", "rEvIeWs.PrOd.SvC.cLuStEr.LoCaL.", "nope.prod.svc.cluster.local.", "x.reviews.prod.svc.cluster.local.",
	"db.prod.svc.cluster.local.", "db-9.db.prod.svc.cluster.local.", "idle.prod.svc.cluster.local.", "none.prod.svc.cluster.local.",
	"_http._tcp.reviews.prod.svc.cluster.local.", "_nope._tcp.reviews.prod.svc.cluster.local.", "_tcp.reviews.prod.svc.cluster.local.",
	"10-0-0-1.prod.pod.cluster.local.", "10-0-0-1.nope.pod.cluster.local.", "not-an-address.prod.pod.cluster.local.",
	"legacy.prod.svc.cluster.local.", "pending.prod.svc.cluster.local.",
	"www.example.net.prod.svc.cluster.local.", "api.example.com.cluster.local.", "reviews.prod.svc.cluster.local.cluster.local.",
	`a\.b.cluster.local.`, `\000.cluster.local.`, `x\\.cluster.local.`, `\255\001.prod.svc.cluster.local.`, `\032.cluster.local.`, `a\.cluster.local.cluster.local.`,
	`*.cluster.local.`, "*.prod.svc.cluster.local.", "_.cluster.local.", "--.cluster.local.",
	strings.Repeat("a.", 110) + "cluster.local.", strings.Repeat("a", 63) + ".cluster.local.",
	"dns-version.cluster.local.", "ns.dns.cluster.local.", "dns.cluster.local.", "x.ns.dns.cluster.local.",
	"first.prod.svc.cluster.local.", "lost.prod.svc.cluster.local.", "circle.prod.svc.cluster.local.",
	"10.in-addr.arpa.", "10.0.96.10.in-addr.arpa.", "9.9.9.10.in-addr.arpa.", "x.10.in-addr.arpa.", "1.2.3.4.5.10.IN-addr.ARPA.", "96.10.in-addr.arpa.",
	"d.f.ip6.arpa.", "x.d.f.ip6.arpa.", "0.0.0.0.d.f.ip6.arpa.",
}

// TestZonesStayInside asks for names in the plugin's zones in every way there is, in every state of the
// registry. None may come to upstream.
func TestZonesStayInside(t *testing.T) {
	states := map[string]struct {
		edit    func(*Config)
		nothing bool
		age     time.Duration
	}{
		"loaded":                       {},
		"not loaded":                   {nothing: true},
		"stale":                        {age: 2 * DefaultMaxStale},
		"stale, fail":                  {age: 2 * DefaultMaxStale, edit: func(c *Config) { c.StaleAction = StaleFail }},
		"short names and pods":         {edit: func(c *Config) { c.ShortNames, c.Pods = true, PodsInsecure }},
		"search domain inside":         {edit: func(c *Config) { c.ShortNames, c.Search = true, []string{"svc.cluster.local.", "corp."} }},
		"rebind protection":            {edit: func(c *Config) { c.Rebind = &RebindProtection{Ranges: DefaultRebindRanges()} }},
		"fallthrough of another zone":  {edit: func(c *Config) { c.Fall.SetZonesFromArgs([]string{"mesh.example.org"}) }},
		"not loaded, with fallthrough": {nothing: true, edit: func(c *Config) { c.Fall.SetZonesFromArgs(nil) }},
	}
	types := []uint16{
		dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeCNAME, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeHTTPS, dns.TypeSVCB,
		dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeCDS, dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILB, dns.TypeMAILA,
		dns.TypeTKEY, dns.TypeTSIG, dns.TypeOPT, dns.TypeNone, dns.TypeReserved, dns.TypeNULL, 1234, 65280,
	}
	classes := []uint16{dns.ClassINET, dns.ClassCHAOS, dns.ClassHESIOD, dns.ClassNONE, dns.ClassANY, 0, 4711}
	opcodes := []int{dns.OpcodeQuery, dns.OpcodeNotify, dns.OpcodeIQuery, dns.OpcodeStatus, dns.OpcodeUpdate, 6}
	for state, s := range states {
		t.Run(state, func(t *testing.T) {
			server, seen := behind(t, s.edit, s.nothing, s.age)
			for _, name := range inner {
				for _, qtype := range types {
					for _, class := range classes {
						for _, opcode := range opcodes {
							r := new(dns.Msg).SetQuestion(name, qtype)
							r.Question[0].Qclass, r.Opcode = class, opcode
							exchangeWith(t, server, r)
						}
					}
				}
			}
			if len(seen.names) > 0 {
				t.Errorf("Upstream: got %d queries, want none: %q", len(seen.names), seen.names[:min(10, len(seen.names))])
			}
		})
	}
}

// behind is a whole server with the plugin and, behind it, an upstream that keeps what it is asked.
func behind(t *testing.T, edit func(*Config), nothing bool, age time.Duration) (*dnsserver.Server, *leaks) {
	t.Helper()
	config := defaultConfig()
	config.Zones = []string{DefaultZone, "10.in-addr.arpa.", "d.f.ip6.arpa."}
	if edit != nil {
		edit(config)
	}
	held := append(mesh(), externalName("outwards", "prod", "www.example.net"), externalName("via", "prod", "outwards.prod.svc.cluster.local"))
	if nothing {
		held = nil
	}
	m := serving(t, config, held)
	m.follower.age.Store(int64(age))
	seen := &leaks{}
	m.Next = plugin.HandlerFunc(seen.upstream)
	server, err := dnsserver.NewServer("dns://127.0.0.1:53", []*dnsserver.Config{{
		Zone: ".", Debug: true, Plugin: []plugin.Plugin{func(plugin.Handler) plugin.Handler { return opener{m} }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return server, seen
}

// opener goes by the name of a plugin at whose sight CoreDNS lets in other classes than IN.
type opener struct{ *Meshvm }

func (opener) Name() string { return "forward" }

func exchangeWith(t *testing.T, server *dnsserver.Server, r *dns.Msg) *dns.Msg {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	ctx := context.WithValue(context.WithValue(t.Context(), dnsserver.Key{}, server), dnsserver.LoopKey{}, 0)
	server.ServeDNS(ctx, w, r)
	if w.Msg == nil {
		t.Fatalf("Got no reply to\n%v", r)
	}
	return w.Msg
}

// TestWhatGoesOutside holds that the upstream of TestZonesStayInside does see what is for it.
func TestWhatGoesOutside(t *testing.T) {
	tests := map[string]struct {
		query string
		qtype uint16
		edit  func(*Config)
		want  []string
	}{
		"name outside":                     {"www.example.net.", dns.TypeA, nil, []string{"www.example.net. A"}},
		"escaped dot that is no zone cut":  {`x\.cluster.local.`, dns.TypeA, nil, []string{`x\.cluster.local. A`}},
		"parent of the zone":               {"local.", dns.TypeDS, nil, []string{"local. DS"}},
		"search list that goes on":         {"reviews.prod.svc.cluster.local.corp.", dns.TypeA, nil, []string{"reviews.prod.svc.cluster.local.corp. A"}},
		"target of an ExternalName only":   {"outwards.prod.svc.cluster.local.", dns.TypeA, nil, []string{"www.example.net. A"}},
		"target behind two of them":        {"via.prod.svc.cluster.local.", dns.TypeTXT, nil, []string{"www.example.net. TXT"}},
		"with fallthrough":                 {"nope.prod.svc.cluster.local.", dns.TypeA, func(c *Config) { c.Fall.SetZonesFromArgs(nil) }, []string{"nope.prod.svc.cluster.local. A"}},
		"with fallthrough of that zone":    {"x.10.in-addr.arpa.", dns.TypePTR, func(c *Config) { c.Fall.SetZonesFromArgs([]string{"in-addr.arpa"}) }, []string{"x.10.in-addr.arpa. PTR"}},
		"with fallthrough, but it exists":  {"reviews.prod.svc.cluster.local.", dns.TypeTXT, func(c *Config) { c.Fall.SetZonesFromArgs(nil) }, nil},
		"with fallthrough, the zone's DS":  {"cluster.local.", dns.TypeDS, func(c *Config) { c.Fall.SetZonesFromArgs(nil) }, nil},
		"with fallthrough of another zone": {"nope.prod.svc.cluster.local.", dns.TypeA, func(c *Config) { c.Fall.SetZonesFromArgs([]string{"in-addr.arpa"}) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server, seen := behind(t, test.edit, false, 0)
			exchangeWith(t, server, new(dns.Msg).SetQuestion(test.query, test.qtype))
			if got, want := strings.Join(seen.names, ", "), strings.Join(test.want, ", "); got != want {
				t.Errorf("Upstream: got %s, want %s", got, want)
			}
		})
	}
}

// TestOddQueries holds what a query in the plugin's zones gets that is none of a client's ordinary ones.
func TestOddQueries(t *testing.T) {
	tests := map[string]struct {
		name      string
		qtype     uint16
		class     uint16
		opcode    int
		want      int
		records   int
		authority string
	}{
		"DS of the zone":          {"cluster.local.", dns.TypeDS, dns.ClassINET, dns.OpcodeQuery, dns.RcodeSuccess, 0, "cluster.local."},
		"DS of a reverse zone":    {"10.in-addr.arpa.", dns.TypeDS, dns.ClassINET, dns.OpcodeQuery, dns.RcodeSuccess, 0, "10.in-addr.arpa."},
		"NOTIFY of the zone":      {"cluster.local.", dns.TypeSOA, dns.ClassINET, dns.OpcodeNotify, dns.RcodeNotImplemented, 0, ""},
		"NOTIFY of a name":        {"reviews.prod.svc.cluster.local.", dns.TypeA, dns.ClassINET, dns.OpcodeNotify, dns.RcodeNotImplemented, 0, ""},
		"UPDATE":                  {"cluster.local.", dns.TypeSOA, dns.ClassINET, dns.OpcodeUpdate, dns.RcodeNotImplemented, 0, ""},
		"class CH":                {"reviews.prod.svc.cluster.local.", dns.TypeA, dns.ClassCHAOS, dns.OpcodeQuery, dns.RcodeRefused, 0, ""},
		"class ANY":               {"reviews.prod.svc.cluster.local.", dns.TypeA, dns.ClassANY, dns.OpcodeQuery, dns.RcodeSuccess, 1, ""},
		"AXFR without permission": {"cluster.local.", dns.TypeAXFR, dns.ClassINET, dns.OpcodeQuery, dns.RcodeRefused, 0, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server, _ := behind(t, nil, false, 0)
			r := new(dns.Msg).SetQuestion(test.name, test.qtype)
			r.Question[0].Qclass, r.Opcode = test.class, test.opcode
			reply := exchangeWith(t, server, r)
			if reply.Rcode != test.want || len(reply.Answer) != test.records || reply.Opcode != test.opcode {
				t.Errorf("Reply: got\n%v\nwant %s with %d records", reply, dns.RcodeToString[test.want], test.records)
			}
			authority := ""
			if len(reply.Ns) > 0 {
				authority = reply.Ns[0].Header().Name
			}
			if authority != test.authority {
				t.Errorf("Authority: got %q, want %q", authority, test.authority)
			}
		})
	}
	t.Run("host of the mesh outside", func(t *testing.T) {
		server, seen := behind(t, nil, false, 0)
		for _, query := range []struct {
			class  uint16
			opcode int
		}{{dns.ClassCHAOS, dns.OpcodeQuery}, {dns.ClassINET, dns.OpcodeNotify}} {
			r := new(dns.Msg).SetQuestion("api.example.com.", dns.TypeA)
			r.Question[0].Qclass, r.Opcode = query.class, query.opcode
			exchangeWith(t, server, r)
		}
		if len(seen.names) != 2 {
			t.Errorf("Next plugin: got %q, want both, which are not the mesh's", seen.names)
		}
	})
}

// TestRebindLetsAliasesThrough follows an ExternalName of the mesh to an outside name that leads back in.
func TestRebindLetsAliasesThrough(t *testing.T) {
	config := defaultConfig()
	config.Rebind = &RebindProtection{Ranges: DefaultRebindRanges()}
	m := serving(t, config, append(mesh(), externalName("out", "prod", "www.example.net")))
	m.Next = answering(t, nil, "answer www.example.net. A 10.96.0.10")
	server, err := dnsserver.NewServer("dns://127.0.0.1:53", []*dnsserver.Config{{
		Zone: ".", Debug: true, Plugin: []plugin.Plugin{func(plugin.Handler) plugin.Handler { return m }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if reply := exchangeWith(t, server, new(dns.Msg).SetQuestion("out.prod.svc.cluster.local.", dns.TypeA)); len(reply.Answer) != 2 {
		t.Errorf("Answer: got\n%v\nwant the alias and its target's address", reply)
	}
	checkWithheld(t, exchangeWith(t, server, new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)), false)
}
