package service

import (
	"context"
	"net/netip"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	meshvm "github.com/meshvm/meshvm/plugin"
)

// questionTimeout is how long this process may take to answer itself. It is far more than it needs and less than clients wait.
const questionTimeout = 3 * time.Second

// answers reports whether queries to the service's own address are answered. Where the mesh has a zone it is asked about that, which
// needs nobody else; an acl that lets nobody but others ask has no say in it.
func answers(ctx context.Context, instance *caddy.Instance) bool {
	address, found := listens(instance)
	if !found {
		return false
	}
	for _, mirror := range meshvm.Status().Mirrors {
		if len(mirror.Zones) == 0 || !address.Addr().IsLoopback() {
			continue
		}
		if ask(ctx, address, new(dns.Msg).SetQuestion(dns.Fqdn("dns-version."+mirror.Zones[0]), dns.TypeTXT)) != nil {
			return true
		}
	}
	// Refused as not implemented before any plugin is asked.
	status := new(dns.Msg).SetQuestion(".", dns.TypeNS)
	status.Opcode = dns.OpcodeStatus
	return ask(ctx, address, status) != nil
}

// forwards reports whether names that are not the mesh's resolve.
func forwards(ctx context.Context, instance *caddy.Instance) bool {
	address, found := listens(instance)
	if !found {
		return false
	}
	reply := ask(ctx, address, new(dns.Msg).SetQuestion(".", dns.TypeNS))
	return reply != nil && (reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError)
}

// ask is the reply to a query. Nil: there was none in time.
func ask(ctx context.Context, address netip.AddrPort, query *dns.Msg) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	client := dns.Client{Net: "udp", Timeout: questionTimeout}
	reply, _, err := client.ExchangeContext(ctx, query, address.String())
	if err != nil {
		return nil
	}
	return reply
}

// listens is where an instance can be asked from this machine.
func listens(instance *caddy.Instance) (netip.AddrPort, bool) {
	if instance == nil {
		return netip.AddrPort{}, false
	}
	for _, server := range instance.Servers() {
		if server.Addr() == nil || server.LocalAddr() == nil {
			continue
		}
		address, err := netip.ParseAddrPort(server.LocalAddr().String())
		if err != nil {
			continue
		}
		if address.Addr().IsUnspecified() {
			address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), address.Port())
		}
		return address, true
	}
	return netip.AddrPort{}, false
}
