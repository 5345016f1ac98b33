package meshvm

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// protected is an instance with rebind_protection, whose registry has addresses of every kind.
func protected(tb testing.TB, upstream plugin.Handler, edit func(*Config)) *Meshvm {
	tb.Helper()
	config := defaultConfig()
	config.Rebind = &RebindProtection{Ranges: DefaultRebindRanges(), Except: []string{"corp.example.org"}}
	if edit != nil {
		edit(config)
	}
	m := serving(tb, config, append(mesh(),
		kindOfEntry("listed", "listed.example.com", registryv1.AddressKind_ADDRESS_KIND_LITERAL, "203.0.113.7"),
		kindOfEntry("both", "both.example.com", registryv1.AddressKind_ADDRESS_KIND_LITERAL, "10.96.0.11"),
		kindOfEntry("outside", "outside.example.com", registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP, "198.18.0.1"),
	))
	m.Next = upstream
	return m
}

// answering is an upstream whose answer has these records, in the section that stands in front of each:
// `answer`, `authority` or `additional`.
func answering(tb testing.TB, change func(*dns.Msg), lines ...string) plugin.Handler {
	tb.Helper()
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		reply := new(dns.Msg).SetReply(r)
		for _, line := range lines {
			section, text, _ := strings.Cut(line, " ")
			rr, err := dns.NewRR(text)
			if err != nil {
				tb.Fatalf("NewRR(%q): %v", text, err)
			}
			switch section {
			case "answer":
				reply.Answer = append(reply.Answer, rr)
			case "authority":
				reply.Ns = append(reply.Ns, rr)
			case "additional":
				reply.Extra = append(reply.Extra, rr)
			default:
				tb.Fatalf("No such section: %q", section)
			}
		}
		if change != nil {
			change(reply)
		}
		return dns.RcodeSuccess, w.WriteMsg(reply)
	})
}

