package server

import (
	"cmp"
	"slices"
	"time"
)

// WatcherStatus is one VM that watches, for people.
type WatcherStatus struct {
	// Node and Version are the VM's own words.
	Node, Version string
	// Namespace whose view it is sent, and the SPIFFE ID that says so, if any.
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
}

// Watchers lists the VMs that watch, by namespace and node.
func (s *Server) Watchers() []WatcherStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	watchers := make([]WatcherStatus, 0, len(s.streams))
	for st := range s.streams {
		watchers = append(watchers, st.status())
	}
	slices.SortFunc(watchers, func(a, b WatcherStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return watchers
}

// status is read with server.mu held.
func (st *stream) status() WatcherStatus {
	status := WatcherStatus{
		Node:      st.who.node,
		Version:   st.who.version,
		Namespace: st.who.namespace,
		Identity:  st.who.identity,
		Address:   st.who.address,
		Since:     st.since,
		Mode:      st.mode,
		Sent:      st.sent.Load(),
		Acked:     st.acked.Load(),
	}
	if changed := st.view.current().changed; changed > status.Acked {
		status.Lag = changed - status.Acked
	}
	return status
}

// begin enters the stream among the watchers of its view.
func (st *stream) begin(who watcher) {
	st.who = who
	st.view = st.server.publisher.join(who.namespace)
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	st.server.streams[st] = struct{}{}
}

// finish undoes begin.
func (st *stream) finish() {
	st.server.mu.Lock()
	delete(st.server.streams, st)
	st.server.mu.Unlock()
	st.server.publisher.leave(st.view)
}

func (st *stream) setMode(mode string) {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	st.mode = mode
}
