package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/deploy/vm/redirect/nsswitch"
	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

func (m Machine) resolvConf() (resolvconf.File, error) {
	content, err := m.read("/etc/resolv.conf")
	return resolvconf.Parse([]byte(content)), err
}

// stub is where systemd-resolved is asked.
func stub(address netip.Addr) bool {
	return address == netip.MustParseAddr("127.0.0.53") || address == netip.MustParseAddr("127.0.0.54")
}

// split: systemd-resolved asks CoreDNS.
func (m Machine) split() bool {
	standing, err := redirect.Stand(redirect.Machine{Root: m.Root})
	return err == nil && standing.Applied && standing.Withdrawn == "" && (standing.Plan.Mode == redirect.Delegate || standing.Plan.Mode == redirect.Resolved)
}

// resolver looks whether /etc/resolv.conf leads to CoreDNS.
func resolver(_ context.Context, e *examination) []Finding {
	conf, err := e.resolvConf()
	if err != nil {
		return []Finding{unknown("make /etc/resolv.conf readable", err)}
	}
	remedy := "meshvmctl redirect apply; for programs with a resolver of their own built in, meshvmctl redirect apply --transparent"
	if len(conf.Servers) == 0 {
		return []Finding{bad(Problem, remedy, "/etc/resolv.conf names no server")}
	}
	split := e.split()
	if split {
		remedy = "ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf, so that programs without the C library ask systemd-resolved as well; " +
			"or meshvmctl redirect apply --transparent"
	}
	var past []string
	for _, server := range conf.Servers {
		ours := slices.ContainsFunc(e.servers(), func(s netip.AddrPort) bool { return overlap(s, netip.AddrPortFrom(server, 53)) })
		if !ours && !(split && stub(server)) {
			past = append(past, server.String())
		}
	}
	switch {
	case len(past) == len(conf.Servers):
		return []Finding{bad(Problem, remedy, "/etc/resolv.conf leads past CoreDNS, to %s", strings.Join(past, ", "))}
	case len(past) > 0:
		// musl and Go ask them, too: musl all at once, and the first answer counts.
		return []Finding{bad(Problem, remedy, "/etc/resolv.conf names %s besides CoreDNS, and musl asks all servers at once", strings.Join(past, ", "))}
	}
	return []Finding{fine("/etc/resolv.conf leads to CoreDNS (%s)", conf.Servers[0])}
}

// nameServices looks at the line hosts: of nsswitch.conf, which the C library goes by and musl and Go's own resolver do not, or in part.
func nameServices(_ context.Context, e *examination) []Finding {
	content, err := e.read("/etc/nsswitch.conf")
	if err != nil {
		return []Finding{unknown("make /etc/nsswitch.conf readable", err)}
	}
	services := nsswitch.Hosts([]byte(content))
	var findings []Finding
	if !slices.Contains(services, "dns") && !slices.Contains(services, "resolve") {
		findings = append(findings, bad(Problem, "add dns to the line hosts: of /etc/nsswitch.conf", "the C library asks %s, and no DNS", strings.Join(services, ", ")))
	}
	if nsswitch.ResolveBeforeDNS(services) && e.exists("/run/systemd/resolve/io.systemd.Resolve") && !e.split() {
		findings = append(findings, bad(Problem, "meshvmctl redirect apply, which has systemd-resolved ask CoreDNS; or put dns before resolve in /etc/nsswitch.conf",
			"the C library asks systemd-resolved before /etc/resolv.conf, and that does not ask CoreDNS"))
	}
	if i := slices.IndexFunc(services, func(s string) bool { return s == "mdns" || s == "mdns4" || s == "mdns6" }); i >= 0 && strings.HasSuffix(strings.TrimSuffix(e.zone(), "."), ".local") {
		findings = append(findings, bad(Warning, "use mdns4_minimal, which asks for names of two labels only", "%s takes names below .local by multicast, as %s is", services[i], e.zone()))
	}
	return orFine(findings, "the C library asks %s", strings.Join(services, ", "))
}

