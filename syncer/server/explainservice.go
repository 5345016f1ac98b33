package server

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// target is where a service is to be found: a name, and a port unless that is zero.
type target struct {
	name string
	port uint16
}

// targets are those of a service at a port.
type targets struct {
	list []target
	// rows is what shares the weight: every address at every port.
	rows int
	// addresses of what has the port.
	addresses []netip.Addr
}

func (t *targets) add(to target, rows int) {
	t.rows += rows
	if !slices.Contains(t.list, to) {
		t.list = append(t.list, to)
	}
}

// targetsOf is where a host's winners are to be found at a port. A headless Service's endpoints have been
// listed.
func (e *explanation) targetsOf(c *candidate, port portName) targets {
	if c.headless() {
		return e.endpointTargets(port, "")
	}
	var found targets
	var ports []*registryv1.Port
	for _, winner := range c.winners {
		ports = append(ports, winner.GetPorts()...)
		for _, encoded := range winner.GetAddresses() {
			if address := addressOf(encoded); !slices.Contains(found.addresses, address) {
				found.addresses = append(found.addresses, address)
			}
		}
	}
	// A wildcard has no name of its own: the client gets the one that it asked for.
	name := c.Host
	if c.wildcard() {
		name = cmp.Or(port.service, e.Name)
	}
	for _, p := range orAny(portsOf(ports)) {
		if port.matches(p) {
			found.add(target{name, p.Number}, len(found.addresses))
		}
	}
	return found
}

// endpointTargets are the ready endpoints that listen on a port, or just one, by name and port.
func (e *explanation) endpointTargets(port portName, only string) targets {
	var found targets
	for _, endpoint := range e.Endpoints {
		for name := range namedAddresses(endpoint) {
			// A name too long to be asked for is no target.
			if !endpoint.Ready || len(name) > maxName || only != "" && name != only {
				continue
			}
			for _, p := range orAny(endpoint.Ports) {
				if port.matches(p) {
					found.add(target{name, p.Number}, 1)
				}
			}
		}
	}
	slices.SortFunc(found.list, func(a, b target) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.port, b.port)) })
	for _, endpoint := range e.Endpoints {
		for name, address := range namedAddresses(endpoint) {
			listens := func(t target) bool { return t.name == name }
			if endpoint.Ready && slices.ContainsFunc(found.list, listens) {
				found.addresses = append(found.addresses, parsed([]string{address})...)
			}
		}
	}
	slices.SortFunc(found.addresses, netip.Addr.Compare)
	found.addresses = slices.Compact(found.addresses)
	return found
}

// services answers with the SRV records of targets: a hundred is shared among the rows, as in CoreDNS.
func (e *explanation) services(found targets) {
	weight := max(1, 100/max(1, found.rows))
	for _, to := range found.list {
		if to.port != 0 {
			e.Records = append(e.Records, explain.Record{Type: typeSRV, Value: fmt.Sprintf("0 %d %d %s", weight, to.port, to.name)})
		}
	}
	if len(e.Records) == 0 {
		e.Outcome, e.Reason = explain.NoData, fmt.Sprintf("%s says no port number", e.Objects[0])
		return
	}
	e.Outcome = explain.Answered
	e.Reason += fmt.Sprintf("; addresses times ports: %d, which share a weight of 100", found.rows)
}

// portName answers a name in the cluster's zone that is a port of a service, and reports whether it is
// one. Only a service's own name has ports below it: not an endpoint's, nor one that a wildcard covers.
func (e *explanation) portName() (bool, error) {
	port, found := cutPort(e.Name)
	if !found || !e.inZone() {
		return false, nil
	}
	c, err := e.candidate(port.service)
	if c == nil || err != nil || c.wildcard() {
		return false, err
	}
	if len(c.winners) == 0 {
		e.hide(c)
		e.Candidates = append(e.Candidates, c.Candidate)
		return false, nil
	}
	if found, err := e.answerPort(c, port); found || err != nil {
		return found, err
	}
	e.Candidates = append(e.Candidates, c.Candidate)
	return false, nil
}

// answerPort answers with what a host has at a port, and reports whether it has the port.
func (e *explanation) answerPort(c *candidate, port portName) (bool, error) {
	first := c.winners[0]
	if first.GetExternalName() != "" {
		e.suggest(fmt.Sprintf("%s is an alias: there is no name below it", c.object()))
		return false, nil
	}
	if c.headless() {
		if err := e.listEndpoints(first, c.Host); err != nil {
			return false, err
		}
	}
	found := e.targetsOf(c, port)
	if len(found.list) == 0 {
		e.suggest(fmt.Sprintf("%s has no port %s%s", c.object(), port, otherPorts(e.namedPorts(c))))
		e.Endpoints = nil
		return false, nil
	}
	c.Chosen = true
	e.Candidates = append(e.Candidates, c.Candidate)
	e.choose(c)
	if c.headless() {
		e.AddressKind = addressKinds[registryv1.AddressKind_ADDRESS_KIND_ENDPOINT]
	}
	e.Reason = fmt.Sprintf("%s has the port %s", e.Objects[0], port)
	if e.asksServices() {
		e.services(found)
	} else {
		e.addresses(found.addresses)
	}
	return true, nil
}

// overlaidPort answers an SRV query outside the cluster's zone for the port of a host. Names below a host
// are its own to give: those that are no port are passed on.
func (e *explanation) overlaidPort() error {
	e.Outcome, e.Reason = explain.PassedOn, "outside the cluster's zone the mesh has SRV records for _PORT._PROTOCOL.HOST and for HOST"
	port, found := cutPort(e.Name)
	if !found || !port.underscored || port.name == "" || port.protocol == "" {
		return nil
	}
	c, err := e.closest(port.service)
	if err != nil {
		return err
	}
	e.Reason = cmp.Or(e.hint, "nothing in the mesh claims "+port.service)
	if c == nil {
		return nil
	}
	if !c.addressed() {
		e.choose(c)
		e.unaddressed()
		return nil
	}
	answered, err := e.answerPort(c, port)
	if !answered {
		e.Reason = e.hint
		e.Candidates = append(e.Candidates, c.Candidate)
	}
	return err
}

// closest is the host that answers for a name outside the cluster's zone, nil where none does. Those that
// would, but are hidden, are listed.
func (e *explanation) closest(name string) (*candidate, error) {
	for host := range candidateHosts(name) {
		c, err := e.candidate(host)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
		case len(c.winners) > 0 && !e.outsideZone(c):
			return c, nil
		default:
			e.hide(c)
			e.Candidates = append(e.Candidates, c.Candidate)
		}
	}
	return nil, nil
}
