package meshvm

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// zone is a DNS zone that the plugin has authority for. What its records need is joined once.
type zone struct {
	// name is lower case and without the trailing dot; empty for the root.
	name string
	// fqdn, nameServer and mailbox have the trailing dot.
	fqdn, nameServer, mailbox string
}

func newZone(fqdn string) zone {
	name := canonical(fqdn)
	return zone{
		name:       name,
		fqdn:       fqdn,
		nameServer: dns.Fqdn(joinName("ns.dns", name)),
		mailbox:    dns.Fqdn(joinName("hostmaster", name)),
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
	if !q.state.Loaded() {
		return m.replyNotReady(q)
	}
	if m.tooStale() {
		return m.replyStale(q)
	}
	if q.name == zone.name {
		return m.resolveApex(q, zone)
	}
	name, host := q.name, q.state.Host(q.name)
	if domain := q.state.ClusterDomain(); host == nil && domain != zone.name {
		// Names of the cluster are kept under its own domain, whatever zone they are asked for in.
		name = joinName(strings.TrimSuffix(name[:len(name)-len(zone.name)], "."), domain)
		host = q.state.Host(name)
	}
	if host != nil {
		return m.resolveZoneHost(q, host, zone)
	}
	switch q.name[:len(q.name)-len(zone.name)] {
	case "ns.dns.":
		return m.resolveNameServer(q, zone)
	case "dns-version.":
		return m.resolveVersion(q, zone)
	case "dns.":
		return m.replyNoData(q, zone)
	}
	host = q.state.Wildcard(q.name)
	if host == nil && name != q.name {
		host = q.state.Wildcard(name)
	}
	if host != nil {
		return m.resolveZoneHost(q, host, zone)
	}
	if q.state.Encloses(q.name) || q.state.Encloses(name) {
		return m.replyNoData(q, zone)
	}
	if m.config.Fall.Through(q.spelling()) {
		return nil, passed
	}
	return m.replyNameError(q, zone)
}

// resolveZoneHost replies by a host in one of the plugin's zones. One without any address, such as a
// ServiceEntry that is resolved by DNS and has no virtual IP, may be known further on.
func (m *Meshvm) resolveZoneHost(q *query, host *mirror.Host, zone *zone) (*dns.Msg, outcome) {
	if host.Origin == registryv1.Origin_ORIGIN_SERVICE_ENTRY && !addressed(host) && m.config.Fall.Through(q.spelling()) {
		return nil, passed
	}
	return m.resolveHost(q, host, zone)
}

func addressed(host *mirror.Host) bool { return host.A != nil || host.AAAA != nil }

// resolveApex replies for a zone's own name, as CoreDNS's kubernetes plugin does.
func (m *Meshvm) resolveApex(q *query, zone *zone) (*dns.Msg, outcome) {
	switch q.qtype {
	case dns.TypeSOA:
		return m.replyWith(q, []dns.RR{m.soa(q, zone, q.spelling())})
	case dns.TypeNS:
		reply := m.newReply(q)
		reply.Answer = []dns.RR{&dns.NS{Hdr: m.header(q.spelling(), dns.TypeNS), Ns: zone.nameServer}}
		reply.Extra = m.ownAddress(q, zone.nameServer)
		return m.finish(q, reply), hit
	}
	return m.replyNoData(q, zone)
}

// resolveNameServer replies for the name that NS records of the zone point to: this very server, at the
// address where the query reached it.
func (m *Meshvm) resolveNameServer(q *query, zone *zone) (*dns.Msg, outcome) {
	for _, rr := range m.ownAddress(q, q.spelling()) {
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
	header := m.header(q.spelling(), dns.TypeTXT)
	header.Ttl = 28800
	return m.replyWith(q, []dns.RR{&dns.TXT{Hdr: header, Txt: []string{"1.1.0"}}})
}
