package registryv1

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Bounds of one resource. What Kubernetes and Istio allow is below them, but for mistakes and malice: an
// EndpointSlice has a thousand endpoints at most, and a ServiceEntry of today's CRD 256 hosts, addresses and ports
// and 4,096 endpoints. A DNS message holds no more than some 4,000 addresses.
const (
	// MaxKey bounds the key, in bytes.
	MaxKey = 2048
	// MaxBody bounds the encoded body, in bytes.
	MaxBody = 1 << 20
	// MaxAddresses bounds the addresses of a Service, and those of all endpoints of a slice.
	MaxAddresses = 4096
	// MaxEndpoints bounds the endpoints of a slice.
	MaxEndpoints = 4096
	// MaxPorts bounds the ports of a Service or a slice.
	MaxPorts = 1024
	// MaxTargets bounds the ports of a resource times its addresses, which is what SRV records are made of.
	MaxTargets = 1 << 18
	// MaxText bounds a field that is only shown, in bytes.
	MaxText = 253
)

// Limits of RFC 1035, section 2.3.4. 253 is the longest name in text without its final dot.
const (
	MaxName  = 253
	MaxLabel = 63
)

// MaxLabels bounds the labels of a host, fewer than DNS does: each of the names above a host exists because of it, and
// costs a VM something. The longest that anybody has are those of reverse zones of IPv6.
const MaxLabels = 40

const maxPort = 65535

// Fault is what is wrong with a resource, in a word, for metrics.
type Fault string

// Faults of a resource.
const (
	// FaultKey: the key is none, or too long, or not printable.
	FaultKey Fault = "key"
	// FaultBody: there is no body, or it does not decode, or has texts that cannot be shown.
	FaultBody Fault = "body"
	// FaultSize: there is more of something than a resource may have.
	FaultSize Fault = "size"
	// FaultName: a name is not a DNS name.
	FaultName Fault = "name"
	// FaultAddress: an address is none, or none that anybody can connect to.
	FaultAddress Fault = "address"
	// FaultPort: a port is out of range.
	FaultPort Fault = "port"
)

// ResourceError says why a resource is not one.
type ResourceError struct {
	Fault Fault
	// Detail says what is wrong and what is wanted. It is printable, and no longer than a line.
	Detail string
}

// Error is the detail.
func (e *ResourceError) Error() string { return e.Detail }

func faulty(fault Fault, format string, arguments ...any) *ResourceError {
	return &ResourceError{Fault: fault, Detail: fmt.Sprintf(format, arguments...)}
}

// CheckResource is what both ends hold a resource to: a syncer sends none that it finds fault with, and a VM takes
// none. So it may become more lenient from one version to the next, and never stricter. Kinds of bodies and values
// of enumerations from the future are taken. The error is a *ResourceError.
//
// A key is opaque to a VM, so it is not held against the body.
func CheckResource(key string, encoded int, body *Body) error {
	if err := CheckEncoded(key, encoded); err != nil {
		return err
	}
	return CheckBody(body)
}

// CheckEncoded is the part of CheckResource that needs no decoding.
func CheckEncoded(key string, encoded int) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	switch {
	case encoded == 0:
		return faulty(FaultBody, "has no body")
	case encoded > MaxBody:
		return faulty(FaultSize, "has a body of %d bytes: at most %d", encoded, MaxBody)
	}
	return nil
}

// CheckKey is the part of CheckResource that is about the key.
func CheckKey(key string) error {
	switch {
	case key == "":
		return faulty(FaultKey, "has no key")
	case len(key) > MaxKey:
		return faulty(FaultKey, "has a key of %d bytes: at most %d", len(key), MaxKey)
	case !printable(key):
		return faulty(FaultKey, "has a key that is not printable ASCII")
	}
	return nil
}

