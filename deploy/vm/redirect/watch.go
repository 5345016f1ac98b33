package redirect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// How Watch paces itself.
const (
	// lookInterval is how often CoreDNS is asked for a name of the mesh, and files are looked at.
	lookInterval = time.Second
	// settle is how long a file has to be left alone before it is looked at: who writes it may do so in pieces.
	settle = 250 * time.Millisecond
	// silence is how long CoreDNS may answer nothing. It is more than a restart takes, during which questions wait.
	silence = 5 * time.Second
	// hostsInterval is how often CoreDNS is asked whether the mesh's hosts are others.
	hostsInterval = 5 * time.Second
	// upstreamsInterval is how often the machine's resolvers are looked for without a change of a file. It takes a few processes.
	upstreamsInterval = 30 * time.Second
)

// Keeping is what Watch does, as far as it is not this package's own.
type Keeping struct {
	// Wish asks CoreDNS what is wanted now.
	Wish func(context.Context) (Wish, error)
	// Tell tells a service manager, as sd_notify(3) does.
	Tell func(state string)
	Log  *slog.Logger
}

// Watch keeps a redirect that was applied: upstreams follow the network, what others overwrite is applied again, the mesh's hosts are
// routed as they come and go, and while CoreDNS does not answer the machine's own resolution is in force. It ends with the context, and
// changes nothing then.
func Watch(ctx context.Context, m Machine, k Keeping) error {
	changes, err := newChanges(m, k.Log)
	if err != nil {
		return fmt.Errorf("watch name resolution: %w", err)
	}
	w := &watching{keeping: k, resolution: keptMachine{m}, log: k.Log, changes: changes.C}
	err = w.run(ctx)
	return joinClose(err, changes)
}

// resolution is what there is to keep.
type resolution interface {
	// state is what was applied. Nil: nothing was.
	state() (*State, error)
	// holds is what of the State's Plan is not in force.
	holds(Plan) ([]string, error)
	// answers reports whether CoreDNS answers for the mesh.
	answers(context.Context, Plan) bool
	// decide makes the Plan of today.
	decide(context.Context, Wish) (Plan, error)
	apply(context.Context, Plan) error
	withdraw(ctx context.Context, why string) error
	// fight remembers that others overwrite what is applied. Empty: they do not.
	fight(ctx context.Context, what string) error
	// upstreams brings the file of upstreams up to date.
	upstreams(context.Context, Plan) error
}

// watching is one Watch.
type watching struct {
	keeping    Keeping
	resolution resolution
	log        *slog.Logger
	changes    <-chan struct{}

	// answered is when CoreDNS did last, asked when it was last asked for the mesh's hosts, found when the machine's resolvers were
	// last looked for.
	answered, asked, found time.Time
	budget                 budget
	told                   string
	// failures are those that were said, by what failed.
	failures map[string]string
}

