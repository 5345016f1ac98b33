package redirect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
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
	// leastLost is how many questions in a row have to be without an answer, since a look may take longer than silence.
	leastLost = 3
	// hostsInterval is how often CoreDNS is asked whether the mesh's hosts are others.
	hostsInterval = 5 * time.Second
	// upstreamsInterval is how often the machine is looked at, its resolvers first, without a change of a file. It takes a few processes.
	upstreamsInterval = 30 * time.Second
	// settled is how long another mode has to be the better one. An owner of resolution that is started anew is back by then.
	settled = time.Minute
	// firstRetry and longestRetry bound how long it is left alone what failed, twice as long each time.
	firstRetry   = 2 * time.Second
	longestRetry = 30 * time.Second
)

// Keeping is what Watch does, as far as it is not this package's own.
type Keeping struct {
	// Wish asks CoreDNS what the mesh wants now. What the operator asked for is in the State, whoever applied it.
	Wish func(context.Context) (Wish, error)
	// Tell tells a service manager, as sd_notify(3) does.
	Tell func(state string)
	Log  *slog.Logger
}

// Watch keeps a redirect that was applied: upstreams follow the network, what others overwrite is applied again, the mesh's hosts are
// routed as they come and go, and while CoreDNS does not answer the machine's own resolution is in force. It ends with the context, and
// changes nothing then.
func Watch(ctx context.Context, m Machine, k Keeping) error {
	changes, err := newChanges(m, folderInterval, k.Log)
	if err != nil {
		return fmt.Errorf("watch name resolution: %w", err)
	}
	w := &watching{keeping: k, resolution: keptMachine{m}, log: k.Log, changes: changes.C}
	err = w.run(ctx)
	return errors.Join(err, changes.Close())
}

// resolution is what there is to keep.
type resolution interface {
	// state is what was applied. Nil: nothing was.
	state() (*State, error)
	// holds is what of the State's Plan is not in force.
	holds(context.Context, Plan) ([]string, error)
	// answers reports whether CoreDNS answers for the mesh.
	answers(context.Context, Plan) bool
	// decide makes the Plan of today.
	decide(context.Context, Wish) (Plan, error)
	apply(context.Context, Plan) error
	withdraw(ctx context.Context, why string) error
	// fight remembers that others overwrite what is applied. Empty: they do not.
	fight(ctx context.Context, what string) error
	// upstreams brings the file of upstreams up to date. Without a Plan they are those of a machine that is not redirected.
	upstreams(context.Context, Plan) error
}

// watching is one Watch.
type watching struct {
	keeping    Keeping
	resolution resolution
	log        *slog.Logger
	changes    <-chan struct{}

	// answered is when CoreDNS did last, asked when it was last asked for the mesh's hosts, found when the machine was last looked at.
	answered, asked, found time.Time
	// lost is how many questions CoreDNS has not answered since.
	lost int
	// planned is the Wish that the Plan in force was last found to be for, since the machine was last looked at.
	planned *Wish
	budget  budget
	// better is the mode that would be chosen now in place of the one that is in force, and since when.
	better struct {
		mode  Mode
		since time.Time
	}
	// taking and giving are the pauses after name resolution could not be taken over, or given back.
	taking, giving retry
	told           string
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
	if w.failed("read what was applied", err) {
		w.say("STATUS=what was applied cannot be read: " + err.Error())
		return
	}
	plan := Plan{}
	if state != nil {
		plan = state.Plan
	}
	// First, since what CoreDNS forwards to may be why it does not answer.
	if time.Since(w.found) >= upstreamsInterval {
		w.found, w.planned = time.Now(), nil
		w.failed("follow the machine's own resolvers", w.resolution.upstreams(ctx, plan))
	}
	if state == nil {
		w.say("STATUS=nothing is redirected")
		return
	}
	answers := w.resolution.answers(ctx, state.Plan)
	w.lost++
	if answers {
		w.answered, w.lost = time.Now(), 0
	}
	switch {
	case state.Withdrawn != "":
		if answers && w.taking.due() {
			w.log.Info("CoreDNS answers: taking name resolution over again")
			w.applyAnew(ctx, state, "take name resolution over again")
		}
	case w.lost >= leastLost && time.Since(w.answered) >= silence && w.giving.due():
		why := fmt.Sprintf("CoreDNS at %s has answered nothing for %s", state.Plan.Server, silence)
		w.log.Warn("giving name resolution back until CoreDNS answers", "why", why)
		w.giving.note(w.failed("give name resolution back", w.resolution.withdraw(ctx, why)))
	case answers:
		w.keep(ctx, state)
	}
	w.say(standing(state))
}

