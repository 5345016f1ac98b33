package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// LeaseName is the Lease that the leader holds.
	LeaseName = "meshvm-vip-allocator"
	// DefaultNamespace is where Lease and ledger are, where no pod's own namespace says it.
	DefaultNamespace = "meshvm"
	// DefaultQPS is how many writes are sent per second at most. A cluster's API server takes several times
	// as many; ten thousand ServiceEntries get their addresses in a minute.
	DefaultQPS = 200
)

// Config says which cluster gets virtual IPs, and how.
type Config struct {
	// REST says how to reach the API server.
	REST *rest.Config
	// Namespace is where the Lease and the ledger are. Empty: DefaultNamespace.
	Namespace string
	// leaseName is of tests that have two lead at once. Empty: LeaseName.
	leaseName string
	// Identity tells this replica from the others. Empty: the host's name and a random part.
	Identity string
	// Allocation says how addresses are given.
	Allocation vip.Options
	// QPS is how many writes are sent per second at most. Zero: DefaultQPS.
	QPS float32
	// Lease says how leaders change.
	Lease LeaseTimes
	// Version is this program's, for its user agent.
	Version string
	// Log is where problems are reported. Nil: slog.Default.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

// LeaseTimes are how long a leader is waited for. The zero value is what Kubernetes' own controllers have.
type LeaseTimes struct {
	// Duration is how long the others wait for a leader that does not renew its Lease. Zero: 15 seconds.
	Duration time.Duration
	// RenewDeadline is how long a leader goes on that cannot renew it. Zero: 10 seconds.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two tries. Zero: 2 seconds.
	RetryPeriod time.Duration
}

// Controller gives virtual IPs while it leads. Its methods are safe for concurrent use.
type Controller struct {
	config  Config
	log     *slog.Logger
	metrics *metrics
	clients *clients

	mu   sync.Mutex
	term *term // Nil while it does not lead.

	follower followerTable
}

// New prepares a controller. It sends no request: an API server that cannot be reached is no error.
func New(config Config) (*Controller, error) {
	if config.REST == nil {
		return nil, errors.New("a controller of virtual IPs needs an API server")
	}
	if len(config.Allocation.Ranges.All()) == 0 {
		return nil, errors.New("a controller of virtual IPs needs ranges")
	}
	config.Namespace = cmp.Or(config.Namespace, DefaultNamespace)
	config.leaseName = cmp.Or(config.leaseName, LeaseName)
	config.QPS = cmp.Or(config.QPS, DefaultQPS)
	config.Lease.Duration = cmp.Or(config.Lease.Duration, 15*time.Second)
	config.Lease.RenewDeadline = cmp.Or(config.Lease.RenewDeadline, 10*time.Second)
	config.Lease.RetryPeriod = cmp.Or(config.Lease.RetryPeriod, 2*time.Second)
	if config.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name this replica: %w", err)
		}
		config.Identity = host + "_" + string(uuid.NewUUID())
	}
	clients, err := connect(config)
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, err
	}
	log := config.Log
	if log == nil {
		log = slog.Default()
	}
	return &Controller{
		config:  config,
		log:     log.With("controller", "virtual IPs", "server", clients.host),
		metrics: metrics,
		clients: clients,
	}, nil
}

// Run stands for election, and gives virtual IPs whenever this replica leads, until ctx is done. It returns
// when nothing of it runs any more. An API server that cannot be reached, or forbids, is reported and tried
// for ever. Run a Controller once.
func (c *Controller) Run(ctx context.Context) error {
	defer utilnet.CloseIdleConnectionsFor(c.clients.http.Transport)
	// What client-go says goes where all else goes.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(newSeldom(c.log.Handler())))
	events := newEvents(ctx, c.clients.events, c.config.Identity)
	defer events.stop()
	for ctx.Err() == nil {
		if err := c.stand(ctx, events); err != nil {
			return err
		}
		pause(ctx, c.config.Lease.RetryPeriod)
	}
	return nil
}

// pause waits, unless ctx is done before.
func pause(ctx context.Context, duration time.Duration) {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
