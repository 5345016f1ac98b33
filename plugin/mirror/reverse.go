package mirror

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/plugin/mirror/trie"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// rank orders what an address points back to, the strongest first.
type rank int

const (
	rankClusterIP rank = iota
	rankEndpoint
	rankServiceEntry
)

func rankOf(h *Host) rank {
	switch {
	case h.isEndpoint():
		return rankEndpoint
	case h.Origin == registryv1.Origin_ORIGIN_SERVICE_ENTRY:
		return rankServiceEntry
	default:
		return rankClusterIP
	}
}

// pointers are the names that one address points back to. They are immutable.
type pointers struct {
	// names are in order of rank, then name; but those of cluster IPs run backwards, so that the first
	// of them and all that follow are one slice: of Services with one cluster IP only the first counts.
	names []string
	// How many names are of the first two ranks.
	clusterIPs, endpoints int32
}

// answer is the names that count.
func (p *pointers) answer() []string {
	names := p.names
	if p.clusterIPs > 1 {
		names = names[p.clusterIPs-1:]
	}
	return slices.Clip(names)
}

// find is where a name of a rank stands, or would.
func (p *pointers) find(r rank, name string) (int, bool) {
	start, end, compare := 0, int(p.clusterIPs), backwards
	switch r {
	case rankEndpoint:
		start, end, compare = end, end+int(p.endpoints), strings.Compare
	case rankServiceEntry:
		start, end, compare = end+int(p.endpoints), len(p.names), strings.Compare
	}
	i, found := slices.BinarySearchFunc(p.names[start:end], name, compare)
	return start + i, found
}

func backwards(a, b string) int { return strings.Compare(b, a) }

// count changes the number of names of a rank.
func (p *pointers) count(r rank, change int32) {
	switch r {
	case rankClusterIP:
		p.clusterIPs += change
	case rankEndpoint:
		p.endpoints += change
	}
}

// with and without are the pointers with one more name, or one less.

func (p pointers) with(r rank, name string) pointers {
	i, found := p.find(r, name)
	if found {
		return p
	}
	names := make([]string, 0, len(p.names)+1)
	names = append(names, p.names[:i]...)
	names = append(names, name)
	p.names = append(names, p.names[i:]...)
	p.count(r, 1)
	return p
}

func (p pointers) without(r rank, name string) pointers {
	i, found := p.find(r, name)
	if !found {
		return p
	}
	p.names = slices.Concat(p.names[:i], p.names[i+1:])
	p.count(r, -1)
	return p
}

// pointersOf is the pointers of one address from a list that is sorted, each once.
func pointersOf(list []pointer) pointers {
	p := pointers{names: make([]string, len(list))}
	for _, from := range list {
		p.count(from.rank, 1)
	}
	for i, from := range list {
		if from.rank == rankClusterIP {
			i = int(p.clusterIPs) - 1 - i
		}
		p.names[i] = from.name
	}
	return p
}

// list is the pointers of an address as a sorted list, each once.
func (p *pointers) list(address netip.Addr) []pointer {
	list := make([]pointer, len(p.names))
	for i, name := range p.names {
		switch {
		case i < int(p.clusterIPs):
			list[int(p.clusterIPs)-1-i] = pointer{address, rankClusterIP, name}
		case i < int(p.clusterIPs+p.endpoints):
			list[i] = pointer{address, rankEndpoint, name}
		default:
			list[i] = pointer{address, rankServiceEntry, name}
		}
	}
	return list
}

// pointer is one address that points back to one name.
type pointer struct {
	address netip.Addr
	rank    rank
	name    string
}

func comparePointers(a, b pointer) int {
	return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.rank, b.rank), strings.Compare(a.name, b.name))
}

// pointBack brings the pointers up to date with the hosts that changed.
func (e *edit) pointBack(changes []hostChange) {
	var before, after []pointer
	for _, change := range e.withShadowed(changes) {
		before = appendPointers(before, change.before, &e.base.hosts)
		after = appendPointers(after, change.after, &e.hosts)
	}
	e.replacePointers(sortedPointers(before), sortedPointers(after))
}

// withShadowed adds the endpoints of headless Services whose name became, or is no longer, that of a
// host of its own: what such a name answers changed without its Service being touched.
func (e *edit) withShadowed(changes []hostChange) []hostChange {
	for _, change := range changes {
		host := cmp.Or(change.before, change.after)
		if change.before != nil && change.after != nil || host == nil || host.isEndpoint() || host.isWildcard() {
			continue
		}
		for label, service := range splits(host.host(), e.dots) {
			was, _ := e.base.glanceAt(service, &e.decoder)
			changes = append(changes, hostChange{was.endpoint(label), e.built(service).endpoint(label)})
		}
	}
	return changes
}

