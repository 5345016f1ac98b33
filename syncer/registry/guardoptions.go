package registry

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// What a guard does where GuardOptions do not say.
const (
	DefaultGuardShare   = 0.5
	DefaultGuardMinimum = 20
	DefaultGuardWindow  = time.Minute
	DefaultGuardHold    = 10 * time.Minute
)

// GuardOptions say when removals are held back. The zero value is no guard at all.
//
// A guard is about names that vanish by mistake: a CustomResourceDefinition is deleted and all its
// objects go with it, a folder of manifests is empty because its mount failed, somebody's clean-up took
// too much. What is held back is simply still in the registry, in every view, digest and explanation.
//
// Shares are taken of what a source has of one kind, and there of each class of visibility by itself: of what
// everybody sees, of what each namespace sees beside that, and of all of it. A view is the sum of two
// classes, so no view loses more than the share without being noticed, although no view is counted; a namespace
// whose own names vanish is noticed among ten thousand others that stay. Kinds are apart because they fail
// apart: few ServiceEntries beside many Services are no small matter for a VM that needs them. Shares of a
// whole registry would hide both.
//
// What goes one by one is let pass until it is too much, and then comes back and is held: also what was removed
// on purpose shortly before, for nobody can tell the two apart. A source that knows the first removal for one of
// many says so with SetTerminating.
//
// Held back is only that an object goes. One that is there and says less, or is exported to fewer, is
// obeyed: somebody edited it.
type GuardOptions struct {
	// Share is how much may vanish within a Window: more is held back. At least 0 and less than 1.
	// Zero: no guard.
	Share float64
	// Minimum is how many resources must vanish at least: fewer always may. Zero: DefaultGuardMinimum.
	Minimum int
	// Window is the time that what vanishes is added up over. Zero: DefaultGuardWindow.
	Window time.Duration
	// Hold is how long a removal is held back. Zero: DefaultGuardHold.
	Hold time.Duration
	// Log is told when a hold begins and ends. Nil: nobody is.
	Log *slog.Logger
}

// Validate names the first option that makes no sense.
func (o GuardOptions) Validate() error {
	switch {
	case !(o.Share >= 0 && o.Share < 1): // NaN is neither.
		return fmt.Errorf("share %v: want at least 0 and less than 1, where 0 is no guard", o.Share)
	case o.Minimum < 0:
		return fmt.Errorf("minimum %d: want a number of resources", o.Minimum)
	case o.Window < 0:
		return fmt.Errorf("window %s: want a duration", o.Window)
	case o.Hold < 0:
		return fmt.Errorf("hold %s: want a duration", o.Hold)
	}
	return nil
}

// guarding is what the guards of a registry share.
type guarding struct {
	options GuardOptions
	// wake has an element when something may be due sooner than was known.
	wake chan struct{}
}

// newGuarding completes the options. It panics when they make no sense: who lets people choose them
// checks them.
func newGuarding(options GuardOptions) guarding {
	if err := options.Validate(); err != nil {
		panic(errors.Join(errors.New("registry: options of the guard"), err))
	}
	options.Minimum = cmp.Or(options.Minimum, DefaultGuardMinimum)
	options.Window = cmp.Or(options.Window, DefaultGuardWindow)
	options.Hold = cmp.Or(options.Hold, DefaultGuardHold)
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return guarding{options: options, wake: make(chan struct{}, 1)}
}
