package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

type watchStream = grpc.BidiStreamingServer[registryv1.WatchRequest, registryv1.WatchResponse]

// errEnded says that the VM ended the stream by its own will.
var errEnded = errors.New("the VM has ended the stream")

// Watch implements registryv1.RegistryServer.
//
// Receiving and sending have a goroutine each. This one receives.
func (s *Server) Watch(rpc watchStream) (err error) {
	defer func() { s.metrics.streams.WithLabelValues(status.Code(err).String()).Inc() }()
	defer s.recovering(func(internal error) { err = internal })
	return s.watch(rpc)
}

func (s *Server) watch(rpc watchStream) error {
	if s.stopping.Err() != nil {
		return errStopping
	}
	ctx, end, err := interruptible(rpc)
	if err != nil {
		return err
	}
	defer end(nil)
	defer context.AfterFunc(s.stopping, func() { end(context.Cause(s.stopping)) })()

	st := newStream(ctx, s, rpc, end)
	hello, err := st.hello()
	if err != nil {
		return ending(err)
	}
	s.goStream(end, func() error { return st.serve(ctx, hello) })
	end(st.receive())
	return ending(context.Cause(ctx))
}

// serve finds out who watches, and brings the VM up to date and keeps it so until the context ends. None of
// that is done by the goroutine that receives: it is deep in gRPC for as long as the stream lives, and what it
// called would make its stack grow for good, as the runtime takes back only what is mostly unused.
func (st *stream) serve(ctx context.Context, hello *registryv1.Hello) error {
	s := st.server
	who, err := newWatcher(ctx, hello)
	if err == nil {
		err = s.identify(ctx, &who, hello.GetNamespace())
		judge(ctx, err)
	}
	if err == nil {
		err = s.permit(ctx, who)
	}
	// Strangers do not learn what the syncer waits for.
	if err == nil {
		err = s.available()
	}
	if err == nil {
		err = st.begin(who)
	}
	if err != nil {
		return s.refused(ctx, who, err)
	}
	defer st.finish()
	defer st.endOnExpiry()()
	// The trust domain may have changed before the stream was among those that SetTrustDomains looks at.
	if refused := s.trust().check(who); refused != nil {
		return s.refused(ctx, who, refused)
	}
	s.opts.Log.Debug("watch started", "node", who.node, "namespace", who.namespace, "identity", who.Name, "address", who.address, "version", who.version)
	st.end(st.run(ctx, hello))
	reason := ending(context.Cause(ctx))
	s.opts.Log.Debug("watch ended", "node", who.node, "namespace", who.namespace, "after", s.opts.Now().Sub(st.since).Round(time.Millisecond), "reason", reason)
	if status.Code(reason) == codes.Aborted && !errors.Is(reason, errRescoped) {
		s.warn("watch ended: the VM is too slow", "node", who.node, "namespace", who.namespace, "address", who.address, "reason", reason)
	}
	return reason
}

// available reports why nobody is served.
func (s *Server) available() error {
	select {
	case <-s.registry.Ready():
		return nil
	default:
		return status.Errorf(codes.Unavailable, "not ready: %s; try another syncer", s.waitingFor())
	}
}

// waitingFor names the sources that have not synced.
func (s *Server) waitingFor() string {
	var names []string
	for _, source := range s.registry.Sources() {
		if !source.Synced {
			names = append(names, source.Name)
		}
	}
	if len(names) == 0 {
		return "no source has been added"
	}
	return "waiting for " + strings.Join(names, ", ") + " to sync"
}

// goStream runs a stream's sending. Whatever ends it ends the stream.
func (s *Server) goStream(end context.CancelCauseFunc, run func() error) {
	s.running.Go(func() {
		defer s.recovering(end)
		end(run())
	})
}

// recovering, deferred, turns a panic into an error.
func (s *Server) recovering(fail func(error)) {
	if problem := recover(); problem != nil {
		s.metrics.panics.Inc()
		s.opts.Log.Error("panic while serving", "panic", fmt.Sprint(problem), "stack", string(debug.Stack()))
		fail(status.Error(codes.Internal, "internal error"))
	}
}

// warn logs a fault that many VMs may cause at once.
func (s *Server) warn(message string, attributes ...any) {
	s.warnings.Do(func() { s.opts.Log.Warn(message, attributes...) })
}

// ending is what a VM is told when its stream ends for a reason.
func ending(cause error) error {
	switch {
	case errors.Is(cause, errEnded), errors.Is(cause, io.EOF):
		return nil
	case errors.Is(cause, context.Canceled):
		return status.Error(codes.Canceled, "the VM has gone")
	case errors.Is(cause, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the VM's own deadline has passed")
	}
	if _, isStatus := status.FromError(cause); isStatus {
		return cause
	}
	return status.Error(codes.Internal, cause.Error())
}
