package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/identity"
	"github.com/meshvm/meshvm/syncer/vip"
)

// Options of a Server. Registry aside they have defaults that are right in production.
type Options struct {
	// ClusterDomain is the DNS zone of the cluster's Services, lower case, without the trailing dot.
	// Empty: cluster.local.
	ClusterDomain string
	// Version of the syncer, for metrics and people.
	Version string
	// TLS is the server's side of TLS. Nil: plaintext, which Serve refuses off loopback.
	TLS *TLSFiles
	// Tokens find out whose a VM's token is. Nil: a VM is who its client certificate says; tokens are not looked at.
	Tokens identity.TokenAuthenticator
	// Authorizer decides who may watch. Nil: everybody who has an identity.
	Authorizer identity.Authorizer
	// HTTPAuthorizer decides who may see /metrics and the status page. Nil: metrics everybody, and the page whoever asks from
	// this machine. With it the HTTP listener is TLS.
	HTTPAuthorizer HTTPAuthorizer
	// Replicas is the headless Service of all syncers, NAMESPACE/NAME, whose endpoints the status page lists. Empty: they are not known.
	Replicas string
	// Recheck is how often it is looked again whether VMs that watch may still do so. Zero: 2 min.
	Recheck time.Duration
	// Scopes say what VMs see of their views. Nil: all. The registry must keep what scopes go by.
	Scopes Scopes
	// Metrics is where the server registers its metrics, and what /metrics shows. Nil: one of its own.
	Metrics *prometheus.Registry
	// VirtualIPs is all virtual IPs, for /debug/vips. It is called by one at a time. Nil: nothing is known of
	// them.
	VirtualIPs func(context.Context) (vip.Table, error)
	// Log receives structured logs. Nil: none.
	Log *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	// CoalesceWindow is how long changes are gathered before they are sent. Zero: 20 ms.
	CoalesceWindow time.Duration
	// HeartbeatInterval is the time between two heartbeats of a stream. Zero: 5 s.
	HeartbeatInterval time.Duration
	// HelloTimeout is how long a stream may take for its Hello, and for each answer in a Compare. Zero: 10 s.
	HelloTimeout time.Duration
	// SendTimeout is how long a VM may take to make room for one frame. Zero: 30 s.
	SendTimeout time.Duration
	// ShutdownTimeout is how long Serve waits for connections to end by themselves. Zero: 5 s.
	ShutdownTimeout time.Duration
	// MaxConnectionAge is when a connection is asked to come again, so that replicas stay balanced. gRPC
	// spreads it by a tenth. Zero: 1 h.
	MaxConnectionAge time.Duration
	// ConnectionAgeGrace is how long after that it is closed if the VM has not. Zero: 10 s.
	ConnectionAgeGrace time.Duration

	// MaxConnections bounds the connections of VMs, with an identity or without. Zero: 20,000.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those from one IPv4 address or IPv6 /64. A load balancer that hides its
	// clients makes all VMs one address. Zero: half of MaxConnections, so that nobody is alone.
	MaxConnectionsPerAddress int
	// Strangers bounds what connections take that nobody has proved to be a VM's.
	Strangers StrangerBounds
	// MaxStreamsPerIdentity bounds the streams of one identity, which in a mesh is a service account and may
	// be that of many VMs, or of one certificate that names none. Zero: half of MaxConnections.
	MaxStreamsPerIdentity int

	// FullSyncs is how many streams may be sent a whole view, or compared with it, at once. Zero: 16.
	FullSyncs int
	// FullSyncQueue is how many may wait for that. Others are told when to come again. Zero: 10,000.
	FullSyncQueue int
	// FullSyncWait is how long one waits before it is told the same. VMs give up after 30 s. Zero: 25 s.
	FullSyncWait time.Duration
	// FullSyncPatience is how long one of them counts as such: a slow VM does not hold up others for
	// longer. Zero: 5 s.
	FullSyncPatience time.Duration
	// FrameBytes bounds a frame, unless a single resource is larger. Zero: 256 KiB, which SendTimeout
	// turns into the slowest link that is served: 9 kB/s.
	FrameBytes int
	// CacheBytes bounds the encoded deltas that are kept for other streams. Zero: 64 MiB.
	CacheBytes int
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) complete() error {
	orDefault(&o.ClusterDomain, "cluster.local")
	orDefault(&o.Version, "unknown")
	orDefault(&o.Recheck, 2*time.Minute)
	orDefault(&o.CoalesceWindow, 20*time.Millisecond)
	orDefault(&o.HeartbeatInterval, 5*time.Second)
	orDefault(&o.HelloTimeout, 10*time.Second)
	orDefault(&o.SendTimeout, 30*time.Second)
	orDefault(&o.ShutdownTimeout, 5*time.Second)
	orDefault(&o.MaxConnectionAge, time.Hour)
	orDefault(&o.ConnectionAgeGrace, 10*time.Second)
	o.Strangers.complete()
	orDefault(&o.MaxConnections, 20_000)
	orDefault(&o.MaxConnectionsPerAddress, (o.MaxConnections+1)/2)
	orDefault(&o.MaxStreamsPerIdentity, (o.MaxConnections+1)/2)
	orDefault(&o.FullSyncs, 16)
	orDefault(&o.FullSyncQueue, 10_000)
	orDefault(&o.FullSyncWait, 25*time.Second)
	orDefault(&o.FullSyncPatience, 5*time.Second)
	orDefault(&o.FrameBytes, 256<<10)
	orDefault(&o.CacheBytes, 64<<20)
	if o.Scopes == nil {
		o.Scopes = unscoped{}
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.HeartbeatInterval < time.Millisecond {
		return errors.New("a heartbeat interval under 1 ms cannot be said in a Welcome")
	}
	if o.TLS != nil && o.TLS.ClientCA == "" && o.Tokens == nil {
		return errors.New("TLS without client authorities and without tokens would let everybody in")
	}
	return nil
}
