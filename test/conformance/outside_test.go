package conformance

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// Directives of plugins for tests only.
const (
	// outsideDirective stands behind both plugins and knows the few names of the world outside.
	outsideDirective = "outside"
	// reachedDirective has CoreDNS believe that it serves at an address, in CIDR notation.
	reachedDirective = "reached"
)

func init() {
	plugin.Register(outsideDirective, func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return outside{} })
		return nil
	})
	plugin.Register(reachedDirective, func(c *caddy.Controller) error {
		var addresses []string
		for c.Next() {
			addresses = append(addresses, c.RemainingArgs()...)
		}
		// The sockets are bound already. The kubernetes plugin looks here, a moment later, for the
		// addresses that it gives to ns.dns, and takes none that is on loopback.
		c.OnStartup(func() error {
			dnsserver.GetConfig(c).ListenHosts = addresses
			return nil
		})
		return nil
	})
}

// servers is every server that was asked for introduction, by the address that it serves at.
var servers sync.Map

const (
	// outsideZone is where the names of the world outside are.
	outsideZone = "outside.test."
	// introduction makes a server known in servers.
	introduction = "introduce.yourself.test."
)

// outsideRecords is the world outside, by name.
var outsideRecords = func() map[string][]dns.RR {
	records := map[string][]dns.RR{}
	for _, text := range []string{
		"both.outside.test. 60 IN A 192.0.2.80",
		"both.outside.test. 60 IN AAAA 2001:db8::80",
		"both.outside.test. 60 IN TXT hello",
		"both.outside.test. 60 IN MX 10 mail.outside.test.",
		"four.outside.test. 60 IN A 192.0.2.4",
		"four.outside.test. 60 IN A 192.0.2.44",
		"six.outside.test. 60 IN AAAA 2001:db8::6",
		"alias.outside.test. 60 IN CNAME four.outside.test.",
		"sip.outside.test. 60 IN SRV 1 2 5060 four.outside.test.",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		records[rr.Header().Name] = append(records[rr.Header().Name], rr)
	}
	return records
}()

// outside is the plugin after both: the authority for outsideZone and nothing else.
type outside struct{}

func (outside) Name() string { return outsideDirective }

func (outside) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	name, qtype := dns.CanonicalName(r.Question[0].Name), r.Question[0].Qtype
	reply := new(dns.Msg).SetReply(r)
	reply.Authoritative = true
	switch {
	case name == introduction:
		server, found := ctx.Value(dnsserver.Key{}).(*dnsserver.Server)
		if !found {
			return dns.RcodeServerFailure, fmt.Errorf("no server in the context of %s", introduction)
		}
		servers.Store(server.Addr, server)
	case !dns.IsSubDomain(outsideZone, name):
		reply.Rcode = dns.RcodeNameError
	default:
		records, found := outsideRecords[name]
		if !found {
			reply.Rcode = dns.RcodeNameError
		}
		for _, rr := range records {
			switch rr := rr.(type) {
			case *dns.CNAME:
				reply.Answer = append(reply.Answer, rr)
				reply.Answer = append(reply.Answer, ofType(outsideRecords[rr.Target], qtype)...)
			case *dns.SRV:
				if qtype == dns.TypeSRV {
					reply.Answer = append(reply.Answer, rr)
					reply.Extra = append(reply.Extra, ofType(outsideRecords[rr.Target], dns.TypeA)...)
				}
			default:
				reply.Answer = append(reply.Answer, ofType([]dns.RR{rr}, qtype)...)
			}
		}
		if len(reply.Answer) == 0 {
			reply.Ns = []dns.RR{&dns.SOA{
				Hdr: dns.RR_Header{Name: outsideZone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
				Ns:  "ns." + outsideZone, Mbox: "hostmaster." + outsideZone, Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 5,
			}}
		}
	}
	return dns.RcodeSuccess, w.WriteMsg(reply)
}

func ofType(records []dns.RR, qtype uint16) []dns.RR {
	var of []dns.RR
	for _, rr := range records {
		if rr.Header().Rrtype == qtype {
			of = append(of, rr)
		}
	}
	return of
}

// recorder keeps the reply that a server writes. Its connection is TCP, so that nothing is truncated.
type recorder struct {
	local, remote *net.TCPAddr
	reply         *dns.Msg
}

func (r *recorder) LocalAddr() net.Addr  { return r.local }
func (r *recorder) RemoteAddr() net.Addr { return r.remote }

func (r *recorder) WriteMsg(reply *dns.Msg) error {
	r.reply = reply
	return nil
}

func (r *recorder) Write(wire []byte) (int, error) {
	r.reply = new(dns.Msg)
	return len(wire), r.reply.Unpack(wire)
}

func (*recorder) Close() error        { return nil }
func (*recorder) TsigStatus() error   { return nil }
func (*recorder) TsigTimersOnly(bool) {}
func (*recorder) Hijack()             {}
