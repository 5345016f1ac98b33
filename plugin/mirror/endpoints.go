package mirror

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/meshvm/meshvm/plugin/mirror/trie"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// endpoints are what a headless Service answers besides its own name. They are the host's own, so that
// a big Service does not fill the index of all hosts.
type endpoints struct {
	// of is what they were made of, nil where the Service has no slice.
	of *service
	// hosts by their label, or labels joined by dots.
	hosts trie.Map[string, *Host]
	// targets are hosts at their ports, once somebody asked for them.
	targets atomic.Pointer[[]preparedTarget]
}

// len is the number of endpoints that have a name, of a Service that may have none.
func (e *endpoints) len() int {
	if e == nil {
		return 0
	}
	return e.hosts.Len()
}

// endpoint finds one of a headless Service's endpoints, nil when there is none of this label.
func (h *Host) endpoint(label string) *Host {
	if h == nil || h.endpoints == nil {
		return nil
	}
	host, _ := h.endpoints.hosts.Get(label)
	return host
}

// sameService reports whether two hosts, the first perhaps nil, stand for one headless Service, so that
// endpoints of one are good for the other.
func (h *Host) sameService(other *Host) bool {
	return h != nil && h.Headless && other.Headless && h.Origin == other.Origin &&
		h.Namespace == other.Namespace && h.Name == other.Name
}

// endpointsGone is the change that every endpoint of a host, which may be nil, is gone.
func (h *Host) endpointsGone() []hostChange {
	if h == nil || !h.Headless {
		return nil
	}
	changes := make([]hostChange, 0, h.endpoints.len())
	for _, endpoint := range h.endpoints.hosts.All() {
		changes = append(changes, hostChange{before: endpoint})
	}
	return changes
}

// answerEndpoints makes a Service's ready endpoints what the host answers. It begins with what the host
// was before, nil for nothing, and does no more than slices differ. It returns the endpoints that
// changed.
func (h *Host) answerEndpoints(before *Host, of *service, ttl uint32) []hostChange {
	held := &endpoints{hosts: trie.New[string, *Host](trie.HashString)}
	if before != nil {
		held = before.endpoints
	} else {
		before = h // which has no records yet
	}
	labels, addresses := differences(held.of, of)
	answered := merge(before.addresses, addresses)
	h.A = ipv4.rrsetFrom(before.A, h.owner, answered, ttl)
	h.AAAA = ipv6.rrsetFrom(before.AAAA, h.owner, answered, ttl)

	changes := make([]hostChange, 0, len(labels))
	hosts := held.hosts.Edit()
	for label, addresses := range labels {
		was, _ := hosts.Get(label)
		is := h.newEndpoint(label, sorted(addresses), ttl)
		if is == nil {
			hosts.Delete(label)
		} else {
			hosts.Put(is.owner[:len(label)], is)
		}
		changes = append(changes, hostChange{before: was, after: is})
	}
	h.endpoints = &endpoints{of: of, hosts: hosts.Map()}
	return changes
}

// newEndpoint is an endpoint of the headless Service, nil when it has no address.
func (h *Host) newEndpoint(label string, addresses []netip.Addr, ttl uint32) *Host {
	// A name too long to be asked for is no name. Its addresses count for the Service all the same.
	if len(addresses) == 0 || len(label)+len(".")+len(h.host()) > registryv1.MaxName {
		return nil
	}
	endpoint := &Host{
		owner:       label + "." + h.owner,
		Origin:      h.Origin,
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_ENDPOINT,
		Namespace:   h.Namespace,
		Name:        h.Name,
		label:       uint8(len(label)),
	}
	endpoint.setAddresses(addresses, ttl)
	return endpoint
}

// differences is all that may differ between what two versions of a service answer: labels with the
// addresses that they have in the later version, in no order and perhaps twice, and addresses with
// whether the later version has them. Either version may be nil.
func differences(before, after *service) (labels map[string][]netip.Addr, addresses map[netip.Addr]bool) {
	counts := map[endpoint]int{}
	count := func(in, notIn *service, by int) {
		for _, slice := range in.all() {
			if !notIn.has(slice) {
				for _, e := range slice.ready {
					counts[e] += by
				}
			}
		}
	}
	count(before, after, -1)
	count(after, before, 1)

	labels, addresses = map[string][]netip.Addr{}, map[netip.Addr]bool{}
	for e, count := range counts {
		if count != 0 {
			labels[e.label], addresses[e.address] = nil, false
		}
	}
	if len(labels) == 0 {
		return labels, addresses
	}
	for _, slice := range after.all() {
		for _, e := range slice.ready {
			if others, differs := labels[e.label]; differs {
				labels[e.label] = append(others, e.address)
			}
			if _, differs := addresses[e.address]; differs {
				addresses[e.address] = true
			}
		}
	}
	return labels, addresses
}

// all is the slices of a service that may be nil.
func (s *service) all() []*member {
	if s == nil {
		return nil
	}
	return s.slices
}

// has reports whether the service has just this version of a slice.
func (s *service) has(slice *member) bool {
	i, found := slice.find(s.all())
	return found && s.slices[i] == slice
}

// merge is the sorted addresses with those that are said to be there, and without those that are said
// not to be.
func merge(held func(func(netip.Addr) bool), said map[netip.Addr]bool) []netip.Addr {
	var arrived []netip.Addr
	for address, there := range said {
		if there {
			arrived = append(arrived, address)
		}
	}
	arrived = sorted(arrived)
	var merged []netip.Addr
	for address := range held {
		if _, differs := said[address]; differs {
			continue
		}
		for len(arrived) > 0 && arrived[0].Less(address) {
			merged, arrived = append(merged, arrived[0]), arrived[1:]
		}
		merged = append(merged, address)
	}
	return append(merged, arrived...)
}

// sorted is the addresses in order, each once: slices come and go, and what they hold moves between
// them, but the answer stays the same.
func sorted(addresses []netip.Addr) []netip.Addr {
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}
