package vip

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestModel puts allocators through what happens to a cluster and holds what they do against what they
// promise: ServiceEntries come, change and go, watched or not; patches are late, lost or overtaken;
// allocators die between any two steps and are made anew from what Kubernetes holds.
func TestModel(t *testing.T) {
	modes := map[string]struct {
		ranges  []string
		foreign bool
	}{
		"alone, with room to spare":               {[]string{"10.240.0.0/22", "2001:2::/112"}, false},
		"alone, short of addresses":               {[]string{"10.240.0.0/28", "2001:2::/124"}, false},
		"alone, several ranges":                   {[]string{"10.240.0.0/29", "10.241.0.0/28", "2001:2::/120"}, false},
		"beside another allocator":                {[]string{"10.240.0.0/22", "2001:2::/112"}, true},
		"beside another, and short of addresses":  {[]string{"10.240.0.0/28", "2001:2::/124"}, true},
		"beside another that knows only one kind": {[]string{"10.240.0.0/26"}, true},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					w := newWorld(t, seed, mode.ranges, mode.foreign)
					for range 250 {
						w.step()
					}
					w.settle()
				})
			}
		})
	}
}

// world is what Kubernetes holds, and one allocator that follows it.
type world struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Time
	ranges  Ranges
	foreign bool // Whether somebody else writes addresses into statuses too.

	entries  map[Owner]*Claim
	ledger   map[netip.Addr]Record
	literals map[string]netip.Addr

	allocator *Allocator
	// unseen are changes of ServiceEntries that the allocator has not been told of.
	unseen map[Owner]bool
	// written are the addresses that another allocator has written into statuses since this one was made.
	written map[writing]bool
	// last is which host an address was last in a status for, and until when.
	last map[netip.Addr]tenancy
}

// writing is an address in a status.
type writing struct {
	owner Owner
	HostAddress
}

// tenancy is a host's time with an address. While it has it, until is the present.
type tenancy struct {
	host  string
	until time.Time
}

const (
	modelQuarantine = time.Hour
	modelPatience   = 10 * time.Second
)

func newWorld(t *testing.T, seed uint64, texts []string, foreign bool) *world {
	t.Helper()
	ranges, err := ParseRanges(texts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 5)), now: time.Unix(1_790_000_000, 0), ranges: ranges, foreign: foreign,
		entries: map[Owner]*Claim{}, ledger: map[netip.Addr]Record{}, literals: map[string]netip.Addr{},
		unseen: map[Owner]bool{}, written: map[writing]bool{}, last: map[netip.Addr]tenancy{},
	}
	w.start()
	return w
}

// start makes an allocator from nothing but what Kubernetes holds.
func (w *world) start() {
	w.allocator = w.fresh(w.ledger)
	clear(w.unseen)
	clear(w.written)
}

func (w *world) fresh(ledger map[netip.Addr]Record) *Allocator {
	a := New(Options{Ranges: w.ranges, Quarantine: modelQuarantine, Patience: modelPatience, Now: func() time.Time { return w.now }})
	a.Restore(slices.Collect(maps.Values(ledger)))
	for holder, address := range w.literals {
		a.Reserve(holder, netip.PrefixFrom(address, address.BitLen()))
	}
	for _, entry := range w.entries {
		a.Put(w.copyOf(entry))
	}
	return a
}

func (w *world) copyOf(entry *Claim) Claim {
	state := *entry
	state.Hosts, state.Status = slices.Clone(entry.Hosts), slices.Clone(entry.Status)
	return state
}

func (w *world) step() {
	switch choice := w.random.IntN(20); {
	case choice < 5:
		w.put(w.anyOwner())
	case choice < 7:
		w.remove(w.anyOwner())
	case choice < 8:
		w.reserve()
	case choice < 9 && w.foreign:
		w.writeForeign()
	case choice < 10:
		w.pass(time.Duration(w.random.IntN(int(modelQuarantine))))
	case choice < 11:
		w.pass(modelPatience)
	case choice < 13:
		w.start()
	default:
		w.tell(w.random.IntN(2) == 0)
		w.act(w.random.IntN(8))
	}
}

