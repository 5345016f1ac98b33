package vip

import (
	"maps"
	"net/netip"
	"slices"
)

// reservations are addresses that are somebody else's: cluster IPs, addresses in specs, ranges of nodes.
type reservations struct {
	ranges  Ranges
	holders map[string][]netip.Prefix
	of      map[netip.Prefix]map[string]bool
	// lengths are how many distinct prefixes there are of each length.
	lengths map[int]int
}

func newReservations(ranges Ranges) *reservations {
	return &reservations{ranges, map[string][]netip.Prefix{}, map[netip.Prefix]map[string]bool{}, map[int]int{}}
}

// replace makes prefixes all that a holder has, and returns what is not its own any more and what is new.
// What lies outside the ranges is passed over: nothing of it is ever given.
func (r *reservations) replace(holder string, prefixes []netip.Prefix) (gone, added []netip.Prefix) {
	before := r.holders[holder]
	var now []netip.Prefix
	for _, prefix := range prefixes {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()).Masked()
		if prefix.IsValid() && len(r.ranges.Overlapping(prefix)) > 0 && !slices.Contains(now, prefix) {
			now = append(now, prefix)
		}
	}
	for _, prefix := range before {
		if !slices.Contains(now, prefix) {
			r.remove(holder, prefix)
			gone = append(gone, prefix)
		}
	}
	for _, prefix := range now {
		if !slices.Contains(before, prefix) {
			r.add(holder, prefix)
			added = append(added, prefix)
		}
	}
	if len(now) == 0 {
		delete(r.holders, holder)
	} else {
		r.holders[holder] = now
	}
	return gone, added
}

func (r *reservations) add(holder string, prefix netip.Prefix) {
	if r.of[prefix] == nil {
		r.of[prefix] = map[string]bool{}
		r.lengths[prefix.Bits()]++
	}
	r.of[prefix][holder] = true
}

func (r *reservations) remove(holder string, prefix netip.Prefix) {
	delete(r.of[prefix], holder)
	if len(r.of[prefix]) == 0 {
		delete(r.of, prefix)
		if r.lengths[prefix.Bits()]--; r.lengths[prefix.Bits()] == 0 {
			delete(r.lengths, prefix.Bits())
		}
	}
}

// single names who has the very address, if anybody has: the first by name.
func (r *reservations) single(address netip.Addr) (holder string, found bool) {
	return first(r.of[netip.PrefixFrom(address, address.BitLen())])
}

// covers reports whether anybody has the address, or a range that it lies in.
func (r *reservations) covers(address netip.Addr) bool {
	for length := range r.lengths {
		if prefix, err := address.Prefix(length); err == nil && len(r.of[prefix]) > 0 {
			return true
		}
	}
	return false
}

func first(holders map[string]bool) (holder string, found bool) {
	if len(holders) == 0 {
		return "", false
	}
	return slices.Min(slices.Collect(maps.Keys(holders))), true
}
