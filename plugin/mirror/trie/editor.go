package trie

import "sync/atomic"

// Editor makes a new version of a map. The version that it began with never changes. It reads what it
// has written. It is for one goroutine.
type Editor[K comparable, V any] struct {
	next  Map[K, V]
	owner uint64
}

// owners counts Editors, so that each one knows the nodes that it made itself.
var owners atomic.Uint64

// Edit begins a new version.
func (m *Map[K, V]) Edit() Editor[K, V] {
	return Editor[K, V]{next: *m, owner: owners.Add(1)}
}

// Map is the map as edited so far. It is immutable: the Editor may go on, and copies again what it
// touches.
func (e *Editor[K, V]) Map() Map[K, V] {
	e.owner = owners.Add(1)
	return e.next
}

// Len is the number of keys.
func (e *Editor[K, V]) Len() int { return e.next.size }

// Get finds a key's value.
func (e *Editor[K, V]) Get(key K) (V, bool) { return e.next.Get(key) }

// Put sets a key's value. The map holds this very key afterwards, also where it held an equal one.
func (e *Editor[K, V]) Put(key K, value V) {
	added := entry[K, V]{key, value}
	if e.next.root == nil {
		e.next.root = &node[K, V]{owner: e.owner}
	}
	e.next.root = e.put(e.next.root, 0, e.next.hash(key), added)
}

func (e *Editor[K, V]) put(n *node[K, V], shift uint, hash uint64, added entry[K, V]) *node[K, V] {
	if shift >= hashBits {
		return e.putSameHash(n, added)
	}
	place := place(hash, shift)
	switch {
	case n.forks&place != 0:
		i := index(n.forks, place)
		child := e.put(n.children[i], shift+fanBits, hash, added)
		if child != n.children[i] {
			n = e.own(n)
			n.children[i] = child
		}
		return n
	case n.places&place == 0:
		e.next.size++
		n = e.ownChildren(n)
		n.entries = insert(n.entries, index(n.places, place), added)
		n.places |= place
		return n
	}
	i := index(n.places, place)
	held := n.entries[i]
	if held.key == added.key {
		n = e.own(n)
		n.entries[i] = added
		return n
	}
	// Two keys want one place: both move into a new child.
	child := &node[K, V]{owner: e.owner}
	child = e.put(child, shift+fanBits, e.next.hash(held.key), held)
	child = e.put(child, shift+fanBits, hash, added)
	e.next.size-- // held was counted twice
	n = e.ownNothing(n)
	n.entries = remove(n.entries, i)
	n.places &^= place
	n.children = insert(n.children, index(n.forks, place), child)
	n.forks |= place
	return n
}

func (e *Editor[K, V]) putSameHash(n *node[K, V], added entry[K, V]) *node[K, V] {
	n = e.own(n)
	for i := range n.entries {
		if n.entries[i].key == added.key {
			n.entries[i] = added
			return n
		}
	}
	e.next.size++
	n.entries = insert(n.entries, len(n.entries), added)
	return n
}

// Delete removes a key and reports whether it was there.
func (e *Editor[K, V]) Delete(key K) bool {
	if e.next.root == nil {
		return false
	}
	root, found := e.delete(e.next.root, 0, e.next.hash(key), key)
	if !found {
		return false
	}
	e.next.size--
	if e.next.root = root; e.next.size == 0 {
		e.next.root = nil
	}
	return true
}

func (e *Editor[K, V]) delete(n *node[K, V], shift uint, hash uint64, key K) (*node[K, V], bool) {
	if shift >= hashBits {
		for i := range n.entries {
			if n.entries[i].key == key {
				n = e.ownChildren(n)
				n.entries = remove(n.entries, i)
				return n, true
			}
		}
		return n, false
	}
	place := place(hash, shift)
	if n.places&place != 0 {
		i := index(n.places, place)
		if n.entries[i].key != key {
			return n, false
		}
		n = e.ownChildren(n)
		n.entries = remove(n.entries, i)
		n.places &^= place
		return n, true
	}
	if n.forks&place == 0 {
		return n, false
	}
	i := index(n.forks, place)
	child, found := e.delete(n.children[i], shift+fanBits, hash, key)
	if !found {
		return n, false
	}
	if len(child.entries) == 1 && len(child.children) == 0 {
		n = e.ownNothing(n)
		// A lone entry stands in its parent, so what a map holds alone decides its shape.
		n.children = remove(n.children, i)
		n.forks &^= place
		n.entries = insert(n.entries, index(n.places, place), child.entries[0])
		n.places |= place
		return n, true
	}
	if child != n.children[i] {
		n = e.own(n)
		n.children[i] = child
	}
	return n, true
}

// own is the node itself where this Editor made it, else a copy that this Editor may change.
func (e *Editor[K, V]) own(n *node[K, V]) *node[K, V] {
	if n.owner == e.owner {
		return n
	}
	return e.with(n, exact(n.entries), exact(n.children))
}

// ownChildren and ownNothing are own for a caller that replaces the entries, or both slices: it does not
// copy them. Slices of an owned node are owned, so one that is still shared must be replaced at once.

func (e *Editor[K, V]) ownChildren(n *node[K, V]) *node[K, V] {
	if n.owner == e.owner {
		return n
	}
	return e.with(n, n.entries, exact(n.children))
}

func (e *Editor[K, V]) ownNothing(n *node[K, V]) *node[K, V] {
	if n.owner == e.owner {
		return n
	}
	return e.with(n, n.entries, n.children)
}

func (e *Editor[K, V]) with(n *node[K, V], entries []entry[K, V], children []*node[K, V]) *node[K, V] {
	return &node[K, V]{owner: e.owner, places: n.places, forks: n.forks, entries: entries, children: children}
}

// exact, insert and remove make slices of just the size that is needed; nothing is kept in reserve.

func exact[T any](items []T) []T {
	if len(items) == 0 {
		return nil
	}
	copied := make([]T, len(items))
	copy(copied, items)
	return copied
}

func insert[T any](items []T, i int, item T) []T {
	longer := make([]T, len(items)+1)
	copy(longer, items[:i])
	longer[i] = item
	copy(longer[i+1:], items[i:])
	return longer
}

func remove[T any](items []T, i int) []T {
	if len(items) == 1 {
		return nil
	}
	shorter := make([]T, len(items)-1)
	copy(shorter, items[:i])
	copy(shorter[i:], items[i+1:])
	return shorter
}
