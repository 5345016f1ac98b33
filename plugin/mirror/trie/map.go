// Package trie holds a persistent hash map: every version of it is immutable, and a new version shares
// all but the path to what changed with the one that it came from.
//
// It is a compressed hash-array mapped prefix trie after Steindorfer and Vinju, "Optimizing Hash-Array
// Mapped Tries for Fast and Lean Immutable JVM Collections" (OOPSLA 2015): a node keeps its entries and
// its children apart, each exactly as many as a bitmap says. Reading takes no lock and allocates
// nothing. An Editor changes many entries and copies each node at most once.
package trie

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

const (
	// fanBits of the hash choose one of 32 places in a node.
	fanBits = 5
	// hashBits is where the hash is used up. Nodes below hold keys of one hash, in no order.
	hashBits = 64
)

// Map is one immutable version of a map. Copies are cheap and share everything. It is safe for
// concurrent use. The zero value has no hash function: begin with New.
type Map[K comparable, V any] struct {
	root *node[K, V]
	size int
	hash func(K) uint64
}

// New is an empty map. The hash must be equal for equal keys.
func New[K comparable, V any](hash func(K) uint64) Map[K, V] {
	return Map[K, V]{hash: hash}
}

// seed makes hashes differ from process to process, so that nobody can choose names that collide.
var seed = maphash.MakeSeed()

// HashString hashes a string for New.
func HashString(key string) uint64 { return maphash.String(seed, key) }

// HashComparable hashes any comparable key for New.
func HashComparable[K comparable](key K) uint64 { return maphash.Comparable(seed, key) }

// node holds entries and children at the places that the two bitmaps name; no place is in both. Below
// hashBits both bitmaps are empty and the entries stand in no order.
type node[K comparable, V any] struct {
	// owner is the Editor that may change the node in place, if it is still at work.
	owner    uint64
	places   uint32 // of entries
	forks    uint32 // of children
	entries  []entry[K, V]
	children []*node[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// place is the bit of a hash's place in a node at the given depth.
func place(hash uint64, shift uint) uint32 { return 1 << (hash >> shift & (1<<fanBits - 1)) }

// index is where the item of a place stands among those that the bitmap names.
func index(bitmap, place uint32) int { return bits.OnesCount32(bitmap & (place - 1)) }

// Len is the number of keys.
func (m *Map[K, V]) Len() int { return m.size }

// Get finds a key's value.
func (m *Map[K, V]) Get(key K) (value V, found bool) {
	n := m.root
	if n == nil {
		return value, false
	}
	hash := m.hash(key)
	for shift := uint(0); shift < hashBits; shift += fanBits {
		place := place(hash, shift)
		if n.places&place != 0 {
			e := &n.entries[index(n.places, place)]
			if e.key == key {
				return e.value, true
			}
			return value, false
		}
		if n.forks&place == 0 {
			return value, false
		}
		n = n.children[index(n.forks, place)]
	}
	for i := range n.entries {
		if n.entries[i].key == key {
			return n.entries[i].value, true
		}
	}
	return value, false
}

// All yields every key and value once, in no particular order.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.each(yield)
		}
	}
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	for i := range n.entries {
		if !yield(n.entries[i].key, n.entries[i].value) {
			return false
		}
	}
	for _, child := range n.children {
		if !child.each(yield) {
			return false
		}
	}
	return true
}
