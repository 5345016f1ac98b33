package redirect

import (
	"context"
	"errors"
	"time"
)

// keptMachine is a Machine as the resolution that Watch keeps.
type keptMachine struct{ Machine }

func (m keptMachine) state() (*State, error) {
	state, err := LoadState(m.Machine)
	if _, unusable := errors.AsType[*UnusableState](err); unusable {
		return nil, nil // the next Apply sets it aside, and says so
	}
	return state, err
}

// holds looks at the rules of nftables, too, which a firewall that is loaded anew may flush.
func (m keptMachine) holds(p Plan) ([]string, error) {
	missing, err := Holds(m.Machine, p)
	if err != nil || len(missing) > 0 || !p.Transparent {
		return missing, err
	}
	return HoldsTransparent(context.Background(), m.Machine, p) // bounded as every command of nft is
}

// answers asks over UDP alone: it is asked every second.
func (m keptMachine) answers(ctx context.Context, p Plan) bool {
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

func (m keptMachine) apply(ctx context.Context, p Plan) error {
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

// upstreamsTimeout bounds a look at the machine's resolvers.
const upstreamsTimeout = 5 * time.Second

func (m keptMachine) upstreams(ctx context.Context, p Plan) error {
	ctx, cancel := context.WithTimeout(ctx, upstreamsTimeout)
	defer cancel()
	_, _, err := WriteUpstreams(ctx, m.Machine, p.Server)
	return err
}
