package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// redirectApply is one apply.
type redirectApply struct {
	redirectWish
	wait    time.Duration
	machine redirect.Machine
	// decide makes the plan. It changes nothing.
	decide func(context.Context, redirect.Machine, redirect.Wish) (redirect.Plan, error)
}

func (a *redirectApply) declare(flags *pflag.FlagSet) {
	a.redirectWish.declare(flags)
	flags.DurationVar(&a.wait, "wait", time.Minute, "how long to wait until CoreDNS answers")
}

const redirectApplyUsage = `meshvmctl redirect apply has this machine ask CoreDNS for names, once CoreDNS answers. Where the machine does not find a name of the mesh
afterwards all is undone. Applied again it brings the machine to what is wanted now; where that holds, it changes nothing. It needs root.

Usage:
  meshvmctl redirect apply [flags]

Exit codes: 0 the redirect is in force, or --mode none was asked for and nothing is redirected; 1 nothing can be done on this machine,
CoreDNS does not answer, or a step failed: name resolution is as it was; 2 wrong usage.

Flags:
`

func runRedirectApply(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := redirectApply{decide: decideRedirect}
	return a.run(ctx, args, stdout, stderr)
}

func (a *redirectApply) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("meshvmctl redirect apply", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	a.declare(flags)
	err := flags.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, redirectApplyUsage+flags.FlagUsagesWrapped(100))
		return exitDone
	}
	if err == nil {
		err = a.check(flags.Args())
	}
	if err == nil && a.wait < 0 {
		err = fmt.Errorf("--wait %s: want no less than nothing", a.wait)
	}
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect apply: %v (see meshvmctl redirect apply --help)\n", err)
		return exitUsage
	}
	plan, outcome, err := a.apply(ctx)
	warnRedirect(stderr, "apply", outcome)
	if err != nil {
		fmt.Fprintf(stderr, "meshvmctl redirect apply: %v%s\n", err, needsRoot(err))
		return exitRefused
	}
	return a.print(plan, outcome, stdout, stderr)
}

// apply waits for CoreDNS, decides and does it.
func (a *redirectApply) apply(ctx context.Context) (redirect.Plan, redirect.Outcome, error) {
	if redirect.Mode(a.mode) == redirect.None && !a.transparent {
		outcome, err := redirect.Revert(ctx, a.machine)
		return redirect.Plan{Mode: redirect.None, Why: "it was asked for"}, outcome, err
	}
	waiting, cancel := context.WithTimeout(ctx, max(a.wait, time.Millisecond))
	defer cancel()
	wish, err := a.await(waiting)
	if err != nil {
		return redirect.Plan{}, redirect.Outcome{}, err
	}
	before, err := a.forget(ctx)
	if err != nil {
		return redirect.Plan{}, before, err
	}
	plan, err := a.decide(ctx, a.machine, wish)
	if err != nil {
		return redirect.Plan{}, before, err
	}
	if plan.Mode != redirect.None || plan.Transparent {
		// CoreDNS may have started before the network. Who follows it from then on starts after this.
		if _, _, err := redirect.WriteUpstreams(ctx, a.machine, plan.Server); err != nil {
			before.Warnings = append(before.Warnings, err.Error())
		}
		if err := redirect.Await(waiting, plan); err != nil {
			return plan, before, fmt.Errorf("within %s: %w", a.wait, err)
		}
	}
	outcome, err := redirect.Apply(ctx, a.machine, plan)
	outcome.Warnings = append(before.Warnings, outcome.Warnings...)
	return plan, outcome, err
}

// forget undoes what is ours where the State cannot be used: nobody can tell what was there before until then.
func (a *redirectApply) forget(ctx context.Context) (redirect.Outcome, error) {
	_, err := redirect.LoadState(a.machine)
	if unusable := (*redirect.UnusableState)(nil); errors.As(err, &unusable) {
		return redirect.Revert(ctx, a.machine)
	}
	return redirect.Outcome{}, err
}

// await asks CoreDNS until it says what the mesh wants.
func (a *redirectApply) await(ctx context.Context) (redirect.Wish, error) {
	const pause = 250 * time.Millisecond
	for {
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		wish, err := a.ask(asking)
		cancel()
		if err == nil {
			return wish, nil
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return redirect.Wish{}, fmt.Errorf("within %s: %w", a.wait, err)
		}
	}
}

func (a *redirectApply) print(plan redirect.Plan, outcome redirect.Outcome, stdout, stderr io.Writer) int {
	for _, warning := range plan.Warnings {
		fmt.Fprintf(stderr, "meshvmctl redirect apply: warning: %s\n", warning)
	}
	if plan.Mode == redirect.None && !plan.Transparent {
		fmt.Fprintf(stdout, "nothing is redirected: %s\n", plan.Why)
		if redirect.Mode(a.mode) == redirect.None {
			return exitDone
		}
		return exitRefused
	}
	how := "is redirected"
	if !outcome.Changed {
		how = "was redirected already"
	}
	fmt.Fprintf(stdout, "name resolution %s to CoreDNS at %s by mode %s: %s\nnames: %s\n", how, plan.Server, plan.Mode, plan.Why, redirectedNames(&plan))
	if len(plan.Missed) > 0 {
		fmt.Fprintf(stdout, "hosts of the mesh that are not among them (--all-names has them): %s\n", redirectedNames(&redirect.Plan{Domains: plan.Missed}))
	}
	return exitDone
}
