package redirect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// undoTimeout is how long it may take to put the machine back, whatever became of the caller's context.
const undoTimeout = 2 * time.Minute

// Outcome is what a run came to.
type Outcome struct {
	// Changed: the machine is not as it was before the run.
	Changed bool
	// Warnings are what the operator should know, a sentence each.
	Warnings []string
}

// Apply brings the machine to the Plan, from wherever it is: from its own resolution, from the same mode with other domains (which is
// cheap, and nothing at all where the Plan holds), from another mode, or from what a killed run has left. With mode None and without
// Transparent that is Revert.
//
// CoreDNS is probed first, and nothing is changed unless it answers. Afterwards the machine is asked for a name of the mesh. Where that
// fails, or a step does, the machine's own resolution is in force when Apply returns, and the error says why; a State that was there
// before stays, withdrawn. State.Fight is Watch's to end. An *Impossible says that this machine cannot be brought to the Plan.
//
// Only one run changes a machine at a time; others wait up to a minute.
func Apply(ctx context.Context, m Machine, p Plan) (Outcome, error) {
	if p.Mode != None && modeOf(p.Mode) == nil {
		return Outcome{}, fmt.Errorf("apply a redirect: unknown mode %q", p.Mode)
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("apply a redirect: %w", err)
	}
	defer unlock()
	if m.keep {
		if meant, err := m.stillMeant(p); err != nil || !meant {
			return Outcome{}, err
		}
	}
	m.known = p.Upstreams
	a := &application{Machine: m, plan: p}
	if a.state, a.outcome.Warnings, err = takeState(m); err != nil {
		return a.outcome, fmt.Errorf("apply a redirect: %w", err)
	}
	a.before = a.state != nil
	if err := a.run(ctx); err != nil {
		return a.outcome, fmt.Errorf("apply a redirect by mode %s: %w", p.Mode, err)
	}
	return a.outcome, nil
}

// stillMeant: what is applied is what a Plan goes on with.
func (m Machine) stillMeant(p Plan) (bool, error) {
	s, err := LoadState(m)
	if err != nil {
		return false, fmt.Errorf("apply a redirect: %w", err)
	}
	return s != nil && s.Plan.Wished == p.Wished, nil
}

// application is one Apply.
type application struct {
	Machine
	plan Plan
	// state is what is on disk. Nil: nothing is. before: there was one when the run began.
	state   *State
	before  bool
	outcome Outcome
}

func (a *application) run(ctx context.Context) error {
	if a.plan.Mode == None && !a.plan.Transparent {
		changed, err := undo(ctx, a.Machine, a.state, "")
		a.outcome.Changed = changed
		return err
	}
	if err := a.check(ctx); err != nil {
		return err
	}
	boot, err := a.boot()
	if err != nil {
		return err
	}
	if done, err := a.unchanged(ctx, boot); err != nil || done {
		return err
	}
	if err := a.leaveOthers(ctx, boot); err != nil {
		return fmt.Errorf("leave the mode before: %w", err)
	}
	a.outcome.Changed = true
	if err := a.change(ctx, boot); err != nil {
		return a.giveUp(ctx, err)
	}
	return nil
}

// check is everything that can be said without a change.
func (a *application) check(ctx context.Context) error {
	if !a.plan.Server.IsValid() {
		return &Impossible{"where CoreDNS listens is not known"}
	}
	for _, name := range slices.Concat(a.plan.Zones, a.plan.Domains, a.plan.Search) {
		if !plain(name) {
			return &Impossible{fmt.Sprintf("%q is no domain name", name)}
		}
	}
	if owner := modeOf(a.plan.Mode); owner != nil {
		if err := owner.check(ctx, a.Machine, a.plan); err != nil {
			return err
		}
	}
	if a.keep {
		return nil // Await has probed just now.
	}
	return probe(ctx, a.plan)
}

