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
		endpoints, err := e.build(t)
		if err != nil {
			return err
		}
		if t.before == nil && t.after == nil {
			continue
		}
		e.setHost(t)
		switch {
		case t.before == nil:
			e.exists(parent(t.name()))
		case t.after == nil:
			e.gone(parent(t.name()))
		}
		e.encloseEndpoints(endpoints)
		changes = append(append(changes, hostChange{t.before, t.after}), endpoints...)
	}
	e.pointBack(changes)
	return nil
}

// manyEndpoints is how many endpoints make a headless Service one whose Host is kept once it was made: the
// next slice that changes then costs no more than what differs.
const manyEndpoints = 64

// setHost enters a touched host, or takes out the name where it is no longer claimed.
func (e *edit) setHost(t *touchedHost) {
	index, name := &e.hosts, t.name()
	if suffix, wild := strings.CutPrefix(name, registryv1.WildcardPrefix); wild {
		index, name = &e.wildcards, suffix
	}
	if t.after == nil {
		index.Delete(name)
		return
	}
	entered := &claimed{}
	if len(t.claims) == 1 {
		key := t.claims[0]
		held, _ := e.resources.Get(key)
		entered.text, entered.keySize = held.text, len(key)
	}
	if len(t.claims) > 1 || t.asked || t.after.endpoints.len() > manyEndpoints {
		entered.host.Store(t.after)
	}
	index.Put(name, entered)
}

// built is the host of a name as the edit has it so far, nil where there is none.
func (e *edit) built(name string) *Host {
	if t, touched := e.touched[name]; touched {
		return t.after
	}
	host, _ := e.base.glanceAt(name, &e.decoder)
	return host
}

// build makes the host of the claims, none when there are none, and is those endpoints of it that changed.
func (e *edit) build(t *touchedHost) ([]hostChange, error) {
	if len(t.claims) == 0 {
		return t.before.endpointsGone(), nil
	}
	claims, err := e.claims(t)
	if err != nil {
		return nil, err
	}
	winners := registryv1.ResolveClaims(claims, e.base.View()).Winners
	t.after = newHost(t.owner, t.claims, winners, e.base.ttls)
	if !t.after.Headless {
		return t.before.endpointsGone(), nil
	}
	service, _ := e.services.Get(serviceOf(winners[0]))
	ttl := e.base.ttls.of(t.after.AddressKind)
	if t.before.sameService(t.after) {
		return t.after.answerEndpoints(t.before, service, ttl), nil
	}
	return append(t.before.endpointsGone(), t.after.answerEndpoints(nil, service, ttl)...), nil
}

// newHost is the host that claims make, of which some won. A headless one has no endpoints yet.
func newHost(owner string, claims []string, winners []*registryv1.Service, ttls lifetimes) *Host {
	first := winners[0]
	host := &Host{
		owner:        owner,
		Origin:       first.GetOrigin(),
		AddressKind:  registryv1.JoinedKind(winners),
		ExternalName: first.GetExternalName(),
		Claims:       claims,
	}
	host.Namespace = part(host.owner, first.GetNamespace())
	host.Name = part(host.owner, first.GetName())
	if first.GetHeadless() && !host.isWildcard() {
		host.Headless = true
		return host
	}
	host.setAddresses(union(winners), ttls.of(host.AddressKind))
	host.ports = portsOf(winners)
	return host
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
		body, err := decodeBody([]byte(held.body(key)))
		if err != nil {
			return nil, fmt.Errorf("resource %s: %w", quote(key), err)
		}
		claims[i] = body.GetService()
	}
	return claims, nil
}

// manyClaims is how many claims make it worth to look addresses up that were seen.
const manyClaims = 16

// union is the addresses of joined claims, each once, in order. There may be as many claims as a ServiceEntry
// selects workloads.
func union(winners []*registryv1.Service) []netip.Addr {
	var addresses []netip.Addr
	seen := func(a netip.Addr) bool { return slices.Contains(addresses, a) }
	if len(winners) > manyClaims {
		known := make(map[netip.Addr]bool, len(winners))
		seen = func(a netip.Addr) bool {
			was := known[a]
			known[a] = true
			return was
		}
	}
	for _, winner := range winners {
		addresses = slices.Grow(addresses, len(winner.GetAddresses()))
		for _, encoded := range winner.GetAddresses() {
			if a := address(encoded); !seen(a) {
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
