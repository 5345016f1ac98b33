package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/nsswitch"
)

// Versions of systemd with which a mode works: since which DNS= takes a port and domains are routed as they should be, and since which
// there is dns-delegate.d.
const (
	firstResolved = 246
	firstDelegate = 258
)

// maxRoutes is how many domains are routed one by one, well below what systemd-resolved takes.
const maxRoutes = 200

// maxSearch is the longest search list that every C library takes: glibc before 2.26 forgets what comes after.
const maxSearch = 6

// Decide makes a Plan of what was found and of what is wanted. It is pure. The error says why what is wanted cannot be had.
func Decide(f Facts, w Wish) (Plan, error) {
	if !w.Server.IsValid() {
		return Plan{}, errors.New("where CoreDNS listens is not known")
	}
	p := Plan{Server: w.Server, Server6: w.Server6, Zones: w.Zones, Transparent: w.Transparent, Wished: Wished{w.Mode, w.AllNames, w.Transparent}}
	choices := choose(f)
	if w.Mode != "" {
		if err := p.force(choices, w.Mode); err != nil {
			return Plan{}, err
		}
	} else if p.pick(choices); p.unsure(choices) {
		return Plan{}, fmt.Errorf("who owns name resolution cannot be told, so that none is taken for the owner: %s", strings.Join(f.Unknown, "; "))
	}
	switch {
	case p.Mode != None:
		p.Upstreams = f.Upstreams[p.Mode]
		p.search(f, w)
	case p.Transparent:
		p.Upstreams = f.Upstreams[ownerOf(f)] // CoreDNS forwards to them, though nobody is told to ask it.
	default:
		return p, nil
	}
	p.route(w)
	p.warn(f, w)
	return p, nil
}

// choice is a mode, and whether it could be had.
type choice struct {
	mode Mode
	// possible: it would work. natural: it is how this machine is set up. unknown: it is, if the program runs, and nobody can tell.
	possible, natural, unknown bool
	// why it is natural, or is not, or cannot be.
	why string
}

// choose looks at every mode, in the order in which they are preferred.
func choose(f Facts) []choice {
	stub := len(f.ResolvConf.Servers) > 0 && !slices.ContainsFunc(f.ResolvConf.Servers, func(s netip.Addr) bool { return !isStub(s) })
	asked := ""
	switch {
	case nsswitch.ResolveBeforeDNS(f.NSS):
		asked = "nsswitch.conf has the C library ask systemd-resolved"
	case stub:
		asked = resolvConf + " names the stub of systemd-resolved alone"
	}
	return []choice{
		resolvedChoice(f, Delegate, asked),
		resolvedChoice(f, Resolved, asked),
		networkManagerChoice(f),
		resolvconfChoice(f, Resolvconf, "Debian's resolvconf"),
		resolvconfChoice(f, Openresolv, "openresolv"),
		{mode: Direct, possible: true, natural: true, why: "nobody else writes " + resolvConf + ", or only a DHCP client does"},
	}
}

func resolvedChoice(f Facts, mode Mode, asked string) choice {
	c := choice{mode: mode}
	version := f.Resolved.Version
	switch {
	case f.Resolved.Unknown:
		c.unknown = asked != ""
		c.why = "whether systemd-resolved runs, and of which version, cannot be told"
	case !f.Resolved.Running:
		c.why = "systemd-resolved does not run"
	case version < firstResolved:
		c.why = fmt.Sprintf("systemd-resolved %d cannot ask for single domains elsewhere, %d or later can", version, firstResolved)
	case mode == Delegate && version < firstDelegate:
		c.why = fmt.Sprintf("systemd-resolved %d has no dns-delegate.d, %d or later has", version, firstDelegate)
	case asked == "":
		c.possible = true
		c.why = "systemd-resolved runs, and the C library does not ask it: nsswitch.conf does not list resolve before dns, and " + resolvConf + " names others"
	default:
		c.possible, c.natural = true, true
		c.why = fmt.Sprintf("%s (%d)", asked, version)
	}
	return c
}

func networkManagerChoice(f Facts) choice {
	c := choice{mode: NetworkManager}
	wrote := f.ResolvConf.Writer == "NetworkManager" || strings.HasPrefix(f.ResolvConf.Target, "/run/NetworkManager/") || strings.HasPrefix(f.ResolvConf.Target, "../run/NetworkManager/")
	switch {
	case f.NetworkManager.Unknown:
		c.unknown = wrote
		c.why = "whether NetworkManager runs cannot be told"
	case !f.NetworkManager.Running:
		c.why = "NetworkManager does not run"
	case !wrote:
		c.possible = true
		c.why = "NetworkManager runs, and has not written " + resolvConf
	default:
		c.possible, c.natural = true, true
		c.why = "NetworkManager writes " + resolvConf
	}
	return c
}

func resolvconfChoice(f Facts, mode Mode, name string) choice {
	c := choice{mode: mode}
	wrote := f.ResolvConf.Writer == "resolvconf" || strings.Contains(f.ResolvConf.Target, "resolvconf/")
	switch {
	case f.Resolvconf != mode:
		c.why = name + " is not installed"
	case !wrote:
		c.possible = true
		c.why = name + " is installed, and has not written " + resolvConf
	default:
		c.possible, c.natural = true, true
		c.why = name + " writes " + resolvConf
	}
	return c
}

