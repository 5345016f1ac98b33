package server

import (
	"cmp"
	"slices"
	"time"
)

// maxSteps bounds how many steps of a view are remembered: at the usual window, five seconds of unceasing
// change.
const maxSteps = 256

// steps are the latest changes of a view, oldest first.
type steps struct {
	latest []step
}

// step is a revision that changed a view, and when its streams were woken for it.
type step struct {
	revision uint64
	at       time.Time
}

func (s *steps) add(revision uint64, at time.Time) {
	if len(s.latest) == maxSteps {
		// Half at a time, so that an addition costs nothing to speak of.
		s.latest = append(s.latest[:0], s.latest[maxSteps/2:]...)
	}
	s.latest = append(s.latest, step{revision, at})
}

// after is when the first change after a revision was sent off, zero where there is none. Of changes longer
// ago than what is remembered it knows no more than the oldest that is.
func (s *steps) after(revision uint64) time.Time {
	i, _ := slices.BinarySearchFunc(s.latest, revision+1, func(s step, revision uint64) int {
		return cmp.Compare(s.revision, revision)
	})
	if i == len(s.latest) {
		return time.Time{}
	}
	return s.latest[i].at
}

// changedAfter is when the streams of the view were sent the first change after a revision, zero where there
// is none.
func (v *view) changedAfter(revision uint64) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.steps.after(revision)
}

// acknowledge takes in that the VM has applied everything up to a revision.
func (st *stream) acknowledge(revision uint64) {
	before := st.acked.Swap(revision)
	if revision <= before || before < st.broughtUp.Load() {
		return // nothing new, or what brought it up to date, which was sent when it came and not before
	}
	if since := st.lacking(before); !since.IsZero() {
		st.server.metrics.acked.Observe(st.server.opts.Now().Sub(since).Seconds())
	}
}

// lacking is since when a VM that is at a revision has lacked a change: when it was sent off, or when the VM
// came, whichever is later. It is zero where the VM lacks none.
func (st *stream) lacking(revision uint64) time.Time {
	since := st.view.changedAfter(revision)
	if !since.IsZero() && since.Before(st.since) {
		return st.since
	}
	return since
}