// caches looks for what keeps answers between programs and CoreDNS.
func caches(_ context.Context, e *examination) []Finding {
	var findings []Finding
	if e.exists("/run/nscd/socket") || e.exists("/var/run/nscd/socket") {
		findings = append(findings, bad(Warning, "enable-cache hosts no in /etc/nscd.conf, or stop nscd", "nscd keeps hosts, longer than their TTL"))
	}
	content, err := e.read("/etc/nsswitch.conf")
	if err != nil {
		return append(findings, unknown("make /etc/nsswitch.conf readable", err))
	}
	if slices.Contains(nsswitch.Hosts([]byte(content)), "sss") {
		findings = append(findings, bad(Warning, "take sss out of the line hosts: of /etc/nsswitch.conf", "sssd is asked for hosts"))
	}
	return orFine(findings, "nobody keeps answers before CoreDNS is asked")
}

// containers: Docker takes loopback servers out of the resolv.conf that it gives to containers.
func containers(_ context.Context, e *examination) []Finding {
	if !e.exists("/run/docker.sock") {
		return []Finding{fine("there is no Docker")}
	}
	content, err := e.read("/etc/docker/daemon.json")
	switch {
	case err != nil:
		return []Finding{unknown("run doctor as root", err)}
	case strings.Contains(content, `"dns"`):
		return []Finding{fine("Docker's containers have resolvers of their own (/etc/docker/daemon.json)")}
	}
	return []Finding{bad(Warning, "have CoreDNS listen at the address of docker0, too, allow its network in acl, and name it under dns in /etc/docker/daemon.json",
		"Docker's containers ask public resolvers where /etc/resolv.conf names a loopback address alone")}
}

// Bounds of C libraries: glibc before 2.26 takes six domains, musl 255 characters.
const (
	maxSearchDomains = 6
	maxSearchLength  = 255
	maxNDots         = 5
)

func searchList(_ context.Context, e *examination) []Finding {
	conf, err := e.resolvConf()
	if err != nil {
		return []Finding{unknown("make /etc/resolv.conf readable", err)}
	}
	var findings []Finding
	warn := func(remedy, format string, args ...any) {
		findings = append(findings, bad(Warning, remedy, format, args...))
	}
	const shorten = "take out domains that nobody needs"
	if len(conf.Search) > maxSearchDomains {
		warn(shorten, "the search list has %d domains, and glibc before 2.26 takes %d", len(conf.Search), maxSearchDomains)
	}
	if length := len(strings.Join(conf.Search, " ")); length > maxSearchLength {
		warn(shorten, "the search list has %d characters, and musl takes %d", length, maxSearchLength)
	}
	for _, option := range conf.Options {
		value, isNDots := strings.CutPrefix(option, "ndots:")
		ndots, err := strconv.Atoi(value)
		switch {
		case !isNDots:
		case err != nil:
			warn("write a number", "options %s is none", option)
		case ndots == 0:
			warn("options ndots:1, which is the default", "with ndots:0 short names are asked for as they are first")
		case ndots > maxNDots:
			warn("options ndots:1, which is the default", "with ndots:%d a name outside is asked for with each of %d domains first", ndots, len(conf.Search))
		}
	}
	for _, mirror := range e.report.Mirrors {
		namespace := mirror.View
		if namespace == "" {
			namespace = mirror.Namespace
		}
		want := namespace + ".svc." + strings.TrimSuffix(e.zone(), ".")
		if namespace != "" && e.zone() != "." && !slices.Contains(conf.Search, want) && !e.split() {
			warn("meshvmctl redirect apply", "the search list lacks %s, so that short names of the VM's namespace do not resolve", want)
		}
	}
	return orFine(findings, "%d domains: %s", len(conf.Search), strings.Join(conf.Search, " "))
}
