package vip

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// State is what there is to say of a host's virtual IPs.
type State string

const (
	// Assigned means that every ServiceEntry of the host has them in its status.
	Assigned State = "assigned"
	// Pending means that they are not in every status yet.
	Pending State = "pending"
	// Conflicting means that an address in a status is another's.
	Conflicting State = "conflict"
	// Diverging means that the host's ServiceEntries have different ones.
	Diverging State = "several"
	// Lacking means that there was none to give.
	Lacking State = "exhausted"
	// Quarantined means that nobody claims the host, and that its addresses rest.
	Quarantined State = "quarantine"
)

// Modes of a Table.
const (
	// ModeStatus takes the virtual IPs that a control plane writes.
	ModeStatus = "status"
	// ModeAllocate gives them.
	ModeAllocate = "allocate"
)

// Table is all virtual IPs, for people and for /debug/vips.
type Table struct {
	// Mode is ModeStatus or ModeAllocate.
	Mode string `json:"mode"`
	// Allocator names the replica that gives addresses, where one does.
	Allocator string  `json:"allocator,omitempty"`
	Ranges    []Usage `json:"ranges,omitempty"`
	Hosts     []Row   `json:"hosts"`
}

// Usage is how much of a range is used.
type Usage struct {
	Range netip.Prefix `json:"range"`
	// Addresses is how many can be given in all.
	Addresses uint64 `json:"addresses"`
	// Used have a host, Quarantined rest.
	Used        int `json:"used"`
	Quarantined int `json:"quarantined"`
}

// Row is one host.
type Row struct {
	Host      string       `json:"host"`
	Addresses []netip.Addr `json:"addresses"`
	// Owners are the ServiceEntries that claim it, the eldest first; of a host in quarantine the last.
	Owners []Owner `json:"owners"`
	// Since is when the host was given the first of its addresses. Zero: not known.
	Since time.Time `json:"since,omitzero"`
	State State     `json:"state"`
	// Until is when the quarantine ends. Zero while a status still names an address: it has not begun.
	Until time.Time `json:"until,omitzero"`
	// Note says more where the state is not in order.
	Note string `json:"note,omitempty"`
}

// Usage is how much of each range is used.
func (a *Allocator) Usage() []Usage {
	all := a.options.Ranges.All()
	usage := make([]Usage, 0, len(all))
	for _, prefix := range all {
		usage = append(usage, Usage{Range: prefix, Addresses: slotsIn(prefix)})
	}
	for address, record := range a.ledger.records {
		for i := range usage {
			switch {
			case !usage[i].Range.Contains(address):
			case record.InUse():
				usage[i].Used++
			default:
				usage[i].Quarantined++
			}
		}
	}
	return usage
}

// Rows are all hosts, in order of their names. A host that is claimed and has addresses in quarantine too
// has a row for each.
func (a *Allocator) Rows() []Row {
	var rows []Row
	for name, h := range a.hosts {
		rows = append(rows, a.row(name, h))
	}
	for name := range a.ledger.byHost {
		if row, resting := a.restingRow(name); resting {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(x, y Row) int {
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.State, y.State))
	})
	return rows
}

func (a *Allocator) row(name string, h *host) Row {
	row := Row{Host: name, State: Assigned}
	for _, record := range a.ledger.of(name) {
		if record.InUse() {
			row.Addresses = append(row.Addresses, record.Address)
			if row.Since.IsZero() || record.Since.Before(row.Since) {
				row.Since = record.Since
			}
		}
	}
	slices.SortFunc(row.Addresses, netip.Addr.Compare)
	for _, c := range h.byAge() {
		row.Owners = append(row.Owners, c.Owner)
		for _, f := range families {
			if h.primary[f].IsValid() && !c.held[name][f].IsValid() {
				row.State = Pending
			}
		}
	}
	worst := map[Reason]State{Divergent: Diverging, Conflict: Conflicting, Exhausted: Lacking}
	for _, owner := range row.Owners {
		for _, problem := range h.problems[owner] {
			row.State, row.Note = worst[problem.Reason], problem.Message
		}
	}
	return row
}

func (a *Allocator) restingRow(name string) (row Row, resting bool) {
	row = Row{Host: name, State: Quarantined}
	owners := map[Owner]bool{}
	for _, record := range a.ledger.of(name) {
		if record.InUse() {
			continue
		}
		row.Addresses = append(row.Addresses, record.Address)
		owners[record.Owner] = true
		row.Since = record.Since
		if until := record.FreedAt.Add(a.options.Quarantine); record.Rests() && until.After(row.Until) {
			row.Until = until
		}
	}
	row.Owners = slices.SortedFunc(maps.Keys(owners), compareOwners)
	slices.SortFunc(row.Addresses, netip.Addr.Compare)
	return row, len(row.Addresses) > 0
}
