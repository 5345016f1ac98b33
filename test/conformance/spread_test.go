package conformance

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// spread is the addresses of a headless Service's endpoints that have a port. An endpoint of one hostname may
// be in several slices with different ports.
type spread struct {
	// whole is all addresses of these endpoints, matched those in slices with the port.
	whole, matched []endpointAddress
}

type endpointAddress struct {
	label   string
	address netip.Addr
}

// spreadAt is the endpoints that a question is about: at a port's name those with the port; for SRV records
// those with a port that has a number, and at an endpoint's name it alone.
func (w *world) spreadAt(n node, qtype uint16) spread {
	var port portOf
	var label string
	switch {
	case !isHeadless(w.services[n.service]):
		return spread{}
	case n.kind == kindPort:
		port = portOf{strings.TrimPrefix(n.labels[0], "_"), strings.TrimPrefix(n.labels[1], "_")}
	case qtype != dns.TypeSRV:
		return spread{}
	case n.kind == kindEndpoint:
		label = n.labels[0]
	case n.kind != kindHeadless:
		return spread{}
	}
	var s spread
	var all []endpointAddress
	for _, slice := range w.of[n.service] {
		has := hasPort(slice, port, qtype == dns.TypeSRV)
		for _, endpoint := range slice.Endpoints {
			if !isReady(endpoint) {
				continue
			}
			for _, text := range endpoint.Addresses {
				a := endpointAddress{endpointLabel(endpoint, text), netip.MustParseAddr(text)}
				if label != "" && a.label != label {
					continue
				}
				all = append(all, a)
				if has {
					s.matched = append(s.matched, a)
				}
			}
		}
	}
	for _, a := range all {
		if slices.ContainsFunc(s.matched, func(m endpointAddress) bool { return m.label == a.label }) {
			s.whole = append(s.whole, a)
		}
	}
	return s
}

// hasPort reports whether a slice has a port of a name and protocol; either may be empty, for any. A slice
// without ports has one that has neither, nor a number.
func hasPort(slice *discoveryv1.EndpointSlice, want portOf, numbered bool) bool {
	if len(slice.Ports) == 0 {
		return want == portOf{} && !numbered
	}
	return slices.ContainsFunc(slice.Ports, func(port discoveryv1.EndpointPort) bool {
		return (want.name == "" || want.name == *port.Name) &&
			(want.protocol == "" || want.protocol == strings.ToLower(string(*port.Protocol))) &&
			(!numbered || port.Port != nil)
	})
}

// shows reports whether it makes a difference to the answer to a type which addresses count.
func (s spread) shows(qtype uint16) bool {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		return !slices.Equal(s.addresses("", s.whole, qtype), s.addresses("", s.matched, qtype))
	case dns.TypeSRV:
		return !slices.Equal(s.targets("", s.whole), s.targets("", s.matched))
	}
	return false
}

// addresses is the records of a type at a name, in words.
func (s spread) addresses(name string, of []endpointAddress, qtype uint16) []string {
	var records []string
	for _, a := range of {
		if a.address.Is4() == (qtype == dns.TypeA) {
			records = append(records, strings.ToLower(name)+recordOf(a.address))
		}
	}
	slices.Sort(records)
	return slices.Compact(records)
}

// targets is the records of all addresses at the names of their endpoints below a Service, in words.
func (s spread) targets(service string, of []endpointAddress) []string {
	var records []string
	for _, a := range of {
		records = append(records, a.label+"."+service+recordOf(a.address))
	}
	slices.Sort(records)
	return slices.Compact(records)
}

func recordOf(address netip.Addr) string {
	if address.Is4() {
		return " a " + address.String()
	}
	return " aaaa " + address.String()
}

// checkSpread wants ours to tell the whole of an endpoint's addresses, and theirs those that match.
func checkSpread(x exchange) error {
	s := x.world.spreadAt(x.node, x.question.qtype)
	if x.question.qtype != dns.TypeSRV {
		return must(
			x.ours.isPositive(s.addresses(x.question.name, s.whole, x.question.qtype)...),
			saysJust(x.theirs, x.node.zone, s.addresses(x.question.name, s.matched, x.question.qtype)),
		)
	}
	service := x.node.service.name + "." + x.node.service.namespace + ".svc." + x.node.zone
	return must(
		x.ours.isPositive(slices.Clone(x.theirs.answer)...), x.theirs.isPositive(slices.Clone(x.theirs.answer)...),
		slices.Equal(x.ours.additionalRecords(), s.targets(service, s.whole)),
		slices.Equal(x.theirs.additionalRecords(), s.targets(service, s.matched)),
	)
}

// saysJust reports whether a reply is these answers, or NODATA where there are none.
func saysJust(v view, zone string, answer []string) bool {
	if len(answer) == 0 {
		return v.isNoData(zone)
	}
	return v.isPositive(answer...)
}
