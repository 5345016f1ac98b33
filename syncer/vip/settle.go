package vip

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// settle decides about the hosts that have changed, the eldest first. Those that would get a new address
// beyond the limit are left for the next time.
func (a *Allocator) settle(now time.Time, limit int) {
	// What is held is claimed before anything is given, so that nothing is given that somebody has.
	pending := map[string]bool{}
	for len(a.dirtyHosts) > 0 {
		round := a.dirtyHosts
		a.dirtyHosts = map[string]bool{}
		for _, name := range a.byAge(round) {
			pending[name] = true
			a.recognize(name, now)
		}
	}
	exhausted := map[family]bool{}
	var left []string
	for _, name := range a.byAge(pending) {
		if h := a.hosts[name]; h != nil && limit <= 0 && a.lacks(h) {
			if !a.postponed[name] {
				left = append(left, name)
			}
			continue
		}
		limit -= a.settleHost(name, now, exhausted)
	}
	for limit > 0 && len(a.backlog) > 0 {
		name := a.backlog[0]
		a.backlog = a.backlog[1:]
		if a.postponed[name] {
			limit -= a.settleHost(name, now, exhausted)
		}
	}
	a.backlog = append(a.backlog, left...)
	for _, name := range left {
		a.postponed[name] = true
	}
}

// settleHost decides about one host, and returns the number of hosts that it gave a new address to.
func (a *Allocator) settleHost(name string, now time.Time, exhausted map[family]bool) (given int) {
	delete(a.postponed, name)
	h := a.hosts[name]
	if h == nil {
		a.abandon(name, now)
		return 0
	}
	if a.provide(h, now, exhausted) {
		given = 1
	}
	for owner := range h.claims {
		a.dirtyOwners[owner] = true
	}
	return given
}

// byAge orders hosts by their eldest claims. Those that nobody claims come first: they have something to
// give.
func (a *Allocator) byAge(names map[string]bool) []string {
	type aged struct {
		name   string
		eldest *claim
		place  int
	}
	hosts := make([]aged, 0, len(names))
	for name := range names {
		one := aged{name: name, eldest: a.eldest(name)}
		if one.eldest != nil {
			one.place = slices.Index(one.eldest.hosts, name)
		}
		hosts = append(hosts, one)
	}
	slices.SortFunc(hosts, func(x, y aged) int {
		switch {
		case x.eldest == nil && y.eldest == nil:
			return strings.Compare(x.name, y.name)
		case x.eldest == nil:
			return -1
		case y.eldest == nil:
			return 1
		}
		return cmp.Or(compareAge(x.eldest, y.eldest), cmp.Compare(x.place, y.place))
	})
	sorted := make([]string, 0, len(hosts))
	for _, one := range hosts {
		sorted = append(sorted, one.name)
	}
	return sorted
}

// eldest is the claim of a host that counts most, nil where there is none.
func (a *Allocator) eldest(name string) *claim {
	h := a.hosts[name]
	if h == nil {
		return nil
	}
	claims := h.byAge()
	if len(claims) == 0 {
		return nil
	}
	return claims[0]
}

func (h *host) byAge() []*claim {
	return slices.SortedFunc(maps.Values(h.claims), compareAge)
}

// recognize gives a host the addresses that its statuses hold, unless they are another's.
func (a *Allocator) recognize(name string, now time.Time) {
	h := a.hosts[name]
	if h == nil {
		return
	}
	held := map[netip.Addr]bool{}
	for _, c := range h.byAge() {
		for _, address := range c.held[name] {
			if !address.IsValid() || held[address] {
				continue
			}
			held[address] = true
			a.recognizeAddress(h, c, address, now)
		}
	}
	for dispute := range a.disputes {
		if dispute.host == name && !held[dispute.address] {
			delete(a.disputes, dispute)
		}
	}
}

func (a *Allocator) recognizeAddress(h *host, c *claim, address netip.Addr, now time.Time) {
	record := a.ledger.records[address]
	if a.reserved(address) {
		if record == nil && len(a.ledger.records) < a.options.MaxRecords {
			a.ledger.put(Record{Address: address, Host: h.name, Owner: c.Owner, Since: now, Retired: true})
		}
		a.disputed(h, address, now)
		return
	}
	switch {
	case record == nil && len(a.ledger.records) >= a.options.MaxRecords:
		return // Not ours to forget another for. It stays in the status as it is.
	case record == nil:
		a.ledger.put(Record{Address: address, Host: h.name, Owner: c.Owner, Since: now})
	case record.Host == h.name && (record.InUse() || a.uses(h.name, familyOf(address))):
	case record.Host == h.name:
		a.ledger.put(record.revived())
	case !record.InUse() || !a.holds(record.Host, address):
		// It rests, or was to be given and is not in a status yet: another allocator was quicker.
		if a.hosts[record.Host] != nil {
			a.dirtyHosts[record.Host] = true
		}
		a.ledger.put(Record{Address: address, Host: h.name, Owner: c.Owner, Since: now})
	case compareAge(c, a.eldestHolder(record.Host, address)) < 0:
		a.dirtyHosts[record.Host] = true
		a.ledger.put(Record{Address: address, Host: h.name, Owner: c.Owner, Since: now})
	default:
		a.disputed(h, address, now)
		return
	}
	delete(a.disputes, dispute{h.name, address})
}

// uses reports whether a host has an address of a family.
func (a *Allocator) uses(name string, f family) bool {
	records := a.ledger.of(name)
	return slices.ContainsFunc(records, func(r *Record) bool { return r.InUse() && familyOf(r.Address) == f && !a.reserved(r.Address) })
}

