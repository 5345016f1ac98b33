package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// Client keeps a mirror in step with a syncer while Run runs.
type Client struct {
	config   Config
	mirror   *mirror.Mirror
	log      *slog.Logger
	observer Observer
	limits   limits
	dial     dialFunc
	// tls is nil where the connection is plaintext.
	tls *tlsSource

	running atomic.Bool
	status  statusBoard

	// What follows belongs to Run.
	addresses addresses
	backoff   backoff
	faults    faults
	// trust is how far what the mirror holds is to be relied on by the next stream.
	trust trust
	// repaired is when a repair was last asked for at once.
	repaired time.Time
	// lossLogged: the log's last word is that no syncer is followed.
	lossLogged bool
}

// New checks the configuration, the TLS files with it, and connects to nothing yet. A nil log or
// observer is as good as one that does nothing. Errors name the setting or the file at fault.
func New(config Config, m *mirror.Mirror, log *slog.Logger, observer Observer) (*Client, error) {
	return newClient(config, m, log, observer, defaultLimits)
}

func newClient(config Config, m *mirror.Mirror, log *slog.Logger, observer Observer, limits limits) (*Client, error) {
	if m == nil {
		return nil, errors.New("follow syncer: no mirror")
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("follow syncer: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if observer == nil {
		observer = Ignore{}
	}
	c := &Client{
		config:     config,
		mirror:     m,
		log:        log,
		observer:   observer,
		limits:     limits,
		dial:       dialTCP(config.Insecure, limits.connect),
		addresses:  newAddresses(config.Addresses),
		backoff:    backoff{base: limits.retryBase, cap: limits.retryCap},
		faults:     newFaults(log, limits.report),
		lossLogged: true,
	}
	if config.Insecure {
		return c, nil
	}
	source, err := newTLSSource(config.TLS, config.ServerName, log)
	if err != nil {
		return nil, fmt.Errorf("follow syncer: %w", err)
	}
	c.tls = source
	return c, nil
}

// Status is where the Client stands. It is safe for concurrent use.
func (c *Client) Status() Status { return c.status.read() }

// Run follows one syncer at a time until the context ends, and returns when no goroutine and no
// connection of it is left. It returns the context's error. Only one Run may run at a time.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("follow syncer: already running")
	}
	defer c.running.Store(false)
	c.status.change(func(s *Status) { s.Since = time.Now() })
	for ctx.Err() == nil {
		if again := c.tryEach(ctx); again || ctx.Err() != nil {
			continue
		}
		pause(ctx, max(c.backoff.next(), c.addresses.free(time.Now())))
	}
	return context.Cause(ctx)
}

// tryEach tries the addresses in turn until one was in step for a while, and reports whether to begin
// again at once.
func (c *Client) tryEach(ctx context.Context) (again bool) {
	for _, address := range c.addresses.order(time.Now()) {
		end := c.follow(ctx, address)
		for end.repair() && c.mayRepair() && ctx.Err() == nil {
			end = c.follow(ctx, address)
		}
		if ctx.Err() != nil {
			return false
		}
		if hint := min(end.failure.hint, c.limits.hintCap); hint > 0 {
			c.addresses.hold(address, time.Now().Add(hint))
		}
		if end.failure.cause == CauseSilent || end.failure.cause == CauseTimeout {
			c.addresses.avoid(address)
		}
		if end.failure.cause == CauseAged {
			c.addresses.choose()
		}
		if end.synced {
			return c.wasSteady(end)
		}
	}
	return false
}

// wasSteady resets the backoff after a stream that lived longer than the delay that a failure would
// have cost now. One that comes into step and ends at once, over and over, is slowed down like any fault. Where
// the syncer asks for another stream, that is none, unless it never stops asking.
func (c *Client) wasSteady(end ending) bool {
	if end.failure.again && end.lived >= c.limits.retryBase {
		return true
	}
	if end.repair() || end.lived < c.backoff.ceiling() {
		return false
	}
	c.backoff.reset()
	return true
}

// mayRepair reports whether a repair, a Compare or a full copy, may be asked for at once. When the last
// was not long ago, a repair does not help, and the backoff must bound what it costs.
func (c *Client) mayRepair() bool {
	now := time.Now()
	if !c.repaired.IsZero() && now.Sub(c.repaired) < c.limits.repair {
		return false
	}
	c.repaired = now
	return true
}

// pause waits, or less when the context ends.
func pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
