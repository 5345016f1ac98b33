package kubernetes

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// planLimit is how many hosts get their addresses at once: many, as a shard of the ledger is written once
	// for all of them, but not so many that others wait long for a status.
	planLimit = 4096
	// gather is how long changes are gathered that come together.
	gather = 50 * time.Millisecond
	// minWake bounds how often time alone has something planned.
	minWake = 100 * time.Millisecond
)

// allocation is an allocator that was made from ledger and statuses, and what was said since.
type allocation struct {
	*term
	allocator *vip.Allocator
	ledger    *ledger
	entries   map[vip.Owner]*entry
	problems  map[vip.Owner][]vip.Problem
	overlaps  map[holder][]netip.Prefix
	sometimes rate.Sometimes
	// counted says that the metrics tell what is used.
	counted bool
}

// allocate reads the ledger and gives virtual IPs until ctx is done or the ledger cannot be written.
func (t *term) allocate(ctx context.Context) error {
	ledger, err := readLedger(ctx, t.controller.clients.ledger, t.controller.metrics)
	if err != nil {
		return err
	}
	t.controller.metrics.unreadable.Set(0)
	a := &allocation{
		term:      t,
		allocator: vip.New(t.controller.config.Allocation),
		ledger:    ledger,
		entries:   map[vip.Owner]*entry{},
		problems:  map[vip.Owner][]vip.Problem{},
		overlaps:  map[holder][]netip.Prefix{},
		sometimes: rate.Sometimes{First: 10, Interval: logInterval},
	}
	a.allocator.Restore(ledger.records())
	for news := t.view.all(); ; news = t.view.take() {
		more, wake, err := a.step(ctx, news)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if !waitFor(ctx, t.view.wake, untilWake(wake)) {
			return ctx.Err()
		}
		pause(ctx, gather)
	}
}

// untilWake is how long to wait for a time. Zero: no time.
func untilWake(wake time.Time) time.Duration {
	if wake.IsZero() {
		return 0
	}
	return max(time.Until(wake), minWake)
}

// step takes news, plans, stores what was planned, and has it written.
func (a *allocation) step(ctx context.Context, news changes) (more bool, wake time.Time, err error) {
	a.mu.Lock()
	a.take(news)
	plan := a.allocator.Plan(planLimit)
	wake = a.allocator.Wake()
	var usage []vip.Usage
	if len(plan.Store)+len(plan.Forget) > 0 || !a.counted {
		usage, a.counted = a.allocator.Usage(), true
	}
	// From now on it knows all that it was told.
	a.term.allocator = a.allocator
	a.mu.Unlock()
	if err := a.ledger.write(ctx, plan.Store, plan.Forget); err != nil {
		return false, time.Time{}, err
	}
	if ctx.Err() != nil {
		return false, time.Time{}, ctx.Err()
	}
	a.dispatch(plan, news)
	a.controller.metrics.setUsage(usage)
	a.controller.metrics.setProblems(a.problems)
	if len(plan.Store)+len(plan.Forget)+len(plan.Patches) > 0 {
		a.log.Debug("planned virtual IPs", "stored", len(plan.Store), "forgotten", len(plan.Forget), "patches", len(plan.Patches))
	}
	return plan.More, wake, nil
}

// take tells the allocator what is new.
func (a *allocation) take(news changes) {
	for h, prefixes := range news.reserved {
		a.allocator.Reserve(h.String(), prefixes...)
		a.noteOverlaps(h, prefixes)
	}
	for owner, e := range news.entries {
		if e == nil {
			delete(a.entries, owner)
			delete(a.problems, owner)
			a.allocator.Remove(owner)
			continue
		}
		a.entries[owner] = e
		a.allocator.Put(e.claim())
	}
	for owner := range news.retried {
		a.allocator.Retry(owner)
	}
}

