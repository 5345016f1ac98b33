package doctor

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// units asks systemd how ours stand.
func units(ctx context.Context, e *examination) []Finding {
	var findings []Finding
	names := []string{"meshvm.service", "meshvm-redirect.service", "meshvm-redirect-watch.service"}
	for _, name := range names {
		shown, err := e.run(ctx, "systemctl", "show", "-p", "LoadState,ActiveState,SubState,Result,NRestarts", name)
		if err != nil {
			return append(findings, unknown("run doctor on a VM with systemd", err))
		}
		at := make(map[string]string)
		for line := range strings.Lines(shown) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			at[key] = value
		}
		restarts, err := strconv.Atoi(at["NRestarts"])
		switch {
		case at["LoadState"] != "loaded":
			findings = append(findings, bad(Warning, "install the package of meshvm", "%s is %s", name, at["LoadState"]))
		case at["ActiveState"] == "failed":
			findings = append(findings, bad(Problem, "see journalctl -u "+name, "%s has failed: %s", name, at["Result"]))
		case at["ActiveState"] != "active":
			verdict := Warning
			if name == names[0] {
				verdict = Problem
			}
			findings = append(findings, bad(verdict, "systemctl enable --now "+name, "%s is %s (%s)", name, at["ActiveState"], at["SubState"]))
		case err == nil && restarts > 3:
			findings = append(findings, bad(Warning, "see journalctl -u "+name, "%s was restarted %d times", name, restarts))
		}
	}
	return orFine(findings, "%s run", strings.Join(names, ", "))
}

// statusSocket says whether CoreDNS tells how it stands, and what is wrong with its mirrors.
func statusSocket(_ context.Context, e *examination) []Finding {
	if e.reportErr != nil {
		return []Finding{bad(Problem, "see systemctl status meshvm; run doctor as root or as a member of the group meshvm", "%v", e.reportErr)}
	}
	var findings []Finding
	for _, mirror := range e.report.Mirrors {
		for _, fault := range mirror.Faults(e.report.At) {
			remedy := "meshvmctl status tells more"
			if mirror.Problem != nil && mirror.Problem.Remedy != "" {
				remedy = mirror.Problem.Remedy
			}
			findings = append(findings, bad(Problem, remedy, "%s", fault))
		}
	}
	if len(e.report.Mirrors) == 0 {
		findings = append(findings, bad(Problem, "add meshvm to a Server Block of the Corefile", "CoreDNS has no mirror of a registry"))
	}
	return orFine(findings, "CoreDNS %s follows %d syncers", e.report.Version, len(e.report.Mirrors))
}

// answers asks CoreDNS over UDP and TCP at each of its addresses.
func answers(ctx context.Context, e *examination) []Finding {
	var findings []Finding
	for _, server := range e.servers() {
		if server.Addr().IsUnspecified() {
			loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			server = netip.AddrPortFrom(loopback, server.Port())
		}
		for _, protocol := range []string{"udp", "tcp"} {
			question := new(dns.Msg).SetQuestion(dns.Fqdn(e.zone()), dns.TypeSOA)
			client := dns.Client{Net: protocol, Timeout: patience / 3}
			reply, _, err := client.ExchangeContext(ctx, question, server.String())
			switch {
			case err != nil:
				findings = append(findings, bad(Problem, "see journalctl -u meshvm, and whether a firewall drops port "+strconv.Itoa(int(server.Port())), "%s does not answer over %s: %v", server, protocol, err))
			case reply.Rcode != dns.RcodeSuccess:
				findings = append(findings, bad(Problem, "see meshvmctl status and journalctl -u meshvm", "%s answers %s over %s for %s", server, dns.RcodeToString[reply.Rcode], protocol, e.zone()))
			}
		}
	}
	return orFine(findings, "CoreDNS answers over UDP and TCP at %s", e.servers())
}
