package source

import (
	"errors"
	"net/netip"
	"slices"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const wantAddress = "an IPv4 or IPv6 address"

// parseAddress reads an address that can stand in an A or AAAA record.
func parseAddress(text string) (netip.Addr, error) {
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Addr{}, errors.New("it is no IP address")
	case address.Zone() != "":
		return netip.Addr{}, errors.New("it has a zone")
	}
	address = address.Unmap()
	if fault := registryv1.AddressFault(address); fault != "" {
		return netip.Addr{}, errors.New(fault)
	}
	return address, nil
}

// encodeAddresses is the addresses as they travel: IPv4 first, otherwise in the order given, each
// once.
func encodeAddresses(addresses []netip.Addr) [][]byte {
	ordered := slices.Clone(addresses)
	slices.SortStableFunc(ordered, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	var encoded [][]byte
	seen := make(map[netip.Addr]bool, len(ordered))
	for _, address := range ordered {
		if !seen[address] {
			seen[address] = true
			encoded = append(encoded, address.AsSlice())
		}
	}
	return encoded
}
