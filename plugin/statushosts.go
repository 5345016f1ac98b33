package meshvm

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/status"
)

// listeners are the addresses that this process answers DNS at, over UDP and TCP.
func listeners() []status.Listener {
	var all []status.Listener
	for _, instance := range caddy.Instances() {
		for _, server := range instance.Servers() {
			if server.Addr() == nil || server.LocalAddr() == nil {
				continue // it has another protocol
			}
			address, err := netip.ParseAddrPort(server.LocalAddr().String())
			if err != nil {
				continue
			}
			l := status.Listener{Address: address.String()}
			if !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	return all
}

// zonesOf are the follower's zones as a Report has them.
func (s *shared) zonesOf() []string {
	var zones []string
	for _, zone := range *s.zones.Load() {
		zones = append(zones, strings.TrimSuffix(zone, "."))
	}
	return zones
}

// hosts are the hosts outside the zones of all followers.
func (p *followers) hosts() []string {
	hosts := []string{}
	for _, held := range p.all() {
		zones := *held.zones.Load()
		for name := range held.mirror.State().HostNames() {
			fqdn := dns.Fqdn(name)
			if !slices.ContainsFunc(zones, func(zone string) bool { return dns.IsSubDomain(zone, fqdn) }) {
				hosts = append(hosts, name)
			}
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	return hosts[:min(len(hosts), status.MaxHosts)]
}
