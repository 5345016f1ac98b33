package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// fullReuse is how long an encoded whole view is given to others. What has changed since follows as a
// delta, so that a thousand VMs that come back at once cost one encoding, also while things change.
const fullReuse = 10 * time.Second

// welcome chooses how the VM is brought up to date, says so and, unless the log has the rest, sends
// what the VM lacks. A VM that has to wait for its turn waits before it is welcomed: from then on it takes
// silence for a fault.
func (st *stream) welcome(ctx context.Context, hello *registryv1.Hello) error {
	mode := st.chooseMode(hello)
	st.compares = hello.GetCompare()
	switch mode {
	case registryv1.Mode_MODE_RESUME:
		st.begun(modeResume)
		return st.sayWelcome(mode, 0)
	case registryv1.Mode_MODE_COMPARE:
		st.setMode(modeCompare)
		if done, err := st.compareAtOnce(hello.GetHolding()); done || err != nil {
			return err
		}
	}
	release, err := st.server.admit(ctx)
	if err != nil {
		return err
	}
	defer release()
	if mode == registryv1.Mode_MODE_COMPARE {
		return st.compare(ctx, hello.GetHolding())
	}
	st.begun(modeFull)
	if err := st.sayWelcome(mode, 0); err != nil {
		return err
	}
	return st.replace(ctx)
}

// sayWelcome says how the VM is brought up to date, and with a Compare, in how many buckets.
func (st *stream) sayWelcome(mode registryv1.Mode, buckets int) error {
	st.welcomed.Store(true)
	return st.send(&registryv1.WatchResponse{Response: &registryv1.WatchResponse_Welcome{Welcome: &registryv1.Welcome{
		Mode:                    mode,
		Generation:              st.view.generation(),
		View:                    st.who.namespace,
		ClusterDomain:           st.server.opts.ClusterDomain,
		HeartbeatIntervalMillis: uint32(st.server.opts.HeartbeatInterval.Milliseconds()),
		Buckets:                 uint32(buckets),
	}}})
}

// begun notes how the VM is brought up to date.
func (st *stream) begun(mode string) {
	st.setMode(mode)
	st.server.metrics.syncs.WithLabelValues(mode).Inc()
}

// chooseMode decides by what the VM holds: RESUME when the log takes it from there, COMPARE when it is
// of use and not in the log, else FULL.
func (st *stream) chooseMode(hello *registryv1.Hello) registryv1.Mode {
	if position := hello.GetPosition(); st.canResume(position) {
		st.cursor = position.GetRevision()
		st.sent.Store(st.cursor)
		st.acked.Store(st.cursor)
		return registryv1.Mode_MODE_RESUME
	}
	if st.comparable(hello) {
		return registryv1.Mode_MODE_COMPARE
	}
	return registryv1.Mode_MODE_FULL
}

func (st *stream) canResume(position *registryv1.Position) bool {
	if position == nil || position.GetGeneration() != st.view.generation() || position.GetView() != st.who.namespace {
		return false
	}
	_, err := st.view.open().Changes(position.GetRevision(), st.view.current().proof.Revision)
	return err == nil
}

// comparedAnew is how many resources a view has at least for a VM that has fallen off the log to come again
// and be compared. A smaller one is sent whole for less than a connection costs.
const comparedAnew = 256

// errFallen is what such a VM is told. It comes again at once and says what it holds.
var errFallen = status.Error(codes.Aborted, "the change log no longer reaches back to where this stream is: come again and be compared")

// catchUp sends what lies between the cursor and a head. A stream that has fallen off the log is compared
// anew, or is sent the whole view again.
func (st *stream) catchUp(ctx context.Context, to head) error {
	if st.cursor >= to.proof.Revision {
		return nil
	}
	key := rangeKey{view: st.view.name, from: st.cursor, to: to.proof.Revision}
	if st.changed != 0 && st.changed == to.since {
		key = to.step(st.view.name)
	}
	d, err := st.server.deltas.get(ctx, key, 0, func() (*delta, error) {
		// Between key.from and the cursor, where they differ, the view saw nothing; the log may not have it.
		changes, err := st.view.open().Changes(st.cursor, key.to)
		if err != nil {
			return nil, err
		}
		return encodeChanges(changes, st.server.opts.FrameBytes), nil
	})
	switch {
	case errors.Is(err, registry.ErrCompacted):
		st.server.metrics.compacted.Inc()
		if st.compares && to.proof.Resources >= comparedAnew {
			return errFallen
		}
		release, err := st.server.admitAgain(ctx)
		if err != nil {
			return err
		}
		defer release()
		return st.replace(ctx)
	case err != nil:
		return err
	}
	if !d.empty {
		if err := st.sendDelta(modeChange, d, st.sent.Load()); err != nil {
			return err
		}
	}
	st.cursor, st.changed = to.proof.Revision, to.changed
	return nil
}

// replace sends the whole view to a stream that has been admitted.
func (st *stream) replace(ctx context.Context) error {
	for ctx.Err() == nil {
		key := rangeKey{view: st.view.name, replace: true}
		d, err := st.server.deltas.get(ctx, key, fullReuse, func() (*delta, error) {
			return encodeContent(st.view.open().Content(), st.server.opts.FrameBytes), nil
		})
		if err != nil {
			return err
		}
		// The head must not be behind what was encoded, or no proof would fit.
		st.view.advance()
		head := st.view.current()
		if _, err := st.view.open().Changes(d.to, head.proof.Revision); err != nil {
			// Encoded before more happened than the log holds.
			st.server.deltas.forget(key, d)
			continue
		}
		return st.bring(modeFull, d)
	}
	return context.Cause(ctx)
}

// bring sends what brings the VM up to date, whatever it holds.
func (st *stream) bring(mode string, d *delta) error {
	st.cursor, st.changed = d.to, 0
	st.broughtUp.Store(d.to)
	return st.sendDelta(mode, d, 0)
}

// sendDelta sends all frames of a delta to a mirror that is at the revision from.
func (st *stream) sendDelta(mode string, d *delta, from uint64) error {
	for i, f := range d.frames {
		if i == len(d.frames)-1 {
			st.sent.Store(d.to) // before the frame goes, as the Ack may be back before send returns
		}
		m := f.message(from)
		if err := st.send(m); err != nil {
			return err
		}
		st.server.metrics.frames.WithLabelValues(mode).Inc()
		st.server.metrics.bytes.WithLabelValues(mode).Add(float64(m.buffers.Len()))
	}
	return nil
}
