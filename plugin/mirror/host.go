package mirror

import (
	"net/netip"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Host is what answers one name: the claims that won, and their record sets. It is immutable.
type Host struct {
	// owner is the owner name of the records: fully qualified, with the dot.
	owner string
	// A and AAAA are nil where there are no addresses of that family.
	A, AAAA *RRset
	// ExternalName is the target of a CNAME, without the trailing dot. Empty: there is none.
	ExternalName string
	// Origin is the registry that the winning object comes from.
	Origin registryv1.Origin
	// AddressKind says what the addresses are.
	AddressKind registryv1.AddressKind
	// Headless is set where the addresses are those of ready endpoints. Without any the name does not
	// exist, as the Kubernetes DNS specification has it.
	Headless bool
	// Namespace and Name of the winning object, the first where several ServiceEntries are joined.
	Namespace, Name string
	// Claims are the keys of all resources that claim the host, winners or not, in order. An endpoint of
	// a headless Service has none of its own.
	Claims []string

	// ports of the winning claims; a headless Service's are those of its slices.
	ports ports
	// label is how long an endpoint's own name is, before that of its Service.
	label uint8
	// endpoints of a headless Service; nil for other hosts.
	endpoints *endpoints
}

// FQDN is the host's name with the trailing dot: the owner name of its records.
func (h *Host) FQDN() string { return h.owner }

// host is the name without the trailing dot.
func (h *Host) host() string { return h.owner[:len(h.owner)-1] }

// isEndpoint tells an endpoint of a headless Service from a host of its own.
func (h *Host) isEndpoint() bool { return len(h.Claims) == 0 }

// service is the name of the headless Service that an endpoint is of.
func (h *Host) service() string { return h.host()[h.label+1:] }

func (h *Host) isWildcard() bool { return strings.HasPrefix(h.owner, registryv1.WildcardPrefix) }

// setAddresses prepares the record sets of the addresses.
func (h *Host) setAddresses(addresses []netip.Addr, ttl uint32) {
	h.A = ipv4.rrset(h.owner, addresses, ttl)
	h.AAAA = ipv6.rrset(h.owner, addresses, ttl)
}

// withLifetimes is the host with its record sets prepared for other TTLs.
func (h *Host) withLifetimes(ttls lifetimes) *Host {
	again := *h
	ttl := ttls.of(h.AddressKind)
	again.A, again.AAAA = h.A.withTTL(ttl), h.AAAA.withTTL(ttl)
	if h.endpoints != nil {
		hosts := h.endpoints.hosts.Edit()
		for label, endpoint := range h.endpoints.hosts.All() {
			hosts.Put(label, endpoint.withLifetimes(ttls))
		}
		again.endpoints = &endpoints{of: h.endpoints.of, hosts: hosts.Map()}
	}
	return &again
}

// of is the TTL of addresses of a kind.
func (l lifetimes) of(kind registryv1.AddressKind) uint32 {
	if kind == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
		return l.endpoint
	}
	return l.fixed
}

// addresses of the record sets, IPv4 first.
func (h *Host) addresses(yield func(netip.Addr) bool) {
	for _, set := range []*RRset{h.A, h.AAAA} {
		if set == nil {
			continue
		}
		for _, rr := range set.RRs {
			if !yield(addressOf(rr)) {
				return
			}
		}
	}
}
