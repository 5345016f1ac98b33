package mirror

import (
	"fmt"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// MaxBytes bounds what a mirror holds: the bytes of keys and bodies, with an allowance for each resource and each
// address. It is some seven times what a registry of 100,000 Services takes. A syncer that has more to say is out
// of its mind, and the machine has other things to do.
const MaxBytes = 256 << 20

const (
	// resourceOverhead and addressOverhead are about what a resource and an address cost beyond their own bytes.
	resourceOverhead = 64
	addressOverhead  = 64
)

// bodyDecoder is a *decoder, or general.
type bodyDecoder interface {
	decode(encoded string) (*registryv1.Body, error)
}

// general decodes bodies that may be kept.
type general struct{}

func (general) decode(encoded string) (*registryv1.Body, error) { return decodeBody([]byte(encoded)) }

// check decodes a resource and holds it to the rules. Every error is a *registryv1.ResourceError.
func check(decoder bodyDecoder, key, encoded string) (*registryv1.Body, error) {
	if err := registryv1.CheckEncoded(key, len(encoded)); err != nil {
		return nil, err
	}
	body, err := decoder.decode(encoded)
	if err != nil {
		return nil, err
	}
	return body, registryv1.CheckBody(body)
}

// sizeOf is about what a resource takes, by its key and body in one piece and what that decodes to.
func sizeOf(text string, body *registryv1.Body) int {
	addresses := len(body.GetService().GetAddresses())
	for _, endpoint := range body.GetEndpointSlice().GetEndpoints() {
		addresses += len(endpoint.GetAddresses())
	}
	return len(text) + resourceOverhead + addresses*addressOverhead
}

func checkSize(size int) error {
	if size > MaxBytes {
		return &registryv1.ResourceError{Fault: registryv1.FaultSize, Detail: fmt.Sprintf("the view takes %d bytes: at most %d", size, MaxBytes)}
	}
	return nil
}
