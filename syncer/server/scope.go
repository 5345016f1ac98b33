package server

import (
	"context"
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// Scopes say through which scope a VM sees the view of its namespace. They are safe for concurrent use.
type Scopes interface {
	// Scope of a VM by its namespace, the name that it gives itself, and the address that it comes from. Nil:
	// it sees all of the view. by is the object that says so, the zero value where none does.
	Scope(namespace, node string, address netip.Addr) (scope *registry.Scope, by registry.Object)
	// Changed is closed when Scope may say something else than before Changed was called.
	Changed() <-chan struct{}
}

// unscoped is that every VM sees all of its view.
type unscoped struct{}

func (unscoped) Scope(string, string, netip.Addr) (*registry.Scope, registry.Object) {
	return nil, registry.Object{}
}

func (unscoped) Changed() <-chan struct{} { return nil }

// Streams whose scope is another are ended at this pace, so that their VMs do not come again all at once. A few
// are ended at once.
const (
	rescopedPerSecond = 500
	rescopedAtOnce    = 100
)

// rescopedAfter is how long a stream is in step at least before it is ended for its scope, so that what changes
// meanwhile is one change to its VM. A VM takes streams that end sooner for a fault, and waits the longer the
// more often that happens.
const rescopedAfter = 400 * time.Millisecond

// errRescoped ends a stream whose VM sees its view through another scope now. It comes again at once and is
// compared.
var errRescoped = comeAgain("the Sidecar of this VM says something else now: come again and be compared")

// comeAgain ends a stream for no fault of its VM.
func comeAgain(why string) error {
	said := status.New(codes.Aborted, why)
	detailed, err := said.WithDetails(&errdetails.ErrorInfo{Reason: registryv1.ReasonComeAgain, Domain: registryv1.ErrorDomain})
	if err != nil { // Not possible: it is no OK, and the detail encodes.
		return said.Err()
	}
	return detailed.Err()
}

// scopeOf is the scope of a watcher now.
func (s *Server) scopeOf(who watcher) *registry.Scope {
	scope, _ := s.opts.Scopes.Scope(who.namespace, who.node, hostOf(who.address))
	return scope
}

// hostOf is the address in host:port, invalid where there is none.
func hostOf(address string) netip.Addr {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Addr{}
	}
	parsed, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return parsed.Unmap().WithZone("")
}

// rescoped reports whether the stream's VM has another scope now than its stream.
func (st *stream) rescoped() bool {
	return st.server.scopeOf(st.who).ID() != st.view.scope.ID()
}

// followScopes ends streams whose scope is another until the context ends.
func (s *Server) followScopes(ctx context.Context) {
	pace := rate.NewLimiter(rescopedPerSecond, rescopedAtOnce)
	for {
		changed := s.opts.Scopes.Changed()
		young := s.rescope(ctx, pace, s.watching())
		for waiting := true; waiting; {
			var again <-chan time.Time
			if len(young) > 0 {
				again = time.After(rescopedAfter / 4)
			}
			select {
			case <-again:
				young = s.rescope(ctx, pace, young)
			case <-changed:
				waiting = false
			case <-ctx.Done():
				return
			}
		}
		// What follows within the window is one change.
		select {
		case <-time.After(s.opts.CoalesceWindow):
		case <-ctx.Done():
			return
		}
	}
}

// rescope ends those of the streams whose scope is another. It returns those that are too young for it.
func (s *Server) rescope(ctx context.Context, pace *rate.Limiter, streams []*stream) (young []*stream) {
	for _, st := range streams {
		if st.ctx.Err() != nil || !st.rescoped() {
			continue
		}
		if since := st.inStep.Load(); since == nil || s.opts.Now().Sub(*since) < rescopedAfter {
			young = append(young, st)
			continue
		}
		if pace.Wait(ctx) != nil {
			return nil
		}
		if st.rescoped() { // It may be as it was again.
			s.metrics.rescoped.Inc()
			st.end(errRescoped)
		}
	}
	return young
}

func (s *Server) watching() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	return streams
}

// generation names the sequence of revisions of what a stream carries: the registry's, as seen through its
// scope. So a VM never resumes from what it saw through another.
func (v *view) generation() string {
	generation := v.registry.Generation()
	if id := v.scope.ID(); id != "" {
		generation += "/" + id
	}
	return generation
}

// viewName tells views apart.
func viewName(namespace string, scope *registry.Scope) string {
	if id := scope.ID(); id != "" {
		return namespace + "/" + id
	}
	return namespace
}
