package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server/page"
)

// Bounds of what a VM may ask of a connection.
const (
	maxRequestBytes      = 64 << 10
	maxHeaderBytes       = 16 << 10
	maxStreamsPerVM      = 4
	connectionTimeout    = 10 * time.Second
	maxHTTPConnections   = 256
	strangersLogged      = 10 * time.Second // at most so often
	keepaliveTime        = 30 * time.Second
	keepaliveTimeout     = 10 * time.Second
	keepaliveMinimum     = 5 * time.Second
	connectionWindow     = 64 << 10
	connectionReadBuffer = 4 << 10 // a VM says little; ten thousand of them add up
	// A TLS record holds no more. A buffer is held only while something is written, but when all VMs come
	// at once, all hold one.
	connectionWriteBuffer = 16 << 10
)

// Server is the syncer's front. Make it with New and run it once with Serve.
type Server struct {
	registryv1.UnimplementedRegistryServer

	opts             Options
	registry         *registry.Registry
	publisher        *publisher
	deltas           *deltaCache
	metrics          *metrics
	certs            *certificates // nil: plaintext
	admission        *admission
	scans            chan struct{} // held by a request that reads the whole registry
	tables           chan struct{} // held by a request for a table of virtual IPs
	warnings         rate.Sometimes
	strangerWarnings rate.Sometimes
	refusals         refusals
	accepted         atomic.Pointer[connections] // once it serves
	serving          atomic.Bool
	trusted          atomic.Pointer[trustDomains]
	stopping         context.Context // ends when streams must
	stop             context.CancelCauseFunc

	started time.Time
	status  *page.Page

	mu         sync.Mutex
	streams    map[*stream]struct{}
	identities map[string]int // streams by identity
	running    sync.WaitGroup // goroutines of streams
}

// New is a server of a registry. It fails when the TLS files cannot be used, and names the one at
// fault.
func New(r *registry.Registry, opts Options) (*Server, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		opts:             opts,
		registry:         r,
		metrics:          newMetrics(opts.Metrics),
		scans:            make(chan struct{}, 1),
		tables:           make(chan struct{}, 1),
		warnings:         rate.Sometimes{First: 20, Interval: time.Second},
		strangerWarnings: rate.Sometimes{Interval: strangersLogged},
		streams:          map[*stream]struct{}{},

		identities: map[string]int{},
		started:    opts.Now(),
	}
	s.deltas = newDeltaCache(opts.CacheBytes, s.metrics)
	s.publisher = newPublisher(r, opts.CoalesceWindow, opts.Now, func(key rangeKey, changes registry.Changes) {
		s.deltas.put(key, encodeChanges(changes, opts.FrameBytes))
	})
	s.admission = newAdmission(opts.FullSyncs, opts.FullSyncQueue, opts.FullSyncPatience, s.metrics)
	s.stopping, s.stop = context.WithCancelCause(context.Background())
	s.status = page.New(page.Options{
		Facts: facts{s}, Explain: s.serveExplanation, Guard: s.guardHTTP("/status"), Shell: s.guardShell, Stopping: s.stopping,
	})
	if opts.HTTPAuthorizer != nil && opts.TLS == nil {
		return nil, errors.New("tokens over HTTP without TLS would be seen by others")
	}
	if opts.TLS != nil {
		certs, err := loadCertificates(*opts.TLS, opts.Tokens != nil, opts.Log, s.metrics.reloadErrors)
		if err != nil {
			return nil, err
		}
		s.certs = certs
	}
	opts.Metrics.MustRegister(
		newCollector(s),
		newGuardCollector(r),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return s, nil
}

var errStopping = status.Error(codes.Unavailable, "shutting down: try another syncer")

