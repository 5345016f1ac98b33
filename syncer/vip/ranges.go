package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// DefaultRanges are Istio's own.
var DefaultRanges = []string{"240.240.0.0/16", "2001:2::/48"}

// Ranges are what addresses are given from, some of each family or none.
type Ranges struct {
	v4, v6 []netip.Prefix
}

// ParseRanges reads ranges in CIDR form. They must not overlap, have bits beyond the prefix, or be of
// addresses that no host may have: loopback, link-local, multicast and the unspecified one.
func ParseRanges(texts []string) (Ranges, error) {
	var ranges Ranges
	var all []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || prefix.Addr().Is4In6() {
			return Ranges{}, fmt.Errorf("range %q: want CIDR form such as 240.240.0.0/16", text)
		}
		if prefix != prefix.Masked() {
			return Ranges{}, fmt.Errorf("range %q: bits are set beyond the prefix; want %s", text, prefix.Masked())
		}
		if of := unusable(prefix); of != "" {
			return Ranges{}, fmt.Errorf("range %q: it holds %s addresses; want a range of unicast addresses that nobody else uses", text, of)
		}
		for _, other := range all {
			if prefix.Overlaps(other) {
				return Ranges{}, fmt.Errorf("range %q: it overlaps %s", text, other)
			}
		}
		if slotsIn(prefix) == 0 {
			return Ranges{}, fmt.Errorf("range %q: no address of it can be given; .0 and .255 never are", text)
		}
		all = append(all, prefix)
		if prefix.Addr().Is4() {
			ranges.v4 = append(ranges.v4, prefix)
		} else {
			ranges.v6 = append(ranges.v6, prefix)
		}
	}
	if len(all) == 0 {
		return Ranges{}, errors.New("no ranges are given")
	}
	return ranges, nil
}

// unusable names what kind of address no host may have is in a prefix, if any is.
func unusable(prefix netip.Prefix) string {
	for _, kind := range []struct {
		name     string
		prefixes []string
	}{
		{"unspecified", []string{"0.0.0.0/8", "::/128"}},
		{"loopback", []string{"127.0.0.0/8", "::1/128"}},
		{"link-local", []string{"169.254.0.0/16", "fe80::/10"}},
		{"multicast", []string{"224.0.0.0/4", "ff00::/8"}},
		{"broadcast", []string{"255.255.255.255/32"}},
	} {
		for _, text := range kind.prefixes {
			if prefix.Overlaps(netip.MustParsePrefix(text)) {
				return kind.name
			}
		}
	}
	return ""
}

// All are the ranges, IPv4 first.
func (r Ranges) All() []netip.Prefix { return slices.Concat(r.v4, r.v6) }

// Contains reports whether the address is in one of the ranges.
func (r Ranges) Contains(address netip.Addr) bool {
	return slices.ContainsFunc(r.of(familyOf(address)), func(p netip.Prefix) bool { return p.Contains(address) })
}

// Overlapping are the ranges that have addresses in common with the prefix.
func (r Ranges) Overlapping(prefix netip.Prefix) []netip.Prefix {
	var overlapping []netip.Prefix
	for _, own := range r.of(familyOf(prefix.Addr())) {
		if own.Overlaps(prefix) {
			overlapping = append(overlapping, own)
		}
	}
	return overlapping
}

func (r Ranges) of(f family) []netip.Prefix {
	if f == ipv4 {
		return r.v4
	}
	return r.v6
}

// family is IPv4 or IPv6.
type family int

const (
	ipv4 family = iota
	ipv6
)

var families = []family{ipv4, ipv6}

func familyOf(address netip.Addr) family {
	if address.Is4() {
		return ipv4
	}
	return ipv6
}

// String is IPv4 or IPv6.
func (f family) String() string {
	if f == ipv4 {
		return "IPv4"
	}
	return "IPv6"
}

// maxSlots bounds the addresses of a range that are given: more than there can be hosts.
const maxSlots = 1 << 62

// slotsIn is the number of addresses of a range that may be given. Of IPv4 that is none that ends in .0 or
// .255, which some networks take for their own or for everyone's; of IPv6 not the first, which is any
// router's (RFC 4291, section 2.6.1).
func slotsIn(prefix netip.Prefix) uint64 {
	host := prefix.Addr().BitLen() - prefix.Bits()
	if prefix.Addr().Is6() {
		if host >= 62 {
			return maxSlots
		}
		return 1<<host - 1
	}
	if host >= 8 {
		return 254 << (host - 8)
	}
	_, count := octets(prefix)
	return count
}

// octets are the last octets in an IPv4 range smaller than a /24 that may be given.
func octets(prefix netip.Prefix) (first, count uint64) {
	start := uint64(prefix.Addr().As4()[3])
	end := start + 1<<(32-prefix.Bits())
	first, end = max(start, 1), min(end, 255)
	return first, end - min(first, end)
}

// slotAt is the address of a range's slot.
func slotAt(prefix netip.Prefix, slot uint64) netip.Addr {
	if prefix.Addr().Is4() {
		base := prefix.Addr().As4()
		number := uint64(binary.BigEndian.Uint32(base[:]))
		if prefix.Bits() <= 24 {
			number += slot/254<<8 + 1 + slot%254
		} else {
			first, _ := octets(prefix)
			number += first - uint64(base[3]) + slot
		}
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(number))))
	}
	address := prefix.Addr().As16()
	low, carry := bits.Add64(binary.BigEndian.Uint64(address[8:]), slot+1, 0)
	binary.BigEndian.PutUint64(address[8:], low)
	binary.BigEndian.PutUint64(address[:8], binary.BigEndian.Uint64(address[:8])+carry)
	return netip.AddrFrom16(address)
}
