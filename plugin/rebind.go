package meshvm

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/time/rate"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// RebindProtection says which answers of other servers, for names that are not the mesh's, are refused: those that point into
// the mesh. Whoever may give a name any address, such as a web site's owner, could otherwise have a program on the VM speak to a
// service of the mesh in the name of that site (DNS rebinding).
type RebindProtection struct {
	// Ranges are the networks that virtual IPs are from. Beside them count the cluster IPs and virtual IPs of the registry.
	Ranges []netip.Prefix
	// Except are domains, lower case, without the final dot, whose names may point anywhere.
	Except []string
}

// defaultRebindRanges are what Istio's allocator and meshvm's own give addresses from.
var defaultRebindRanges = []netip.Prefix{netip.MustParsePrefix("240.240.0.0/16"), netip.MustParsePrefix("2001:2::/48")}

var rebinds = counter("rebinds_total", "Counter of answers for names outside the mesh that were refused because they point into it.")

// rebindWarnings bounds the log: a hostile page causes as many as it likes.
var rebindWarnings = rate.Sometimes{First: 5, Interval: 10 * time.Second}

// guard is a writer for a query that is passed on, or the given one where the answer may be any.
func (m *Meshvm) guard(q *query) dns.ResponseWriter {
	protection := m.config.RebindProtection
	if protection == nil || q.ctx.Value(aliasKey{}) != nil || protection.excepts(q.name) || m.zoneOf(q.name) != nil {
		return q.w
	}
	kept := *q // what is not passed on stays on the stack
	return &rebindGuard{ResponseWriter: q.w, plugin: m, query: &kept}
}

func (p *RebindProtection) excepts(name string) bool {
	return slices.ContainsFunc(p.Except, func(domain string) bool { return hasSuffix(name, domain) })
}

// aliasKey marks a query for the target of a name of the mesh: where that leads is the mesh's own choice.
type aliasKey struct{}

// rebindGuard holds back answers that point into the mesh.
type rebindGuard struct {
	dns.ResponseWriter
	plugin *Meshvm
	query  *query
}

// WriteMsg implements dns.ResponseWriter.
func (g *rebindGuard) WriteMsg(reply *dns.Msg) error {
	address, leads := g.leadsInside(reply)
	if !leads {
		return g.ResponseWriter.WriteMsg(reply)
	}
	rebinds.WithLabelValues().Inc()
	rebindWarnings.Do(func() {
		g.plugin.follower.log.Warn("answer refused: a name outside the mesh points into it", "name", g.query.name, "address", address.String())
	})
	// As dnsmasq does: the name exists and has no address. A failure would have the client ask its next server.
	refusal := new(dns.Msg).SetReply(g.query.r)
	refusal.RecursionAvailable = true
	extend(g.query, refusal, dns.ExtendedErrorCodeBlocked, "the answer points into the mesh")
	return g.ResponseWriter.WriteMsg(refusal)
}

// Write implements io.Writer, for plugins that have the answer as bytes.
func (g *rebindGuard) Write(packed []byte) (int, error) {
	reply := new(dns.Msg)
	if err := reply.Unpack(packed); err != nil {
		return 0, fmt.Errorf("look where an answer points: %w", err)
	}
	if _, leads := g.leadsInside(reply); !leads {
		return g.ResponseWriter.Write(packed)
	}
	if err := g.WriteMsg(reply); err != nil {
		return 0, err
	}
	return len(packed), nil
}

// leadsInside is the first address of a reply that is in the mesh.
func (g *rebindGuard) leadsInside(reply *dns.Msg) (netip.Addr, bool) {
	for _, section := range [][]dns.RR{reply.Answer, reply.Extra} {
		for _, rr := range section {
			for _, ip := range pointsTo(rr) {
				if address, ok := netip.AddrFromSlice(ip); ok && g.inside(address) {
					return address, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

// pointsTo is the addresses that a client may take from a record.
func pointsTo(rr dns.RR) []net.IP {
	switch rr := rr.(type) {
	case *dns.A:
		return []net.IP{rr.A}
	case *dns.AAAA:
		return []net.IP{rr.AAAA}
	case *dns.HTTPS:
		return hints(rr.Value)
	case *dns.SVCB:
		return hints(rr.Value)
	}
	return nil
}

// hints are the address hints of a service binding (RFC 9460, section 7.3).
func hints(parameters []dns.SVCBKeyValue) []net.IP {
	var hints []net.IP
	for _, parameter := range parameters {
		switch parameter := parameter.(type) {
		case *dns.SVCBIPv4Hint:
			hints = append(hints, parameter.Hint...)
		case *dns.SVCBIPv6Hint:
			hints = append(hints, parameter.Hint...)
		}
	}
	return hints
}

// wrappings are IPv6 networks whose addresses may lead to the IPv4 address in their last four bytes: IPv4-mapped (RFC 4291, section
// 2.5.5.2), IPv4-compatible (2.5.5.1) and the well-known prefix of NAT64 (RFC 6052, section 2.1).
var wrappings = []netip.Prefix{
	netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
}

// inside reports whether an address is one of the mesh, wrapped or not.
func (g *rebindGuard) inside(address netip.Addr) bool {
	address = address.WithZone("")
	if g.isMesh(address.Unmap()) {
		return true
	}
	if !address.Is6() || !slices.ContainsFunc(wrappings, func(network netip.Prefix) bool { return network.Contains(address) }) {
		return false
	}
	bytes := address.As16()
	return g.isMesh(netip.AddrFrom4([4]byte(bytes[12:])))
}

func (g *rebindGuard) isMesh(address netip.Addr) bool {
	if slices.ContainsFunc(g.plugin.config.RebindProtection.Ranges, func(network netip.Prefix) bool { return network.Contains(address) }) {
		return true
	}
	state := g.query.state
	return slices.ContainsFunc(state.Pointers(address), func(name string) bool { return isInternal(state.Host(name)) })
}

// isInternal reports whether a host's addresses are the mesh's alone. Literal ones may be anybody's, and endpoints are machines.
func isInternal(host *mirror.Host) bool {
	if host == nil {
		return false
	}
	kind := host.AddressKind
	return kind == registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP || kind == registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP
}

// setRebindProtection reads `rebind_protection [RANGES...] [except DOMAINS...]`.
func setRebindProtection(p *blockParser, args []string) error {
	protection := &RebindProtection{}
	ranges, domains := args, []string(nil)
	if at := slices.Index(args, "except"); at >= 0 {
		ranges, domains = args[:at], args[at+1:]
		if len(domains) == 0 {
			return fmt.Errorf("except lacks its domains; expected rebind_protection [RANGES...] [except DOMAINS...]")
		}
	}
	for _, text := range ranges {
		network, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a network; expected one such as 240.240.0.0/16 or 2001:2::/48", text)
		case network != network.Masked():
			return fmt.Errorf("%q has bits beyond its length; expected %s", text, network.Masked())
		case network.Bits() == 0:
			return fmt.Errorf("%q is every address; expected the networks of virtual IPs", text)
		}
		protection.Ranges = append(protection.Ranges, network)
	}
	if len(ranges) == 0 {
		protection.Ranges = defaultRebindRanges
	}
	for _, domain := range domains {
		if !isDomain(domain) {
			return fmt.Errorf("%q is not a domain; expected one such as corp.example.org", domain)
		}
		protection.Except = append(protection.Except, strings.ToLower(strings.TrimSuffix(domain, ".")))
	}
	p.config.RebindProtection = protection
	return nil
}