// Serve serves VMs on one listener and HTTP on the other until the context ends, and then returns nil
// once everything that it started has ended. It closes both listeners. An error says which of the two
// could not be served. Without TLS it refuses a listener for VMs that is reachable from elsewhere.
func (s *Server) Serve(ctx context.Context, vms, people net.Listener) error {
	defer vms.Close()
	defer people.Close()
	if s.certs == nil {
		if err := checkLoopback(vms.Addr()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	defer group.Wait()

	rpc := s.newRPCServer()
	web := s.newHTTPServer()
	accepted := newConnections(vms, s.opts.MaxConnections, s.opts.MaxConnectionsPerAddress, s.refuseConnection)
	if s.certs != nil { // Plaintext is for this machine only.
		accepted.strangers = newStrangers(s.opts.Strangers, 2*s.opts.MaxConnectionAge, s.opts.Now)
		accepted.failed = func(reason string) { s.metrics.failures.WithLabelValues(reason).Inc() }
	}
	s.accepted.Store(accepted)
	group.Go(func() { s.publisher.run(ctx) })
	group.Go(func() { s.followScopes(ctx) })
	group.Go(func() { s.followCredentials(ctx) })
	group.Go(func() {
		if err := rpc.Serve(accepted); err != nil {
			cancel(fmt.Errorf("serve VMs on %s: %w", vms.Addr(), err))
		}
	})
	group.Go(func() {
		var listener net.Listener = newConnections(people, maxHTTPConnections, maxHTTPConnections/2, s.refuseHTTPConnection)
		if s.opts.HTTPAuthorizer != nil {
			listener = tls.NewListener(listener, s.certs.webConfig())
		}
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve HTTP on %s: %w", people.Addr(), err))
		}
	})
	s.serving.Store(true)
	s.opts.Log.Info("serving", "listen", vms.Addr().String(), "http", people.Addr().String(), "generation", s.registry.Generation(), "tls", s.certs != nil)

	<-ctx.Done()
	s.serving.Store(false)
	s.opts.Log.Info("shutting down", "watchers", len(s.Watchers()))
	s.shutdown(rpc, accepted, web)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// shutdown ends both servers, first by asking and then by force.
func (s *Server) shutdown(rpc *grpc.Server, accepted *connections, web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.ShutdownTimeout)
	defer cancel()
	var asking sync.WaitGroup
	asking.Go(func() {
		// Stopping by force also ends the wait of the graceful stop.
		defer context.AfterFunc(ctx, func() {
			accepted.end()
			rpc.Stop()
		})()
		rpc.GracefulStop()
	})
	asking.Go(func() {
		if err := web.Shutdown(ctx); err != nil {
			_ = web.Close() // nothing is left to do about it
		}
	})
	s.stop(errStopping)
	asking.Wait()
	s.running.Wait()
}

func (s *Server) newRPCServer() *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreamsPerVM),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.WriteBufferSize(connectionWriteBuffer),
		// Windows that adapt would cost a ping, and its answer, for every Ack.
		grpc.StaticStreamWindowSize(connectionWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinimum, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     s.opts.Strangers.Idle,
			MaxConnectionAge:      s.opts.MaxConnectionAge,
			MaxConnectionAgeGrace: s.opts.ConnectionAgeGrace,
			Time:                  keepaliveTime,
			Timeout:               keepaliveTimeout,
		}),
	}
	readBuffer := connectionReadBuffer
	if s.certs != nil {
		readBuffer = 0 // TLS has one of its own
		options = append(options, grpc.Creds(newTurns(s.stopping, credentials.NewTLS(s.certs.config()), handshakesAtOnce, handshakePatience)))
	}
	rpc := grpc.NewServer(append(options, grpc.ReadBufferSize(readBuffer))...)
	registryv1.RegisterRegistryServer(rpc, s)
	return rpc
}

// refuseConnection tells of a connection that was closed as soon as it was accepted.
func (s *Server) refuseConnection(reason string, source netip.Prefix) {
	s.metrics.refused.WithLabelValues(reason).Inc()
	if reason == refusedStranger {
		s.strangerWarnings.Do(func() {
			s.opts.Log.Warn("connections are closed as soon as they are accepted: too many came to nothing; a VM among them gets through by and by", "source", source.String())
		})
		return
	}
	s.warn("connection refused: too many are open", "bound", reason, "source", source.String())
}

// refuseHTTPConnection is refuseConnection for those that ask by HTTP.
func (s *Server) refuseHTTPConnection(_ string, source netip.Prefix) {
	s.metrics.refused.WithLabelValues(refusedHTTP).Inc()
	s.warn("connection refused: too many are open", "bound", refusedHTTP, "source", source.String())
}

// checkLoopback refuses an address that other machines can reach.
func checkLoopback(addr net.Addr) error {
	if tcp, isTCP := addr.(*net.TCPAddr); isTCP && tcp.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("listen on %s without TLS: plaintext is for loopback addresses only", addr)
}