func (w *world) anyOwner() Owner {
	return Owner{"default", fmt.Sprintf("entry-%d", w.random.IntN(12))}
}

// put makes or changes a ServiceEntry. Its status stays, as the API server has it.
func (w *world) put(owner Owner) {
	entry := w.entries[owner]
	if entry == nil {
		entry = &Claim{Owner: owner, CreatedAt: w.now.Truncate(time.Second)}
		w.entries[owner] = entry
	}
	entry.Hosts = nil
	for range w.random.IntN(4) { // None at times: it no longer qualifies.
		if host := fmt.Sprintf("host-%d.example.com", w.random.IntN(16)); !slices.Contains(entry.Hosts, host) {
			entry.Hosts = append(entry.Hosts, host)
		}
	}
	// What a host leaves behind is not written any more when it comes back.
	maps.DeleteFunc(w.written, func(by writing, _ bool) bool { return by.owner == owner && !slices.Contains(entry.Hosts, by.Host) })
	w.unseen[owner] = true
	w.note()
}

func (w *world) remove(owner Owner) {
	delete(w.entries, owner)
	maps.DeleteFunc(w.written, func(by writing, _ bool) bool { return by.owner == owner })
	w.unseen[owner] = true
	w.note()
}

// reserve makes or removes a literal address within the ranges.
func (w *world) reserve() {
	holder := fmt.Sprintf("Service default/web-%d", w.random.IntN(2))
	if _, held := w.literals[holder]; held {
		delete(w.literals, holder)
		w.allocator.Reserve(holder)
		return
	}
	address := w.anyAddress()
	w.literals[holder] = address
	// Whoever has it has to give it up, and may be on the way to another when this one goes again.
	maps.DeleteFunc(w.written, func(by writing, _ bool) bool { return by.Address == address })
	w.allocator.Reserve(holder, netip.PrefixFrom(address, address.BitLen()))
}

func (w *world) anyAddress() netip.Addr {
	all := w.ranges.All()
	prefix := all[w.random.IntN(len(all))]
	return slotAt(prefix, w.random.Uint64N(min(slotsIn(prefix), 40)))
}

// writeForeign has another allocator give some host of some ServiceEntry an address, as it pleases.
func (w *world) writeForeign() {
	entry := w.entries[w.anyOwner()]
	if entry == nil || len(entry.Hosts) == 0 {
		return
	}
	host := entry.Hosts[w.random.IntN(len(entry.Hosts))]
	address := w.anyAddress()
	entry.Status = slices.DeleteFunc(slices.Clone(entry.Status), func(e HostAddress) bool {
		return e.Host == host && familyOf(e.Address) == familyOf(address)
	})
	entry.Status = append(entry.Status, HostAddress{host, address})
	// What it knows to have been there all the while looks like what was left behind.
	known := w.allocator.claims[entry.Owner]
	if known != nil && !slices.Contains(known.Status, HostAddress{host, address}) && w.free(host, address) {
		w.written[writing{entry.Owner, HostAddress{host, address}}] = true
	}
	w.unseen[entry.Owner] = true
	w.note()
}

// free reports whether an address is nobody's, or the host's own.
func (w *world) free(host string, address netip.Addr) bool {
	record := w.allocator.ledger.records[address]
	return !w.allocator.reserved(address) && (record == nil || record.Host == host)
}

func (w *world) pass(d time.Duration) {
	w.note()
	w.now = w.now.Add(d)
	w.note()
}

// note keeps who had which address until when.
func (w *world) note() {
	for _, entry := range w.entries {
		for host, held := range heldBy(entry) {
			for _, address := range held {
				if address.IsValid() {
					w.last[address] = tenancy{host, w.now}
				}
			}
		}
	}
}

