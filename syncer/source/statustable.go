package source

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

// Table is the virtual IPs that statuses give, in order of the hosts. When one was given is not known.
func (v *VirtualIPs) Table() vip.Table {
	byHost := map[string][]claimedIPs{}
	holders := map[netip.Addr]map[string]bool{}
	v.mu.Lock()
	for object, entry := range v.entries {
		for _, due := range entry.hosts {
			byHost[due.host] = append(byHost[due.host], claimedIPs{
				owner: vip.Owner{Namespace: object.Namespace, Name: object.Name}, created: entry.created, ips: due.ips,
			})
			for _, address := range due.ips.all() {
				if holders[address] == nil {
					holders[address] = map[string]bool{}
				}
				holders[address][due.host] = true
			}
		}
	}
	v.mu.Unlock()
	table := vip.Table{Mode: vip.ModeStatus, Hosts: make([]vip.Row, 0, len(byHost))}
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		table.Hosts = append(table.Hosts, statusRow(host, byHost[host], holders))
	}
	return table
}

// claimedIPs is what one ServiceEntry's status gives a host.
type claimedIPs struct {
	owner   vip.Owner
	created time.Time
	ips     virtualIPs
}

// statusRow is a host with what the statuses of its ServiceEntries say, the eldest first.
func statusRow(host string, claims []claimedIPs, holders map[netip.Addr]map[string]bool) vip.Row {
	slices.SortFunc(claims, func(a, b claimedIPs) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.owner.String(), b.owner.String()))
	})
	row := vip.Row{Host: host, State: vip.Assigned}
	given, missing := claims[0].ips, false
	for _, claim := range claims {
		row.Owners = append(row.Owners, claim.owner)
		row.Addresses = append(row.Addresses, claim.ips.all()...)
		if claim.ips == (virtualIPs{}) {
			missing = true
		} else if given == (virtualIPs{}) {
			given = claim.ips
		}
	}
	slices.SortFunc(row.Addresses, netip.Addr.Compare)
	row.Addresses = slices.Compact(row.Addresses)
	differs := func(c claimedIPs) bool { return c.ips != virtualIPs{} && c.ips != given }
	switch {
	case missing:
		row.State, row.Note = vip.Pending, "the control plane has written no address to a status"
	case slices.ContainsFunc(claims, differs):
		row.State, row.Note = vip.Diverging, "its ServiceEntries have different addresses"
	}
	for _, address := range row.Addresses {
		for _, other := range slices.Sorted(maps.Keys(holders[address])) {
			if other != host {
				row.State, row.Note = vip.Conflicting, "host "+other+" has "+address.String()+" as well"
				return row
			}
		}
	}
	return row
}
