package meshvm

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// resolveReverse replies to a PTR query for an address. Addresses that the mesh does not know are the next
// plugin's, unless their reverse zone is one of the plugin's own.
func (m *Meshvm) resolveReverse(q *query, addr netip.Addr) (*dns.Msg, outcome) {
	targets := q.state.Pointers(addr)
	zone := m.zoneOf(q.name)
	switch {
	case len(targets) == 0 && zone == nil:
		return nil, passed
	case !q.state.Loaded():
		return m.replyNotReady(q)
	case m.tooStale():
		return m.replyStale(q)
	case len(targets) == 0 && m.config.Fall.Through(q.spelling()):
		return nil, passed
	case len(targets) == 0:
		return m.replyNameError(q, zone)
	}
	records := make([]dns.RR, 0, len(targets))
	for _, target := range targets {
		records = append(records, &dns.PTR{
			Hdr: m.header(q.spelling(), dns.TypePTR),
			Ptr: m.inOwnZone(q, target),
		})
	}
	return m.replyWith(q, records)
}

// inOwnZone is a host's name, with the trailing dot, as this instance serves it: a name of the
// cluster's domain moves to the plugin's own zone if the domain itself is none of its zones.
func (m *Meshvm) inOwnZone(q *query, host string) string {
	domain := q.state.ClusterDomain()
	if !hasSuffix(host, domain) {
		return dns.Fqdn(host)
	}
	for i := range m.zones {
		if m.zones[i].name == domain {
			return dns.Fqdn(host)
		}
	}
	return strings.TrimSuffix(host, domain) + m.primary.fqdn
}

// parseReverse4 reads the labels in front of in-addr.arpa, the trailing dot included: `4.3.2.1.`.
func parseReverse4(labels string) (netip.Addr, bool) {
	var octets [4]byte
	for i := range octets {
		label, rest, found := strings.Cut(labels, ".")
		octet, err := strconv.ParseUint(label, 10, 8)
		if !found || err != nil || (len(label) > 1 && label[0] == '0') {
			return netip.Addr{}, false
		}
		octets[len(octets)-1-i] = byte(octet)
		labels = rest
	}
	return netip.AddrFrom4(octets), labels == ""
}

// parseReverse6 reads the 32 nibbles in front of ip6.arpa, the trailing dot included (RFC 3596,
// section 2.5).
func parseReverse6(labels string) (netip.Addr, bool) {
	const nibbles = 32
	if len(labels) != 2*nibbles {
		return netip.Addr{}, false
	}
	var address [16]byte
	for i := range nibbles {
		nibble, err := strconv.ParseUint(labels[2*i:2*i+1], 16, 4)
		if err != nil || labels[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		at := nibbles - 1 - i
		address[at/2] |= byte(nibble) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(address), true
}
