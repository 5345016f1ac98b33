package server

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// endpointName answers a name that is an endpoint of a headless Service, and reports whether it is one. The
// name of an endpoint is one label or, where it is that of a WorkloadEntry, perhaps more.
func (e *explanation) endpointName() (bool, error) {
	for rest := e.Name; e.inZone(); {
		_, host, below := strings.Cut(rest, ".")
		if !below {
			break
		}
		rest = host
		if found, err := e.endpointOfHost(host); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// endpointOfHost answers the name if it is an endpoint of the host, and reports whether it is.
func (e *explanation) endpointOfHost(host string) (bool, error) {
	c, err := e.candidate(host)
	if c == nil || err != nil || len(c.winners) == 0 || !c.winners[0].GetHeadless() {
		return false, err
	}
	if err := e.listEndpoints(c.winners[0], host); err != nil {
		return false, err
	}
	var listed int
	var ready []netip.Addr
	for _, endpoint := range e.Endpoints {
		named := addressesNamed(endpoint, e.Name)
		listed += len(named)
		if endpoint.Ready {
			ready = append(ready, parsed(named)...)
		}
		if endpoint.Ready && slices.ContainsFunc(endpoint.Names, func(name string) bool { return strings.HasSuffix(name, "."+e.Name) }) {
			e.above = endpoint.Slice.String()
		}
	}
	if len(ready) == 0 {
		if listed == 0 {
			e.Endpoints = nil
		} else {
			e.hint = fmt.Sprintf("it is an endpoint of Service %s/%s, but not ready", c.winners[0].GetNamespace(), c.winners[0].GetName())
		}
		return false, nil
	}
	c.Chosen = true
	e.Candidates = append(e.Candidates, c.Candidate)
	e.choose(c)
	e.AddressKind = addressKinds[registryv1.AddressKind_ADDRESS_KIND_ENDPOINT]
	e.Reason = fmt.Sprintf("it is an endpoint of %s", e.Objects[0])
	if e.asksServices() {
		e.services(e.endpointTargets(portName{}, e.Name))
	} else {
		e.addresses(ready)
	}
	return true, nil
}

// addressesNamed are the addresses that an endpoint's name stands for: all of them for a hostname, one
// for a name made of it.
func addressesNamed(endpoint explain.Endpoint, name string) []string {
	var addresses []string
	for named, address := range namedAddresses(endpoint) {
		if named == name {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// namedAddresses is an endpoint's addresses with their names.
func namedAddresses(endpoint explain.Endpoint) iter.Seq2[string, string] {
	return func(yield func(name, address string) bool) {
		for i, address := range endpoint.Addresses {
			// One name for all, or one for each.
			if !yield(endpoint.Names[min(i, len(endpoint.Names)-1)], address) {
				return
			}
		}
	}
}

// listEndpoints lists the endpoints of a headless Service in slices that the namespace sees.
func (e *explanation) listEndpoints(service *registryv1.Service, host string) error {
	for _, entry := range e.server.registry.Slices(service.GetCluster(), service.GetNamespace(), service.GetName()) {
		if !e.sees(entry) {
			continue
		}
		body, err := decode(entry)
		if err != nil {
			return err
		}
		for _, endpoint := range body.GetEndpointSlice().GetEndpoints() {
			explained := endpointOf(endpoint, objectOf(entry.Object), host)
			explained.Ports = portsOf(body.GetEndpointSlice().GetPorts())
			e.Endpoints = append(e.Endpoints, explained)
		}
	}
	return nil
}

func endpointOf(endpoint *registryv1.Endpoint, slice explain.Object, host string) explain.Endpoint {
	explained := explain.Endpoint{
		Slice:       slice,
		Ready:       endpoint.GetReady(),
		Serving:     endpoint.GetServing(),
		Terminating: endpoint.GetTerminating(),
		Zone:        endpoint.GetZone(),
		Node:        endpoint.GetNode(),
	}
	hostname := cmp.Or(endpoint.GetName(), endpoint.GetHostname())
	for _, encoded := range endpoint.GetAddresses() {
		address := addressOf(encoded)
		explained.Addresses = append(explained.Addresses, address.String())
		if hostname == "" {
			explained.Names = append(explained.Names, dashed(address)+"."+host)
		}
	}
	if hostname != "" {
		explained.Names = []string{hostname + "." + host}
	}
	return explained
}

// dashed is the label of an endpoint without a hostname, as CoreDNS makes it: dots and colons become
// dashes, and a dash at the end gets a zero.
func dashed(address netip.Addr) string {
	label := strings.NewReplacer(".", "-", ":", "-").Replace(address.String())
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// readyEndpoints are the addresses of the endpoints that are answered, in order, each once.
func (e *explanation) readyEndpoints() []netip.Addr {
	var addresses []netip.Addr
	for _, endpoint := range e.Endpoints {
		if endpoint.Ready {
			addresses = append(addresses, parsed(endpoint.Addresses)...)
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

// parsed are those of the texts that are addresses.
func parsed(texts []string) []netip.Addr {
	addresses := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}
