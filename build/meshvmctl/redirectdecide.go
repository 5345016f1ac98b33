package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// decideRedirect makes the Plan of a mode that is named: what follows from the wish, with the search list and the resolvers that the
// machine has now.
func decideRedirect(_ context.Context, machine redirect.Machine, wish redirect.Wish) (redirect.Plan, error) {
	if wish.Mode == "" {
		return redirect.Plan{}, errors.New("want --mode: what owns name resolution on this machine is not looked at")
	}
	plan := redirect.Plan{Mode: wish.Mode, Why: "it was asked for", Server: wish.Server, Zones: wish.Zones, Transparent: wish.Transparent}
	plan.AllNames = wish.AllNames || wish.Mode != redirect.Delegate && wish.Mode != redirect.Resolved
	for _, name := range append(slices.Clone(wish.Zones), wish.Hosts...) {
		if name = strings.TrimPrefix(name, "*."); !slices.Contains(plan.Domains, name) {
			plan.Domains = append(plan.Domains, name)
		}
	}
	for _, zone := range wish.Zones {
		if wish.Namespace != "" && !strings.HasSuffix(zone, ".arpa") {
			plan.Search = append(plan.Search, wish.Namespace+".svc."+zone, "svc."+zone, zone)
		}
	}
	config, err := dns.ClientConfigFromFile(machine.Path("/etc/resolv.conf"))
	if err != nil {
		return redirect.Plan{}, fmt.Errorf("read the search list of this machine: %w", err)
	}
	for _, domain := range config.Search {
		if domain = strings.Trim(domain, "."); domain != "" && !slices.Contains(plan.Search, domain) {
			plan.Search = append(plan.Search, domain)
		}
	}
	upstreams, err := dns.ClientConfigFromFile(machine.Path(redirect.UpstreamsFile))
	if err != nil {
		return redirect.Plan{}, fmt.Errorf("read the resolvers of this machine: %w", err)
	}
	for _, server := range upstreams.Servers {
		if address, err := netip.ParseAddr(server); err == nil {
			plan.Upstreams = append(plan.Upstreams, netip.AddrPortFrom(address, 53))
		}
	}
	return plan, nil
}
