package redirect

import (
	"context"
	"errors"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// networkManagerMode is NetworkManager that writes /etc/resolv.conf itself. A global DNS configuration replaces what the connections
// say, for all of them, and leaves the connections alone. It is in /run, so that a reboot forgets it. Found out with 1.42:
//
//   - The search list and the options of connections are gone, too, unless they are in our file.
//   - `nmcli general reload conf` writes /etc/resolv.conf before it returns, with ours and without, byte for byte as before.
//   - /run/NetworkManager/no-stub-resolv.conf names CoreDNS as well, so what CoreDNS forwards to has to come from the devices.
//   - A server has no port.
type networkManagerMode struct{}

var networkManager networkManagerMode

const networkManagerFile = "/run/NetworkManager/conf.d/50-meshvm.conf"

func (networkManagerMode) content(p Plan, options []string) []byte {
	lines := []string{"# " + writtenBy, "[global-dns]"}
	if len(p.Search) > 0 {
		lines = append(lines, "searches="+strings.Join(p.Search, ","))
	}
	if len(options) > 0 {
		lines = append(lines, "options="+strings.Join(options, ","))
	}
	return []byte(strings.Join(append(lines, "", "[global-dns-domain-*]", "servers="+p.Server.Addr().String()), "\n") + "\n")
}

func (networkManagerMode) steps(p Plan) []string {
	written := "write " + networkManagerFile + ": servers=" + p.Server.Addr().String()
	if len(p.Search) > 0 {
		written += " searches=" + strings.Join(p.Search, ",")
	}
	return []string{written + ", and the options of " + resolvConf, "run nmcli general reload conf"}
}

func (networkManagerMode) check(_ context.Context, m Machine, p Plan) error {
	return noPort(m, p, "NetworkManager")
}

func (n networkManagerMode) apply(ctx context.Context, m Machine, p Plan, s *State) error {
	if err := m.remember(s); err != nil {
		return err
	}
	changed, err := m.put(ctx, s, networkManagerFile, n.content(p, resolvconf.Parse(s.Before).Options))
	if err != nil || !changed && s.settled {
		return err
	}
	return n.reread(ctx, m)
}

func (networkManagerMode) reread(ctx context.Context, m Machine) error {
	err := m.command(ctx, "nmcli", "general", "reload", "conf")
	if err == nil {
		return nil
	}
	// Versions before 1.22 have no such command, and some machines no nmcli.
	if other := m.command(ctx, "systemctl", "reload", inNoOrder, "NetworkManager.service"); other != nil {
		return errors.Join(err, other)
	}
	return nil
}

func (n networkManagerMode) holds(m Machine, p Plan, s *State) ([]string, error) {
	same, err := m.has(networkManagerFile, n.content(p, resolvconf.Parse(s.Before).Options))
	if err != nil {
		return nil, err
	}
	if !same {
		return []string{networkManagerFile + " is not there as it was written"}, nil
	}
	return m.asksOnly(p.Server)
}

func (networkManagerMode) present(m Machine) (bool, error) { return m.exists(networkManagerFile) }

func (n networkManagerMode) revert(ctx context.Context, m Machine, s *State) error {
	if err := m.removeOurs(s, networkManagerFile); err != nil {
		return err
	}
	if m.stopping(ctx) {
		return nil // It writes the file anew when it starts again, and does not find ours.
	}
	running, err := m.active(ctx, "NetworkManager.service")
	if err != nil || !running {
		return err
	}
	return n.reread(ctx, m)
}
