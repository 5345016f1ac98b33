package meshvm

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// resolvePointer replies to a PTR query outside the plugin's zones. Addresses that the mesh does not know
// are the next plugin's.
func (m *Meshvm) resolvePointer(q *query) (*dns.Msg, outcome) {
	address, valid := reverseAddress(q.name)
	if !valid || !q.ordinary() {
		return nil, passed
	}
	targets := q.state.Pointers(address)
	switch {
	case len(targets) == 0:
		return nil, passed
	case m.tooStale():
		return m.replyStale(q)
	}
	q.via = viaReverse
	return m.replyWith(q, m.pointers(q.state, q.asked, targets))
}

// resolveReverse replies to a query in a reverse zone of the plugin's own.
func (m *Meshvm) resolveReverse(q *query, zone *zone) (*dns.Msg, outcome) {
	switch q.name[:len(q.name)-len(zone.name)] {
	case nameServerLabels:
		return m.resolveNameServer(q, zone)
	case aboveNameServer:
		return m.replyNoData(q, zone)
	}
	address, valid := reverseAddress(q.name)
	if !valid && isReverseNetwork(q.name) {
		// Resolvers that ask label by label (RFC 9156) must get on to the addresses (RFC 8020).
		return m.replyNoData(q, zone)
	}
	switch targets := q.state.Pointers(address); {
	case !valid || len(targets) == 0:
		return m.replyUnknown(q, zone)
	case q.qtype != dns.TypePTR:
		return m.replyNoData(q, zone)
	default:
		return m.replyWith(q, m.pointers(q.state, q.asked, targets))
	}
}

// pointers is the PTR records at an owner name to hosts, under the first zone of the plugin as in CoreDNS's kubernetes
// plugin.
func (m *Meshvm) pointers(state *mirror.State, owner string, hosts []string) []dns.RR {
	header := m.header(owner, dns.TypePTR)
	for _, host := range hosts {
		// All records of a set have one TTL (RFC 2181, section 5.2), and endpoints move.
		if host := state.Host(host); host != nil {
			header.Ttl = min(header.Ttl, m.ttlOf(host))
		}
	}
	records := make([]dns.PTR, len(hosts))
	pointers := make([]dns.RR, len(hosts))
	for i, host := range hosts {
		records[i] = dns.PTR{Hdr: header, Ptr: m.primary.outside(state, dns.Fqdn(host))}
		pointers[i] = &records[i]
	}
	return pointers
}

// reverseAddress is the address that a name under in-addr.arpa or ip6.arpa stands for.
func reverseAddress(name string) (netip.Addr, bool) {
	switch {
	case hasSuffix(name, "in-addr.arpa"):
		return parseReverse4(name[:len(name)-len("in-addr.arpa")])
	case hasSuffix(name, "ip6.arpa"):
		return parseReverse6(name[:len(name)-len("ip6.arpa")])
	}
	return netip.Addr{}, false
}

// isReverseNetwork reports whether a name under in-addr.arpa or ip6.arpa is that of a network, with names
// of addresses below it.
func isReverseNetwork(name string) bool {
	for _, missing := range []string{"0.", "0.0.", "0.0.0."} {
		if _, valid := reverseAddress(missing + name); valid {
			return true
		}
	}
	if !hasSuffix(name, "ip6.arpa") {
		return false
	}
	labels := len(name) - len("ip6.arpa")
	_, valid := parseReverse6(strings.Repeat("0.", max(0, nibbles-labels/2)) + name[:labels])
	return valid
}

// reverseName is the name that stands for an address, with the trailing dot.
func reverseName(address netip.Addr) string {
	name, err := dns.ReverseAddr(address.String())
	if err != nil {
		return "" // There is no such address.
	}
	return name
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

// nibbles of an IPv6 address: half a byte a label.
const nibbles = 32

// parseReverse6 reads the 32 nibbles in front of ip6.arpa, the trailing dot included (RFC 3596,
// section 2.5).
func parseReverse6(labels string) (netip.Addr, bool) {
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
