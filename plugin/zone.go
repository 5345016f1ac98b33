package meshvm

import (
	"strings"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// What the plugin itself puts into its zones.
const (
	nameServerLabels = "ns.dns."
	aboveNameServer  = "dns."
	versionLabel     = "dns-version."
)

// zone is a DNS zone that the plugin has authority for. What its records need is joined once.
type zone struct {
	// name is lower case and without the trailing dot; empty for the root.
	name string
	// fqdn, nameServer and mailbox have the trailing dot.
	fqdn, nameServer, mailbox string
	// reverse: the zone's names stand for addresses.
	reverse bool
}

func newZone(fqdn string) zone {
	name := canonical(fqdn)
	return zone{
		name:       name,
		fqdn:       fqdn,
		nameServer: dns.Fqdn(nameServerLabels + name),
		mailbox:    dns.Fqdn(joinName("hostmaster", name)),
		reverse:    dnsutil.IsReverse(fqdn) > 0,
	}
}

// canonical is a name in lower case without its trailing dot. It allocates only where it has to.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func joinName(labels, suffix string) string {
	if suffix == "" {
		return labels
	}
	return labels + "." + suffix
}

// hasSuffix reports whether a canonical name is the suffix or lies below it.
func hasSuffix(name, suffix string) bool {
	if suffix == "" {
		return true
	}
	if !strings.HasSuffix(name, suffix) {
		return false
	}
	if len(name) == len(suffix) {
		return true
	}
	dot := len(name) - len(suffix) - 1
	// An escaped dot is part of a label (RFC 1035, section 5.1). Such names are rare: take the long way.
	if name[dot] == '.' && dot > 0 && name[dot-1] == '\\' {
		return dns.IsSubDomain(dns.Fqdn(suffix), dns.Fqdn(name))
	}
	return name[dot] == '.'
}

// zoneOf is the longest of the plugin's zones that a name is in, nil if it is in none.
func (m *Meshvm) zoneOf(name string) *zone {
	var longest *zone
	for i := range m.zones {
		zone := &m.zones[i]
		if hasSuffix(name, zone.name) && (longest == nil || len(zone.name) > len(longest.name)) {
			longest = zone
		}
	}
	return longest
}

// resolveZone replies to a query in one of the plugin's zones.
func (m *Meshvm) resolveZone(q *query, zone *zone) (*dns.Msg, outcome) {
	switch {
	case q.r.Opcode != dns.OpcodeQuery:
		return m.replyNotImplemented(q)
	case q.qclass() != dns.ClassINET && q.qclass() != dns.ClassANY:
		// The zones are of the Internet alone. CoreDNS lets other classes in as soon as there is a forward.
		return m.replyRefused(q)
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR:
		// The transfer plugin, which stands above, answers those who may.
		return m.replyRefused(q)
	case !q.state.Loaded():
		return m.replyNotReady(q)
	case m.tooStale():
		return m.replyStale(q)
	case q.name == zone.name:
		q.via = viaApex
		return m.resolveApex(q, zone)
	case zone.reverse:
		q.via = viaReverse
		return m.resolveReverse(q, zone)
	}
	inCluster := zone.inCluster(q.state, q.name)
	if host := exactHost(q.state, q.name, inCluster); host != nil {
		q.via, q.host = viaHost, host
		return m.resolveZoneHost(q, host, zone)
	}
	switch q.name[:len(q.name)-len(zone.name)] {
	case nameServerLabels:
		q.via = viaZone
		return m.resolveNameServer(q, zone)
	case aboveNameServer:
		q.via = viaZone
		return m.replyNoData(q, zone)
	case versionLabel:
		q.via = viaZone
		return m.resolveVersion(q, zone)
	}
	if port, found := findPort(q.state, q.name, inCluster); found {
		q.via, q.host = viaPort, port.host
		return m.resolvePort(q, port, zone)
	}
	if pod, found := cutPod(q.state, inCluster); found {
		q.via = viaPod
		return m.resolvePod(q, pod, zone)
	}
	if host := wildcardHost(q.state, q.name, inCluster); host != nil {
		q.via, q.host = viaHost, host
		return m.resolveZoneHost(q, host, zone)
	}
	if q.state.Encloses(q.name) || q.state.Encloses(inCluster) || isProtocol(q.state, q.name, inCluster) {
		q.via = viaEnclosed
		return m.replyNoData(q, zone)
	}
	return m.replyUnknown(q, zone)
}

