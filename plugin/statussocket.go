package meshvm

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"

	"github.com/meshvm/meshvm/plugin/status"
)

// statusSockets are the process's status sockets by their paths. As with followers no instance of the plugin owns one, so
// that a reload leaves them alone.
type statusSockets struct {
	source status.Source

	mu     sync.Mutex
	byPath map[string]*statusSocket
}

// statusSocket is a socket with those that have a claim on it.
type statusSocket struct {
	// server is nil where the socket could not be made, which was logged.
	server *status.Server
	claims map[*run]int
}

// claim has a socket served. The first claim makes it. That it cannot be made is no reason not to answer queries.
func (s *statusSockets) claim(path string, by *run, log *slog.Logger) {
	if path == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held, found := s.byPath[path]
	if !found {
		held = &statusSocket{claims: map[*run]int{}}
		s.byPath[path] = held
		server, err := status.Serve(path, s.source, log)
		switch {
		case err == nil:
			held.server = server
		case path == status.DefaultSocket:
			log.Info("no status socket, which meshvmctl status would ask", "socket", path, "error", err)
		default:
			log.Error("no status socket", "socket", path, "error", err)
		}
	}
	held.claims[by]++
}

// release gives one claim of a run back.
func (s *statusSockets) release(path string, by *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.byPath[path]
	if held == nil || held.claims[by] == 0 {
		return
	}
	if held.claims[by]--; held.claims[by] == 0 {
		delete(held.claims, by)
	}
	s.closeIdle()
}

// reclaim drops the claims of all other runs.
func (s *statusSockets) reclaim(by *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range s.byPath {
		for other := range held.claims {
			if other != by {
				delete(held.claims, other)
			}
		}
	}
	s.closeIdle()
}

func (s *statusSockets) closeIdle() {
	for path, held := range s.byPath {
		if len(held.claims) > 0 {
			continue
		}
		delete(s.byPath, path)
		if held.server != nil {
			held.server.Close()
		}
	}
}

// report is how all followers stand, in the order of their settings.
func (p *followers) report() status.Report {
	report := status.Report{Version: caddy.AppVersion, At: time.Now(), Servers: listeners(), Upstreams: p.blocks.upstreams(), Mirrors: []status.Mirror{}}
	all := p.all()
	slices.SortFunc(all, func(a, b *shared) int { return strings.Compare(a.key, b.key) })
	for _, held := range all {
		report.Mirrors = append(report.Mirrors, held.report())
	}
	return report
}

func (s *shared) report() status.Mirror {
	state, stream := s.mirror.State(), s.client.Status()
	position := state.Position()
	m := status.Mirror{
		Syncers: s.config.Syncers, Namespace: s.config.Namespace, Node: s.config.Node, Zones: s.zonesOf(),
		ConnectedAddress: stream.Address, Since: stream.Since, Synced: stream.Synced,
		Loaded: state.Loaded(), View: position.GetView(), Generation: position.GetGeneration(), Revision: position.GetRevision(),
		Resources: state.Resources(), Names: state.Names(), ConfirmedAt: s.mirror.ConfirmedAt(), MaxStaleSeconds: time.Duration(s.maxStale.Load()).Seconds(),
	}
	if s.file != nil {
		m.SnapshotFile = s.file.path
	}
	if !m.ConfirmedAt.IsZero() {
		m.StalenessSeconds = s.mirror.Age().Seconds()
	}
	for _, c := range stream.Credentials {
		m.Credentials = append(m.Credentials, status.Credential{
			Kind: string(c.Kind), File: c.File, Subject: c.Subject, Expires: c.Expires, Fault: c.Fault,
		})
	}
	if problem := stream.Problem; problem != nil {
		m.Problem = &status.Problem{
			Since: problem.Since, At: problem.At, Address: problem.Address, Cause: string(problem.Cause), Reason: problem.Reason,
			Message: problem.Message, Remedy: problem.Remedy,
		}
	}
	return m
}
