package registryv1

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Digest is the digest of a set of resources: the sum, modulo 2^64, of the digests of its members.
// It does not depend on order, and a member is added or taken away in constant time. The zero value
// is the digest of the empty set.
//
// It finds divergence between two ends that trust each other; it is no defence against forgery.
type Digest uint64

// DigestResource digests one resource: its key and the bytes of its body. Both ends must feed it
// the bytes that travelled, never an encoding of their own.
func DigestResource(key string, body []byte) Digest {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(key)))
	h := xxhash.New()
	// The length in front keeps a key's tail from passing for a body's head.
	h.Write(length[:])
	h.WriteString(key)
	h.Write(body)
	return Digest(h.Sum64())
}

// Add puts a member into the set.
func (d *Digest) Add(member Digest) { *d += member }

// Remove takes a member out of the set.
func (d *Digest) Remove(member Digest) { *d -= member }

// Short is the half of a digest that a Compare says. Halves add up as digests do, modulo 2^32.
func (d Digest) Short() uint32 { return uint32(d) }
