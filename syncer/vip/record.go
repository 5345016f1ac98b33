package vip

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Record is an address that a host has, or had until not long ago. There is one of an address.
type Record struct {
	Address netip.Addr `json:"address"`
	// Host in lower case without a trailing dot.
	Host string `json:"host"`
	// Owner is the eldest ServiceEntry that claimed the host when it was given the address.
	Owner Owner `json:"owner"`
	// Since is when the host was given the address.
	Since time.Time `json:"since"`
	// Retired says that nobody claims the host any more, or that it has another address, but that a status
	// still names this one. Its rest begins when none does: until then the claim may come back with it.
	Retired bool `json:"retired,omitempty"`
	// FreedAt is when it was found that nothing names it any more: the begin of its rest. Zero: it does not
	// rest.
	FreedAt time.Time `json:"freedAt,omitzero"`
}

// InUse reports whether the host has the address.
func (r Record) InUse() bool { return !r.Retired && !r.Rests() }

// Rests reports whether the address is in quarantine.
func (r Record) Rests() bool { return !r.FreedAt.IsZero() }

// revived is the record as the host is given the address again.
func (r Record) revived() Record {
	r.Retired, r.FreedAt = false, time.Time{}
	return r
}

// Equal reports whether both say the same.
func (r Record) Equal(other Record) bool {
	return r.Address == other.Address && r.Host == other.Host && r.Owner == other.Owner &&
		r.Retired == other.Retired && r.Since.Equal(other.Since) && r.FreedAt.Equal(other.FreedAt)
}

// ledger is all records, and which of them have changed since they were last handed out.
type ledger struct {
	records map[netip.Addr]*Record
	// byHost are the addresses of a host, in use or freed.
	byHost  map[string][]netip.Addr
	changed map[netip.Addr]bool
	// freed is in the order in which addresses were freed. Some of it may be in use again.
	freed []freed
}

type freed struct {
	address netip.Addr
	at      time.Time
}

func newLedger() *ledger {
	return &ledger{records: map[netip.Addr]*Record{}, byHost: map[string][]netip.Addr{}, changed: map[netip.Addr]bool{}}
}

// put adds or replaces the record of an address.
func (l *ledger) put(record Record) {
	l.drop(record.Address)
	l.records[record.Address] = &record
	l.byHost[record.Host] = append(l.byHost[record.Host], record.Address)
	l.changed[record.Address] = true
	if record.Rests() {
		l.rest(freed{record.Address, record.FreedAt})
	}
}

// rest keeps freed in order. What is freed now comes last, so nothing is moved.
func (l *ledger) rest(f freed) {
	l.freed = append(l.freed, f)
	for i := len(l.freed) - 1; i > 0 && l.freed[i].at.Before(l.freed[i-1].at); i-- {
		l.freed[i], l.freed[i-1] = l.freed[i-1], l.freed[i]
	}
}

// free takes an address from its host. Its rest begins now, unless a status still names it.
func (l *ledger) free(address netip.Addr, named bool, now time.Time) {
	record := *l.records[address]
	switch {
	case record.Rests() || record.Retired && named:
		return
	case named:
		record.Retired = true
	default:
		record.Retired, record.FreedAt = false, now
	}
	l.put(record)
}

// rouse ends the rest of an address that a status names after all.
func (l *ledger) rouse(address netip.Addr) {
	if record := l.records[address]; record != nil && record.Rests() {
		retired := *record
		retired.Retired, retired.FreedAt = true, time.Time{}
		l.put(retired)
	}
}

func (l *ledger) drop(address netip.Addr) {
	record := l.records[address]
	if record == nil {
		return
	}
	delete(l.records, address)
	l.changed[address] = true
	rest := slices.DeleteFunc(l.byHost[record.Host], func(a netip.Addr) bool { return a == address })
	if len(rest) == 0 {
		delete(l.byHost, record.Host)
	} else {
		l.byHost[record.Host] = rest
	}
}

// expire drops what was freed at a time or before, and reports whether that was anything.
func (l *ledger) expire(until time.Time) bool {
	dropped := false
	for len(l.freed) > 0 && !l.freed[0].at.After(until) {
		f := l.freed[0]
		l.freed = l.freed[1:]
		if record := l.records[f.address]; record != nil && record.Rests() && record.FreedAt.Equal(f.at) {
			l.drop(f.address)
			dropped = true
		}
	}
	return dropped
}

// take hands out what has changed: records as they are now, and addresses that have none any more.
func (l *ledger) take() (stored []Record, gone []netip.Addr) {
	for address := range l.changed {
		if record := l.records[address]; record != nil {
			stored = append(stored, *record)
		} else {
			gone = append(gone, address)
		}
	}
	clear(l.changed)
	slices.SortFunc(stored, func(a, b Record) int { return a.Address.Compare(b.Address) })
	slices.SortFunc(gone, netip.Addr.Compare)
	return stored, gone
}

// of are the records of a host, those in use first, then the latest freed.
func (l *ledger) of(host string) []*Record {
	records := make([]*Record, 0, len(l.byHost[host]))
	for _, address := range l.byHost[host] {
		records = append(records, l.records[address])
	}
	slices.SortFunc(records, func(a, b *Record) int {
		if a.InUse() != b.InUse() {
			if a.InUse() {
				return -1
			}
			return 1
		}
		return cmp.Or(b.FreedAt.Compare(a.FreedAt), a.Since.Compare(b.Since), a.Address.Compare(b.Address))
	})
	return records
}
