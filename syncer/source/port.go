package source

import (
	"fmt"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const wantPort = "1 to 65535"

func validPort[N int32 | int | uint32](number N) bool { return number > 0 && number <= 65535 }

// servicePorts are a Kubernetes Service's ports. A target port that is a name differs from endpoint
// to endpoint and is left open.
func servicePorts(d *draft, ports []corev1.ServicePort) []*registryv1.Port {
	var translated []*registryv1.Port
	for i, port := range ports {
		if !validPort(port.Port) {
			d.reject(fmt.Sprintf("spec.ports[%d].port", i), fmt.Sprintf("%d is no port", port.Port), wantPort)
			continue
		}
		var target uint32
		switch {
		case port.TargetPort.Type == intstr.String:
		case port.TargetPort.IntVal == 0: // As the API server fills it in.
			target = uint32(port.Port)
		case validPort(port.TargetPort.IntVal):
			target = uint32(port.TargetPort.IntVal)
		default:
			d.reject(fmt.Sprintf("spec.ports[%d].targetPort", i), fmt.Sprintf("%d is no port", port.TargetPort.IntVal), wantPort)
			continue
		}
		translated = append(translated, &registryv1.Port{
			Name:     strings.ToLower(d.shown(fmt.Sprintf("spec.ports[%d].name", i), port.Name)),
			Number:   uint32(port.Port),
			Protocol: portProtocol(d, fmt.Sprintf("spec.ports[%d].protocol", i), port.Protocol),
			Target:   target,
		})
	}
	return translated
}

// slicePorts are an EndpointSlice's ports. One without a number stands for every port and keeps the
// number zero: no SRV record can say that, but the endpoints are there, and CoreDNS counts them in the
// weights of the others. A slice without any port is read as one with such a port.
func slicePorts(d *draft, ports []discoveryv1.EndpointPort) []*registryv1.Port {
	var translated []*registryv1.Port
	for i, port := range ports {
		number := valueOr(port.Port, 0)
		if port.Port != nil && !validPort(number) {
			d.reject(fmt.Sprintf("ports[%d].port", i), fmt.Sprintf("%d is no port", number), wantPort)
			continue
		}
		translated = append(translated, &registryv1.Port{
			Name:     strings.ToLower(d.shown(fmt.Sprintf("ports[%d].name", i), valueOr(port.Name, ""))),
			Number:   uint32(number),
			Protocol: portProtocol(d, fmt.Sprintf("ports[%d].protocol", i), valueOr(port.Protocol, "")),
			Target:   uint32(number),
		})
	}
	return translated
}

func portProtocol(d *draft, field string, protocol corev1.Protocol) registryv1.Protocol {
	switch protocol {
	case corev1.ProtocolTCP, "":
		return registryv1.Protocol_PROTOCOL_TCP
	case corev1.ProtocolUDP:
		return registryv1.Protocol_PROTOCOL_UDP
	case corev1.ProtocolSCTP:
		return registryv1.Protocol_PROTOCOL_SCTP
	}
	d.reject(field, fmt.Sprintf("%q is no protocol", string(protocol)), "TCP, UDP or SCTP")
	return registryv1.Protocol_PROTOCOL_UNSPECIFIED
}

// entryPorts are a ServiceEntry's ports. Its protocols are those of applications; all but UDP run
// over TCP.
func entryPorts(d *draft, ports []*networking.ServicePort) []*registryv1.Port {
	var translated []*registryv1.Port
	for i, port := range ports {
		if !validPort(port.GetNumber()) {
			d.report(Partial, fmt.Sprintf("spec.ports[%d].number", i), fmt.Sprintf("%d is no port", port.GetNumber()), wantPort)
			continue
		}
		target := port.GetNumber()
		if port.GetTargetPort() != 0 {
			target = port.GetTargetPort()
		}
		if !validPort(target) {
			d.report(Partial, fmt.Sprintf("spec.ports[%d].targetPort", i), fmt.Sprintf("%d is no port", target), wantPort)
			continue
		}
		protocol := registryv1.Protocol_PROTOCOL_TCP
		if strings.EqualFold(port.GetProtocol(), "UDP") {
			protocol = registryv1.Protocol_PROTOCOL_UDP
		}
		translated = append(translated, &registryv1.Port{
			Name:     strings.ToLower(d.shown(fmt.Sprintf("spec.ports[%d].name", i), port.GetName())),
			Number:   port.GetNumber(),
			Protocol: protocol,
			Target:   target,
		})
	}
	return translated
}