// CheckBody is the part of CheckResource that is about the body.
func CheckBody(body *Body) error {
	switch {
	case body.GetService() != nil:
		return checkService(body.GetService())
	case body.GetEndpointSlice() != nil:
		return checkEndpointSlice(body.GetEndpointSlice())
	case body.GetNamespace() != nil:
		n := body.GetNamespace()
		if err := checkLabel("namespace", n.GetName()); err != nil {
			return err
		}
		return checkShown("cluster", n.GetCluster())
	}
	return nil
}

func checkService(s *Service) error {
	if err := CheckName(strings.TrimPrefix(s.GetHost(), WildcardPrefix)); err != nil {
		return faulty(FaultName, "host %s: %v", quote(s.GetHost()), err)
	}
	if len(s.GetHost()) > MaxName {
		return faulty(FaultName, "host %s: is not a DNS name: longer than %d", quote(s.GetHost()), MaxName)
	}
	if err := checkLabels(s.GetHost()); err != nil {
		return err
	}
	if target := s.GetExternalName(); target != "" {
		if err := CheckName(target); err != nil {
			return faulty(FaultName, "external name %s of host %s: %v", quote(target), quote(s.GetHost()), err)
		}
	}
	if err := checkNumbers(len(s.GetAddresses()), len(s.GetPorts())); err != nil {
		return err
	}
	if err := checkAddresses(s.GetAddresses()); err != nil {
		err.Detail = fmt.Sprintf("host %s: %s", quote(s.GetHost()), err.Detail)
		return err
	}
	if err := checkPorts(s.GetPorts()); err != nil {
		return err
	}
	return checkOwner(s.GetCluster(), s.GetNamespace(), s.GetName())
}

func checkEndpointSlice(s *EndpointSlice) error {
	if err := checkOwner(s.GetCluster(), s.GetNamespace(), s.GetName()); err != nil {
		return err
	}
	if err := checkLabel("service", s.GetService()); err != nil {
		return err
	}
	if count := len(s.GetEndpoints()); count > MaxEndpoints {
		return faulty(FaultSize, "has %d endpoints: at most %d", count, MaxEndpoints)
	}
	addresses := 0
	for _, endpoint := range s.GetEndpoints() {
		addresses += len(endpoint.GetAddresses())
	}
	if err := checkNumbers(addresses, len(s.GetPorts())); err != nil {
		return err
	}
	for i, endpoint := range s.GetEndpoints() {
		if err := checkEndpoint(endpoint); err != nil {
			err.Detail = fmt.Sprintf("endpoint %d: %s", i, err.Detail)
			return err
		}
	}
	return checkPorts(s.GetPorts())
}

func checkEndpoint(e *Endpoint) *ResourceError {
	var err error
	if e.GetHostname() != "" {
		err = checkLabel("hostname", e.GetHostname())
	}
	if err == nil && e.GetName() != "" {
		if fault := CheckName(e.GetName()); fault != nil {
			err = faulty(FaultName, "name %s: %v", quote(e.GetName()), fault)
		} else if fault := checkLabels(e.GetName()); fault != nil {
			err = fault
		}
	}
	if err == nil {
		err = checkShown("zone", e.GetZone())
	}
	if err == nil {
		err = checkShown("node", e.GetNode())
	}
	if found, is := errors.AsType[*ResourceError](err); is {
		return found
	}
	return checkAddresses(e.GetAddresses())
}

// checkOwner is about the object that a resource comes from.
func checkOwner(cluster, namespace, name string) error {
	if err := checkLabel("namespace", namespace); err != nil {
		return err
	}
	// An object's name is for people only, and may have labels longer than those of DNS.
	switch {
	case name == "":
		return checkShown("cluster", cluster)
	case len(name) > MaxText:
		return faulty(FaultName, "object %s: its name is longer than %d", quote(name), MaxText)
	}
	for label := range strings.SplitSeq(name, ".") {
		if c := notInLabel(label); label == "" || c >= 0 {
			return faulty(FaultName, "object %s: is no name of an object", quote(name))
		}
	}
	return checkShown("cluster", cluster)
}

