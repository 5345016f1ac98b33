package mirror

import (
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
		// The library writes a space that does not break into some of its texts, so that nobody relies on them.
		reason := strings.ReplaceAll(err.Error(), "\u00a0", " ")
		return nil, &registryv1.ResourceError{Fault: registryv1.FaultBody, Detail: "decode body: " + reason}
	}
	return body, nil
}

// address is an address as it travels. IPv4 in sixteen bytes is IPv4.
func address(encoded []byte) netip.Addr {
	decoded, _ := netip.AddrFromSlice(encoded)
	return decoded.Unmap()
}

// quote makes a string from outside safe to print, and no longer than a line.
func quote(s string) string { return fmt.Sprintf("%.300q", s) }
