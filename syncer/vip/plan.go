package vip

import (
	"maps"
	"net/netip"
	"slices"
)

// Plan is what has to be done. First the ledger is stored, and only then a status written.
type Plan struct {
	// Store are records that are new or changed, Forget are addresses that have none any more.
	Store  []Record
	Forget []netip.Addr
	// Patches are the statuses that have to be written.
	Patches []Patch
	// Verdicts are of the ServiceEntries about which there is something else to say than before.
	Verdicts []Verdict
	// More says that there is more to plan at once.
	More bool
}

// Patch is what a ServiceEntry's status.addresses should be.
type Patch struct {
	Owner     Owner
	Addresses []HostAddress
}

// Verdict is all that is wrong with the virtual IPs of a ServiceEntry: nothing, if there are no Problems.
type Verdict struct {
	Owner    Owner
	Problems []Problem
}

// Plan settles what has changed since the last one. It gives new addresses to about limit hosts at most.
func (a *Allocator) Plan(limit int) Plan {
	now := a.options.Now()
	if a.ledger.expire(now.Add(-a.options.Quarantine)) {
		a.retry()
	}
	for dispute, patience := range a.disputes {
		if !patience.over && !now.Before(patience.since.Add(a.options.Patience)) {
			patience.over = true
			a.dirtyHosts[dispute.host] = true
		}
	}
	a.settle(now, limit)

	plan := Plan{More: len(a.backlog) > 0}
	owners := slices.SortedFunc(maps.Keys(a.dirtyOwners), compareOwners)
	clear(a.dirtyOwners)
	for _, owner := range owners {
		c := a.claims[owner]
		if c == nil {
			continue
		}
		if slices.ContainsFunc(c.hosts, func(name string) bool { return a.postponed[name] }) {
			continue // It is looked at again when that host is settled.
		}
		if addresses, differs := a.desired(c); differs {
			plan.Patches = append(plan.Patches, Patch{owner, addresses})
		}
		problems := a.problemsOf(c)
		if !slices.Equal(problems, a.told[owner]) {
			plan.Verdicts = append(plan.Verdicts, Verdict{owner, problems})
			if len(problems) == 0 {
				delete(a.told, owner)
			} else {
				a.told[owner] = problems
			}
		}
	}
	plan.Store, plan.Forget = a.ledger.take()
	return plan
}

func (a *Allocator) problemsOf(c *claim) []Problem {
	var problems []Problem
	for _, name := range c.hosts {
		problems = append(problems, a.hosts[name].problems[c.Owner]...)
	}
	return problems
}

// desired is what a status should be, and whether it differs from what it is. What need not change stays
// where it is.
func (a *Allocator) desired(c *claim) (addresses []HostAddress, differs bool) {
	wanted := make(map[string]pair, len(c.hosts))
	for _, name := range c.hosts {
		wanted[name] = a.wantedBy(c, a.hosts[name])
	}
	kept := map[string]pair{}
	for _, entry := range c.Status {
		name, f := canonical(entry.Host), familyOf(entry.Address)
		if !c.wants(name) {
			if record := a.ledger.records[entry.Address]; record != nil && record.Host == name {
				differs = true // It was given to a host that this one has no longer.
				continue
			}
		} else if wanted[name][f] != c.held[name][f] {
			differs = true
			continue
		}
		addresses = append(addresses, entry)
		held := kept[name]
		held[f] = c.held[name][f]
		kept[name] = held
	}
	for _, name := range c.hosts {
		for _, f := range families {
			if address := wanted[name][f]; address.IsValid() && kept[name][f] != address {
				addresses = append(addresses, HostAddress{c.spelling[name], address})
				differs = true
			}
		}
	}
	return addresses, differs
}

// wantedBy is what the status of a ServiceEntry should say of a host: what it says, unless that is another's
// or nothing.
func (a *Allocator) wantedBy(c *claim, h *host) pair {
	wanted := h.primary
	for _, f := range families {
		held := c.held[h.name][f]
		if !held.IsValid() {
			continue
		}
		record := a.ledger.records[held]
		disputed := a.disputes[dispute{h.name, held}]
		switch {
		case disputed != nil && disputed.over:
		case disputed != nil, record == nil, record.Host == h.name && record.InUse():
			wanted[f] = held
		}
	}
	return wanted
}
