package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// stream is one VM's stream.
type stream struct {
	server *Server
	rpc    watchStream
	ctx    context.Context // ends with the stream, and says why
	end    context.CancelCauseFunc
	// requests are those that are due in a Compare.
	requests chan *registryv1.WatchRequest
	// due is which of a Compare's answers the VM owes.
	due atomic.Int32

	who  watcher
	view *view
	mode string
	// verified is the generation of the client authorities that the client certificate was last held against, after its
	// handshake. Only recheck uses it.
	verified uint64
	// compares: the VM can be compared.
	compares bool
	// since is when the stream began.
	since time.Time

	// cursor is how far the stream has looked; only the sending goroutine uses it.
	cursor uint64
	// changed is which head of the view the cursor is at, by the revision that changed the view. Zero: it is
	// not at a head, and what takes it to the next one is its own.
	changed uint64
	// sent is the revision that the VM's mirror is at when it has applied everything sent so far. It is
	// behind the cursor when the view saw nothing of what happened in between.
	sent  atomic.Uint64
	acked atomic.Uint64
	// broughtUp is the revision that what it was sent at first takes the VM to.
	broughtUp atomic.Uint64
	// inStep is when the VM was first proved to be in step.
	inStep atomic.Pointer[time.Time]
	// welcomed is set as soon as an Ack is in order.
	welcomed atomic.Bool
}

// Values of stream.due.
const (
	dueNothing int32 = iota
	dueBucketDigests
	dueResourceDigests
)

func newStream(ctx context.Context, s *Server, rpc watchStream, end context.CancelCauseFunc) *stream {
	return &stream{server: s, rpc: rpc, ctx: ctx, end: end, requests: make(chan *registryv1.WatchRequest, 1), since: s.opts.Now()}
}

// receive reads what the VM says until the stream ends.
func (st *stream) receive() error {
	pace := newRequestPace(st.server.opts.Now())
	for {
		request, err := st.next()
		if err != nil {
			return err
		}
		if !pace.allows(st.server.opts.Now()) {
			return status.Errorf(codes.ResourceExhausted, "more than %d requests a second: a VM says ten", requestsPerSecond)
		}
		if err := st.handle(request); err != nil {
			return err
		}
	}
}

// next waits for the VM's next request.
func (st *stream) next() (*registryv1.WatchRequest, error) {
	request, err := st.rpc.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil, errEnded
	case st.ctx.Err() != nil:
		return nil, context.Cause(st.ctx)
	}
	return request, err
}

// handle takes in a request after the first.
func (st *stream) handle(whole *registryv1.WatchRequest) error {
	switch request := whole.GetRequest().(type) {
	case *registryv1.WatchRequest_Ack:
		revision := request.Ack.GetRevision()
		if !st.welcomed.Load() {
			return status.Error(codes.InvalidArgument, "ack before welcome")
		}
		if sent := st.sent.Load(); revision > sent {
			return status.Errorf(codes.InvalidArgument, "ack of revision %d: the latest sent is %d", revision, sent)
		}
		st.acknowledge(revision)
		return nil
	case *registryv1.WatchRequest_BucketDigests:
		return st.answer(whole, dueBucketDigests, false)
	case *registryv1.WatchRequest_ResourceDigests:
		return st.answer(whole, dueResourceDigests, request.ResourceDigests.GetMore())
	case nil:
		return nil // of a newer kind: a reader ignores what it does not know
	default:
		return outOfTurn(request)
	}
}

// answer hands on what is due in a Compare. Unless more of it follows, nothing is due after it.
func (st *stream) answer(request *registryv1.WatchRequest, due int32, more bool) error {
	if st.due.Load() != due {
		return outOfTurn(request.GetRequest())
	}
	if !more {
		st.due.Store(dueNothing)
	}
	select {
	case st.requests <- request:
		return nil
	case <-st.ctx.Done():
		return context.Cause(st.ctx)
	}
}

func outOfTurn(request any) error {
	return status.Errorf(codes.InvalidArgument, "%T is out of turn: after hello this stream takes acks, and what a compare asks for", request)
}

// hello is the VM's first request.
func (st *stream) hello() (*registryv1.Hello, error) {
	timeout := st.server.opts.HelloTimeout
	defer time.AfterFunc(timeout, func() {
		st.end(status.Errorf(codes.InvalidArgument, "no hello within %s", timeout))
	}).Stop()
	request, err := st.next()
	if err != nil {
		return nil, err
	}
	if request.GetHello() == nil {
		return nil, status.Error(codes.InvalidArgument, "the first request must be hello")
	}
	if size := proto.Size(request); size > maxHelloBytes {
		return nil, status.Errorf(codes.InvalidArgument, "hello has %d bytes: at most %d", size, maxHelloBytes)
	}
	return request.GetHello(), nil
}

// run brings the VM up to date and keeps it so until the context ends.
func (st *stream) run(ctx context.Context, hello *registryv1.Hello) error {
	if err := st.welcome(ctx, hello); err != nil {
		return err
	}
	// The first heartbeat proves the initial state; the others are spread, so that the streams of many
	// VMs that came at once do not all speak at once.
	due := true
	heartbeats := time.NewTimer(st.untilHeartbeat())
	defer heartbeats.Stop()
	for {
		head, moved := st.view.next()
		if err := st.catchUp(ctx, head); err != nil {
			return err
		}
		// A replace may have taken the stream beyond this head: then there is a later one.
		if st.cursor != head.proof.Revision {
			continue
		}
		if due {
			if err := st.heartbeat(head); err != nil {
				return err
			}
			due = false
		}
		select {
		case <-moved:
		case <-heartbeats.C:
			heartbeats.Reset(st.untilHeartbeat())
			due = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (st *stream) untilHeartbeat() time.Duration {
	interval := st.server.opts.HeartbeatInterval
	return interval - rand.N(interval/5+1)
}

// heartbeat proves the view at its head, which the cursor must be at.
func (st *stream) heartbeat(h head) error {
	if from := st.sent.Load(); from != st.cursor {
		// Nothing that the view sees has happened. Saying so now and then keeps the VM within the log.
		empty := encodeChanges(registry.Changes{To: st.cursor}, st.server.opts.FrameBytes)
		if err := st.sendDelta(modeChange, empty, from); err != nil {
			return err
		}
	}
	if err := st.send(heartbeat(h.proof, st.view.confirmed(h))); err != nil {
		return err
	}
	st.server.metrics.heartbeats.Inc()
	if st.inStep.Load() == nil {
		now := st.server.opts.Now()
		st.inStep.Store(&now)
	}
	return nil
}

// send sends one message. The VM must make room for it in time; gRPC holds back no more than one
// message and a small window.
func (st *stream) send(m any) error {
	timeout := st.server.opts.SendTimeout
	watchdog := time.AfterFunc(timeout, func() {
		st.server.metrics.sendTimeouts.Inc()
		st.end(status.Errorf(codes.Aborted, "nothing was read for %s: resume", timeout))
	})
	defer watchdog.Stop()
	if err := st.rpc.SendMsg(m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