func TestRebindProtection(t *testing.T) {
	tests := []struct {
		name   string
		query  string
		answer []string
		want   rebindReason
	}{
		{"address of nobody", "evil.example. A", []string{"answer evil.example. A 192.0.2.1"}, pointsNowhere},
		{"no records", "evil.example. A", nil, pointsNowhere},
		{"records of other types", "evil.example. TXT", []string{`answer evil.example. TXT "240.240.0.1"`}, pointsNowhere},
		{"virtual IP", "evil.example. A", []string{"answer evil.example. A 240.240.0.1"}, pointsIntoRange},
		{"range, not given out", "evil.example. A", []string{"answer evil.example. A 240.240.255.255"}, pointsIntoRange},
		{"beside the range", "evil.example. A", []string{"answer evil.example. A 240.241.0.0"}, pointsNowhere},
		{"range, IPv6", "evil.example. AAAA", []string{"answer evil.example. AAAA 2001:2::1"}, pointsIntoRange},
		{"cluster IP", "evil.example. A", []string{"answer evil.example. A 10.96.0.10"}, pointsAtClusterIP},
		{"cluster IP, IPv6", "evil.example. AAAA", []string{"answer evil.example. AAAA fd00::10"}, pointsAtClusterIP},
		{"beside the cluster IPs", "evil.example. A", []string{"answer evil.example. A 10.96.0.200"}, pointsNowhere},
		{"virtual IP outside the ranges", "evil.example. A", []string{"answer evil.example. A 198.18.0.1"}, pointsAtVirtualIP},
		{"address that a ServiceEntry lists", "evil.example. A", []string{"answer evil.example. A 203.0.113.7"}, pointsNowhere},
		{"cluster IP that a ServiceEntry lists too", "evil.example. A", []string{"answer evil.example. A 10.96.0.11"}, pointsAtClusterIP},
		{"endpoint", "evil.example. A", []string{"answer evil.example. A 10.0.0.1"}, pointsNowhere},
		{"mapped", "evil.example. AAAA", []string{"answer evil.example. AAAA ::ffff:240.240.0.1"}, pointsIntoRange},
		{"mapped cluster IP", "evil.example. AAAA", []string{"answer evil.example. AAAA ::ffff:10.96.0.10"}, pointsAtClusterIP},
		{"NAT64", "evil.example. AAAA", []string{"answer evil.example. AAAA 64:ff9b::f0f0:1"}, pointsIntoRange},
		{"NAT64 of nobody", "evil.example. AAAA", []string{"answer evil.example. AAAA 64:ff9b::c000:201"}, pointsNowhere},
		{"behind an alias", "evil.example. A", []string{"answer evil.example. CNAME reviews.prod.svc.cluster.local.", "answer reviews.prod.svc.cluster.local. A 10.96.0.10"}, pointsAtClusterIP},
		{"last of several", "evil.example. A", []string{"answer evil.example. A 192.0.2.1", "answer evil.example. A 192.0.2.2", "answer evil.example. A 10.96.0.10"}, pointsAtClusterIP},
		{"additional", "evil.example. MX", []string{"answer evil.example. MX 10 mail.evil.example.", "additional mail.evil.example. A 240.240.0.1"}, pointsIntoRange},
		{"authority", "evil.example. A", []string{"authority evil.example. A 240.240.0.1"}, pointsIntoRange},
		{"HTTPS, IPv4 hint", "evil.example. HTTPS", []string{"answer evil.example. HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,240.240.0.1"}, pointsIntoRange},
		{"HTTPS, IPv6 hint", "evil.example. HTTPS", []string{"answer evil.example. HTTPS 1 . ipv6hint=2001:db8::1,fd00::10"}, pointsAtClusterIP},
		{"HTTPS, NAT64 hint", "evil.example. HTTPS", []string{"answer evil.example. HTTPS 1 . ipv6hint=64:ff9b::a60:a"}, pointsAtClusterIP},
		{"HTTPS without hints", "evil.example. HTTPS", []string{"answer evil.example. HTTPS 1 . alpn=h2"}, pointsNowhere},
		{"SVCB, IPv4 hint", "_dns.evil.example. SVCB", []string{"answer _dns.evil.example. SVCB 1 dns.evil.example. ipv4hint=10.96.0.10"}, pointsAtClusterIP},
		{"ANY", "evil.example. ANY", []string{"answer evil.example. TXT x", "answer evil.example. A 240.240.0.1"}, pointsIntoRange},

		{"excepted domain", "corp.example.org. A", []string{"answer corp.example.org. A 10.96.0.10"}, pointsNowhere},
		{"below the excepted domain", "www.Corp.example.org. A", []string{"answer www.Corp.example.org. A 240.240.0.1"}, pointsNowhere},
		{"only the excepted domain's tail", "xcorp.example.org. A", []string{"answer xcorp.example.org. A 240.240.0.1"}, pointsIntoRange},
		{"alias to the excepted domain", "evil.example. A", []string{"answer evil.example. CNAME www.corp.example.org.", "answer www.corp.example.org. A 240.240.0.1"}, pointsIntoRange},
		{"host of the mesh without an address", "bare.example.com. A", []string{"answer bare.example.com. A 240.240.0.1"}, pointsNowhere},
		{"host of the mesh, another type", "api.example.com. MX", []string{"answer api.example.com. MX 10 api.example.com.", "additional api.example.com. A 240.240.0.1"}, pointsNowhere},
		{"below a host of the mesh", "x.api.example.com. A", []string{"answer x.api.example.com. A 240.240.0.1"}, pointsIntoRange},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name, qtype, _ := strings.Cut(test.query, " ")
			m := protected(t, answering(t, nil, test.answer...), nil)
			for _, edns := range []bool{false, true} {
				before := counted(test.want)
				reply := ask(t, m, name, dns.StringToType[qtype], edns)
				if test.want == pointsNowhere {
					if got := len(reply.Answer) + len(reply.Ns) + len(withoutOPT(reply.Extra)); got != len(test.answer) {
						t.Errorf("Records: got %d, want all %d:\n%v", got, len(test.answer), reply)
					}
					continue
				}
				checkWithheld(t, reply, edns)
				if got := counted(test.want) - before; got != 1 {
					t.Errorf("Counted as %s: got %v, want 1", test.want, got)
				}
			}
		})
	}
}

func counted(reason rebindReason) float64 {
	if reason == pointsNowhere {
		return 0
	}
	return testutil.ToFloat64(rebindRefused[reason])
}

// checkWithheld holds what a client gets in place of an answer that points into the mesh.
func checkWithheld(t *testing.T, reply *dns.Msg, edns bool) {
	t.Helper()
	if reply.Rcode != dns.RcodeSuccess || !reply.Response || reply.Truncated || reply.Authoritative || !reply.RecursionAvailable {
		t.Errorf("Header: got\n%v\nwant NOERROR that is neither truncated nor authoritative", reply)
	}
	if len(reply.Answer)+len(reply.Ns)+len(withoutOPT(reply.Extra)) > 0 {
		t.Errorf("Records: got\n%v\nwant none", reply)
	}
	if got := extendedError(reply); edns != slices.Equal(got, []uint16{dns.ExtendedErrorCodeBlocked}) {
		t.Errorf("Extended errors: got %d, want 15 where EDNS is spoken (%t)", got, edns)
	}
}