func checkNumbers(addresses, ports int) error {
	switch {
	case addresses > MaxAddresses:
		return faulty(FaultSize, "has %d addresses: at most %d", addresses, MaxAddresses)
	case ports > MaxPorts:
		return faulty(FaultSize, "has %d ports: at most %d", ports, MaxPorts)
	case addresses*ports > MaxTargets:
		return faulty(FaultSize, "has %d addresses at %d ports: at most %d together", addresses, ports, MaxTargets)
	}
	return nil
}

func checkAddresses(addresses [][]byte) *ResourceError {
	for _, encoded := range addresses {
		address, ok := netip.AddrFromSlice(encoded)
		if !ok {
			return faulty(FaultAddress, "address of %d bytes: want 4 or 16", len(encoded))
		}
		if what := AddressFault(address); what != "" {
			return faulty(FaultAddress, "address %s: %s", address, what)
		}
	}
	return nil
}

// broadcast is the limited broadcast address (RFC 919, section 7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// AddressFault says why nobody can connect to an address, empty where one can. Loopback and link-local addresses
// are fine: Istio's users name what listens beside a workload.
func AddressFault(address netip.Addr) string {
	address = address.Unmap()
	switch {
	// To connect to it is to connect to oneself, on many systems.
	case address.IsUnspecified():
		return "it is the unspecified address"
	case address.IsMulticast():
		return "it is a multicast address"
	case address == broadcast:
		return "it is the broadcast address"
	}
	return ""
}

func checkPorts(ports []*Port) error {
	for _, port := range ports {
		switch {
		case port.GetNumber() > maxPort:
			return faulty(FaultPort, "port %d: at most %d", port.GetNumber(), maxPort)
		case port.GetTarget() > maxPort:
			return faulty(FaultPort, "target port %d: at most %d", port.GetTarget(), maxPort)
		}
		// One that is no label is of no use in a record, and a VM leaves it out.
		if err := checkShown("port", port.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// CheckName reports why a name is not a DNS name in the registry's spelling: lower case, no trailing dot.
// Underscores are fine: DNS has them everywhere.
func CheckName(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("is not a DNS name: longer than %d", MaxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if reason := LabelFault(label); reason != "" {
			return fmt.Errorf("is not a DNS name: %s", reason)
		}
	}
	return nil
}

func checkLabel(what, label string) error {
	if reason := LabelFault(label); reason != "" {
		return faulty(FaultName, "%s %s is not a DNS label: %s", what, quote(label), reason)
	}
	return nil
}

// LabelFault says why a label is none of a name as CheckName has it, empty where it is one.
func LabelFault(label string) string {
	switch {
	case label == "":
		return "empty label"
	case len(label) > MaxLabel:
		return fmt.Sprintf("label longer than %d", MaxLabel)
	}
	if i := notInLabel(label); i >= 0 {
		return fmt.Sprintf("character %q", label[i])
	}
	return ""
}

// notInLabel is where a character is that no label has, -1 where there is none.
func notInLabel(label string) int {
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return i
		}
	}
	return -1
}

func checkLabels(host string) error {
	if count := 1 + strings.Count(host, "."); count > MaxLabels {
		return faulty(FaultName, "host %s: has %d labels, at most %d", quote(host), count, MaxLabels)
	}
	return nil
}

// CheckText reports why a text that is only shown may not be: it is printable ASCII, and no longer than MaxText.
func CheckText(text string) error {
	switch {
	case len(text) > MaxText:
		return fmt.Errorf("is longer than %d", MaxText)
	case !printable(text):
		return errors.New("is not printable ASCII")
	}
	return nil
}

func checkShown(what, text string) error {
	if err := CheckText(text); err != nil {
		return faulty(FaultBody, "%s %s: %v", what, quote(text), err)
	}
	return nil
}

func printable(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// quote makes a string from outside safe to print, and no longer than a line.
func quote(s string) string { return fmt.Sprintf("%.300q", s) }