// heldBy is what counts in the status of a ServiceEntry.
func heldBy(entry *Claim) map[string]pair {
	held := map[string]pair{}
	for _, e := range entry.Status {
		if slices.Contains(entry.Hosts, e.Host) {
			addresses := held[e.Host]
			addresses[familyOf(e.Address)] = e.Address
			held[e.Host] = addresses
		}
	}
	return held
}

// tell brings the allocator up to date, or of a part only.
func (w *world) tell(all bool) {
	for _, owner := range slices.SortedFunc(maps.Keys(w.unseen), compareOwners) {
		if !all && w.random.IntN(2) == 0 {
			continue
		}
		if entry := w.entries[owner]; entry != nil {
			w.allocator.Put(w.copyOf(entry))
		} else {
			w.allocator.Remove(owner)
		}
		delete(w.unseen, owner)
	}
}

// act plans and does what was planned, and dies in the middle of it when fate has it.
func (w *world) act(fate int) Plan {
	plan := w.allocator.Plan(1 + w.random.IntN(6))
	const diesBeforeStore, diesAfterStore, diesBetweenPatches = 0, 1, 2
	if fate == diesBeforeStore {
		w.start()
		return plan
	}
	for _, record := range plan.Store {
		w.ledger[record.Address] = record
	}
	for _, address := range plan.Forget {
		delete(w.ledger, address)
	}
	if fate == diesAfterStore {
		w.start()
		return plan
	}
	for i, patch := range plan.Patches {
		if fate == diesBetweenPatches && i > 0 {
			w.start()
			return plan
		}
		w.patch(patch)
	}
	return plan
}

// patch writes a status, unless the ServiceEntry has changed under the allocator's hands.
func (w *world) patch(patch Patch) {
	entry := w.entries[patch.Owner]
	if entry == nil || w.unseen[patch.Owner] || w.allocator.claims[patch.Owner] == nil {
		w.allocator.Retry(patch.Owner)
		return
	}
	before := heldBy(entry)
	next := w.copyOf(entry)
	next.Status = patch.Addresses
	w.checkPatch(entry, before, heldBy(&next))
	entry.Status = patch.Addresses
	w.unseen[patch.Owner] = true
	w.note()
}

// checkPatch holds a patch against what must hold at any time.
func (w *world) checkPatch(entry *Claim, before, after map[string]pair) {
	w.t.Helper()
	for host, addresses := range after {
		for _, f := range families {
			address, was := addresses[f], before[host][f]
			if address == was || !address.IsValid() {
				continue
			}
			if !w.ranges.Contains(address) && !w.foreign {
				w.t.Fatalf("host %s is given %s, which is in no range", host, address)
			}
			if record, stored := w.ledger[address]; !stored || record.Host != host {
				w.t.Fatalf("host %s is given %s before the ledger says so: %+v", host, address, record)
			}
			if last, known := w.last[address]; known && last.host != host && !w.foreign && w.now.Before(last.until.Add(modelQuarantine)) {
				w.t.Fatalf("host %s is given %s, which host %s had until %s ago", host, address, last.host, w.now.Sub(last.until))
			}
			if was.IsValid() && !w.mayChange(entry.Owner, host, was) {
				w.t.Fatalf("host %s of %s is moved from %s to %s without a cause", host, entry.Owner, was, address)
			}
		}
	}
	for host, addresses := range before {
		for _, f := range families {
			if was := addresses[f]; was.IsValid() && !after[host][f].IsValid() && !w.mayChange(entry.Owner, host, was) {
				w.t.Fatalf("host %s of %s loses %s without a cause", host, entry.Owner, was)
			}
		}
	}
}

// mayChange reports whether an address in a status is not the host's: somebody else's, or one that it had
// before it was given another, unless another allocator has just given it that again.
func (w *world) mayChange(owner Owner, host string, address netip.Addr) bool {
	for _, literal := range w.literals {
		if literal == address {
			return true
		}
	}
	record, stored := w.ledger[address]
	kept := w.written[writing{owner, HostAddress{host, address}}]
	return stored && (record.Host != host || !record.InUse() && !kept)
}

