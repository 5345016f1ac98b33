package mirror

import (
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// RRset is the records of one name and type. It is immutable, and so are its records: copy a record
// before you change it.
type RRset struct {
	// RRs has the length of its capacity, so that appending to it copies.
	RRs []dns.RR
	// TTL, in seconds, of every record.
	TTL uint32
}

// len is the number of records of a set that may be nil.
func (s *RRset) len() int {
	if s == nil {
		return 0
	}
	return len(s.RRs)
}

// family is one of the two kinds of address record.
type family struct {
	rrtype uint16
	holds  func(netip.Addr) bool
	record func(dns.RR_Header, netip.Addr) dns.RR
	// single is the set of one record.
	single func(dns.RR_Header, netip.Addr) *RRset
}

var (
	ipv4 = newFamily(dns.TypeA, netip.Addr.Is4, func(h dns.RR_Header, ip net.IP) dns.A { return dns.A{Hdr: h, A: ip} })
	ipv6 = newFamily(dns.TypeAAAA, netip.Addr.Is6, func(h dns.RR_Header, ip net.IP) dns.AAAA { return dns.AAAA{Hdr: h, AAAA: ip} })
)

// newFamily is the family whose records are R. Records lie in one piece with their address, and a set of
// one, which most are, with all that leads to them. A query seldom finds a name in the processor's cache,
// and pays for each place that it must go to.
func newFamily[R any, P interface {
	*R
	dns.RR
}](rrtype uint16, holds func(netip.Addr) bool, of func(dns.RR_Header, net.IP) R) family {
	type piece struct {
		record R
		bytes  [16]byte
	}
	fill := func(p *piece, header dns.RR_Header, address netip.Addr) dns.RR {
		p.bytes = address.As16()
		p.record = of(header, p.bytes[len(p.bytes)-address.BitLen()/8:])
		return P(&p.record)
	}
	return family{
		rrtype: rrtype,
		holds:  holds,
		record: func(header dns.RR_Header, address netip.Addr) dns.RR {
			return fill(new(piece), header, address)
		},
		single: func(header dns.RR_Header, address netip.Addr) *RRset {
			all := new(struct {
				set RRset
				rrs [1]dns.RR
				piece
			})
			all.rrs[0] = fill(&all.piece, header, address)
			all.set = RRset{RRs: all.rrs[:], TTL: header.Ttl}
			return &all.set
		},
	}
}

// rrset is the record set of those addresses that are of the family, in their order.
func (f family) rrset(owner string, addresses []netip.Addr, ttl uint32) *RRset {
	return f.rrsetFrom(nil, owner, addresses, ttl)
}

// rrsetFrom is rrset for sorted addresses. It takes records from an earlier set of the same owner and TTL,
// also sorted, which may be nil.
func (f family) rrsetFrom(earlier *RRset, owner string, addresses []netip.Addr, ttl uint32) *RRset {
	count := 0
	for _, address := range addresses {
		if f.holds(address) {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	header := dns.RR_Header{Name: owner, Rrtype: f.rrtype, Class: dns.ClassINET, Ttl: ttl}
	var known []dns.RR
	if earlier != nil {
		known = earlier.RRs
	}
	var set *RRset
	for _, address := range addresses {
		if !f.holds(address) {
			continue
		}
		if count == 1 && len(known) == 0 {
			return f.single(header, address)
		}
		if set == nil {
			set = &RRset{RRs: make([]dns.RR, 0, count), TTL: ttl}
		}
		for len(known) > 0 && addressOf(known[0]).Less(address) {
			known = known[1:]
		}
		if len(known) > 0 && addressOf(known[0]) == address {
			set.RRs = append(set.RRs, known[0])
			continue
		}
		set.RRs = append(set.RRs, f.record(header, address))
	}
	return set
}

// withTTL is the record set with another TTL.
func (s *RRset) withTTL(ttl uint32) *RRset {
	if s == nil || s.TTL == ttl {
		return s
	}
	again := &RRset{RRs: make([]dns.RR, len(s.RRs)), TTL: ttl}
	for i, rr := range s.RRs {
		again.RRs[i] = dns.Copy(rr)
		again.RRs[i].Header().Ttl = ttl
	}
	return again
}

// addressOf is the address in a record that a family made.
func addressOf(rr dns.RR) netip.Addr {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A
	case *dns.AAAA:
		ip = rr.AAAA
	}
	address, _ := netip.AddrFromSlice(ip)
	return address
}