func (w *watching) run(ctx context.Context) error {
	w.failures = map[string]string{}
	w.answered = time.Now()
	w.keeping.Tell("READY=1")
	w.look(ctx)
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	changed := time.NewTimer(settle)
	defer changed.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changes:
			changed.Reset(settle)
		case <-changed.C:
			w.found = time.Time{}
			w.look(ctx)
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

// look compares how things are with how they are to be, and does one thing about it.
func (w *watching) look(ctx context.Context) {
	state, err := w.resolution.state()
	if w.failed("read what was applied", err) || state == nil {
		return
	}
	// First, since what CoreDNS forwards to may be why it does not answer.
	if time.Since(w.found) >= upstreamsInterval {
		w.found = time.Now()
		w.failed("follow the machine's own resolvers", w.resolution.upstreams(ctx, state.Plan))
	}
	answers := w.resolution.answers(ctx, state.Plan)
	if answers {
		w.answered = time.Now()
	}
	switch {
	case state.Withdrawn != "":
		if answers {
			w.log.Info("CoreDNS answers again: taking name resolution over")
			w.failed("take name resolution over again", w.applyAnew(ctx, state))
		}
	case !answers && time.Since(w.answered) >= silence:
		why := fmt.Sprintf("CoreDNS at %s has answered nothing for %s", state.Plan.Server, silence)
		w.log.Warn("giving name resolution back until CoreDNS answers", "why", why)
		w.failed("give name resolution back", w.resolution.withdraw(ctx, why))
	case answers:
		w.keep(ctx, state)
	}
	w.say(state)
}

// keep has the Plan of today in force.
func (w *watching) keep(ctx context.Context, state *State) {
	missing, err := w.resolution.holds(state.Plan)
	if w.failed("see what is in force", err) {
		return
	}
	if len(missing) > 0 {
		w.defend(ctx, state, missing)
		return
	}
	if calm := w.budget.calm(time.Now()); calm && state.Fight != "" {
		w.failed("forget a fight that is over", w.resolution.fight(ctx, ""))
	}
	if time.Since(w.asked) < hostsInterval {
		return
	}
	w.asked = time.Now()
	plan, err := w.today(ctx)
	if w.failed("ask CoreDNS for the mesh's hosts", err) || sameEffect(plan, state.Plan) {
		return
	}
	w.log.Info("names to redirect have changed", "domains", len(plan.Domains), "before", len(state.Plan.Domains))
	w.failed("redirect other names", w.resolution.apply(ctx, plan))
}

// defend applies again what others have overwritten, as often as the budget allows.
func (w *watching) defend(ctx context.Context, state *State, missing []string) {
	now := time.Now()
	pause, fighting := w.budget.spend(now)
	if pause > 0 {
		return
	}
	w.log.Warn("applying again what others have changed", "changed", missing)
	w.failed("apply again what others have changed", w.applyAnew(ctx, state))
	if fighting {
		what := fmt.Sprintf("since %s others have overwritten it more than %d times in %s: %s", w.budget.since.UTC().Format(time.RFC3339), budgetTimes, budgetWindow, missing[0])
		if what != state.Fight {
			w.log.Error("somebody else writes the same: meshvm goes on ever more rarely", "changed", missing)
			w.failed("remember the fight", w.resolution.fight(ctx, what))
		}
	}
}

func (w *watching) applyAnew(ctx context.Context, state *State) error {
	plan, err := w.today(ctx)
	if err != nil {
		plan = state.Plan // CoreDNS answers, and only cannot say what has changed
	}
	return w.resolution.apply(ctx, plan)
}

// today is the Plan for the machine and the mesh as they are now.
func (w *watching) today(ctx context.Context) (Plan, error) {
	wish, err := w.keeping.Wish(ctx)
	if err != nil {
		return Plan{}, err
	}
	return w.resolution.decide(ctx, wish)
}

// failed says once what failed, and once that it does not any more.
func (w *watching) failed(what string, err error) bool {
	before := w.failures[what]
	switch {
	case err == nil:
		if before != "" {
			w.log.Info("it works again", "what", what)
			delete(w.failures, what)
		}
		return false
	case before != err.Error():
		w.log.Error("cannot "+what, "error", err)
		w.failures[what] = err.Error()
	}
	return true
}

// say tells the service manager how it stands.
func (w *watching) say(state *State) {
	text := fmt.Sprintf("STATUS=mode %s, names %s", state.Plan.Mode, names(state.Plan))
	switch {
	case state.Withdrawn != "":
		text = "STATUS=withdrawn " + state.Withdrawn
	case state.Fight != "":
		text = "STATUS=fought over " + state.Fight
	}
	if text != w.told {
		w.told = text
		w.keeping.Tell(text)
	}
}

func names(p Plan) string {
	if p.AllNames {
		return "all"
	}
	return fmt.Sprintf("of %d domains", len(slices.Compact(slices.Clone(p.Domains))))
}
