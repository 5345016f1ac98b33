package meshvm

import (
	"context"
	"net/netip"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// answering is a next plugin that answers every query with these records, as a message or as bytes.
func answering(t *testing.T, asBytes bool, answer, additional []string) plugin.Handler {
	t.Helper()
	parse := func(texts []string) (records []dns.RR) {
		for _, text := range texts {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, rr)
		}
		return records
	}
	return plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
		reply := new(dns.Msg).SetReply(r)
		reply.Answer, reply.Extra = parse(answer), parse(additional)
		if !asBytes {
			return dns.RcodeSuccess, w.WriteMsg(reply)
		}
		packed, err := reply.Pack()
		if err == nil {
			_, err = w.Write(packed)
		}
		return dns.RcodeSuccess, err
	})
}

// unpacking keeps a message that is written as bytes.
type unpacking struct{ *dnstest.Recorder }

func (u unpacking) Write(packed []byte) (int, error) {
	u.Msg = new(dns.Msg)
	return len(packed), u.Msg.Unpack(packed)
}

func TestRebindProtection(t *testing.T) {
	const outside = "site.example.org."
	record := func(data string) []string { return []string{outside + " 60 IN " + data} }
	tests := map[string]struct {
		off                bool
		name               string // outside, if empty
		answer, additional []string
		except             []string
		refused            bool
	}{
		"an address elsewhere":                  {answer: record("A 192.0.2.1")},
		"no address":                            {answer: record("TXT 240.240.0.9")},
		"a virtual IP's range":                  {answer: record("A 240.240.9.9"), refused: true},
		"a virtual IP's range, IPv6":            {answer: record("AAAA 2001:2::99"), refused: true},
		"beside the range":                      {answer: record("A 240.241.0.1")},
		"one among others":                      {answer: append(record("A 192.0.2.1"), record("A 240.240.9.9")...), refused: true},
		"at the end of an alias":                {answer: []string{outside + " 60 IN CNAME b.example.org.", "b.example.org. 60 IN A 240.240.9.9"}, refused: true},
		"in the additional section":             {answer: record("MX 10 mail.example.org."), additional: []string{"mail.example.org. 60 IN A 240.240.9.9"}, refused: true},
		"a hint of an HTTPS record":             {answer: record("HTTPS 1 . ipv4hint=240.240.9.9"), refused: true},
		"a hint of an SVCB record, IPv6":        {answer: record("SVCB 1 . ipv6hint=2001:2::99"), refused: true},
		"a hint elsewhere":                      {answer: record("HTTPS 1 . ipv4hint=192.0.2.1")},
		"mapped into IPv6":                      {answer: record("AAAA ::ffff:240.240.9.9"), refused: true},
		"compatible with IPv6":                  {answer: record("AAAA ::240.240.9.9"), refused: true},
		"behind NAT64":                          {answer: record("AAAA 64:ff9b::240.240.9.9"), refused: true},
		"behind NAT64, elsewhere":               {answer: record("AAAA 64:ff9b::192.0.2.1")},
		"a cluster IP that the registry knows":  {answer: record("A 10.96.0.10"), refused: true},
		"the same, IPv6":                        {answer: record("AAAA fd00::10"), refused: true},
		"a cluster IP that it does not":         {answer: record("A 10.96.0.99")},
		"an endpoint, which is a machine":       {answer: record("A 10.0.0.1")},
		"a domain that may":                     {answer: record("A 240.240.9.9"), except: []string{"example.org"}},
		"another that may":                      {answer: record("A 240.240.9.9"), except: []string{"ample.org"}, refused: true},
		"off":                                   {off: true, answer: record("A 240.240.9.9")},
		"in a zone of its own that it lets go":  {name: "nope.prod.svc.cluster.local.", answer: []string{"nope.prod.svc.cluster.local. 60 IN A 240.240.9.9"}},
		"a name of the mesh in the same breath": {name: "api.example.com.", answer: nil},
	}
	for name, tc := range tests {
		for form, asBytes := range map[string]bool{"message": false, "bytes": true} {
			t.Run(name+", as "+form, func(t *testing.T) {
				config := defaultConfig()
				config.Fall.SetZonesFromArgs(nil)
				if !tc.off {
					config.RebindProtection = &RebindProtection{Ranges: defaultRebindRanges, Except: tc.except}
				}
				m := serving(t, config, mesh())
				m.Next = answering(t, asBytes, tc.answer, tc.additional)
				asked := tc.name
				if asked == "" {
					asked = outside
				}
				r := new(dns.Msg).SetQuestion(asked, dns.TypeA)
				r.SetEdns0(1232, false)
				recorder := unpacking{dnstest.NewRecorder(&test.ResponseWriter{})}
				if _, err := m.ServeDNS(t.Context(), recorder, r); err != nil {
					t.Fatal(err)
				}
				reply := recorder.Msg
				if blocked := hasError(reply, dns.ExtendedErrorCodeBlocked); blocked != tc.refused {
					t.Fatalf("reply: got\n%v\nwant it refused: %t", reply, tc.refused)
				}
				if tc.refused && (reply.Rcode != dns.RcodeSuccess || len(reply.Answer)+len(reply.Ns) > 0 || reply.Id != r.Id) {
					t.Errorf("reply: got\n%v\nwant no record in it", reply)
				}
				if !tc.refused && tc.name == "" && len(reply.Answer) != len(tc.answer) {
					t.Errorf("reply: got\n%v\nwant what the upstream said", reply)
				}
			})
		}
	}
}

