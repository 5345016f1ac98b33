package vip

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// DefaultQuarantine is longer than any resolver may keep an answer, and than a VM goes on answering
	// from what it last knew in most places.
	DefaultQuarantine = 24 * time.Hour
	// DefaultPatience is how long two hosts may hold one address before one of them gets another.
	DefaultPatience = 10 * time.Second
	// DefaultMaxRecords is twice what the default IPv4 range has, as a host has two.
	DefaultMaxRecords = 130_048
)

// Options of an Allocator.
type Options struct {
	// Ranges that addresses are given from.
	Ranges Ranges
	// Quarantine is how long an address rests before another host may have it. Zero: DefaultQuarantine.
	Quarantine time.Duration
	// Patience is how long a conflict stands before an address changes: another allocator that runs
	// beside this one solves it sooner. Zero: DefaultPatience.
	Patience time.Duration
	// MaxRecords bounds the ledger, quarantine included. Beyond it no host gets a new address; none is
	// forgotten. Zero: DefaultMaxRecords.
	MaxRecords int
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Allocator decides which host has which addresses. It is not safe for concurrent use.
//
// Restore and Put everything that there is before the first Plan: an Allocator takes what it has not been
// told of for gone.
type Allocator struct {
	options      Options
	ledger       *ledger
	reservations *reservations
	claims       map[Owner]*claim
	hosts        map[string]*host

	// mentioned counts the status entries that name an address, be it for a host that is still claimed or
	// not. While there are any, nobody else is given it: the claim may come back with them.
	mentioned map[netip.Addr]int

	// dirtyHosts have to be settled, dirtyOwners have to be patched or judged anew.
	dirtyHosts  map[string]bool
	dirtyOwners map[Owner]bool
	// backlog are the hosts that the limit of a plan has left for the next ones, the eldest first, and
	// postponed is the same as a set.
	backlog   []string
	postponed map[string]bool
	// waiting are the hosts that did not get an address because there was none.
	waiting map[string]bool
	// disputes are when two hosts were first seen to hold an address, by the host that has to give in.
	disputes map[dispute]*patience
	// told is what was last said about a ServiceEntry.
	told map[Owner][]Problem
}

// host is what is claimed.
type host struct {
	name   string
	claims map[Owner]*claim
	// primary are the addresses that ServiceEntries without one are given.
	primary pair
	// problems are why it lacks an address or has a wrong one, by the ServiceEntry that they are told to.
	problems map[Owner][]Problem
}

// dispute is a host that holds an address that is another's.
type dispute struct {
	host    string
	address netip.Addr
}

// patience is how long a dispute has lasted, and whether that is too long.
type patience struct {
	since time.Time
	over  bool
}

// New is an allocator that knows of nothing.
func New(options Options) *Allocator {
	options.Quarantine = cmp.Or(options.Quarantine, DefaultQuarantine)
	options.Patience = cmp.Or(options.Patience, DefaultPatience)
	options.MaxRecords = cmp.Or(options.MaxRecords, DefaultMaxRecords)
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Allocator{
		options:      options,
		ledger:       newLedger(),
		reservations: newReservations(options.Ranges),
		claims:       map[Owner]*claim{},
		hosts:        map[string]*host{},
		mentioned:    map[netip.Addr]int{},
		dirtyHosts:   map[string]bool{},
		dirtyOwners:  map[Owner]bool{},
		postponed:    map[string]bool{},
		waiting:      map[string]bool{},
		disputes:     map[dispute]*patience{},
		told:         map[Owner][]Problem{},
	}
}

// Restore takes the ledger as it was stored. Of two records of an address the one that does not rest
// counts, else the one that was freed last. What was freed in the future, by a clock that was ahead, was freed now.
func (a *Allocator) Restore(records []Record) {
	now := a.options.Now()
	for _, record := range records {
		record.Host = canonical(record.Host)
		if record.Host == "" || !record.Address.IsValid() {
			continue
		}
		stored := record
		if record.FreedAt.After(now) {
			record.FreedAt = now
		}
		held := a.ledger.records[record.Address]
		if held != nil && (!held.Rests() || record.Rests() && !record.FreedAt.After(held.FreedAt)) {
			continue
		}
		a.ledger.put(record)
		a.dirtyHosts[record.Host] = true
		if record.Equal(stored) {
			delete(a.ledger.changed, record.Address)
		}
	}
}

// Reserve makes prefixes all that a holder, which is named for people, has as its own. Nothing of it is
// given to a host. A host that already has a single address of it gets another; one that has an address of
// a larger range keeps it, as that is no proof that anybody uses it.
func (a *Allocator) Reserve(holder string, prefixes ...netip.Prefix) {
	gone, added := a.reservations.replace(holder, prefixes)
	for _, prefix := range slices.Concat(gone, added) {
		if record := a.ledger.records[prefix.Addr()]; record != nil && prefix.IsSingleIP() {
			a.dirtyHosts[record.Host] = true
		}
	}
	if len(gone) > 0 {
		a.retry()
	}
}

// Put is the present state of a ServiceEntry.
func (a *Allocator) Put(state Claim) {
	before, next := a.claims[state.Owner], newClaim(state)
	a.replace(state.Owner, next)
	for _, name := range next.hosts {
		h := a.hosts[name]
		if h == nil {
			h = &host{name: name, claims: map[Owner]*claim{}}
			a.hosts[name] = h
		}
		h.claims[state.Owner] = next
	}
	if before != nil {
		a.heed(before, next)
	}
	a.claims[state.Owner] = next
	a.dirtyOwners[state.Owner] = true
}

// heed gives hosts back the addresses that somebody has written into a status since it was last seen, although
// they were taken from these hosts before. To undo that would be a duel with another allocator. What a status
// has said all the while is another matter: it is what a claim left behind.
func (a *Allocator) heed(before, next *claim) {
	for _, entry := range next.Status {
		record := a.ledger.records[entry.Address]
		if record == nil || record.InUse() || record.Host != canonical(entry.Host) || !next.wants(record.Host) {
			continue
		}
		if !slices.Contains(before.Status, entry) {
			a.ledger.put(record.revived())
		}
	}
}

// Remove says that a ServiceEntry is gone.
func (a *Allocator) Remove(owner Owner) {
	a.replace(owner, nil)
	delete(a.claims, owner)
	delete(a.told, owner)
	delete(a.dirtyOwners, owner)
}

// Retry has the status of a ServiceEntry looked at again, because it could not be written.
func (a *Allocator) Retry(owner Owner) {
	if a.claims[owner] != nil {
		a.dirtyOwners[owner] = true
	}
}

// replace takes a claim away from all hosts that it was of, and marks those and the next one's.
func (a *Allocator) replace(owner Owner, next *claim) {
	if before := a.claims[owner]; before != nil {
		defer a.unmention(before.Status)
		for _, name := range before.hosts {
			if h := a.hosts[name]; h != nil {
				delete(h.claims, owner)
				if len(h.claims) == 0 && (next == nil || !next.wants(name)) {
					delete(a.hosts, name)
				}
			}
			a.dirtyHosts[name] = true
		}
	}
	if next != nil {
		for _, entry := range next.Status {
			a.mentioned[entry.Address]++
			a.ledger.rouse(entry.Address)
		}
		for _, name := range next.hosts {
			a.dirtyHosts[name] = true
		}
	}
}

// unmention notes that a status no longer names addresses.
func (a *Allocator) unmention(status []HostAddress) {
	for _, entry := range status {
		if a.mentioned[entry.Address]--; a.mentioned[entry.Address] > 0 {
			continue
		}
		delete(a.mentioned, entry.Address)
		if record := a.ledger.records[entry.Address]; record != nil && record.Retired {
			a.dirtyHosts[record.Host] = true
		}
	}
}

// retry has the hosts that wait for an address try again.
func (a *Allocator) retry() {
	for name := range a.waiting {
		a.dirtyHosts[name] = true
	}
}

// Wake is when Plan has something to do that nothing but time brings: the end of a quarantine that somebody
// waits for, or of a conflict's patience. Zero: nothing.
func (a *Allocator) Wake() time.Time {
	var wake time.Time
	sooner := func(at time.Time) {
		if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	if len(a.ledger.freed) > 0 {
		sooner(a.ledger.freed[0].at.Add(a.options.Quarantine))
	}
	for _, patience := range a.disputes {
		if !patience.over {
			sooner(patience.since.Add(a.options.Patience))
		}
	}
	return wake
}

// Records are the whole ledger, in order of the addresses.
func (a *Allocator) Records() []Record {
	records := make([]Record, 0, len(a.ledger.records))
	for _, address := range slices.SortedFunc(maps.Keys(a.ledger.records), netip.Addr.Compare) {
		records = append(records, *a.ledger.records[address])
	}
	return records
}
