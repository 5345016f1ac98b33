package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// ending is how a stream to one address ended.
type ending struct {
	failure *failure
	// welcomed: there was a stream at all. synced: a heartbeat proved the mirror in step.
	welcomed, synced bool
	// lived is from Welcome to the end.
	lived time.Duration
}

// repair reports whether opening the stream again is what helps: with a Compare, or a full copy. What is absurd
// comes again as it is, until somebody mends it.
func (e ending) repair() bool {
	refused, is := errors.AsType[*refusal](e.failure.err)
	return e.failure.cause == CauseMismatch || e.failure.cause == CauseRefused && !(is && refused.absurd())
}

// follow keeps the mirror in step through one stream, for as long as that lasts.
func (c *Client) follow(ctx context.Context, address string) ending {
	s := newSession(c.mirror, c.observer, c.trust, c.limits.staged)
	var welcomed time.Time
	failed := c.converse(ctx, address, s, func(interrupt context.CancelCauseFunc) {
		if welcomed.IsZero() {
			welcomed = time.Now()
			c.enter(address, welcomed, s.welcome.GetMode())
		}
		if s.synced {
			c.inStep(address, s, interrupt)
		}
	})
	if failed.cause == CauseOther && s.comparing != nil {
		// The syncer does not accept what this VM says in a Compare.
		s.distrust()
	}
	c.trust = s.trust
	end := ending{failure: failed, welcomed: !welcomed.IsZero(), synced: s.synced}
	if end.welcomed {
		end.lived = time.Since(welcomed)
	}
	c.leave(address, end)
	return end
}

// converse opens a stream and takes what comes until it ends. It calls progress after every message that
// was good, with what ends the stream for a cause.
func (c *Client) converse(ctx context.Context, address string, s *session, progress func(interrupt context.CancelCauseFunc)) (failed *failure) {
	conn, err := c.connect(address)
	if err != nil {
		return &failure{cause: CauseCredentials, err: err}
	}
	defer func() {
		// The stream is over: what closing says adds nothing to why.
		if err := conn.close(); err != nil {
			c.log.Debug("close connection", "address", address, "error", err)
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	guard := newWatchdog(cancel)
	defer guard.disarm()
	defer c.files.detach()
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel(nil)

	guard.arm(c.limits.connect, &failure{cause: CauseTimeout, err: fmt.Errorf("no connection within %s", c.limits.connect)})
	stream, err := registryv1.NewRegistryClient(conn).Watch(ctx)
	if err != nil {
		return classify(ctx, err, nil)
	}
	guard.arm(c.limits.welcome, &failure{cause: CauseTimeout, err: fmt.Errorf("no Welcome within %s", c.limits.welcome)})
	// A syncer that has already ended the stream says why to Recv.
	if err := stream.Send(request(s.hello(c.config))); err != nil && !errors.Is(err, io.EOF) {
		return classify(ctx, err, nil)
	}
	acks := newAcknowledger(c.limits.ack, func(revision uint64) error {
		return stream.Send(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Ack{Ack: &registryv1.Ack{Revision: revision}}})
	})
	sender.Go(func() { acks.run(ctx) })

	for {
		message, err := stream.Recv()
		// What applying takes is not the syncer's silence.
		guard.disarm()
		if err != nil {
			var trailer metadata.MD
			if ctx.Err() == nil {
				trailer = stream.Trailer()
			}
			return classify(ctx, err, trailer)
		}
		acknowledge, err := s.receive(message)
		if err != nil {
			return classify(ctx, err, nil)
		}
		if acknowledge {
			acks.acknowledge(c.mirror.State().Position().GetRevision())
		}
		progress(cancel)
		patience := c.limits.silence(time.Duration(s.welcome.GetHeartbeatIntervalMillis()) * time.Millisecond)
		guard.arm(patience, &failure{cause: CauseSilent, err: fmt.Errorf("no message for %s", patience)})
		// Nothing is to be acknowledged before a Compare is over, so this goroutine is the only one that
		// sends. A syncer that does not read is as good as silent.
		for _, answer := range s.takeAnswers() {
			if err := stream.Send(answer); err != nil && !errors.Is(err, io.EOF) {
				return classify(ctx, err, nil)
			}
		}
	}
}

func request(hello *registryv1.Hello) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: hello}}
}

// enter notes a Welcome.
func (c *Client) enter(address string, now time.Time, mode registryv1.Mode) {
	c.observer.Connected(address)
	if mode == registryv1.Mode_MODE_RESUME {
		c.observer.Resumed()
	}
	c.status.change(func(s *Status) { s.Address, s.Since = address, now })
}

// inStep notes that the mirror equals the syncer's view. Only the first time on a stream is news.
func (c *Client) inStep(address string, session *session, interrupt context.CancelCauseFunc) {
	if c.status.read().Synced {
		return
	}
	c.addresses.prefer(address)
	c.files.attach(interrupt)
	c.status.change(func(s *Status) { s.Synced, s.Problem = true, nil })
	if c.lossLogged {
		c.lossLogged = false
		state := c.mirror.State()
		c.log.Info("in step with syncer", "address", address, "mode", session.welcome.GetMode().String(),
			"view", state.Position().GetView(), "revision", state.Position().GetRevision(), "resources", state.Resources())
	}
}

// leave notes how a stream ended, or that there was none.
func (c *Client) leave(address string, end ending) {
	now := time.Now()
	todo := remedy(end.failure, c.files.credentials(), c.config)
	c.status.change(func(s *Status) {
		since := s.Since
		if s.Address != "" {
			s.Address, s.Since, s.Synced = "", now, false
			since = now
		}
		if end.failure.cause == CauseStopped || end.failure.cause == CauseRenewed {
			return
		}
		s.LastError, s.LastErrorAt = fmt.Sprintf("%s: %s", address, end.failure.err), now
		if !end.failure.again {
			s.suffer(Problem{
				Since: since, At: now, Address: address, Cause: end.failure.cause, Reason: end.failure.reason,
				Message: end.failure.err.Error(), Remedy: todo,
			}, end.failure)
		}
	})
	if end.welcomed {
		c.observer.Disconnected(address, end.failure.cause)
	} else {
		c.observer.ConnectFailed(address, end.failure.cause)
	}
	switch {
	case end.failure.cause == CauseStopped:
	case end.failure.cause == CauseRenewed:
		c.log.Info("opening the stream anew with a newer credential", "address", address)
	case end.synced:
		if end.lived >= c.limits.report {
			c.faults.forget(address)
		}
		c.lossLogged = c.faults.report("lost syncer", address, end.failure, todo) || c.lossLogged
	default:
		c.lossLogged = c.faults.report("cannot follow syncer", address, end.failure, todo) || c.lossLogged
	}
}