// TestRebindProtectionAtTheEdges holds the look at wrapped addresses against every address of a range's edges.
func TestRebindProtectionAtTheEdges(t *testing.T) {
	config := defaultConfig()
	config.RebindProtection = &RebindProtection{Ranges: []netip.Prefix{netip.MustParsePrefix("240.240.0.0/16")}}
	m := serving(t, config, nil)
	g := &rebindGuard{plugin: m, query: &query{state: m.follower.mirror.State()}}
	for text, want := range map[string]bool{
		"240.239.255.255": false, "240.240.0.0": true, "240.240.255.255": true, "240.241.0.0": false,
		"::": false, "::1": false, "64:ff9b:1::f0f0:1": false, "2001:2::f0f0:1": false,
	} {
		address := netip.MustParseAddr(text)
		if got := g.inside(address); got != want {
			t.Errorf("%s is inside: got %t, want %t", text, got, want)
		}
		if !address.Is4() {
			continue
		}
		for _, network := range wrappings {
			wrapped := network.Addr().As16()
			copy(wrapped[12:], address.AsSlice())
			if got := g.inside(netip.AddrFrom16(wrapped)); got != want {
				t.Errorf("%s in %s is inside: got %t, want %t", text, network, got, want)
			}
		}
	}
}

// FuzzRebindProtection: whatever bytes an upstream sends, no address inside gets through, and nothing panics.
func FuzzRebindProtection(f *testing.F) {
	reply := new(dns.Msg).SetQuestion("site.example.org.", dns.TypeA)
	for _, text := range []string{"a. 1 IN A 240.240.0.1", "a. 1 IN HTTPS 1 . ipv4hint=240.240.0.1", "a. 1 IN AAAA ::ffff:240.240.0.1"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		reply.Answer = append(reply.Answer, rr)
	}
	packed, err := reply.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	config := defaultConfig()
	config.RebindProtection = &RebindProtection{Ranges: defaultRebindRanges}
	m := serving(f, config, nil)
	f.Fuzz(func(t *testing.T, packed []byte) {
		recorder := unpacking{dnstest.NewRecorder(&test.ResponseWriter{})}
		m.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			_, _ = w.Write(packed) // what it is not given counts
			return dns.RcodeSuccess, nil
		})
		if _, err := m.ServeDNS(t.Context(), recorder, new(dns.Msg).SetQuestion("site.example.org.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		if recorder.Msg == nil {
			return
		}
		for _, rr := range append(recorder.Msg.Answer, recorder.Msg.Extra...) {
			for _, ip := range pointsTo(rr) {
				if address, ok := netip.AddrFromSlice(ip); ok && defaultRebindRanges[0].Contains(address.Unmap()) {
					t.Errorf("%s got through in %v", address, rr)
				}
			}
		}
	})
}
