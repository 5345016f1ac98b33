package conformance

import (
	"net/netip"
	"slices"
	"strings"
)

// readReverse reads a name in a reverse zone.
func (w *world) readReverse(n *node, labels []string) {
	switch strings.Join(n.labels, ".") {
	case "ns.dns":
		n.kind = kindNameServer
		return
	case "dns":
		n.kind = kindWayToNameServer
		return
	case "svc", "pod", "dns-version":
		n.kind = kindStray
		return
	}
	family := labels[len(labels)-2]
	digits := slices.Clone(labels[:len(labels)-2])
	slices.Reverse(digits)
	address, whole, valid := readDigits(family, digits)
	switch {
	case !valid:
		if extra := len(digits) - 32; family == "ip6" && extra > 0 && extra <= 3 {
			if address, _, valid := readDigits(family, digits[:32]); valid && len(w.clusterIPs[address])+len(w.endpoints[address]) > 0 {
				n.kind = kindBelowAddress
			}
		}
	case !whole:
		n.kind = kindNetwork
	default:
		n.address = address
		w.readAddress(n)
	}
}

func (w *world) readAddress(n *node) {
	if len(w.clusterIPs[n.address]) > 0 {
		n.kind = kindReverse
		return
	}
	behind := w.endpoints[n.address]
	headless := 0
	for _, name := range behind {
		if isHeadless(w.services[name]) {
			headless++
		}
	}
	switch {
	case headless > 0:
		n.kind = kindReverse
	case len(behind) > 0:
		n.kind = kindHiddenReverse
	}
	if headless < len(behind) {
		n.behind = behind
	}
}

// pointers is the PTR records of an address at a name, in words, as far as headless Services have it.
func (w *world) pointers(name string, address netip.Addr) []string {
	var pointers []string
	for _, service := range w.endpoints[address] {
		if !isHeadless(w.services[service]) {
			continue
		}
		for _, slice := range w.of[service] {
			for _, endpoint := range slice.Endpoints {
				if isReady(endpoint) && slices.Contains(endpoint.Addresses, address.String()) {
					pointers = append(pointers, strings.ToLower(name+" ptr "+endpointLabel(endpoint, address.String())+"."+service.name+"."+service.namespace+".svc."+clusterZone))
				}
			}
		}
	}
	slices.Sort(pointers)
	return slices.Compact(pointers)
}

// readDigits reads an address, first digit first, and tells one that is not whole.
func readDigits(family string, digits []string) (address netip.Addr, whole, valid bool) {
	want, join := 4, func(digits []string) string { return strings.Join(digits, ".") }
	if family == "ip6" {
		want = 32
		join = func(digits []string) string {
			var text strings.Builder
			for i, digit := range digits {
				if len(digit) != 1 {
					return ""
				}
				if i > 0 && i%4 == 0 {
					text.WriteByte(':')
				}
				text.WriteString(digit)
			}
			return text.String()
		}
	}
	if len(digits) > want {
		return netip.Addr{}, false, false
	}
	whole = len(digits) == want
	for len(digits) < want {
		digits = append(digits, "0")
	}
	address, err := netip.ParseAddr(join(digits))
	return address, whole, err == nil
}
