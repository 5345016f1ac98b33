package kubernetes

import (
	"maps"
	"net/netip"
	"sync"

	"github.com/meshvm/meshvm/syncer/vip"
)

// view is what the informers have told of the cluster, and what of it is news. It is safe for concurrent
// use.
type view struct {
	ranges vip.Ranges
	// wake says that there is news.
	wake chan struct{}

	mu      sync.Mutex
	entries map[vip.Owner]*entry
	// reserved are the prefixes that holders have within the ranges.
	reserved map[holder][]netip.Prefix

	dirtyEntries map[vip.Owner]bool
	dirtyHolders map[holder]bool
	retried      map[vip.Owner]bool
}

// holder is an object that has addresses of its own.
type holder struct{ kind, namespace, name string }

// String names it for people.
func (h holder) String() string {
	if h.namespace == "" {
		return h.kind + " " + h.name
	}
	return h.kind + " " + h.namespace + "/" + h.name
}

// changes are news. An entry that is nil is gone.
type changes struct {
	entries  map[vip.Owner]*entry
	reserved map[holder][]netip.Prefix
	retried  map[vip.Owner]bool
}

func newView(ranges vip.Ranges) *view {
	return &view{
		ranges:       ranges,
		wake:         make(chan struct{}, 1),
		entries:      map[vip.Owner]*entry{},
		reserved:     map[holder][]netip.Prefix{},
		dirtyEntries: map[vip.Owner]bool{},
		dirtyHolders: map[holder]bool{},
		retried:      map[vip.Owner]bool{},
	}
}

// putEntry takes the present state of a ServiceEntry. Of one that cannot be read, its last good spec stays.
func (v *view) putEntry(e *entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	owner := e.owner()
	if before := v.entries[owner]; e.fault != nil && before != nil && before.UID == e.UID {
		kept := *e
		kept.hosts, kept.literals = before.hosts, before.literals
		e = &kept
	}
	v.entries[owner] = e
	v.dirtyEntries[owner] = true
	v.reserve(literalsOf(owner), e.literals)
	v.signal()
}

func (v *view) removeEntry(owner vip.Owner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget(owner)
	v.signal()
}

// retainEntries removes all but some.
func (v *view) retainEntries(kept func(vip.Owner) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for owner := range v.entries {
		if !kept(owner) {
			v.forget(owner)
		}
	}
	v.signal()
}

func (v *view) forget(owner vip.Owner) {
	delete(v.entries, owner)
	v.dirtyEntries[owner] = true
	v.reserve(literalsOf(owner), nil)
}

func literalsOf(owner vip.Owner) holder {
	return holder{kindEntry, owner.Namespace, owner.Name}
}

// putHolder makes prefixes all that an object has as its own.
func (v *view) putHolder(h holder, prefixes []netip.Prefix) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reserve(h, prefixes)
	v.signal()
}

// reserve keeps what concerns the ranges.
func (v *view) reserve(h holder, prefixes []netip.Prefix) {
	var within []netip.Prefix
	for _, prefix := range prefixes {
		if len(v.ranges.Overlapping(prefix)) > 0 {
			within = append(within, prefix)
		}
	}
	if _, had := v.reserved[h]; !had && len(within) == 0 {
		return
	}
	if len(within) == 0 {
		delete(v.reserved, h)
	} else {
		v.reserved[h] = within
	}
	v.dirtyHolders[h] = true
}

// retry has a ServiceEntry looked at again.
func (v *view) retry(owner vip.Owner) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.retried[owner] = true
	v.signal()
}

func (v *view) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// take is what is new since the last time.
func (v *view) take() changes {
	v.mu.Lock()
	defer v.mu.Unlock()
	news := changes{
		entries:  make(map[vip.Owner]*entry, len(v.dirtyEntries)),
		reserved: make(map[holder][]netip.Prefix, len(v.dirtyHolders)),
		retried:  v.retried,
	}
	for owner := range v.dirtyEntries {
		news.entries[owner] = v.entries[owner]
	}
	for h := range v.dirtyHolders {
		news.reserved[h] = v.reserved[h]
	}
	v.settle()
	return news
}

// all is everything, as if it were new.
func (v *view) all() changes {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settle()
	return changes{entries: maps.Clone(v.entries), reserved: maps.Clone(v.reserved)}
}

func (v *view) settle() {
	v.dirtyEntries, v.dirtyHolders, v.retried = map[vip.Owner]bool{}, map[holder]bool{}, map[vip.Owner]bool{}
}
