package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshvm/meshvm/syncer/vip"
)

// tableAge is for how long what a replica that does not lead has read is shown.
const tableAge = 2 * time.Second

// Table is all virtual IPs. The leader tells what it decided. Another replica names the leader and tells what
// the ledger says: it does not know what is in a status.
func (c *Controller) Table(ctx context.Context) (vip.Table, error) {
	c.mu.Lock()
	t := c.term
	c.mu.Unlock()
	if t != nil {
		if table, ready := t.table(); ready {
			return table, nil
		}
	}
	return c.follower.table(ctx, c)
}

// table is ready when the ledger was read.
func (t *term) table() (table vip.Table, ready bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.allocator == nil {
		return vip.Table{}, false
	}
	return vip.Table{
		Mode:      "allocate",
		Allocator: t.controller.config.Identity,
		Ranges:    t.allocator.Usage(),
		Hosts:     t.allocator.Rows(),
	}, true
}

// followerTable is what the ledger said last, so that many who ask do not have it read each time.
type followerTable struct {
	mu    sync.Mutex
	at    time.Time
	known vip.Table
}

func (f *followerTable) table(ctx context.Context, c *Controller) (vip.Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) < tableAge {
		return f.known, nil
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return vip.Table{}, err
	}
	ledger, err := readLedger(ctx, c.clients.ledger, c.metrics)
	if err != nil {
		return vip.Table{}, fmt.Errorf("read the ledger of virtual IPs: %w", err)
	}
	records := ledger.records()
	stored := vip.New(c.config.Allocation)
	stored.Restore(records)
	f.at = time.Now()
	f.known = vip.Table{
		Mode: "allocate", Allocator: leader, Ranges: stored.Usage(),
		Hosts: rowsOf(records, cmp.Or(c.config.Allocation.Quarantine, vip.DefaultQuarantine)),
	}
	return f.known, nil
}

// leader is who holds the Lease. Empty: nobody.
func (c *Controller) leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lease, err := c.clients.leases.Leases(c.config.Namespace).Get(ctx, c.config.leaseName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read Lease %s/%s: %w", c.config.Namespace, c.config.leaseName, err)
	case lease.Spec.HolderIdentity == nil:
		return "", nil
	}
	return *lease.Spec.HolderIdentity, nil
}

// rowsOf are the hosts of records, in order of their names. A host that has addresses and others that rest has
// a row for each.
func rowsOf(records []vip.Record, quarantine time.Duration) []vip.Row {
	type key struct {
		host  string
		inUse bool
	}
	rows := map[key]*vip.Row{}
	for _, record := range records {
		k := key{record.Host, record.InUse()}
		row := rows[k]
		if row == nil {
			row = &vip.Row{Host: record.Host, State: vip.Assigned, Since: record.Since}
			rows[k] = row
		}
		row.Addresses = append(row.Addresses, record.Address)
		if !slices.Contains(row.Owners, record.Owner) {
			row.Owners = append(row.Owners, record.Owner)
		}
		if record.Since.Before(row.Since) {
			row.Since = record.Since
		}
		if !record.InUse() {
			row.State = vip.Quarantined
			if until := record.FreedAt.Add(quarantine); until.After(row.Until) {
				row.Until = until
			}
		}
	}
	sorted := make([]vip.Row, 0, len(rows))
	for _, row := range rows {
		slices.SortFunc(row.Addresses, netip.Addr.Compare)
		sorted = append(sorted, *row)
	}
	slices.SortFunc(sorted, func(a, b vip.Row) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.State, b.State))
	})
	return sorted
}