// appendPointers appends what points back to a host, which may be nil, where exact are all hosts of
// their own. A wildcard is no name. Nothing points back to a headless Service itself: its endpoints have
// names, unless a host of its own answers there.
func appendPointers(list []pointer, host *Host, exact interface{ Get(string) (*claimed, bool) }) []pointer {
	if host == nil || host.Headless || host.isWildcard() {
		return list
	}
	if host.isEndpoint() {
		if _, shadowed := exact.Get(host.host()); shadowed {
			return list
		}
	}
	for address := range host.addresses {
		list = append(list, pointer{address, rankOf(host), host.host()})
	}
	return list
}

// sortedPointers is the list in order, each once.
func sortedPointers(list []pointer) []pointer {
	slices.SortFunc(list, comparePointers)
	return slices.Compact(list)
}

// replacePointers takes out what is only in before and enters what is only in after, both sorted and each once. It
// takes all of an address together: thousands of hosts may share one.
func (e *edit) replacePointers(before, after []pointer) {
	var gone, come []pointer
	edit := func() {
		if len(gone)+len(come) > 0 {
			e.editPointers(gone, come)
		}
		gone, come = gone[:0], come[:0]
	}
	var address netip.Addr
	for len(before) > 0 || len(after) > 0 {
		var order int
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = comparePointers(before[0], after[0])
		}
		var next pointer
		if order <= 0 {
			next, before = before[0], before[1:]
		}
		if order >= 0 {
			next, after = after[0], after[1:]
		}
		if next.address != address {
			edit()
			address = next.address
		}
		switch {
		case order < 0:
			gone = append(gone, next)
		case order > 0:
			come = append(come, next)
		}
	}
	edit()
}

// editPointers takes pointers of one address out and enters others, both sorted and each once.
func (e *edit) editPointers(gone, come []pointer) {
	address := slices.Concat(gone, come)[0].address
	held, _ := e.pointers.Get(address)
	if len(gone)+len(come) <= fewPointers {
		for _, p := range gone {
			held = held.without(p.rank, p.name)
		}
		for _, p := range come {
			held = held.with(p.rank, p.name)
		}
	} else {
		stays := slices.DeleteFunc(held.list(address), func(p pointer) bool {
			_, found := slices.BinarySearchFunc(gone, p, comparePointers)
			return found
		})
		held = pointersOf(sortedPointers(append(stays, come...)))
	}
	if len(held.names) == 0 {
		e.pointers.Delete(address)
		return
	}
	e.pointers.Put(address, held)
}

// fewPointers are entered or taken out one by one: each costs a copy of all names of its address.
const fewPointers = 4

// manyCopies is how many names indexPointers copies before it goes about it in another way.
const manyCopies = 1 << 20

// indexOf is the pointers by address. Few addresses have more than one name, so these are entered one by one; unless
// there turn out to be many, for each costs a copy of those before.
func indexOf(list []pointer) trie.Map[netip.Addr, pointers] {
	copies := 0
	index := trie.Build(trie.HashComparable[netip.Addr], len(list),
		func(i int) netip.Addr { return list[i].address },
		func(i int) pointers { return pointersOf(list[i : i+1]) },
		func(held, added pointers) pointers {
			if copies += len(held.names); copies > manyCopies {
				return held
			}
			return held.with(added.only())
		})
	if copies <= manyCopies {
		return index
	}
	list = sortedPointers(list)
	var ends []int // of the pointers of each address
	for i := range list {
		if i+1 == len(list) || list[i].address != list[i+1].address {
			ends = append(ends, i+1)
		}
	}
	return trie.Build(trie.HashComparable[netip.Addr], len(ends),
		func(i int) netip.Addr { return list[ends[i]-1].address },
		func(i int) pointers {
			if i == 0 {
				return pointersOf(list[:ends[0]])
			}
			return pointersOf(list[ends[i-1]:ends[i]])
		},
		func(held, _ pointers) pointers { return held })
}

// only is rank and name of pointers that have just one.
func (p *pointers) only() (rank, string) {
	switch {
	case p.clusterIPs > 0:
		return rankClusterIP, p.names[0]
	case p.endpoints > 0:
		return rankEndpoint, p.names[0]
	}
	return rankServiceEntry, p.names[0]
}
