package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// standing is how the redirect stands.
func standing(ctx context.Context, e *examination) []Finding {
	machine := redirect.Machine{Root: e.Root, Run: e.Run}
	s, err := redirect.Stand(machine)
	switch {
	case err != nil:
		return []Finding{bad(Problem, "meshvmctl redirect apply sets it aside", "%v", err)}
	case !s.Applied:
		return []Finding{bad(Warning, "meshvmctl redirect plan shows what would be done, and meshvmctl redirect apply does it", "nothing is redirected")}
	case s.Withdrawn != "":
		return []Finding{bad(Problem, "it is applied again once CoreDNS answers: see journalctl -u meshvm", "the redirect is withdrawn %s", s.Withdrawn)}
	}
	var findings []Finding
	if s.Fight != "" {
		findings = append(findings, bad(Problem, "stop the other one, or choose its mode (meshvmctl redirect apply --mode)", "others overwrite the redirect: %s", s.Fight))
	}
	missing := s.Missing
	if s.Plan.Transparent {
		rules, err := redirect.HoldsTransparent(ctx, machine, *s.Plan)
		if err != nil {
			findings = append(findings, unknown("run doctor as root", err))
		}
		missing = append(missing, rules...)
	}
	for _, sentence := range missing {
		findings = append(findings, bad(Problem, "meshvmctl redirect apply", "%s", sentence))
	}
	return orFine(findings, "mode %s is in force", s.Plan.Mode)
}

// upstreams looks at what CoreDNS forwards to.
func upstreams(_ context.Context, e *examination) []Finding {
	content, err := e.read(redirect.UpstreamsFile)
	if err != nil {
		return []Finding{unknown("run doctor as root", err)}
	}
	servers := resolvconf.Parse([]byte(content)).Servers
	const remedy = "meshvmctl redirect upstreams writes it anew"
	if len(servers) == 0 {
		return []Finding{bad(Problem, remedy, "%s names no resolver, so that only names of the mesh resolve", redirect.UpstreamsFile)}
	}
	var findings []Finding
	for _, server := range servers {
		if slices.ContainsFunc(e.servers(), func(s netip.AddrPort) bool { return overlap(s, netip.AddrPortFrom(server, 53)) }) {
			findings = append(findings, bad(Problem, remedy, "%s names %s, which is CoreDNS itself", redirect.UpstreamsFile, server))
		}
		if stub(server) && e.split() {
			findings = append(findings, bad(Problem, remedy, "%s names %s, and systemd-resolved asks CoreDNS", redirect.UpstreamsFile, server))
		}
	}
	var names []string
	for _, server := range servers {
		names = append(names, server.String())
	}
	return orFine(findings, "CoreDNS forwards to %s", strings.Join(names, ", "))
}
