package vip

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// probes bounds the search among the addresses of a range that has more of them than there can be records:
// in those some address next to the preferred one is always free.
const probes = 1 << 20

// pick is the free address of a family that a host prefers: the one at its own slot, which its name decides,
// else the next that is free.
func (a *Allocator) pick(name string, f family) (address netip.Addr, found bool) {
	ranges := a.options.Ranges.of(f)
	var total uint64
	for _, prefix := range ranges {
		total = min(total+slotsIn(prefix), maxSlots)
	}
	start := preference(name, f) % total
	for i := range min(total, probes) {
		address = slotIn(ranges, (start+i)%total)
		if _, known := a.ledger.records[address]; known || a.mentioned[address] > 0 {
			continue
		}
		if !a.reservations.covers(address) {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// preference is where a host would like to be. It must never change: an allocator that starts from nothing
// finds its way back by it.
func preference(name string, f family) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[8*f:])
}

// slotIn is the address of a slot of several ranges, counted through.
func slotIn(ranges []netip.Prefix, slot uint64) netip.Addr {
	for _, prefix := range ranges {
		count := slotsIn(prefix)
		if slot < count {
			return slotAt(prefix, slot)
		}
		slot -= count
	}
	return netip.Addr{} // Not reached: slots are counted by the ranges.
}