// force takes the mode that was asked for.
func (p *Plan) force(choices []choice, mode Mode) error {
	p.Mode, p.Why = mode, "it was asked for"
	if mode == None {
		return nil
	}
	at := slices.IndexFunc(choices, func(c choice) bool { return c.mode == mode })
	if at < 0 {
		return fmt.Errorf("there is no mode %q", mode)
	}
	c := choices[at]
	if !c.possible {
		return fmt.Errorf("mode %s cannot be had: %s", mode, c.why)
	}
	if !c.natural {
		p.Warnings = append(p.Warnings, "mode "+string(mode)+" was asked for, but "+c.why)
	}
	return nil
}

// pick takes the first mode that is how the machine is set up.
func (p *Plan) pick(choices []choice) {
	for _, c := range choices {
		switch {
		case p.Mode != "":
			p.Rejected = append(p.Rejected, Rejection{c.mode, "mode " + string(p.Mode) + " comes first"})
		case c.natural:
			p.Mode, p.Why = c.mode, c.why
		default:
			p.Rejected = append(p.Rejected, Rejection{c.mode, c.why})
		}
	}
}

// unsure: a mode that is preferred to the one that was picked may be how the machine is set up.
func (p *Plan) unsure(choices []choice) bool {
	picked := slices.IndexFunc(choices, func(c choice) bool { return c.mode == p.Mode })
	return slices.ContainsFunc(choices[:picked], func(c choice) bool { return c.unknown })
}

// split: only some names come to CoreDNS.
func (m Mode) split() bool { return m == Delegate || m == Resolved }

// route says which names come to CoreDNS.
func (p *Plan) route(w Wish) {
	p.AllNames = w.AllNames || w.Transparent || !p.Mode.split()
	p.Domains = slices.Clone(w.Zones)
	if !p.Mode.split() {
		return
	}
	for _, host := range w.Hosts {
		// A wildcard's domain is routed with its apex, which CoreDNS passes on.
		domain := strings.TrimPrefix(host, "*.")
		switch {
		case slices.ContainsFunc(p.Domains, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) }):
		case len(p.Domains) < maxRoutes:
			p.Domains = append(p.Domains, domain)
		case !p.AllNames:
			p.Missed = append(p.Missed, host)
		}
	}
}

// search puts the namespace's domains behind the machine's own: a short name that somebody else's network has must not become the
// mesh's, as it would in front.
func (p *Plan) search(f Facts, w Wish) {
	add := func(domain string) {
		if !slices.Contains(p.Search, domain) {
			p.Search = append(p.Search, domain)
		}
	}
	for _, domain := range f.ResolvConf.Search {
		if !plain(domain) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%q in the search list of %s is no domain name, and is left out", domain, resolvConf))
			continue
		}
		add(domain)
	}
	if w.Namespace == "" {
		return
	}
	for _, zone := range w.Zones {
		if strings.HasSuffix(zone, ".arpa") {
			continue
		}
		add(w.Namespace + ".svc." + zone)
		add("svc." + zone)
		add(zone)
		break // one cluster's; every further zone would be asked for every short name
	}
}

func (p *Plan) warn(f Facts, w Wish) {
	warn := func(format string, args ...any) { p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...)) }
	if len(p.Missed) > 0 {
		warn("%d hosts of the mesh are not routed to CoreDNS, since there are more than %d domains: --all-names sends every name", len(p.Missed), maxRoutes)
	}
	if p.Mode.split() && !p.AllNames && len(w.Hosts) > 0 {
		warn("hosts of the mesh outside its zones come to CoreDNS one by one, as they come and go: --all-names sends every name")
	}
	if len(p.Search) > maxSearch {
		warn("the search list has %d domains: glibc before 2.26 takes %d and forgets the rest, musl 255 characters", len(p.Search), maxSearch)
	}
	if len(p.Upstreams) == 0 {
		warn("no resolver of this machine is known, so that only names of the mesh will resolve")
	}
	if p.Mode == Direct && f.NetworkManager.Running && f.ResolvConf.Writer == "NetworkManager" {
		warn("NetworkManager writes %s, and will do so again: mode networkmanager would go along with it", resolvConf)
	}
	if !p.Mode.split() && p.Mode != None && f.Resolved.Running && nsswitch.ResolveBeforeDNS(f.NSS) {
		warn("the C library asks systemd-resolved first (nsswitch.conf), which reads %s, and asks the servers of its links as well", resolvConf)
	}
	if f.ResolvConf.Mounted && p.Mode == Direct {
		warn("another file is mounted over %s, so it is rewritten where it is", resolvConf)
	}
	if p.Transparent && !p.Server6.IsValid() && p.Server.Addr().Is4() {
		warn("CoreDNS does not listen at ::1, so questions that programs send to resolvers by IPv6 are left alone: have the Corefile say bind 127.0.0.1 ::1")
	}
	if p.Transparent && p.Mode == None && f.Resolved.Running {
		warn("systemd-resolved goes on asking the machine's own resolvers, and so does the C library where nsswitch.conf has it ask systemd-resolved")
	}
	if p.Transparent {
		warn("questions that this machine forwards, as those of containers with a network of their own, are left alone")
	}
	if f.IstioCapture {
		warn("Istio's agent was told to answer DNS (ISTIO_META_DNS_CAPTURE in cluster.env): its rules would take questions from CoreDNS; take the variable out of cluster.env")
	}
}
