package server

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
)

// question is what /debug/registry is asked.
type question struct {
	// name is canonical: lower case, without the trailing dot.
	name string
	// address is set where the question is for PTR.
	address   netip.Addr
	types     []string
	namespace string
	// node and peer are the VM's name and address, where they matter.
	node string
	peer netip.Addr
}

// Record types that are explained.
const (
	typeA     = "A"
	typeAAAA  = "AAAA"
	typeCNAME = "CNAME"
	typePTR   = "PTR"
	typeSRV   = "SRV"
)

// Limits of RFC 1035, section 2.3.4, for a name in text without its final dot and for a label.
const (
	maxName  = 253
	maxLabel = 63
)

// parseQuestion reads the parameters name, type and namespace, and node and address of the VM. An error names the parameter and what
// is expected.
func parseQuestion(query url.Values) (question, error) {
	for parameter, values := range query {
		if !slices.Contains([]string{"name", "type", "namespace", "node", "address"}, parameter) {
			return question{}, fmt.Errorf("parameter %q: want name, type, namespace, node or address", parameter)
		}
		if len(values) > 1 {
			return question{}, fmt.Errorf("parameter %q is given %d times: want it once", parameter, len(values))
		}
	}
	q := question{namespace: query.Get("namespace"), node: query.Get("node")}
	if text := query.Get("address"); text != "" {
		peer, err := netip.ParseAddr(text)
		if err != nil {
			return question{}, fmt.Errorf("parameter \"address\" is %q: want the IP address of the VM, or nothing", text)
		}
		q.peer = peer.Unmap().WithZone("")
	}
	if q.namespace != "" && !identity.IsNamespace(q.namespace) {
		return question{}, fmt.Errorf("parameter \"namespace\" is %q: want the name of a namespace (a DNS label), or nothing", q.namespace)
	}
	var err error
	if q.name, err = canonicalName(query.Get("name")); err != nil {
		return question{}, fmt.Errorf("parameter \"name\" is %q: %w", query.Get("name"), err)
	}
	address, reverse := reverseAddress(q.name)
	switch kind := strings.ToUpper(query.Get("type")); kind {
	case typeA, typeAAAA, typeCNAME, typeSRV:
		q.types = []string{kind}
	case typePTR:
		if !reverse {
			return question{}, fmt.Errorf("parameter \"name\" is %q: for PTR want an address, or its name below in-addr.arpa or ip6.arpa", q.name)
		}
		q.types, q.address = []string{kind}, address
	case "":
		q.types = []string{typeA, typeAAAA}
		if port, found := cutPort(q.name); found && port.underscored {
			q.types = []string{typeSRV}
		}
		if reverse {
			q.types, q.address = []string{typePTR}, address
		}
	default:
		return question{}, fmt.Errorf("parameter \"type\" is %q: want A, AAAA, CNAME, PTR or SRV, or nothing for what the name suggests: "+
			"PTR for an address, SRV for _PORT._PROTOCOL.HOST, else both kinds of address", query.Get("type"))
	}
	return q, nil
}

// canonicalName is a name in lower case, without its trailing dot, checked against RFC 1035, section
// 2.3.4, for what is too long or empty.
func canonicalName(name string) (string, error) {
	canonical := strings.ToLower(strings.TrimSuffix(name, "."))
	if canonical == "" {
		return "", fmt.Errorf("want a name to look up")
	}
	if _, err := netip.ParseAddr(canonical); err == nil {
		return canonical, nil
	}
	if len(canonical) > maxName {
		return "", fmt.Errorf("is %d bytes long: a name has at most %d", len(canonical), maxName)
	}
	for label := range strings.SplitSeq(canonical, ".") {
		switch {
		case label == "":
			return "", fmt.Errorf("has an empty label")
		case len(label) > maxLabel:
			return "", fmt.Errorf("label %q is %d bytes long: a label has at most %d", label, len(label), maxLabel)
		case strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			return "", fmt.Errorf("label %q: want printable ASCII", label)
		}
	}
	return canonical, nil
}

// reverseAddress is the address that a name is, or is the reverse name of.
func reverseAddress(name string) (netip.Addr, bool) {
	if address, err := netip.ParseAddr(name); err == nil {
		return address.Unmap().WithZone(""), true
	}
	if labels, found := strings.CutSuffix(name, ".in-addr.arpa"); found {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		address, err := netip.ParseAddr(strings.Join(parts, "."))
		return address, err == nil && address.Is4()
	}
	if labels, found := strings.CutSuffix(name, ".ip6.arpa"); found {
		return reverseIPv6(strings.Split(labels, "."))
	}
	return netip.Addr{}, false
}

// reverseIPv6 reads 32 nibbles, the lowest first (RFC 3596, section 2.5).
func reverseIPv6(nibbles []string) (netip.Addr, bool) {
	var address [16]byte
	if len(nibbles) != 2*len(address) {
		return netip.Addr{}, false
	}
	for i, nibble := range nibbles {
		value, err := strconv.ParseUint(nibble, 16, 4)
		if err != nil {
			return netip.Addr{}, false
		}
		at := len(address) - 1 - i/2
		address[at] |= byte(value) << (4 * (i % 2))
	}
	return netip.AddrFrom16(address), true
}

// inDomain reports whether a name is the domain or below it.
func inDomain(name, domain string) bool {
	top, found := strings.CutSuffix(name, domain)
	return found && (top == "" || strings.HasSuffix(top, "."))
}

// addressOf is an address as it travels.
func addressOf(encoded []byte) netip.Addr {
	address, _ := netip.AddrFromSlice(encoded)
	return address
}

func recordTypeOf(address netip.Addr) string {
	if address.Is4() {
		return typeA
	}
	return typeAAAA
}

// addressKinds are the kinds of address for people.
var addressKinds = map[registryv1.AddressKind]string{
	registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP: "cluster IP",
	registryv1.AddressKind_ADDRESS_KIND_LITERAL:    "literal",
	registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP: "virtual IP",
	registryv1.AddressKind_ADDRESS_KIND_ENDPOINT:   "endpoint",
	registryv1.AddressKind_ADDRESS_KIND_PENDING:    "virtual IP awaited",
}