// plain: a name has only what names of hosts have. Names of the mesh are others' and go into files of root's.
func plain(name string) bool {
	return name != "" && len(name) <= 254 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

// unchanged: the Plan is in force already. What has changed in it is only what is remembered.
func (a *application) unchanged(ctx context.Context, boot string) (bool, error) {
	if a.state == nil || !a.state.Applied || a.state.Withdrawn != "" || a.state.Boot != boot || !sameEffect(a.state.Plan, a.plan) {
		return false, nil
	}
	missing, err := a.missing(a.plan, a.state)
	if err == nil && len(missing) == 0 && a.plan.Transparent {
		// A firewall that was loaded since may have flushed them.
		missing, err = HoldsTransparent(ctx, a.Machine, a.plan)
	}
	if err != nil || len(missing) > 0 {
		return false, err
	}
	if same(a.state.Plan, a.plan) {
		return true, nil
	}
	a.state.Plan = a.plan
	return true, a.state.save(a.Machine)
}

// missing is what of the Plan is not in force.
func (m Machine) missing(p Plan, s *State) ([]string, error) {
	var missing []string
	if owner := modeOf(p.Mode); owner != nil {
		found, err := owner.holds(m, p, s)
		if err != nil {
			return nil, err
		}
		missing = found
	}
	return missing, nil
}

// sameEffect: what is done for both Plans is the same. They may differ in reasons and in upstreams.
func sameEffect(a, b Plan) bool {
	return a.Mode == b.Mode && a.Server == b.Server && a.Server6 == b.Server6 && a.AllNames == b.AllNames && a.Transparent == b.Transparent &&
		slices.Equal(a.Domains, b.Domains) && slices.Equal(a.Search, b.Search) && slices.Equal(a.Zones, b.Zones)
}

func same(a, b Plan) bool {
	one, oneErr := json.Marshal(a)
	other, otherErr := json.Marshal(b)
	return oneErr == nil && otherErr == nil && string(one) == string(other)
}

// leaveOthers undoes what is of another mode, of another boot or of a run that nobody remembers. A State of this mode and boot stays,
// since its Backup is the machine as it was, and so does one that is withdrawn: nothing of it is in force.
func (a *application) leaveOthers(ctx context.Context, boot string) error {
	if a.state != nil && (a.state.Withdrawn != "" || a.state.Boot == boot && a.state.Plan.Mode == a.plan.Mode) {
		return nil
	}
	_, err := undo(ctx, a.Machine, a.state, "")
	if err == nil {
		a.state = nil
	}
	return err
}

// change does the steps of the Plan, the State first.
func (a *application) change(ctx context.Context, boot string) error {
	if a.state == nil {
		a.state = &State{}
	}
	s := a.state
	was := s.Applied && sameEffect(s.Plan, a.plan)
	s.settled = s.Applied && s.Plan.Mode == a.plan.Mode && s.Withdrawn == ""
	s.Rules = s.hasRules() || a.plan.Transparent
	s.Boot, s.At, s.Plan, s.Applied, s.Withdrawn = boot, time.Now().UTC(), a.plan, false, ""
	if err := s.save(a.Machine); err != nil {
		return err
	}
	if owner := modeOf(a.plan.Mode); owner != nil {
		if err := owner.apply(ctx, a.Machine, a.plan, s); err != nil {
			return err
		}
	}
	if err := a.transparent(ctx, was); err != nil {
		return err
	}
	// First, since what somebody else has written meanwhile explains what verify finds.
	if missing, err := a.missing(a.plan, s); err != nil || len(missing) > 0 {
		return errors.Join(err, fmt.Errorf("all was done, and yet %s", strings.Join(missing, ", ")))
	}
	if err := verify(ctx, a.Machine, a.plan); err != nil {
		return err
	}
	s.Applied = true
	return s.save(a.Machine)
}

// transparent has the rules of nftables as the Plan wants them.
func (a *application) transparent(ctx context.Context, was bool) error {
	if a.plan.Transparent {
		return applyTransparent(ctx, a.Machine, a.plan)
	}
	if was {
		return nil
	}
	err := revertTransparent(ctx, a.Machine)
	a.state.Rules = err != nil
	return err
}

// giveUp puts the machine's own resolution back after a step has failed.
func (a *application) giveUp(ctx context.Context, why error) error {
	if errors.Is(why, errKilled) {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	remember := ""
	if a.before {
		remember = "since " + time.Now().UTC().Format(time.RFC3339) + ": it could not be applied: " + why.Error()
	}
	if _, err := undo(ctx, a.Machine, a.state, remember); err != nil {
		return fmt.Errorf("%w; and putting the machine back failed, too: %w", why, err)
	}
	a.outcome.Changed = a.before
	return fmt.Errorf("it is undone, and the machine's own resolution in force: %w", why)
}

// holds is what of a Plan is not in force on the machine, a sentence each. It reads files, and runs nothing.
func holds(m Machine, p Plan) (missing []string, err error) {
	s, err := LoadState(m)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return []string{"nothing is applied"}, nil
	case s.Withdrawn != "":
		return []string{"it is withdrawn " + s.Withdrawn}, nil
	}
	return lacking(m, s, p)
}

func lacking(m Machine, s *State, p Plan) (missing []string, err error) {
	boot, err := m.boot()
	switch {
	case err != nil:
		return nil, err
	case s.Boot != boot:
		return []string{"what was applied is of an earlier boot"}, nil
	case !s.Applied:
		missing = append(missing, "a run that applied or reverted it was broken off")
	case !sameEffect(s.Plan, p):
		missing = append(missing, "another plan is applied")
	}
	found, err := m.missing(p, s)
	return append(missing, found...), err
}
