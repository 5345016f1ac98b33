package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// Wish is what the operator wants.
type Wish struct {
	// NoRedirect leaves whom the machine asks for names as it is.
	NoRedirect bool
	// Wait bounds how long the mesh may take to answer.
	Wait time.Duration
}

// Outcome is what Join has done.
type Outcome struct {
	// Changed are files that are new or other than before.
	Changed []string
	// Report is of CoreDNS in step with its syncers. It has no mirrors where only an image was made.
	Report status.Report
	// Standing is how the redirect stands.
	Standing redirect.Standing
	// Answer is a name of the mesh that the machine finds. Empty: none is known.
	Answer Answer
}

// undoing bounds how long it may take to put back what was.
const undoing = 90 * time.Second

// Join installs a bundle that Check has nothing against, and starts the units, until CoreDNS is in step with every syncer
// that it follows. With an error all is put back, so that the machine resolves names as before. To join again with the
// same bundle changes nothing, and with another brings the machine to that.
func (m Machine) Join(ctx context.Context, b Bundle, wish Wish) (_ Outcome, err error) {
	if m.isImage() {
		return m.prepare(ctx, b, wish)
	}
	before := m.standing(ctx)
	installed, err := m.Install(b)
	if err != nil {
		return Outcome{}, err
	}
	defer func() {
		if err != nil {
			putting, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoing)
			defer cancel()
			if undone := m.putBack(putting, before, installed); undone != nil {
				err = errors.Join(err, fmt.Errorf("put back what was: %w", undone))
			}
		}
	}()
	waiting, cancel := context.WithTimeoutCause(ctx, wish.Wait, fmt.Errorf("not done within %s", wish.Wait))
	defer cancel()
	outcome := Outcome{Changed: installed.Changed}
	if err := m.start(waiting, serviceUnit, before.service, len(installed.Changed) > 0); err != nil {
		return Outcome{}, m.withLog(ctx, err)
	}
	if outcome.Report, err = m.awaitSync(waiting); err != nil {
		return Outcome{}, err
	}
	if !wish.NoRedirect {
		if err := m.systemctl(waiting, "enable", recoverUnit); err != nil {
			return Outcome{}, err
		}
		other := slices.Contains(installed.Changed, directory+"/"+corefileName)
		if err := m.start(waiting, redirectUnit, before.redirect, other); err != nil {
			return Outcome{}, fmt.Errorf("%w\nlook at: meshvmctl redirect plan; journalctl -u %s; or join with --no-redirect", err, redirectUnit)
		}
	}
	if outcome.Standing, err = redirect.Stand(redirect.Machine{Root: m.Root}); err != nil {
		return Outcome{}, err
	}
	outcome.Answer, err = m.findAnswer(waiting, outcome.Report, outcome.Standing.InForce)
	return outcome, err
}

// prepare makes an image that joins when it is booted.
func (m Machine) prepare(ctx context.Context, b Bundle, wish Wish) (Outcome, error) {
	installed, err := m.Install(b)
	if err != nil {
		return Outcome{}, err
	}
	units := []string{"enable", serviceUnit}
	if !wish.NoRedirect {
		units = append(units, redirectUnit, recoverUnit)
	}
	if err := m.systemctl(ctx, units...); err != nil {
		return Outcome{}, errors.Join(err, installed.Undo())
	}
	return Outcome{Changed: installed.Changed}, nil
}

// unit is how a unit stands. One that is starting may be so for as long as something is missing, and is as little to be stopped as one
// that is active.
type unit struct{ active, starting, enabled bool }

type units struct{ service, redirect, atBoot unit }

func (m Machine) standing(ctx context.Context) units {
	of := func(name string) unit {
		said, err := m.run(ctx, "systemctl", "is-active", name)
		return unit{active: err == nil, starting: err != nil && strings.TrimSpace(string(said)) == "activating", enabled: m.is(ctx, "is-enabled", name)}
	}
	return units{of(serviceUnit), of(redirectUnit), of(recoverUnit)}
}

// start enables a unit and has it run with the files as they are now.
func (m Machine) start(ctx context.Context, name string, before unit, changed bool) error {
	if err := m.systemctl(ctx, "enable", name); err != nil {
		return err
	}
	verb := "start"
	if (before.active || before.starting) && changed {
		verb = "restart"
	}
	return m.systemctl(ctx, verb, name)
}

// putBack has files and units as they were. The redirect goes before CoreDNS does.
func (m Machine) putBack(ctx context.Context, before units, installed *Installed) error {
	var failures []error
	changed := len(installed.Changed) > 0
	stop := func(name string, was unit) {
		if !was.enabled {
			failures = append(failures, m.systemctl(ctx, "disable", name))
		}
		if !was.active && !was.starting {
			failures = append(failures, m.systemctl(ctx, "stop", name))
		}
	}
	stop(redirectUnit, before.redirect)
	if !before.atBoot.enabled {
		failures = append(failures, m.systemctl(ctx, "disable", recoverUnit))
	}
	stop(serviceUnit, before.service)
	failures = append(failures, installed.Undo())
	restart := func(name string, was unit) {
		switch {
		case was.active && changed:
			failures = append(failures, m.systemctl(ctx, "restart", name))
		case was.starting:
			// It was not ready before, and need not be now.
			failures = append(failures, m.systemctl(ctx, "restart", "--no-block", name))
		}
	}
	restart(serviceUnit, before.service)
	restart(redirectUnit, before.redirect)
	return errors.Join(failures...)
}

// withLog is an error of the service with what it logged last.
func (m Machine) withLog(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	said, failed := m.run(ctx, "journalctl", "--unit", serviceUnit, "--lines", "8", "--output", "cat", "--no-pager")
	if failed != nil {
		return fmt.Errorf("%w\nlook at: journalctl -u %s", err, serviceUnit)
	}
	return fmt.Errorf("%w\nit logged last:%s", err, indent(said))
}

// awaitSync waits until CoreDNS is in step with every syncer.
func (m Machine) awaitSync(ctx context.Context) (status.Report, error) {
	const pause = 200 * time.Millisecond
	again := time.NewTicker(pause)
	defer again.Stop()
	var last error
	for {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		report, err := status.Ask(asking, m.path(status.DefaultSocket))
		cancel()
		if err == nil {
			err = unsynced(report)
		}
		if err == nil {
			return report, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return status.Report{}, errors.Join(fmt.Errorf("wait for the mesh: %w", context.Cause(ctx)), last)
		}
	}
}

// unsynced says why a process is not in step with its syncers. Nil: it is.
func unsynced(report status.Report) error {
	if len(report.Mirrors) == 0 {
		return errors.New("CoreDNS runs without meshvm")
	}
	for _, mirror := range report.Mirrors {
		if mirror.Synced {
			continue
		}
		text := "it is not yet in step with " + strings.Join(mirror.Syncers, " ")
		if p := mirror.Problem; p != nil {
			text += ": " + p.Message
			if p.Remedy != "" {
				text += "\nwhat to do: " + p.Remedy
			}
		}
		return errors.New(text)
	}
	return nil
}