func extendedError(reply *dns.Msg) []uint16 {
	var codes []uint16
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if extended, ok := option.(*dns.EDNS0_EDE); ok {
				codes = append(codes, extended.InfoCode)
			}
		}
	}
	return codes
}

// TestRebindProtectionOff holds that nothing is looked at where the Corefile does not ask for it.
func TestRebindProtectionOff(t *testing.T) {
	m := protected(t, answering(t, nil, "answer evil.example. A 240.240.0.1"), func(c *Config) { c.Rebind = nil })
	if reply := ask(t, m, "evil.example.", dns.TypeA, true); len(reply.Answer) != 1 {
		t.Errorf("Answer: got\n%v\nwant that of upstream", reply)
	}
}

// TestRebindAnswers holds what there is besides records: codes, flags and names that fall through.
func TestRebindAnswers(t *testing.T) {
	t.Run("truncated", func(t *testing.T) {
		m := protected(t, answering(t, func(r *dns.Msg) { r.Truncated = true }, "answer evil.example. A 240.240.0.1"), nil)
		checkWithheld(t, ask(t, m, "evil.example.", dns.TypeA, true), true)
	})
	t.Run("truncated before the address", func(t *testing.T) {
		m := protected(t, answering(t, func(r *dns.Msg) { r.Truncated = true }, "answer evil.example. A 192.0.2.1"), nil)
		if reply := ask(t, m, "evil.example.", dns.TypeA, true); !reply.Truncated || len(reply.Answer) != 1 {
			t.Errorf("Reply: got\n%v\nwant that of upstream, so that the client asks over TCP", reply)
		}
	})
	t.Run("NXDOMAIN", func(t *testing.T) {
		m := protected(t, answering(t, func(r *dns.Msg) { r.Rcode = dns.RcodeNameError }, "answer evil.example. A 240.240.0.1"), nil)
		checkWithheld(t, ask(t, m, "evil.example.", dns.TypeA, false), false)
	})
	t.Run("signed, for a client that wants signatures", func(t *testing.T) {
		m := protected(t, answering(t, func(r *dns.Msg) { r.AuthenticatedData = true }, "answer evil.example. A 240.240.0.1"), nil)
		r := new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)
		r.SetEdns0(4096, true)
		recorder := dnstest.NewRecorder(&test.ResponseWriter{TCP: true})
		if _, err := m.ServeDNS(t.Context(), recorder, r); err != nil {
			t.Fatal(err)
		}
		checkWithheld(t, recorder.Msg, true)
		if recorder.Msg.AuthenticatedData || !recorder.Msg.IsEdns0().Do() {
			t.Errorf("Flags: got AD %t, DO %t, want false, true", recorder.Msg.AuthenticatedData, recorder.Msg.IsEdns0().Do())
		}
	})
	t.Run("name that falls through", func(t *testing.T) {
		m := protected(t, answering(t, nil, "answer nope.prod.svc.cluster.local. A 10.96.0.10"), func(c *Config) { c.Fall.SetZonesFromArgs(nil) })
		if reply := ask(t, m, "nope.prod.svc.cluster.local.", dns.TypeA, false); len(reply.Answer) != 1 {
			t.Errorf("Answer: got\n%v\nwant that of upstream", reply)
		}
	})
	t.Run("cluster's domain that is no zone here", func(t *testing.T) {
		m := protected(t, answering(t, nil, "answer reviews.prod.svc.cluster.local. A 10.96.0.10"), func(c *Config) { c.Zones = []string{"mesh.example.org."} })
		if reply := ask(t, m, "reviews.prod.svc.cluster.local.", dns.TypeA, false); len(reply.Answer) != 1 {
			t.Errorf("Answer: got\n%v\nwant that of upstream", reply)
		}
	})
	t.Run("error of the next plugin", func(t *testing.T) {
		m := protected(t, plugin.HandlerFunc(refuse), nil)
		rcode, err := m.ServeDNS(t.Context(), &sink{}, new(dns.Msg).SetQuestion("evil.example.", dns.TypeA))
		if rcode != dns.RcodeRefused || err != nil {
			t.Errorf("ServeDNS: got %s and %v, want REFUSED", dns.RcodeToString[rcode], err)
		}
	})
}