// standsFor reports whether the zone is another name for the cluster's domain, and neither a part of it nor
// around it.
func (z *zone) standsFor(domain string) bool {
	return z.name != domain && !z.reverse && !hasSuffix(z.name, domain) && !hasSuffix(domain, z.name)
}

// inCluster is a name in the zone as the registry has it: names of the cluster are kept under its own
// domain, whatever zone they are asked for in.
func (z *zone) inCluster(state *mirror.State, name string) string {
	domain := state.ClusterDomain()
	if !z.standsFor(domain) {
		return name
	}
	return joinName(strings.TrimSuffix(name[:len(name)-len(z.name)], "."), domain)
}

// outside is a host's name, with the trailing dot, as it is asked for in the zone: inCluster undone.
func (z *zone) outside(state *mirror.State, fqdn string) string {
	host, domain := fqdn[:len(fqdn)-1], state.ClusterDomain()
	if !z.standsFor(domain) || !hasSuffix(host, domain) {
		return fqdn
	}
	return host[:len(host)-len(domain)] + z.name + "."
}

// exactHost is the host of just this name, asked for in a zone: one that is called so, or else the
// cluster's.
func exactHost(state *mirror.State, name, inCluster string) *mirror.Host {
	host := state.Host(name)
	if host == nil && inCluster != name {
		host = state.Host(inCluster)
	}
	return host
}

// wildcardHost is exactHost for wildcards.
func wildcardHost(state *mirror.State, name, inCluster string) *mirror.Host {
	host := state.Wildcard(name)
	if host == nil && inCluster != name {
		host = state.Wildcard(inCluster)
	}
	return host
}

// hostOf is the host of the mesh that answers a name, nil if there is none.
func (m *Meshvm) hostOf(state *mirror.State, name string) *mirror.Host {
	zone := m.zoneOf(name)
	if zone == nil {
		if host := m.overlaid(state, name); host != nil && (addressed(host) || awaited(host)) {
			return host
		}
		return nil
	}
	inCluster := zone.inCluster(state, name)
	if host := exactHost(state, name, inCluster); host != nil {
		return host
	}
	if port, found := findPort(state, name, inCluster); found {
		return port.host
	}
	return wildcardHost(state, name, inCluster)
}

// resolveZoneHost replies by a host in one of the plugin's zones. One without any address, such as a
// ServiceEntry that is resolved by DNS and has no virtual IP, may be known further on.
func (m *Meshvm) resolveZoneHost(q *query, host *mirror.Host, zone *zone) (*dns.Msg, outcome) {
	if awaited(host) {
		return m.replyAwaited(q, zone)
	}
	if host.Origin == registryv1.Origin_ORIGIN_SERVICE_ENTRY && !addressed(host) && m.config.Fall.Through(q.asked) {
		return nil, passed
	}
	return m.resolveHost(q, host, zone)
}

// resolveApex replies for a zone's own name, as CoreDNS's kubernetes plugin does.
func (m *Meshvm) resolveApex(q *query, zone *zone) (*dns.Msg, outcome) {
	switch q.qtype {
	case dns.TypeSOA:
		return m.replyWith(q, []dns.RR{m.soa(q.state, zone, q.asked)})
	case dns.TypeNS:
		reply := m.newReply(q)
		reply.Answer = []dns.RR{&dns.NS{Hdr: m.header(q.asked, dns.TypeNS), Ns: zone.nameServer}}
		reply.Extra = m.ownAddress(q, zone.nameServer)
		return m.finish(q, reply), hit
	}
	return m.replyNoData(q, zone)
}

// resolveNameServer replies for the name that NS records of the zone point to: this very server, at the
// address where the query reached it.
func (m *Meshvm) resolveNameServer(q *query, zone *zone) (*dns.Msg, outcome) {
	for _, rr := range m.ownAddress(q, q.asked) {
		if rr.Header().Rrtype == q.qtype {
			return m.replyWith(q, []dns.RR{rr})
		}
	}
	return m.replyNoData(q, zone)
}

// resolveVersion replies with the version of the Kubernetes DNS-Based Service Discovery specification
// that the zone follows (section 2.2 there).
func (m *Meshvm) resolveVersion(q *query, zone *zone) (*dns.Msg, outcome) {
	if q.qtype != dns.TypeTXT {
		return m.replyNoData(q, zone)
	}
	return m.replyWith(q, []dns.RR{m.version(q.asked)})
}

func (m *Meshvm) version(owner string) dns.RR {
	header := m.header(owner, dns.TypeTXT)
	header.Ttl = 28800
	return &dns.TXT{Hdr: header, Txt: []string{"1.1.0"}}
}
