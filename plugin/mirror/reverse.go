package mirror

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

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

// join is the pointers with one more name, that of pointers which have no other.
func (p pointers) join(added pointers) pointers {
	r := rankServiceEntry
	switch {
	case added.clusterIPs > 0:
		r = rankClusterIP
	case added.endpoints > 0:
		r = rankEndpoint
	}
	return p.with(r, added.names[0])
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
	if len(before) > 0 {
		// In order, and each once, so that the two can be held against each other.
		before, after = sortedPointers(before), sortedPointers(after)
	}
	e.replacePointers(before, after)
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

// replacePointers takes out what is only in before and enters what is only in after, both sorted unless
// before is empty.
func (e *edit) replacePointers(before, after []pointer) {
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
		switch {
		case order < 0:
			e.editPointers(before[0], pointers.without)
			before = before[1:]
		case order > 0:
			e.editPointers(after[0], pointers.with)
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
}

func (e *edit) editPointers(p pointer, change func(pointers, rank, string) pointers) {
	held, _ := e.pointers.Get(p.address)
	held = change(held, p.rank, p.name)
	if len(held.names) == 0 {
		e.pointers.Delete(p.address)
		return
	}
	e.pointers.Put(p.address, held)
}
