package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/meshvm/meshvm/syncer/identity"
)

// Bounds of looking at credentials again.
const (
	// recheckTimeout bounds one look.
	recheckTimeout = 10 * time.Second
	rechecksAtOnce = 16
)

// permit lets a VM in, or says why not: who it is, whether its trust domain is the mesh's, and whether it may watch.
func (s *Server) permit(ctx context.Context, who watcher) error {
	if refused := s.trust().check(who); refused != nil {
		return refused
	}
	if !who.Expires.IsZero() && !s.opts.Now().Before(who.Expires) {
		return identity.Expired(credentialOf(who), who.Expires)
	}
	if s.opts.Authorizer == nil {
		return nil
	}
	err := s.opts.Authorizer.Authorize(ctx, who.Identity)
	s.metrics.authorized(err)
	return err
}

// credentialOf is what a VM's operator calls what the VM has shown.
func credentialOf(who watcher) string {
	if who.Method == identity.MethodCertificate {
		return "client certificate"
	}
	return "token"
}

// endOnExpiry ends the stream when its credential does. The timer is to be stopped with the stream.
func (st *stream) endOnExpiry() (stop func()) {
	if st.who.Expires.IsZero() {
		return func() {}
	}
	timer := time.AfterFunc(st.who.Expires.Sub(st.server.opts.Now()), func() {
		st.expel(identity.Expired(credentialOf(st.who), st.who.Expires))
	})
	return func() { timer.Stop() }
}

// expel ends a stream whose VM may not watch any more.
func (st *stream) expel(refused *identity.Refusal) {
	if st.ctx.Err() != nil {
		return
	}
	s := st.server
	s.metrics.expelled.WithLabelValues(string(refused.Reason)).Inc()
	s.warn("watch ended: the VM may not watch any more", "reason", refused.Reason, "node", st.who.node, "identity", st.who.Name, "address", st.who.address, "error", refused)
	st.end(refusalStatus(refused, false))
}

// followCredentials looks again and again, until the context ends, whether VMs that watch may still do so. It spreads that
// over the interval.
func (s *Server) followCredentials(ctx context.Context) {
	ticker := time.NewTicker(s.opts.Recheck)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.recheckAll(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// recheckAll looks at every stream once.
func (s *Server) recheckAll(ctx context.Context) {
	streams := s.watching()
	if len(streams) == 0 {
		return
	}
	if s.certs != nil {
		s.certs.current() // so that all are held against what the files say now
	}
	// A little sooner than the interval is over, so that the next round is not late.
	pace := rate.NewLimiter(rate.Limit(float64(len(streams))/(0.9*s.opts.Recheck.Seconds())), rechecksAtOnce)
	var rechecks sync.WaitGroup
	defer rechecks.Wait()
	places := make(chan struct{}, rechecksAtOnce)
	for _, st := range streams {
		if pace.Wait(ctx) != nil {
			return
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		rechecks.Go(func() {
			defer func() { <-places }()
			defer s.recovering(st.end)
			st.recheck()
		})
	}
}

// recheck ends the stream if its VM may not watch any more. While nobody can tell, the stream goes on: who has taken the
// API server away must not take the mesh away too.
func (st *stream) recheck() {
	if st.ctx.Err() != nil || st.who.Method == identity.MethodNone {
		return
	}
	ctx, cancel := context.WithTimeout(st.ctx, recheckTimeout)
	defer cancel()
	err := st.stillPermitted(ctx)
	refusal, isRefusal := errors.AsType[*identity.Refusal](err)
	switch {
	case err == nil || st.ctx.Err() != nil:
	case isRefusal:
		st.expel(refusal)
	default:
		st.server.metrics.undecided.Inc()
		st.server.warn("cannot find out whether a VM may still watch: it goes on", "node", st.who.node, "identity", st.who.Name, "error", err)
	}
}

// stillPermitted reports why a VM would not be let in now.
func (st *stream) stillPermitted(ctx context.Context) error {
	s := st.server
	who := st.who
	if state, found := certificateOf(ctx); found && s.certs != nil {
		authorities, generation := s.certs.authorities()
		if generation != st.verified {
			if err := identity.Verify(state, authorities, s.opts.Now()); err != nil {
				return err
			}
			st.verified = generation
		}
	}
	proved, err := s.authenticate(ctx)
	if err != nil {
		return err
	}
	if proved.Namespace != who.Namespace || proved.Name != who.Name {
		return fmt.Errorf("the same credential proves %q, and proved %q before", proved.Name, who.Name)
	}
	who.Identity = proved
	return s.permit(ctx, who)
}
