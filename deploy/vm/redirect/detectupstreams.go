package redirect

import (
	"context"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// resolverPortDefault is where resolvers are asked that a file names without a port.
const resolverPortDefault = 53

// upstreams asks each owner that there is for the machine's own resolvers.
func (d *detection) upstreams(ctx context.Context) {
	d.Upstreams = map[Mode][]netip.AddrPort{}
	sources := []struct {
		mode Mode
		is   bool
		ask  func(context.Context) ([]netip.Addr, error)
	}{
		{Resolved, d.Resolved.Running, func(context.Context) ([]netip.Addr, error) { return d.serversOf("/run/systemd/resolve/resolv.conf") }},
		{NetworkManager, d.NetworkManager.Running, d.ofDevices},
		{Resolvconf, d.Facts.Resolvconf == Resolvconf, d.ofRecords},
		{Openresolv, d.Facts.Resolvconf == Openresolv, d.ofOpenresolv},
		{Direct, true, func(context.Context) ([]netip.Addr, error) { return d.ResolvConf.Servers, nil }},
	}
	for _, source := range sources {
		if !source.is {
			continue
		}
		d.note("resolvers as "+string(source.mode)+" has them", func() error {
			servers, err := source.ask(ctx)
			d.Upstreams[source.mode] = d.others(servers)
			return err
		})
	}
	d.Upstreams[Delegate] = d.Upstreams[Resolved]
	// The stub of systemd-resolved may ask CoreDNS itself: whom it asks is asked instead.
	if servers := d.ResolvConf.Servers; len(d.Upstreams[Direct]) == 0 && slices.ContainsFunc(servers, isStub) {
		d.Upstreams[Direct] = d.Upstreams[Resolved]
	}
}

// others are servers without CoreDNS and without the stub of systemd-resolved, each once.
func (d *detection) others(servers []netip.Addr) []netip.AddrPort {
	var all []netip.AddrPort
	for _, server := range servers {
		at := netip.AddrPortFrom(server, resolverPortDefault)
		if !isStub(server) && !server.IsUnspecified() && !d.isOurs(at) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// isOurs: CoreDNS listens there.
func (d *detection) isOurs(at netip.AddrPort) bool {
	return at == d.server || d.state != nil && at == d.state.Plan.Server6
}

func isStub(server netip.Addr) bool { return slices.Contains(stubs, server) }

// serversOf are those of a file in the format of resolv.conf. One that is missing has none.
func (d *detection) serversOf(file string) ([]netip.Addr, error) {
	content, err := os.ReadFile(d.Path(file))
	return resolvconf.Parse(content).Servers, unlessMissing(err)
}

// ofDevices are the resolvers that NetworkManager has from its connections: its own files name CoreDNS as well.
func (d *detection) ofDevices(ctx context.Context) ([]netip.Addr, error) {
	said, err := d.ask(ctx, "nmcli", "--terse", "--fields", "IP4.DNS,IP6.DNS", "device", "show")
	if err != nil {
		servers, other := d.serversOf("/run/NetworkManager/no-stub-resolv.conf")
		if other == nil && len(servers) > 0 {
			return servers, nil
		}
		return nil, err
	}
	return parseDevices(said), nil
}

// parseDevices reads what nmcli says: IP4.DNS[1]:10.0.0.1, with colons of an address behind backslashes.
func parseDevices(said string) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(said) {
		field, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found || !strings.Contains(field, ".DNS[") {
			continue
		}
		if server, err := netip.ParseAddr(strings.ReplaceAll(value, `\:`, ":")); err == nil {
			servers = append(servers, server)
		}
	}
	return servers
}

// ofRecords are the servers of the records of Debian's resolvconf, those of interfaces that are up first.
func (d *detection) ofRecords(context.Context) ([]netip.Addr, error) {
	var servers []netip.Addr
	for _, folder := range []string{"/run/resolvconf/interface", "/run/resolvconf/interfaces"} {
		entries, err := os.ReadDir(d.Path(folder))
		if unlessMissing(err) != nil {
			return nil, err
		}
		for _, entry := range entries {
			file := path.Join(folder, entry.Name())
			if slices.Contains(debianResolvconf.records, file) {
				continue
			}
			found, err := d.serversOf(file)
			if err != nil {
				return nil, err
			}
			servers = append(servers, found...)
		}
	}
	if len(servers) > 0 {
		return servers, nil
	}
	// Where no interface has brought any, the file itself may have those of /etc/resolvconf/resolv.conf.d.
	return d.ResolvConf.Servers, nil
}

// ofOpenresolv are the servers of all records of openresolv but ours.
func (d *detection) ofOpenresolv(ctx context.Context) ([]netip.Addr, error) {
	said, err := d.ask(ctx, "resolvconf", "-l")
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for record := range strings.SplitSeq("\n"+said, "\n# resolv.conf from ") {
		if name, _, _ := strings.Cut(record, "\n"); strings.TrimSpace(name) != "meshvm" {
			servers = append(servers, resolvconf.Parse([]byte(record)).Servers...)
		}
	}
	return servers, nil
}
