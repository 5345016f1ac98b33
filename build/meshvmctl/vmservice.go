package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// portName is a name that stands for a port of a service: `_http._tcp.reviews.prod.svc.cluster.local`.
type portName struct {
	// name and protocol are without underscores. Empty: any.
	name, protocol string
	// underscored: both labels are written as RFC 2782 has them.
	underscored bool
	// service is the rest of the name, and host what answers it.
	service string
	host    *mirror.Host
}

// cutPort takes the first two labels of a name for port and protocol.
func cutPort(name string) (portName, bool) {
	labels := strings.SplitN(name, ".", 3)
	if len(labels) < 3 {
		return portName{}, false
	}
	port, underscored := strings.CutPrefix(labels[0], "_")
	protocol, both := strings.CutPrefix(labels[1], "_")
	return portName{name: port, protocol: protocol, underscored: underscored && both, service: labels[2]}, true
}

// answerPort answers a name in the cluster's zone that is a port of a service, and reports whether it is
// one.
func answerPort(e *explain.Explanation, state *mirror.State) bool {
	port, found := cutPort(e.Name)
	if !found {
		return false
	}
	port.host = state.Host(port.service)
	// An endpoint has no names below it.
	if port.host == nil || len(port.host.Claims) == 0 {
		return false
	}
	targets, _, found := state.Targets(port.host, port.name, port.protocol)
	if !found {
		return false
	}
	choose(e, port.host)
	if e.Types[0] == "SRV" {
		e.Records = services(state, port)
	} else {
		e.Records = addressesOf(targets, e.Types)
	}
	concludeRecords(e)
	return true
}

// answerOverlaidPort answers for a port of a host outside the cluster's zone.
func answerOverlaidPort(e *explain.Explanation, state *mirror.State) {
	e.Outcome, e.Reason = explain.PassedOn, "no port of a host that this view sees"
	port, found := cutPort(e.Name)
	if !found || !port.underscored || port.name == "" || port.protocol == "" {
		return
	}
	port.host = cmp.Or(exactHost(state, port.service, false), state.Wildcard(port.service))
	if port.host == nil {
		return
	}
	_, _, found = state.Targets(port.host, port.name, port.protocol)
	if !addressed(port.host) || !found {
		return
	}
	choose(e, port.host)
	e.Records = services(state, port)
	concludeRecords(e)
}

// isProtocol reports whether a name is there only because of a service's ports: `_tcp.SERVICE`.
func isProtocol(state *mirror.State, name string) bool {
	label, service, found := strings.Cut(name, ".")
	protocol, underscored := strings.CutPrefix(label, "_")
	if !found || !underscored {
		return false
	}
	host := state.Host(service)
	return host != nil && slices.ContainsFunc(host.Ports(), func(port mirror.Port) bool { return port.Protocol == protocol })
}

// addressesOf is the address records of targets, each once, IPv4 first.
func addressesOf(targets []mirror.Target, types []string) []explain.Record {
	var list []explain.Record
	for _, target := range targets {
		for _, set := range []*mirror.RRset{target.Host.A, target.Host.AAAA} {
			for _, record := range records(set, types) {
				if !slices.Contains(list, record) {
					list = append(list, record)
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b explain.Record) int { return cmp.Compare(a.Type, b.Type) })
	return list
}

// services is the SRV records of a service: a hundred is shared among its addresses at its ports, as in
// CoreDNS.
func services(state *mirror.State, port portName) []explain.Record {
	targets, rows, _ := state.Targets(port.host, port.name, port.protocol)
	ttl := uint32(defaultTTL)
	if port.host.AddressKind == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
		ttl = defaultEndpointTTL
	}
	var list []explain.Record
	for _, target := range targets {
		if target.Port == 0 {
			continue
		}
		name := strings.TrimSuffix(target.Host.FQDN(), ".")
		// A wildcard has no name of its own: the client gets the one that it asked for.
		if strings.HasPrefix(name, "*") {
			name = port.service
		}
		weight := max(1, 100/max(1, rows))
		list = append(list, explain.Record{Type: "SRV", Value: fmt.Sprintf("0 %d %d %s", weight, target.Port, name), TTL: ttl})
	}
	return list
}