// settle lets everything come to rest and holds the outcome against what must hold then.
func (w *world) settle() {
	w.t.Helper()
	for range 3 { // Patience may have to end more than once: what a conflict ends with can be another's.
		w.rest()
		w.pass(modelPatience)
	}
	w.rest()
	w.checkRest()

	if plan := w.fresh(w.ledger).Plan(1000); len(plan.Patches)+len(plan.Store)+len(plan.Forget) > 0 {
		w.t.Fatalf("made anew from ledger and statuses: got %+v, want nothing to do", plan)
	}
	// From the statuses alone it cannot know what rests, so it may give more. It takes nothing away.
	for _, patch := range w.fresh(nil).Plan(1000).Patches {
		for host, addresses := range heldBy(w.entries[patch.Owner]) {
			got := heldBy(&Claim{Hosts: []string{host}, Status: patch.Addresses})[host]
			for _, f := range families {
				if addresses[f].IsValid() && got[f] != addresses[f] {
					w.t.Fatalf("made anew from the statuses: host %s moves from %s to %s", host, addresses[f], got[f])
				}
			}
		}
	}
	w.checkLedgerAlone()
}

func (w *world) rest() {
	w.t.Helper()
	const never = 99
	for range 200 {
		w.tell(true)
		plan := w.act(never)
		if len(w.unseen) == 0 && !plan.More && len(plan.Patches) == 0 {
			return
		}
	}
	w.t.Fatal("it never comes to rest")
}

func (w *world) checkRest() {
	w.t.Helper()
	hosts := map[netip.Addr]string{}
	pairs := map[string]pair{}
	for _, entry := range w.entries {
		held := heldBy(entry)
		for _, host := range entry.Hosts {
			for _, f := range families {
				address := held[host][f]
				if !address.IsValid() {
					w.checkLacking(host, f)
					continue
				}
				if other, taken := hosts[address]; taken && other != host {
					w.t.Errorf("%s is the address of both %s and %s", address, host, other)
				}
				hosts[address] = host
				if was := pairs[host]; !w.foreign && was[f].IsValid() && was[f] != address {
					w.t.Errorf("host %s has both %s and %s", host, was[f], address)
				}
				known := pairs[host]
				known[f] = address
				pairs[host] = known
				for holder, literal := range w.literals {
					if literal == address {
						w.t.Errorf("host %s has %s, which is %s's own", host, address, holder)
					}
				}
				if record := w.ledger[address]; record.Host != host || !record.InUse() {
					w.t.Errorf("host %s has %s, of which the ledger says %+v", host, address, record)
				}
			}
		}
	}
	for address, record := range w.ledger {
		if record.InUse() && hosts[address] != record.Host {
			w.t.Errorf("the ledger has %s for %s, which has it not", address, record.Host)
		}
	}
}

// checkLacking fails unless there is a reason why a host has no address: none is free.
func (w *world) checkLacking(host string, f family) {
	w.t.Helper()
	if len(w.ranges.of(f)) == 0 {
		return
	}
	for _, prefix := range w.ranges.of(f) {
		for slot := range min(slotsIn(prefix), 4096) {
			address := slotAt(prefix, slot)
			_, known := w.ledger[address]
			if !known && !w.allocator.reservations.covers(address) && w.allocator.mentioned[address] == 0 {
				w.t.Errorf("host %s has no %s address, and %s is free", host, f, address)
				return
			}
		}
	}
}

// checkLedgerAlone wipes all statuses: the ledger alone must bring back what was there.
func (w *world) checkLedgerAlone() {
	w.t.Helper()
	if w.foreign {
		return // What others gave to one host several times over is not in the ledger's power.
	}
	before := map[Owner]map[string]pair{}
	for owner, entry := range w.entries {
		before[owner] = heldBy(entry)
		entry.Status = nil
	}
	w.start()
	w.rest()
	for owner, entry := range w.entries {
		if got := heldBy(entry); !maps.Equal(got, before[owner]) {
			w.t.Errorf("%s, its status wiped: got %v, want %v", owner, got, before[owner])
		}
	}
}
