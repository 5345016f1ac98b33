package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/registry"
)

// guardFlags are the flags of the shrink guard.
type guardFlags struct {
	share        float64
	minimum      int
	window, hold time.Duration
}

func (g *guardFlags) declare(flags *pflag.FlagSet) {
	flags.Float64Var(&g.share, "shrink-guard-share", registry.DefaultGuardShare, "hold removals back when more than this `SHARE` of what everybody or a namespace sees of a kind of objects vanishes within the window; 0 never does")
	flags.IntVar(&g.minimum, "shrink-guard-minimum", registry.DefaultGuardMinimum, "`NUMBER` of names that must vanish at least before removals are held back")
	flags.DurationVar(&g.window, "shrink-guard-window", registry.DefaultGuardWindow, "`DURATION` over which what vanishes is added up")
	flags.DurationVar(&g.hold, "shrink-guard-hold", registry.DefaultGuardHold, "`DURATION` that a removal is held back, unless POST /guard/release on the HTTP address, from loopback only, ends it")
}

// options checks the flags.
func (g *guardFlags) options() (registry.GuardOptions, error) {
	switch {
	case g.minimum <= 0:
		return registry.GuardOptions{}, fmt.Errorf("--shrink-guard-minimum %d: want at least 1", g.minimum)
	case g.window <= 0:
		return registry.GuardOptions{}, fmt.Errorf("--shrink-guard-window %s: want a time such as 1m", g.window)
	case g.hold <= 0:
		return registry.GuardOptions{}, fmt.Errorf("--shrink-guard-hold %s: want a time such as 10m; --shrink-guard-share 0 turns the guard off", g.hold)
	}
	options := registry.GuardOptions{Share: g.share, Minimum: g.minimum, Window: g.window, Hold: g.hold}
	if options.Validate() != nil { // The others are fine.
		return registry.GuardOptions{}, fmt.Errorf("--shrink-guard-share %v: want at least 0 and less than 1; 0 turns the guard off", g.share)
	}
	return options, nil
}
