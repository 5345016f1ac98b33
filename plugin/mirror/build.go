package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// hostChange is a host before and after, nil where it was or is not.
type hostChange struct{ before, after *Host }

// buildHosts builds the touched hosts anew and brings the indexes that follow from hosts up to date.
func (e *edit) buildHosts() error {
	changes := make([]hostChange, 0, len(e.order))
	for _, t := range e.order {
		after, endpoints, err := e.build(t)
		if err != nil {
			return err
		}
		if t.before == nil && after == nil {
			continue
		}
		e.setHost(t.name(), after)
		switch {
		case t.before == nil:
			e.exists(parent(t.name()))
		case after == nil:
			e.gone(parent(t.name()))
		}
		changes = append(append(changes, hostChange{t.before, after}), endpoints...)
	}
	e.pointBack(changes)
	return nil
}

// host is the host of a name, or of a wildcard's own spelling, as last built.
func (e *edit) host(name string) *Host {
	if suffix, wild := strings.CutPrefix(name, registryv1.WildcardPrefix); wild {
		host, _ := e.wildcards.Get(suffix)
		return host
	}
	host, _ := e.hosts.Get(name)
	return host
}

// setHost enters a host, or takes out the name where it is nil.
func (e *edit) setHost(name string, host *Host) {
	index, key := &e.hosts, name
	if suffix, wild := strings.CutPrefix(name, registryv1.WildcardPrefix); wild {
		index, key = &e.wildcards, suffix
	}
	if host == nil {
		index.Delete(key)
		return
	}
	index.Put(key, host)
}

// build is the host that the claims make, nil when there are none, and those endpoints of it that
// changed.
func (e *edit) build(t *touchedHost) (*Host, []hostChange, error) {
	if len(t.claims) == 0 {
		return nil, t.before.endpointsGone(), nil
	}
	claims, err := e.claims(t)
	if err != nil {
		return nil, nil, err
	}
	winners := registryv1.ResolveClaims(claims, e.base.View()).Winners
	first := winners[0]
	host := &Host{
		owner:        t.owner,
		Origin:       first.GetOrigin(),
		AddressKind:  addressKind(winners),
		ExternalName: first.GetExternalName(),
		Claims:       t.claims,
	}
	host.Namespace = part(host.owner, first.GetNamespace())
	host.Name = part(host.owner, first.GetName())
	ttl := e.base.ttls.of(host.AddressKind)
	if !first.GetHeadless() || host.isWildcard() {
		host.setAddresses(union(winners), ttl)
		host.ports = portsOf(winners)
		return host, t.before.endpointsGone(), nil
	}
	host.Headless = true
	service, _ := e.services.Get(serviceOf(first))
	if t.before.sameService(host) {
		return host, host.answerEndpoints(t.before, service, ttl), nil
	}
	return host, append(t.before.endpointsGone(), host.answerEndpoints(nil, service, ttl)...), nil
}

// claims decodes the claims of a host.
func (e *edit) claims(t *touchedHost) ([]*registryv1.Service, error) {
	claims := make([]*registryv1.Service, len(t.claims))
	for i, key := range t.claims {
		if key == t.freshKey {
			claims[i] = t.fresh
			continue
		}
		held, _ := e.resources.Get(key)
		body, err := decodeBody(held.body)
		if err != nil {
			return nil, fmt.Errorf("resource %s: %w", quote(key), err)
		}
		claims[i] = body.GetService()
	}
	return claims, nil
}

// addressKind is what the addresses of joined claims are. One that moves makes all of them move.
func addressKind(winners []*registryv1.Service) registryv1.AddressKind {
	for _, winner := range winners {
		if winner.GetHeadless() || winner.GetAddressKind() == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
			return registryv1.AddressKind_ADDRESS_KIND_ENDPOINT
		}
	}
	return winners[0].GetAddressKind()
}

// union is the addresses of joined claims, each once, in order.
func union(winners []*registryv1.Service) []netip.Addr {
	var addresses []netip.Addr
	for _, winner := range winners {
		addresses = slices.Grow(addresses, len(winner.GetAddresses()))
		for _, encoded := range winner.GetAddresses() {
			if a := address(encoded); !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
	}
	return addresses
}

// portsOf is the ports of joined claims.
func portsOf(winners []*registryv1.Service) ports {
	if len(winners) == 1 {
		return packPorts(winners[0].GetPorts())
	}
	lists := make([][]*registryv1.Port, len(winners))
	for i, winner := range winners {
		lists[i] = winner.GetPorts()
	}
	return packPorts(lists...)
}

// part is a string that shares the bytes of a longer one where they are to be found there.
func part(whole, s string) string {
	if i := strings.Index(whole, s); i >= 0 {
		return whole[i : i+len(s)]
	}
	return s
}