func (a *Allocator) disputed(h *host, address netip.Addr, now time.Time) {
	key := dispute{h.name, address}
	if a.disputes[key] == nil {
		a.disputes[key] = &patience{since: now}
	}
}

// holds reports whether a status says that the host has the address.
func (a *Allocator) holds(name string, address netip.Addr) bool {
	return a.eldestHolder(name, address) != nil
}

// eldestHolder is the eldest claim of a host whose status has the address.
func (a *Allocator) eldestHolder(name string, address netip.Addr) *claim {
	h := a.hosts[name]
	if h == nil {
		return nil
	}
	for _, c := range h.byAge() {
		if c.held[name][familyOf(address)] == address {
			return c
		}
	}
	return nil
}

// abandon frees all that a host has that nobody claims.
func (a *Allocator) abandon(name string, now time.Time) {
	for _, record := range a.ledger.of(name) {
		a.ledger.free(record.Address, a.mentioned[record.Address] > 0, now)
	}
	delete(a.waiting, name)
	maps.DeleteFunc(a.disputes, func(d dispute, _ *patience) bool { return d.host == name })
}

// lacks reports whether the host has to be given an address.
func (a *Allocator) lacks(h *host) bool {
	for _, f := range families {
		if len(a.options.Ranges.of(f)) > 0 && !a.known(h, f).IsValid() {
			return true
		}
	}
	return false
}

// known is the address of a family that a host has already, or had last: the one that its eldest
// ServiceEntry with a good one holds, else one of the ledger.
func (a *Allocator) known(h *host, f family) netip.Addr {
	for _, c := range h.byAge() {
		address := c.held[h.name][f]
		if record := a.ledger.records[address]; record != nil && record.Host == h.name && record.InUse() && !a.reserved(address) {
			return address
		}
	}
	for _, record := range a.ledger.of(h.name) {
		if familyOf(record.Address) == f && !a.reserved(record.Address) {
			return record.Address
		}
	}
	return netip.Addr{}
}

func (a *Allocator) reserved(address netip.Addr) bool {
	_, reserved := a.reservations.single(address)
	return reserved
}

// provide gives a host what it lacks and frees what it has too much. It reports whether it gave a new
// address.
func (a *Allocator) provide(h *host, now time.Time, exhausted map[family]bool) (given bool) {
	h.problems = map[Owner][]Problem{}
	h.primary = pair{}
	short := false
	for _, f := range families {
		address := a.known(h, f)
		if !address.IsValid() && len(a.options.Ranges.of(f)) > 0 {
			address = a.give(h, f, now, exhausted)
			given = given || address.IsValid()
			short = short || !address.IsValid()
		}
		if record := a.ledger.records[address]; record != nil && !record.InUse() {
			a.ledger.put(record.revived())
		}
		h.primary[f] = address
	}
	if short {
		a.waiting[h.name] = true
	} else {
		delete(a.waiting, h.name)
	}
	for _, record := range a.ledger.of(h.name) {
		if record.Address != h.primary[familyOf(record.Address)] &&
			(record.Retired || a.reserved(record.Address) || !a.holds(h.name, record.Address)) {
			a.ledger.free(record.Address, a.mentioned[record.Address] > 0, now)
		}
	}
	a.judge(h)
	return given
}

// give finds a new address for a host. It is the same one whenever the same are free.
func (a *Allocator) give(h *host, f family, now time.Time, exhausted map[family]bool) netip.Addr {
	if exhausted[f] || len(a.ledger.records) >= a.options.MaxRecords {
		return netip.Addr{}
	}
	address, found := a.pick(h.name, f)
	if !found {
		exhausted[f] = true
		return netip.Addr{}
	}
	a.ledger.put(Record{Address: address, Host: h.name, Owner: a.eldest(h.name).Owner, Since: now})
	return address
}

// judge says what is wrong.
func (a *Allocator) judge(h *host) {
	for _, c := range h.byAge() {
		add := func(reason Reason, format string, arguments ...any) {
			h.problems[c.Owner] = append(h.problems[c.Owner], Problem{reason, h.name, fmt.Sprintf(format, arguments...)})
		}
		for _, f := range families {
			held := c.held[h.name][f]
			if a.disputes[dispute{h.name, held}] != nil {
				add(Conflict, "%s has %s as well, and comes first", a.holderOf(held), held)
			} else if held.IsValid() && h.primary[f].IsValid() && held != h.primary[f] {
				add(Divergent, "another ServiceEntry of this host has %s, this one has %s", h.primary[f], held)
			}
			if len(a.options.Ranges.of(f)) == 0 || h.primary[f].IsValid() {
				continue
			}
			if len(a.ledger.records) >= a.options.MaxRecords {
				add(Exhausted, "there are %d records of addresses, which is the most that are kept", len(a.ledger.records))
			} else {
				add(Exhausted, "no %s address is free in %s", f, joinPrefixes(a.options.Ranges.of(f)))
			}
		}
	}
}

// holderOf names who has an address before all others.
func (a *Allocator) holderOf(address netip.Addr) string {
	if holder, reserved := a.reservations.single(address); reserved {
		return holder
	}
	if record := a.ledger.records[address]; record != nil {
		return fmt.Sprintf("host %s of ServiceEntry %s", record.Host, record.Owner)
	}
	return "somebody else"
}

func joinPrefixes(prefixes []netip.Prefix) string {
	texts := make([]string, 0, len(prefixes))
	for _, prefix := range prefixes {
		texts = append(texts, prefix.String())
	}
	return strings.Join(texts, ", ")
}
