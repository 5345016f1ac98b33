package redirect

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// mode is how one owner of resolution is told to ask CoreDNS. What it does to files and with commands is the same whenever it is done
// again, so that a run that was killed is finished, or undone, by the next.
type mode interface {
	// steps say what apply does, a line each.
	steps(Plan) []string
	// check says why the Plan cannot be applied, and changes nothing.
	check(context.Context, Machine, Plan) error
	// apply does it, also over another Plan of this mode. The State is on disk, and again after it was changed.
	apply(context.Context, Machine, Plan, *State) error
	// holds says what of the Plan is not in force any more, a sentence each.
	holds(Machine, Plan, *State) ([]string, error)
	// present: there is something of ours on the machine, whatever the State says.
	present(Machine) (bool, error)
	// revert undoes apply, however much of it was done.
	revert(context.Context, Machine, *State) error
}

// modes are in the order in which a revert without a State looks for what is ours. Direct is the last, since it looks at what the
// others leave.
func modes() []Mode {
	return []Mode{Delegate, Resolved, NetworkManager, Resolvconf, Openresolv, Direct}
}

// modeOf is nil for None and for what is no mode.
func modeOf(name Mode) mode {
	switch name {
	case Delegate:
		return delegate
	case Resolved:
		return resolved
	case NetworkManager:
		return networkManager
	case Resolvconf:
		return debianResolvconf
	case Openresolv:
		return openresolv
	case Direct:
		return direct{}
	default:
		return nil
	}
}

// resolvConf is the file that the C library reads.
const resolvConf = "/etc/resolv.conf"

// servers are those that /etc/resolv.conf names, or none where there is no such file.
func (m Machine) servers() ([]netip.Addr, error) {
	content, err := os.ReadFile(m.Path(resolvConf))
	if err != nil {
		return nil, unlessMissing(err)
	}
	return resolvconf.Parse(content).Servers, nil
}

// asksOnly says what is wrong where /etc/resolv.conf does not name CoreDNS, and nobody else.
func (m Machine) asksOnly(server netip.AddrPort) ([]string, error) {
	servers, err := m.servers()
	if err != nil {
		return nil, err
	}
	if len(servers) == 1 && servers[0] == server.Addr() {
		return nil, nil
	}
	var names []string
	for _, s := range servers {
		names = append(names, s.String())
	}
	found := "no server"
	if len(names) > 0 {
		found = strings.Join(names, ", ")
	}
	return []string{resolvConf + " names " + found + ", not only " + server.Addr().String()}, nil
}

// address is how systemd-resolved writes a server.
func address(server netip.AddrPort) string {
	if server.Port() == 53 {
		return server.Addr().String()
	}
	return server.String()
}

// domains are what systemd-resolved takes for both: first the search list, whose domains it routes as well, then the others.
func domains(p Plan) []string {
	var all []string
	for _, domain := range p.Search {
		if p.inZones(domain) { // Those of a network are its link's to route.
			all = append(all, domain)
		}
	}
	for _, route := range routes(p) {
		if !slices.Contains(all, strings.TrimPrefix(route, "~")) {
			all = append(all, route)
		}
	}
	return all
}

// inZones: a domain is in one of the mesh's zones.
func (p Plan) inZones(domain string) bool {
	return slices.ContainsFunc(p.Zones, func(zone string) bool { return domain == zone || strings.HasSuffix(domain, "."+zone) })
}

// routes are the domains as systemd-resolved writes them: for routing, not for the search list.
func routes(p Plan) []string {
	var all []string
	if p.AllNames {
		// Beside it the domains stay: a link that routes a parent of one would have it otherwise.
		all = append(all, "~.")
	}
	for _, domain := range p.Domains {
		if domain = strings.Trim(domain, "."); domain != "" {
			all = append(all, "~"+domain)
		}
	}
	return all
}

// noPort says why CoreDNS has to listen at port 53 where a file or a program has no place for another.
func noPort(m Machine, p Plan, what string) error {
	if p.Server.Port() != m.resolverPort() {
		return &Impossible{what + " cannot name a port, and CoreDNS listens at " + p.Server.String() + ": have it listen at " +
			netip.AddrPortFrom(p.Server.Addr(), m.resolverPort()).String()}
	}
	return nil
}

func (m Machine) resolverPort() uint16 {
	if m.port == 0 {
		return 53
	}
	return m.port
}

// Impossible is the error for a Plan that this machine cannot be brought to. Nothing was changed.
type Impossible struct{ Reason string }

func (e *Impossible) Error() string { return e.Reason }
