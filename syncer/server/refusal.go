package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/identity"
)

// refusedHint is how long a VM is asked to stay away that is refused. Nothing changes for it until somebody acts.
const refusedHint = 30 * time.Second

// refusalStatus is a refusal as a VM is told of it: the reason in google.rpc.ErrorInfo, for the program, and the text for
// people. One that is refused when it comes is asked to stay away for a while; one whose stream ends may have a new credential by
// now, and comes again at once.
func refusalStatus(refused *identity.Refusal, stayAway bool) error {
	code := codes.Unauthenticated
	switch refused.Reason {
	case identity.ReasonNamespace, identity.ReasonForbidden, identity.ReasonTrustDomain:
		code = codes.PermissionDenied
	}
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: strings.ToUpper(string(refused.Reason)), Domain: registryv1.ErrorDomain},
	}
	if stayAway {
		hint := refusedHint + rand.N(refusedHint)
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(hint)})
	}
	said := status.New(code, refused.Message)
	if detailed, err := said.WithDetails(details...); err == nil { // It is no OK, and the details encode.
		said = detailed
	}
	return said.Err()
}

// errUndecided ends the attempt of a VM of which nobody can tell whether it may watch. Why is logged here; it is nothing for
// strangers.
var errUndecided = status.Error(codes.Unavailable, "the syncer cannot find out now whether this VM may watch; try again or another syncer")

// refused is the status for a VM that is not let in, for whatever reason. It is logged once for each identity, or source where
// there is none, and reason in a while.
func (s *Server) refused(ctx context.Context, who watcher, err error) error {
	if refusal, isRefusal := errors.AsType[*identity.Refusal](err); isRefusal {
		key := who.Name
		if key == "" {
			key = sourceKey(hostOf(who.address))
		}
		if s.refusals.first(refusalKey{key, refusal.Reason}, s.opts.Now()) {
			s.warn("watch refused", "reason", refusal.Reason, "node", who.node, "identity", who.Name, "address", who.address, "error", refusal)
		}
		return refusalStatus(refusal, true)
	}
	if _, isStatus := status.FromError(err); isStatus {
		s.warn("watch refused", "node", who.node, "identity", who.Name, "address", who.address, "error", err)
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // The VM, or the syncer, has gone.
	}
	s.warn("cannot find out whether a VM may watch", "node", who.node, "identity", who.Name, "address", who.address, "error", err)
	return errUndecided
}

// Bounds of what is remembered of refusals.
const (
	refusalInterval  = 10 * time.Minute
	refusalsAtOnce   = 4096
	refusalsPerSweep = 64
)

// refusalKey is what is logged once in a while: who, by identity or source, and why.
type refusalKey struct {
	who    string
	reason identity.Reason
}

// refusals are those that were logged lately. When there are too many at once it forgets some, and so logs them sooner again; how
// many lines that makes is bounded elsewhere.
type refusals struct {
	mu   sync.Mutex
	seen map[refusalKey]time.Time
}

// first reports whether a refusal is to be logged, and notes that it is.
func (r *refusals) first(key refusalKey, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, found := r.seen[key]; found && now.Sub(at) < refusalInterval {
		return false
	}
	if r.seen == nil {
		r.seen = map[refusalKey]time.Time{}
	}
	if len(r.seen) >= refusalsAtOnce {
		r.forget(now)
	}
	r.seen[key] = now
	return true
}

// forget makes room: of some entries those that are over, and one at least.
func (r *refusals) forget(now time.Time) {
	looked := 0
	for key, at := range r.seen {
		if looked == 0 || now.Sub(at) >= refusalInterval {
			delete(r.seen, key)
		}
		if looked++; looked == refusalsPerSweep {
			return
		}
	}
}

// sourceKey names where a stranger comes from: one that changes its address within an IPv6 /64 is one.
func sourceKey(address netip.Addr) string {
	if address.Is6() {
		prefix, _ := address.Prefix(64) // of that length there always is one
		return prefix.String()
	}
	return address.String()
}
