// Command fixed is CoreDNS with a plugin that answers every A query with one fixed record: the least
// that any plugin can do, to measure meshvm against. It holds meshvm too, so that both are measured in
// the same program and the same chain.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/pprof"
	"github.com/miekg/dns"

	_ "github.com/meshvm/meshvm/plugin"
)

func init() {
	plugin.Register("fixed", func(c *caddy.Controller) error {
		dnsserver.GetConfig(c).AddPlugin(func(plugin.Handler) plugin.Handler { return fixed{} })
		return nil
	})
}

func main() {
	if err := dnsserver.SetDirectives([]string{"bind", "pprof", "prometheus", "errors", "meshvm", "fixed"}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	coremain.Run()
}

type fixed struct{}

// Name implements plugin.Handler.
func (fixed) Name() string { return "fixed" }

var address = net.IPv4(10, 97, 0, 1).To4()

// ServeDNS implements plugin.Handler.
func (fixed) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	reply := new(dns.Msg)
	reply.SetReply(r)
	reply.Authoritative = true
	reply.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30},
		A:   address,
	}}
	return dns.RcodeSuccess, w.WriteMsg(reply)
}
