package mirror

import (
	"cmp"
	"slices"
	"strings"
)

// Target is a place where a service is to be found.
type Target struct {
	// Host has the target's name and addresses: it is the service itself, or one of its endpoints.
	Host *Host
	// Port is zero where the service names no port.
	Port uint16
}

// Targets is where a host's service is to be found at the ports of a name and protocol, without
// underscores; either may be empty, which stands for any. Each target comes once, in order of names and
// ports. rows counts them as CoreDNS does for the weight of SRV records: an address at a port is one,
// however often slices have it. found tells a port that the host does not have.
//
// An endpoint has the ports of its slices, but no names below it.
func (s *State) Targets(host *Host, port, protocol string) (targets []Target, rows int, found bool) {
	switch {
	case host.ExternalName != "":
		return nil, 0, false
	case host.Headless:
		return selectTargets(host.endpoints.prepared(), port, protocol)
	case host.isEndpoint():
		return selectTargets(s.Host(host.service()).preparedOf(host), port, protocol)
	}
	addresses := host.A.len() + host.AAAA.len()
	for p := range host.ports.all {
		if !p.matches(port, protocol) {
			continue
		}
		found, rows = true, rows+addresses
		if target := (Target{host, p.Number}); !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return targets, rows, found
}

// preparedTarget is an endpoint at one of its ports.
type preparedTarget struct {
	label string
	host  *Host
	port  Port
	// rows is how many addresses slices give it.
	rows int
}

func compareTargets(a, b preparedTarget) int {
	return cmp.Or(
		strings.Compare(a.label, b.label),
		cmp.Compare(a.port.Number, b.port.Number),
		strings.Compare(a.port.Name, b.port.Name),
		strings.Compare(a.port.Protocol, b.port.Protocol),
	)
}

// prepared is the endpoints at their ports, in order. It is made when it is first asked for and then kept:
// few programs ask for SRV records, and a change of one slice must not pay for the rest.
func (e *endpoints) prepared() []preparedTarget {
	if held := e.targets.Load(); held != nil {
		return *held
	}
	type key struct {
		label string
		port  Port
	}
	rows := map[key]int{}
	for _, slice := range e.of.all() {
		for port := range slice.ports.all {
			for _, ready := range slice.ready {
				rows[key{ready.label, port}]++
			}
		}
	}
	targets := make([]preparedTarget, 0, len(rows))
	for at, count := range rows {
		// A name that is too long to be asked for has no host.
		if host, found := e.hosts.Get(at.label); found {
			targets = append(targets, preparedTarget{at.label, host, at.port, count})
		}
	}
	slices.SortFunc(targets, compareTargets)
	e.targets.Store(&targets)
	return targets
}

// preparedOf is the part of prepared that is of one endpoint, of a host that may be nil.
func (h *Host) preparedOf(endpoint *Host) []preparedTarget {
	if h == nil || h.endpoints == nil {
		return nil
	}
	all := h.endpoints.prepared()
	label := endpoint.owner[:endpoint.label]
	start, _ := slices.BinarySearchFunc(all, label, func(t preparedTarget, label string) int { return strings.Compare(t.label, label) })
	end := start
	for end < len(all) && all[end].label == label {
		end++
	}
	return all[start:end]
}

// selectTargets is those of the targets that are at ports of a name and protocol.
func selectTargets(from []preparedTarget, port, protocol string) (targets []Target, rows int, found bool) {
	targets = make([]Target, 0, len(from))
	for _, candidate := range from {
		if !candidate.port.matches(port, protocol) {
			continue
		}
		rows += candidate.rows
		target := Target{candidate.host, candidate.port.Number}
		if len(targets) == 0 || targets[len(targets)-1] != target {
			targets = append(targets, target)
		}
	}
	return targets, rows, len(targets) > 0
}

// Ports is the named ports of a host, each once, in order: below `_PROTOCOL.HOST` stands a name for each.
// An endpoint has none.
func (h *Host) Ports() []Port {
	var named []Port
	add := func(port Port) {
		port.Number = 0
		if port.Name != "" && port.Protocol != "" {
			named = append(named, port)
		}
	}
	switch {
	case h.ExternalName != "" || h.isEndpoint():
		return nil
	case h.Headless:
		for _, target := range h.endpoints.prepared() {
			add(target.port)
		}
	default:
		for port := range h.ports.all {
			add(port)
		}
	}
	slices.SortFunc(named, func(a, b Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Name, b.Name))
	})
	return slices.Compact(named)
}

// Endpoints is the endpoints of a headless Service that have names, by name; nil for other hosts.
func (h *Host) Endpoints() []*Host {
	if h.endpoints == nil {
		return nil
	}
	hosts := make([]*Host, 0, h.endpoints.hosts.Len())
	for _, endpoint := range h.endpoints.hosts.All() {
		hosts = append(hosts, endpoint)
	}
	slices.SortFunc(hosts, func(a, b *Host) int { return strings.Compare(a.owner, b.owner) })
	return hosts
}
