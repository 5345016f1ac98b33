package server

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// WatcherStatus is one VM that watches, for people.
type WatcherStatus struct {
	// Node and Version are the VM's own words.
	Node, Version string
	// Namespace whose view it is sent, and the identity that says so: a SPIFFE ID, a ServiceAccount, or a certificate's
	// fingerprint. Empty in plaintext.
	Namespace, Identity string
	// Address it comes from.
	Address string
	// Since is when it came, and Mode how it was brought up to date: full, compare or resume.
	Since time.Time
	Mode  string
	// Sent is the latest revision sent, Acked the latest that it says it has applied.
	Sent, Acked uint64
	// Lag is how many revisions it is behind the latest that changed its view.
	Lag uint64
	// LagFor is for how long it has been behind: since the first change that it lacks, or since it came. Zero
	// where it lacks none.
	LagFor time.Duration
}

// Watchers lists the VMs that watch, by namespace and node.
func (s *Server) Watchers() []WatcherStatus {
	// The lock is held for a copy only: VMs that come and go do not wait for the rest.
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	modes := make([]string, 0, len(s.streams))
	for st := range s.streams {
		streams, modes = append(streams, st), append(modes, st.mode)
	}
	s.mu.Unlock()
	watchers := make([]WatcherStatus, 0, len(streams))
	now := s.opts.Now()
	for i, st := range streams {
		watchers = append(watchers, st.status(now, modes[i]))
	}
	slices.SortFunc(watchers, func(a, b WatcherStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return watchers
}

// status is what is known of the stream. Its mode is read with server.mu held, the rest no longer changes or is atomic.
func (st *stream) status(now time.Time, mode string) WatcherStatus {
	status := WatcherStatus{
		Node:      st.who.node,
		Version:   st.who.version,
		Namespace: st.who.namespace,
		Identity:  st.who.Name,
		Address:   st.who.address,
		Since:     st.since,
		Mode:      mode,
		Sent:      st.sent.Load(),
		Acked:     st.acked.Load(),
	}
	if changed := st.view.current().changed; changed > status.Acked {
		status.Lag = changed - status.Acked
		if since := st.lacking(status.Acked); !since.IsZero() {
			status.LagFor = max(0, now.Sub(since))
		}
	}
	return status
}

// begin enters the stream among the watchers of its view. It fails where its identity has too many.
func (st *stream) begin(who watcher) error {
	st.who = who
	if err := st.server.enter(st); err != nil {
		return err
	}
	st.view = st.server.publisher.join(who.namespace, st.server.scopeOf(who))
	st.server.mu.Lock()
	st.server.streams[st] = struct{}{}
	st.server.mu.Unlock()
	if st.rescoped() { // After the scope was asked for, and before anybody knew of the stream.
		st.finish()
		return errRescoped
	}
	return nil
}

// finish undoes begin.
func (st *stream) finish() {
	st.server.leave(st)
	st.server.publisher.leave(st.view)
}

// enter counts a stream of an identity.
func (s *Server) enter(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.who.Name == "" {
		return nil
	}
	if limit := s.opts.MaxStreamsPerIdentity; s.identities[st.who.Name] >= limit {
		s.metrics.refused.WithLabelValues(refusedIdentity).Inc()
		return turnAway(longestHint/2+rand.N(longestHint/2), "%s has %d watch streams, which is what one identity may have", st.who.Name, limit)
	}
	s.identities[st.who.Name]++
	return nil
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if st.who.Name == "" {
		return
	}
	if s.identities[st.who.Name]--; s.identities[st.who.Name] == 0 {
		delete(s.identities, st.who.Name)
	}
}

func (st *stream) setMode(mode string) {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	st.mode = mode
}
