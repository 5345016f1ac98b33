package mirror

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// decodeBody decodes a resource's body. Kinds that this version does not know decode to a Body without
// any: they are kept for the digest and answer nothing.
func decodeBody(encoded []byte) (*registryv1.Body, error) {
	body := &registryv1.Body{}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(encoded, body); err != nil {
		return nil, fmt.Errorf("decode body: %w", err)
	}
	return body, nil
}

// checkBody reports what of a body could not be answered.
func checkBody(body *registryv1.Body) error {
	switch {
	case body.GetService() != nil:
		return checkService(body.GetService())
	case body.GetEndpointSlice() != nil:
		return checkEndpointSlice(body.GetEndpointSlice())
	case body.GetNamespace() != nil:
		return checkLabel("namespace", body.GetNamespace().GetName())
	}
	return nil
}

func checkService(s *registryv1.Service) error {
	if err := checkName(strings.TrimPrefix(s.GetHost(), registryv1.WildcardPrefix)); err != nil {
		return fmt.Errorf("host %s: %w", quote(s.GetHost()), err)
	}
	if len(s.GetHost()) > maxName {
		return fmt.Errorf("host %s: %w", quote(s.GetHost()), errNameLength)
	}
	if s.GetExternalName() != "" {
		if err := checkName(s.GetExternalName()); err != nil {
			return fmt.Errorf("external name %s of host %s: %w", quote(s.GetExternalName()), quote(s.GetHost()), err)
		}
	}
	if err := checkAddresses(s.GetAddresses()); err != nil {
		return fmt.Errorf("host %s: %w", quote(s.GetHost()), err)
	}
	return nil
}

func checkEndpointSlice(s *registryv1.EndpointSlice) error {
	if s.GetNamespace() == "" || s.GetService() == "" {
		return errors.New("endpoint slice names no service")
	}
	for i, endpoint := range s.GetEndpoints() {
		if endpoint.GetHostname() != "" {
			if err := checkLabel("hostname", endpoint.GetHostname()); err != nil {
				return fmt.Errorf("endpoint %d: %w", i, err)
			}
		}
		if endpoint.GetName() != "" {
			if err := checkName(endpoint.GetName()); err != nil {
				return fmt.Errorf("endpoint %d: name %s: %w", i, quote(endpoint.GetName()), err)
			}
		}
		if err := checkAddresses(endpoint.GetAddresses()); err != nil {
			return fmt.Errorf("endpoint %d: %w", i, err)
		}
	}
	return nil
}

func checkAddresses(addresses [][]byte) error {
	for _, address := range addresses {
		if len(address) != 4 && len(address) != 16 {
			return fmt.Errorf("address of %d bytes: want 4 or 16", len(address))
		}
	}
	return nil
}

// address is an address as it travels. IPv4 in sixteen bytes is IPv4.
func address(encoded []byte) netip.Addr {
	decoded, _ := netip.AddrFromSlice(encoded)
	return decoded.Unmap()
}

// Limits of RFC 1035, section 2.3.4, for a name in text without the trailing dot.
const (
	maxName  = 253
	maxLabel = 63
)

var errNameLength = fmt.Errorf("is not a DNS name: longer than %d", maxName)

// checkName reports why a name is not a DNS name in the registry's spelling: lower case, no trailing
// dot.
func checkName(name string) error {
	if len(name) > maxName {
		return errNameLength
	}
	for label := range strings.SplitSeq(name, ".") {
		if reason := labelFault(label); reason != "" {
			return fmt.Errorf("is not a DNS name: %s", reason)
		}
	}
	return nil
}

func checkLabel(what, label string) error {
	if reason := labelFault(label); reason != "" {
		return fmt.Errorf("%s %s is not a DNS label: %s", what, quote(label), reason)
	}
	return nil
}

// labelFault says what is wrong with a label. Underscores are fine: DNS has them everywhere.
func labelFault(label string) string {
	switch {
	case label == "":
		return "empty label"
	case len(label) > maxLabel:
		return fmt.Sprintf("label longer than %d", maxLabel)
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Sprintf("character %q", c)
		}
	}
	return ""
}

// quote makes a string from outside safe to print, and no longer than a line.
func quote(s string) string { return fmt.Sprintf("%.300q", s) }
