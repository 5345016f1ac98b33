package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// keptMachine is a Machine as the resolution that Watch keeps.
type keptMachine struct{ Machine }

// state is no more than read. One that cannot be used is set aside by whoever applies or reverts the next time.
func (m keptMachine) state() (*State, error) { return LoadState(m.Machine) }

// holds looks at the rules of nftables, too, which a firewall that is loaded anew may flush.
func (m keptMachine) holds(ctx context.Context, p Plan) ([]string, error) {
	missing, err := holds(m.Machine, p)
	if err != nil || len(missing) > 0 || !p.Transparent {
		return missing, err
	}
	return HoldsTransparent(ctx, m.Machine, p)
}

// answerTimeout is how long an answer may take that tells whether CoreDNS answers at all. It is shorter than silence, which takes
// several that are missing.
const answerTimeout = time.Second

// answers asks over UDP alone: it is asked every second.
func (m keptMachine) answers(ctx context.Context, p Plan) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	zones := probeZones(p)
	if len(zones) == 0 {
		return askOutside(ctx, p.Server) == nil
	}
	return askMesh(ctx, "udp", p.Server, zones[0]) == nil
}

func (m keptMachine) decide(ctx context.Context, w Wish) (Plan, error) {
	facts, err := Detect(ctx, m.Machine, w.Server)
	if err != nil {
		return Plan{}, err
	}
	return Decide(facts, w)
}

// reloadTimeout is how long CoreDNS may take to forward to resolvers that have just become others.
const reloadTimeout = 3 * time.Second

// apply waits for CoreDNS to follow the resolvers, where Apply would refuse at once, to be tried again only after a pause.
func (m keptMachine) apply(ctx context.Context, p Plan) error {
	waiting, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if err := Await(waiting, p); err != nil {
		return fmt.Errorf("apply a redirect by mode %s: %w", p.Mode, err)
	}
	m.keep = true
	_, err := Apply(ctx, m.Machine, p)
	return err
}

func (m keptMachine) withdraw(ctx context.Context, why string) error {
	_, err := Withdraw(ctx, m.Machine, why)
	return err
}

func (m keptMachine) fight(ctx context.Context, what string) error {
	return Update(ctx, m.Machine, func(s *State) { s.Fight = what })
}

// packaged is where CoreDNS listens by the Corefile of the packages.
var packaged = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), resolverPortDefault)

// upstreamsTimeout bounds a look at the machine's resolvers.
const upstreamsTimeout = 5 * time.Second

func (m keptMachine) upstreams(ctx context.Context, p Plan) error {
	ctx, cancel := context.WithTimeout(ctx, upstreamsTimeout)
	defer cancel()
	server := p.Server
	if !server.IsValid() {
		server = packaged
	}
	_, _, err := WriteUpstreams(ctx, m.Machine, server)
	return err
}