// TestRebindPacked lets the next plugin write bytes.
func TestRebindPacked(t *testing.T) {
	packed := func(address string) []byte {
		reply := new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)
		reply.Response = true
		reply.Answer = []dns.RR{test.A("evil.example. 60 IN A " + address)}
		data, err := reply.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tests := map[string]struct {
		data []byte
		want int // code, -1: the bytes as they are
	}{
		"address of nobody": {packed("192.0.2.1"), -1},
		"virtual IP":        {packed("240.240.0.1"), dns.RcodeSuccess},
		"no message":        {[]byte{1, 2, 3}, dns.RcodeServerFailure},
		"cut off":           {packed("192.0.2.1")[:40], dns.RcodeServerFailure},
		"nothing":           {nil, dns.RcodeServerFailure},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := protected(t, plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
				n, err := w.Write(test.data)
				if n != len(test.data) {
					t.Errorf("Write: got %d, want %d", n, len(test.data))
				}
				return dns.RcodeSuccess, err
			}), nil)
			w := &packedWriter{}
			if _, err := m.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)); err != nil || len(w.sent) != 1 {
				t.Fatalf("ServeDNS: got %d messages and error %v, want one", len(w.sent), err)
			}
			if test.want < 0 {
				if !bytes.Equal(w.sent[0], test.data) {
					t.Errorf("Sent: got %x, want %x", w.sent[0], test.data)
				}
				return
			}
			reply := new(dns.Msg)
			if err := reply.Unpack(w.sent[0]); err != nil || reply.Rcode != test.want || len(reply.Answer) > 0 {
				t.Errorf("Sent: got error %v and\n%v\nwant %s without records", err, reply, dns.RcodeToString[test.want])
			}
		})
	}
}

// TestRebindFollowsRegistry holds that a cluster IP counts as long as the registry gives it out.
func TestRebindFollowsRegistry(t *testing.T) {
	m := protected(t, answering(t, nil, "answer evil.example. A 10.96.0.12"), nil)
	checkWithheld(t, ask(t, m, "evil.example.", dns.TypeA, false), false)
	err := m.follower.mirror.Apply(mirror.Change{
		Generation: "test", View: "vm", ClusterDomain: "cluster.local", From: 1, To: 2, Removals: []string{registryv1.ServiceKey("", "vm", "short")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if reply := ask(t, m, "evil.example.", dns.TypeA, false); len(reply.Answer) != 1 {
		t.Errorf("Answer after the Service has gone: got\n%v\nwant that of upstream", reply)
	}
}

// TestRebindLog holds that a flood of answers makes one line, and that no name can make another.
func TestRebindLog(t *testing.T) {
	m := protected(t, answering(t, nil, "answer evil.example. A 240.240.0.1"), nil)
	var text bytes.Buffer
	m.follower.log = slog.New(slog.NewTextHandler(&text, nil))
	for range 100 {
		ask(t, m, "evil\\010level=ERROR\\009x.example.", dns.TypeA, false)
	}
	if got := strings.Count(text.String(), "\n"); got != 1 {
		t.Errorf("Lines: got %d, want 1:\n%s", got, text.String())
	}
	for _, want := range []string{"240.240.0.1", "reason=range", "example", "silent=0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("Log: got %q, want %q in it", text.String(), want)
		}
	}
	text.Reset()
	w := &rebindWriter{m: m, r: new(dns.Msg).SetQuestion("later\n\x1b[31m.example.", dns.TypeA)}
	m.rebindLog.report(w, netip.MustParseAddr("240.240.0.1"), pointsIntoRange, time.Now().Add(2*rebindInterval))
	if got := text.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") || !strings.Contains(got, "silent=99") {
		t.Errorf("Log later: got %q, want one printable line with silent=99", got)
	}
}

// TestRebindProperty holds random answers against a model that knows the addresses by heart.
func TestRebindProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 15))
	m := protected(t, nil, nil)
	bad := []string{"240.240.0.1", "240.240.9.9", "10.96.0.10", "10.96.0.12", "198.18.0.1", "2001:2::77", "fd00::10"}
	good := []string{"192.0.2.1", "203.0.113.7", "10.0.0.1", "240.239.255.255", "2001:db8::1", "2001:3::", "fd01::1", "::", "0.0.0.0"}
	for range 20_000 {
		answer, want := new(dns.Msg), false
		for range random.IntN(6) {
			text := good[random.IntN(len(good))]
			if random.IntN(8) == 0 {
				text, want = bad[random.IntN(len(bad))], true
			}
			rr := recordOf(random, netip.MustParseAddr(text))
			section := []*[]dns.RR{&answer.Answer, &answer.Ns, &answer.Extra}[random.IntN(3)]
			*section = append(*section, rr)
		}
		if address, reason := m.inspect(m.follower.mirror.State(), answer); (reason != pointsNowhere) != want {
			t.Fatalf("Inspect: got %s, want withheld %t:\n%v", address, want, answer)
		}
	}
}

