package mirror

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// serviceName names a Kubernetes Service as its slices do.
type serviceName struct{ cluster, namespace, name string }

func serviceOf(s *registryv1.Service) serviceName {
	return serviceName{s.GetCluster(), s.GetNamespace(), s.GetName()}
}

// service brings the parts of a headless Service together, whichever comes first. It is immutable.
type service struct {
	// claims are the Services themselves, slices their EndpointSlices; both in order of their keys.
	claims, slices []*member
}

// member is the part that a resource has in a headless Service. It is immutable.
type member struct {
	key     string
	service serviceName
	// host is what a Service claims. Empty: the member is a slice.
	host string
	// ready are a slice's endpoints that are answered, ports what they all listen on.
	ready []endpoint
	ports ports
	// dots is how many dots the names of its endpoints have at most.
	dots int
}

// endpoint is an address of a ready endpoint and the label, or labels joined by dots, that are its name.
type endpoint struct {
	label   string
	address netip.Addr
}

// sliceMember takes from a slice what is answered. Readiness is all that counts:
// publishNotReadyAddresses already shows in it.
func sliceMember(key string, s *registryv1.EndpointSlice) *member {
	m := &member{key: key, service: serviceName{s.GetCluster(), s.GetNamespace(), s.GetService()}}
	for _, from := range s.GetEndpoints() {
		if !from.GetReady() {
			continue
		}
		for _, encoded := range from.GetAddresses() {
			e := endpoint{label: cmp.Or(from.GetName(), from.GetHostname()), address: address(encoded)}
			if e.label == "" {
				e.label = dashed(e.address)
			}
			m.ready = append(m.ready, e)
			m.dots = max(m.dots, strings.Count(e.label, "."))
		}
	}
	m.ready = slices.Clip(m.ready)
	m.ports = packPorts(s.GetPorts())
	return m
}

// dashed is the label of an endpoint without a hostname. Names are CoreDNS's, so that a name learnt in
// the cluster is good on a VM: dots and colons become dashes, and a dash at the end gets a zero.
func dashed(a netip.Addr) string {
	if a.Is4() {
		return strings.ReplaceAll(a.String(), ".", "-")
	}
	label := strings.ReplaceAll(a.String(), ":", "-")
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// join enters a member into its Service.
func (e *edit) join(m *member) {
	e.dots = max(e.dots, m.dots)
	var joined service
	if held, found := e.services.Get(m.service); found {
		joined = *held
	}
	members := joined.members(m)
	i, _ := m.find(*members)
	*members = slices.Insert(slices.Clip(*members), i, m)
	e.services.Put(m.service, &joined)
	e.touchService(m, &joined)
}

// leave takes a member out of its Service.
func (e *edit) leave(m *member) {
	held, found := e.services.Get(m.service)
	if !found {
		return
	}
	left := *held
	members := left.members(m)
	if i, found := m.find(*members); found {
		*members = slices.Concat((*members)[:i], (*members)[i+1:])
	}
	if len(left.claims)+len(left.slices) == 0 {
		e.services.Delete(m.service)
		return
	}
	e.services.Put(m.service, &left)
	e.touchService(m, &left)
}

// touchService notes that the hosts which a slice answers must be built anew.
func (e *edit) touchService(slice *member, of *service) {
	if slice.host != "" {
		return
	}
	for _, claim := range of.claims {
		e.touch(claim.host)
	}
}

// members is where in the service a member belongs.
func (s *service) members(m *member) *[]*member {
	if m.host != "" {
		return &s.claims
	}
	return &s.slices
}

// find is where a member stands, or would, by its key.
func (m *member) find(members []*member) (int, bool) {
	return slices.BinarySearchFunc(members, m.key, func(held *member, key string) int { return strings.Compare(held.key, key) })
}
