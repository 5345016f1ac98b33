package mirror

import (
	"slices"
	"unique"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Port is a port of a service.
type Port struct {
	// Name is lower case. Empty: the port has none, or none that a DNS label could hold.
	Name string
	// Protocol is as SRV names have it, without the underscore: tcp, udp or sctp. Empty: there is no
	// port, or its protocol is not known here.
	Protocol string
	// Number is zero for any port whatever: no SRV record can say that.
	Number uint16
}

// anyPort stands for a service that names no port.
var anyPort = Port{}

// matches reports whether a port has this name and protocol; an empty one is not looked at.
func (p Port) matches(name, protocol string) bool {
	return (name == "" || name == p.Name) && (protocol == "" || protocol == p.Protocol)
}

var protocols = [...]string{
	registryv1.Protocol_PROTOCOL_TCP:  "tcp",
	registryv1.Protocol_PROTOCOL_UDP:  "udp",
	registryv1.Protocol_PROTOCOL_SCTP: "sctp",
}

// ports is a list of ports in one piece. Most services have the same few ports, so equal lists are one.
// The zero value is the empty list.
type ports struct{ packed unique.Handle[string] }

// Layout of a packed port: protocol, number in two bytes, length of the name, name.
const packedPort = 4

// packPorts is the list of the ports, each once, in order.
func packPorts(of ...[]*registryv1.Port) ports {
	var packed []byte
	var seen []Port
	for _, list := range of {
		for _, from := range list {
			port := portOf(from)
			if slices.Contains(seen, port) {
				continue
			}
			seen = append(seen, port)
			packed = append(packed, byte(slices.Index(protocols[:], port.Protocol)), byte(port.Number>>8), byte(port.Number), byte(len(port.Name)))
			packed = append(packed, port.Name...)
		}
	}
	if len(packed) == 0 {
		return ports{}
	}
	return ports{unique.Make(string(packed))}
}

// portOf is a port as it travels, once it is checked. What no record can say is left out: it is not worth the
// loss of a whole registry.
func portOf(from *registryv1.Port) Port {
	port := Port{Name: from.GetName(), Number: uint16(from.GetNumber())}
	if registryv1.LabelFault(port.Name) != "" {
		port.Name = ""
	}
	if protocol := int(from.GetProtocol()); protocol >= 0 && protocol < len(protocols) {
		port.Protocol = protocols[protocol]
	}
	return port
}

// all is the ports in order; anyPort alone where there is none.
func (p ports) all(yield func(Port) bool) {
	if p == (ports{}) {
		yield(anyPort)
		return
	}
	for packed := p.packed.Value(); packed != ""; {
		end := packedPort + int(packed[3])
		port := Port{
			Name:     packed[packedPort:end],
			Protocol: protocols[packed[0]],
			Number:   uint16(packed[1])<<8 | uint16(packed[2]),
		}
		if !yield(port) {
			return
		}
		packed = packed[end:]
	}
}