// recordOf is one of the records that can say an address.
func recordOf(random *rand.Rand, address netip.Addr) dns.RR {
	if address.Is4() {
		four := address.As4()
		switch random.IntN(3) {
		case 0:
			return &dns.A{A: address.AsSlice()}
		case 1:
			hint := &dns.SVCBIPv4Hint{Hint: []net.IP{address.AsSlice()}}
			return &dns.HTTPS{SVCB: dns.SVCB{Value: []dns.SVCBKeyValue{&dns.SVCBPort{Port: 1}, hint}}}
		}
		wrapped := nat64.Addr().As16()
		if random.IntN(2) == 0 {
			wrapped = netip.AddrFrom4(four).As16()
		}
		copy(wrapped[12:], four[:])
		address = netip.AddrFrom16(wrapped)
	}
	if random.IntN(2) == 0 {
		return &dns.AAAA{AAAA: address.AsSlice()}
	}
	return &dns.SVCB{Value: []dns.SVCBKeyValue{&dns.SVCBIPv6Hint{Hint: []net.IP{address.AsSlice()}}}}
}

// FuzzRebind lets upstream send any bytes. No address of the mesh may come out, as a resolver reads it, and
// nothing else may be changed.
func FuzzRebind(f *testing.F) {
	for _, line := range []string{
		"evil.example. A 240.240.0.1", "evil.example. A 192.0.2.1", "evil.example. AAAA ::ffff:10.96.0.10",
		"evil.example. HTTPS 1 . ipv4hint=10.96.0.10 ipv6hint=64:ff9b::a60:a", "evil.example. SVCB 0 reviews.prod.svc.cluster.local.",
		`evil.example. TXT "x"`, "evil.example. CNAME www.example.",
	} {
		rr, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		message := new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)
		message.Response, message.Answer = true, []dns.RR{rr}
		packed, err := message.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	m := protected(f, nil, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		m.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			_, err := w.Write(data)
			return dns.RcodeSuccess, err
		})
		w := &packedWriter{}
		if _, err := m.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion("evil.example.", dns.TypeA)); err != nil || len(w.sent) != 1 {
			t.Fatalf("ServeDNS: got %d messages and error %v, want one", len(w.sent), err)
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(w.sent[0]); err != nil {
			t.Fatalf("Unpack: %v", err)
		}
		for _, rr := range slices.Concat(reply.Answer, reply.Ns, reply.Extra) {
			for _, address := range []string{"240.240.0.1", "10.96.0.10"} {
				if text := rr.String(); rr.Header().Rrtype == dns.TypeA && strings.HasSuffix(text, "\t"+address) {
					t.Errorf("Got %s", text)
				}
			}
		}
		if !bytes.Equal(w.sent[0], data) && len(reply.Answer)+len(reply.Ns)+len(reply.Extra) > 0 {
			t.Errorf("Withheld: got\n%v\nwant no record", reply)
		}
	})
}

// outsideAnswer is what the next plugin of the tests and benchmarks of cost has at hand.
var outsideAnswer = &dns.Msg{Answer: []dns.RR{
	test.CNAME("www.example.net. 60 IN CNAME cdn.example.net."),
	test.A("cdn.example.net. 60 IN A 192.0.2.1"), test.A("cdn.example.net. 60 IN A 192.0.2.2"),
}}

var prepared = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
	return dns.RcodeSuccess, w.WriteMsg(outsideAnswer)
})

// TestRebindAllocations holds that a query which is passed on allocates nothing but the writer that CoreDNS
// makes for every next plugin, and with rebind_protection one more.
func TestRebindAllocations(t *testing.T) {
	for _, protect := range []bool{false, true} {
		m := protected(t, prepared, func(c *Config) {
			if !protect {
				c.Rebind = nil
			}
		})
		r, w := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA), &sink{}
		want := 1.0
		if protect {
			want = 2
		}
		ctx := context.Background()
		got := testing.AllocsPerRun(100, func() {
			if _, err := m.ServeDNS(ctx, w, r); err != nil {
				t.Fatal(err)
			}
		})
		if got > want {
			t.Errorf("Allocations with rebind_protection %t: got %v, want at most %v", protect, got, want)
		}
	}
}

// BenchmarkPassed is what the plugin costs a query that is not its own.
func BenchmarkPassed(b *testing.B) {
	for name, rebind := range map[string]*RebindProtection{"off": nil, "on": {Ranges: DefaultRebindRanges()}} {
		b.Run("rebind_protection="+name, func(b *testing.B) {
			m := protected(b, prepared, func(c *Config) { c.Rebind = rebind })
			r, w, ctx := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA), &sink{}, context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.ServeDNS(ctx, w, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
