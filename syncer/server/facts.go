package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/meshvm/meshvm/syncer/server/page"
	"github.com/meshvm/meshvm/syncer/vip"
)

// facts are what the status page is told of a server.
type facts struct{ server *Server }

// Overview implements page.Facts.
func (f facts) Overview() page.Overview {
	s := f.server
	now, stats, missing := s.opts.Now(), s.registry.Stats(), s.notReady()
	o := page.Overview{
		Ready: missing == "", Missing: missing, Version: s.opts.Version, Started: s.started, Generation: s.registry.Generation(),
		Revision: stats.Revision, Resources: stats.Resources, Sources: []page.Source{}, Holds: []page.Hold{},
	}
	for _, source := range s.registry.Sources() {
		o.Sources = append(o.Sources, page.Source{Name: source.Name, Synced: source.Synced, AgeSeconds: age(now, source.CurrentAt)})
	}
	for _, status := range s.registry.GuardStatus() {
		for _, kind := range status.Kinds {
			if kind.Held > 0 {
				o.Holds = append(o.Holds, page.Hold{Source: status.Source, Kind: kind.Kind, Live: kind.Live, Held: kind.Held, Since: kind.Since, Ends: kind.Last})
			}
		}
	}
	views := map[string]bool{}
	for _, w := range f.server.status.Watching() {
		views[w.Namespace] = true
		if w.LagSeconds > s.opts.HeartbeatInterval.Seconds() {
			o.Lagging++
		}
		o.Watchers++
	}
	o.Views = len(views)
	return o
}

// age is in whole seconds; of a source that was never current, -1.
func age(now, current time.Time) int64 {
	if current.IsZero() {
		return -1
	}
	return max(0, int64(now.Sub(current)/time.Second))
}

// Replica implements page.Facts.
func (f facts) Replica(ctx context.Context) page.Replica {
	s := f.server
	name, err := os.Hostname() // in a cluster, the pod's name
	if err != nil {
		name = "unknown"
	}
	r := page.Replica{Known: s.opts.Replicas != "", Replicas: s.replicas(), Name: name, Version: s.opts.Version, Generation: s.registry.Generation(), Started: s.started}
	if table, err := s.table(ctx); err == nil {
		r.Allocator = table.Allocator
	}
	return r
}

// replicas are the endpoints of the syncers' headless Service, which the registry has as it has every other: a syncer asks for
// nothing more to know the others.
func (s *Server) replicas() []page.ReplicaStatus {
	namespace, name, _ := strings.Cut(s.opts.Replicas, "/")
	found := []page.ReplicaStatus{}
	own := ownAddresses()
	for _, claim := range s.registry.Lookup(name + "." + namespace + ".svc." + s.opts.ClusterDomain) {
		service, err := decode(claim)
		if err != nil {
			continue // Whoever looks it up is told.
		}
		for _, entry := range s.registry.Slices(service.GetService().GetCluster(), namespace, name) {
			slice, err := decode(entry)
			if err != nil {
				continue
			}
			for _, endpoint := range slice.GetEndpointSlice().GetEndpoints() {
				for _, bytes := range endpoint.GetAddresses() {
					address, _ := netip.AddrFromSlice(bytes)
					found = append(found, page.ReplicaStatus{
						Address: address.String(), Node: endpoint.GetNode(), Zone: endpoint.GetZone(),
						// Ready says nothing where a Service publishes those that are not.
						Ready: endpoint.GetServing() && !endpoint.GetTerminating(), Ending: endpoint.GetTerminating(), This: own[address],
					})
				}
			}
		}
	}
	return found
}

// ownAddresses are those that others reach this machine at.
func ownAddresses() map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && !prefix.Addr().IsLoopback() {
			own[prefix.Addr().Unmap()] = true
		}
	}
	return own
}

// VMs implements page.Facts.
func (f facts) VMs() []page.VM {
	watchers := f.server.Watchers()
	vms := make([]page.VM, 0, len(watchers))
	for _, w := range watchers {
		vms = append(vms, page.VM{
			Node: w.Node, Namespace: w.Namespace, Identity: w.Identity, Address: w.Address, Version: w.Version, Mode: w.Mode,
			Since: w.Since, Acked: w.Acked, Lag: w.Lag, LagSeconds: w.LagFor.Seconds(),
		})
	}
	return vms
}

// Names implements page.Facts.
func (f facts) Names(ctx context.Context, prefix string, limit int) (page.Names, error) {
	select {
	case f.server.scans <- struct{}{}:
		defer func() { <-f.server.scans }()
	case <-ctx.Done():
		return page.Names{}, fmt.Errorf("wait for another request that reads the whole registry: %w", context.Cause(ctx))
	}
	hosts := f.server.registry.HostsWithPrefix(prefix)
	return page.Names{Hosts: hosts[:min(limit, len(hosts))], More: len(hosts) > limit}, nil
}

// table is all virtual IPs, one request at a time.
func (s *Server) table(ctx context.Context) (vip.Table, error) {
	if s.opts.VirtualIPs == nil {
		return vip.Table{}, nil
	}
	select {
	case s.tables <- struct{}{}:
		defer func() { <-s.tables }()
	case <-ctx.Done():
		return vip.Table{}, fmt.Errorf("wait for another table of virtual IPs: %w", context.Cause(ctx))
	}
	return s.opts.VirtualIPs(ctx)
}

// vipRowsShown bounds how many hosts are shown that are not in order.
const vipRowsShown = 200

// VIPs implements page.Facts.
func (f facts) VIPs(ctx context.Context) (page.VIPs, error) {
	table, err := f.server.table(ctx)
	v := page.VIPs{
		Known: f.server.opts.VirtualIPs != nil, Mode: table.Mode, Allocator: table.Allocator,
		Ranges: []page.VIPRange{}, States: map[string]int{}, Rows: []page.VIPRow{},
	}
	for _, usage := range table.Ranges {
		v.Ranges = append(v.Ranges, page.VIPRange{Range: usage.Range.String(), Addresses: usage.Addresses, Used: usage.Used, Quarantined: usage.Quarantined})
	}
	for _, row := range table.Hosts {
		v.States[string(row.State)]++
		if row.State == vip.Assigned || len(v.Rows) == vipRowsShown {
			continue
		}
		shown := page.VIPRow{Host: row.Host, State: string(row.State), Addresses: []string{}, Note: row.Note}
		for _, address := range row.Addresses {
			shown.Addresses = append(shown.Addresses, address.String())
		}
		v.Rows = append(v.Rows, shown)
	}
	return v, err
}
