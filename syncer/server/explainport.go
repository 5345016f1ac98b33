package server

import (
	"cmp"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

// portName is a name that stands for a port of a service: `_http._tcp.reviews.prod.svc.cluster.local`.
// The zero value stands for any port.
type portName struct {
	// name and protocol are without underscores. Empty: any.
	name, protocol string
	// underscored: both labels are written as RFC 2782 has them.
	underscored bool
	// service is the rest of the name.
	service string
}

// cutPort takes the first two labels of a name for port and protocol. In the cluster's zone underscores
// may be missing, as in CoreDNS's kubernetes plugin.
func cutPort(name string) (portName, bool) {
	labels := strings.SplitN(name, ".", 3)
	if len(labels) < 3 {
		return portName{}, false
	}
	port, underscored := strings.CutPrefix(labels[0], "_")
	protocol, both := strings.CutPrefix(labels[1], "_")
	return portName{port, protocol, underscored && both, labels[2]}, true
}

// String is `NAME/PROTOCOL`.
func (p portName) String() string { return cmp.Or(p.name, "any") + "/" + cmp.Or(p.protocol, "any") }

func (p portName) matches(port explain.Port) bool {
	return (p.name == "" || p.name == port.Name) && (p.protocol == "" || p.protocol == port.Protocol)
}

// protocols as SRV names have them, without the underscore.
var protocols = map[registryv1.Protocol]string{
	registryv1.Protocol_PROTOCOL_TCP:  "tcp",
	registryv1.Protocol_PROTOCOL_UDP:  "udp",
	registryv1.Protocol_PROTOCOL_SCTP: "sctp",
}

// portsOf is ports as a VM has them, each once: without names that no DNS label could hold.
func portsOf(encoded []*registryv1.Port) []explain.Port {
	var ports []explain.Port
	for _, from := range encoded {
		port := explain.Port{Name: from.GetName(), Protocol: protocols[from.GetProtocol()]}
		if !isPortLabel(port.Name) {
			port.Name = ""
		}
		if from.GetNumber() <= 65535 {
			port.Number = uint16(from.GetNumber())
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// isPortLabel reports whether a port's name can be asked for: where underscores may be missing it is a
// label by itself.
func isPortLabel(name string) bool {
	return len(name) <= maxLabel && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// orAny is the ports, or one that stands for any where there is none: what has no port is there all the
// same, but no SRV record can say where.
func orAny(ports []explain.Port) []explain.Port {
	if len(ports) == 0 {
		return []explain.Port{{}}
	}
	return ports
}

// protocolName names what makes a name exist only because of ports below it, `_tcp.SERVICE`; empty where
// nothing does (RFC 8020).
func (e *explanation) protocolName() (string, error) {
	label, service, found := strings.Cut(e.Name, ".")
	protocol, underscored := strings.CutPrefix(label, "_")
	if !found || !underscored {
		return "", nil
	}
	c, err := e.candidate(service)
	if c == nil || err != nil || len(c.winners) == 0 || c.wildcard() {
		return "", err
	}
	if c.headless() {
		if err := e.listEndpoints(c.winners[0], c.Host); err != nil {
			return "", err
		}
		defer func() { e.Endpoints = nil }()
	}
	if !slices.ContainsFunc(e.namedPorts(c), func(p explain.Port) bool { return p.Protocol == protocol }) {
		return "", nil
	}
	return "ports of " + c.object().String(), nil
}

// namedPorts are the ports that have names below a host. A headless Service's endpoints have been listed.
func (e *explanation) namedPorts(c *candidate) []explain.Port {
	var all []explain.Port
	for _, winner := range c.winners {
		switch {
		case winner.GetExternalName() != "":
		case c.headless():
			for _, endpoint := range e.Endpoints {
				if endpoint.Ready {
					all = append(all, endpoint.Ports...)
				}
			}
		default:
			all = append(all, portsOf(winner.GetPorts())...)
		}
	}
	var named []explain.Port
	for _, port := range all {
		port.Number = 0
		if port.Name != "" && port.Protocol != "" && !slices.Contains(named, port) {
			named = append(named, port)
		}
	}
	return named
}

// otherPorts lists ports that there are, for who asked for another.
func otherPorts(ports []explain.Port) string {
	if len(ports) == 0 {
		return ", nor any that has a name"
	}
	names := make([]string, len(ports))
	for i, port := range ports {
		names[i] = port.Name + "/" + port.Protocol
	}
	return ", only " + strings.Join(names, ", ")
}