// dispatch has statuses written and problems told.
func (a *allocation) dispatch(plan vip.Plan, news changes) {
	looked := map[vip.Owner]bool{}
	for owner, e := range news.entries {
		if e == nil {
			a.patcher.forget(owner)
			continue
		}
		a.patcher.drop(owner) // It was decided on an older state.
		looked[owner] = true
	}
	for owner := range news.retried {
		looked[owner] = true
	}
	for _, verdict := range plan.Verdicts {
		looked[verdict.Owner] = true
		a.tell(verdict)
	}
	addresses := make(map[vip.Owner][]vip.HostAddress, len(plan.Patches))
	inOrder := make([]vip.Owner, 0, len(looked))
	for _, patch := range plan.Patches {
		addresses[patch.Owner] = patch.Addresses
		inOrder = append(inOrder, patch.Owner)
		delete(looked, patch.Owner)
	}
	for owner := range looked {
		inOrder = append(inOrder, owner)
	}
	for _, owner := range inOrder {
		e := a.entries[owner]
		if e == nil || e.fault != nil {
			continue
		}
		w := work{entry: e, condition: newCondition(a.problems[owner])}
		w.addresses, w.writeAddresses = addresses[owner]
		w.writeCondition = !w.condition.equal(e.status.condition)
		if w.writeAddresses || w.writeCondition {
			a.patcher.put(w)
		}
	}
}

// tell reports what is wrong with a ServiceEntry, or no longer is.
func (a *allocation) tell(verdict vip.Verdict) {
	e := a.entries[verdict.Owner]
	if e == nil {
		return
	}
	if len(verdict.Problems) == 0 {
		delete(a.problems, verdict.Owner)
		a.log.Info("the virtual IPs of a ServiceEntry are in order again", "ServiceEntry", verdict.Owner.String())
		return
	}
	a.problems[verdict.Owner] = verdict.Problems
	a.events.problems(e, verdict.Problems)
	a.sometimes.Do(func() {
		for _, problem := range verdict.Problems {
			a.log.Warn("problem with virtual IPs", "ServiceEntry", verdict.Owner.String(), "host", problem.Host,
				"reason", string(problem.Reason), "problem", problem.Message)
		}
	})
}

// noteOverlaps reports networks, not single addresses, that overlap a range: nothing of them is given.
func (a *allocation) noteOverlaps(h holder, prefixes []netip.Prefix) {
	var wide []netip.Prefix
	for _, prefix := range prefixes {
		if !prefix.IsSingleIP() {
			wide = append(wide, prefix)
		}
	}
	before := a.overlaps[h]
	if len(wide) == 0 {
		delete(a.overlaps, h)
	} else {
		a.overlaps[h] = wide
	}
	ranges := a.controller.config.Allocation.Ranges
	for _, prefix := range wide {
		if slices.Contains(before, prefix) {
			continue
		}
		for _, own := range ranges.Overlapping(prefix) {
			message := "it overlaps " + own.String() + ", which virtual IPs are given from: none of its addresses is given"
			if prefix.Bits() <= own.Bits() {
				message = "it covers " + own.String() + ", which virtual IPs are given from, as a whole: none can be given from there; choose another range"
				a.log.Error("a range of virtual IPs cannot be used, a network of the cluster covers it", "range", own.String(), "network", prefix.String(), "of", h.String())
			} else {
				a.log.Warn("a range of virtual IPs overlaps a network of the cluster, nothing of that is given", "range", own.String(), "network", prefix.String(), "of", h.String())
			}
			if h.kind != kindEntry {
				a.events.overlap(h, prefix.String()+": "+message)
			}
		}
	}
	counts := map[netip.Prefix]int{}
	for _, networks := range a.overlaps {
		for _, prefix := range networks {
			for _, own := range ranges.Overlapping(prefix) {
				counts[own]++
			}
		}
	}
	for _, own := range ranges.All() {
		a.controller.metrics.covered.WithLabelValues(own.String()).Set(float64(counts[own]))
	}
}