// keep has the Plan of today in force.
func (w *watching) keep(ctx context.Context, state *State) {
	missing, err := w.resolution.holds(ctx, state.Plan)
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
	if time.Since(w.asked) < hostsInterval || !w.taking.due() {
		return
	}
	w.asked = time.Now()
	wish, err := w.wish(ctx, state)
	if w.failed("ask CoreDNS for the mesh's hosts", err) || w.planned != nil && reflect.DeepEqual(*w.planned, wish) {
		return
	}
	plan, err := w.resolution.decide(ctx, wish)
	if w.failed("decide what to redirect", err) || !w.settles(state, plan) {
		return
	}
	if effect := sameEffect(plan, state.Plan); effect && slices.Equal(plan.Upstreams, state.Plan.Upstreams) {
		w.planned = &wish
		return
	} else if !effect {
		w.log.Info("what is to be redirected has changed", "mode", plan.Mode, "domains", len(plan.Domains), "before", len(state.Plan.Domains))
	}
	w.taking.note(w.failed("redirect what has changed", w.resolution.apply(ctx, plan)))
}

// defend applies again what others have overwritten, as often as the budget allows.
func (w *watching) defend(ctx context.Context, state *State, missing []string) {
	if !w.taking.due() {
		return
	}
	pause, fighting := w.budget.spend(time.Now())
	if pause > 0 {
		return
	}
	w.log.Warn("applying again what others have changed", "changed", missing)
	w.applyAnew(ctx, state, "apply again what others have changed")
	if fighting {
		what := fmt.Sprintf("since %s others have overwritten it more than %s: %s", w.budget.since.UTC().Format(time.RFC3339), w.budget.over, missing[0])
		if what != state.Fight {
			w.log.Error("somebody else writes the same: meshvm goes on ever more rarely", "changed", missing)
			w.failed("remember the fight", w.resolution.fight(ctx, what))
		}
	}
}

// applyAnew applies the Plan for the machine and the mesh as they are now.
func (w *watching) applyAnew(ctx context.Context, state *State, what string) {
	plan := state.Plan
	wish, err := w.wish(ctx, state)
	if err == nil {
		var today Plan
		if today, err = w.resolution.decide(ctx, wish); err == nil && w.settles(state, today) {
			plan = today
		}
	}
	w.failed("ask what is wanted now, and go on by what was wanted before", err) // CoreDNS answers, so that is better than nothing
	w.taking.note(w.failed(what, w.resolution.apply(ctx, plan)))
}

// settles reports whether a Plan may take the place of the one that is in force: by the same mode at once, by another once it has been
// the better one for long enough. A systemd-resolved that is started anew does not run for a moment, and is the owner all the same.
func (w *watching) settles(state *State, plan Plan) bool {
	if plan.Mode == state.Plan.Mode {
		w.better.mode = ""
		return true
	}
	if w.better.mode != plan.Mode {
		w.better.mode, w.better.since = plan.Mode, time.Now()
	}
	return time.Since(w.better.since) >= settled
}

// wish is what the mesh wants now and the operator wanted when it was applied.
func (w *watching) wish(ctx context.Context, state *State) (Wish, error) {
	wish, err := w.keeping.Wish(ctx)
	wished := state.Plan.Wished
	wish.Mode, wish.AllNames, wish.Transparent = wished.Mode, wished.AllNames, wished.Transparent
	return wish, err
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
func (w *watching) say(text string) {
	if text != w.told {
		w.told = text
		w.keeping.Tell(text)
	}
}

func standing(s *State) string {
	switch {
	case s.Withdrawn != "":
		return "STATUS=withdrawn " + s.Withdrawn
	case s.Fight != "":
		return "STATUS=fought over " + s.Fight
	}
	return fmt.Sprintf("STATUS=mode %s, names %s", s.Plan.Mode, names(s.Plan))
}

func names(p Plan) string {
	if p.AllNames {
		return "all"
	}
	return fmt.Sprintf("of %d domains", len(p.Domains))
}
