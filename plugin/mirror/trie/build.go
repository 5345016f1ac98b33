package trie

// Build is a map of many keys, made at once: it is the map that Put would make one by one, at a fraction
// of the cost. There are count of them; key and value say what the i-th is, and value is asked for once. Where a
// key comes again, join says what the two values make; the map holds the key that came first.
func Build[K comparable, V any](hash func(K) uint64, count int, key func(i int) K, value func(i int) V, join func(held, added V) V) Map[K, V] {
	b := builder[K, V]{key: key, value: value, join: join, size: count}
	items, spare := make([]hashed, count), make([]hashed, count)
	for i := range items {
		items[i] = hashed{hash(key(i)), i}
	}
	if count == 0 {
		return New[K, V](hash)
	}
	root := b.node(items, spare, 0)
	return Map[K, V]{root: root, size: b.size, hash: hash}
}

type builder[K comparable, V any] struct {
	key   func(i int) K
	value func(i int) V
	join  func(held, added V) V
	size  int
}

// hashed is an item by its number.
type hashed struct {
	hash uint64
	item int
}

func (b *builder[K, V]) entry(item int) entry[K, V] {
	return entry[K, V]{b.key(item), b.value(item)}
}

// node is the node of some items at a depth. It puts them in order of their places, with spare to write
// to.
func (b *builder[K, V]) node(items, spare []hashed, shift uint) *node[K, V] {
	if shift >= hashBits {
		return b.sameHash(items)
	}
	const fan = 1 << fanBits
	var counts, ends [fan]int
	for _, item := range items {
		counts[item.hash>>shift&(fan-1)]++
	}
	end, lone, forks := 0, 0, 0
	for place, count := range counts {
		ends[place] = end
		end += count
		switch {
		case count == 1:
			lone++
		case count > 1:
			forks++
		}
	}
	for _, item := range items {
		place := item.hash >> shift & (fan - 1)
		spare[ends[place]] = item
		ends[place]++
	}
	n := &node[K, V]{}
	if lone > 0 {
		n.entries = make([]entry[K, V], 0, lone)
	}
	if forks > 0 {
		n.children = make([]*node[K, V], 0, forks)
	}
	for place, count := range counts {
		start, end := ends[place]-count, ends[place]
		switch {
		case count == 0:
		case count == 1:
			n.places |= 1 << place
			n.entries = append(n.entries, b.entry(spare[start].item))
		default:
			child := b.node(spare[start:end], items[start:end], shift+fanBits)
			if len(child.entries) == 1 && len(child.children) == 0 {
				// One key that came several times.
				n.places |= 1 << place
				n.entries = append(n.entries, child.entries[0])
				continue
			}
			n.forks |= 1 << place
			n.children = append(n.children, child)
		}
	}
	if len(n.children) != cap(n.children) {
		n.children = exact(n.children)
	}
	if len(n.entries) != cap(n.entries) {
		n.entries = exact(n.entries)
	}
	return n
}

func (b *builder[K, V]) sameHash(items []hashed) *node[K, V] {
	n := &node[K, V]{}
next:
	for _, item := range items {
		added := b.entry(item.item)
		for i := range n.entries {
			if held := &n.entries[i]; held.key == added.key {
				held.value = b.join(held.value, added.value)
				b.size--
				continue next
			}
		}
		n.entries = append(n.entries, added)
	}
	n.entries = exact(n.entries)
	return n
}
