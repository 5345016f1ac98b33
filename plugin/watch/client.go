package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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
	files    *credentialFiles

	running atomic.Bool
	status  statusBoard

	// What follows belongs to Run.
	addresses addresses
	backoff   backoff
	// refusals is the backoff after a syncer did not let this VM in: somebody has to change something first.
	refusals backoff
	faults   faults
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
		refusals:   backoff{base: limits.refusalBase, cap: limits.refusalCap},
		faults:     newFaults(log, limits.report),
		lossLogged: true,
	}
	files, err := newCredentialFiles(config, limits, log)
	if err != nil {
		return nil, fmt.Errorf("follow syncer: %w", err)
	}
	c.files = files
	return c, nil
}

// Status is where the Client stands. It is safe for concurrent use.
func (c *Client) Status() Status {
	present := c.status.read()
	present.Credentials = c.files.credentials()
	return present
}

// Run follows one syncer at a time until the context ends, and returns when no goroutine and no
// connection of it is left. It returns the context's error. Only one Run may run at a time.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("follow syncer: already running")
	}
	defer c.running.Store(false)
	var watching sync.WaitGroup
	defer watching.Wait()
	seen := c.files.stamps()
	watching.Go(func() { c.files.watch(ctx, seen) })
	c.status.change(func(s *Status) { s.Since = time.Now() })
	for ctx.Err() == nil {
		again, refused := c.tryEach(ctx)
		if again || ctx.Err() != nil {
			continue
		}
		delay := c.addresses.free(time.Now())
		if !refused {
			delay = max(delay, c.backoff.next())
		}
		c.pause(ctx, delay)
	}
	return context.Cause(ctx)
}

// tryEach tries the addresses in turn until one was in step for a while, and reports whether to begin
// again at once, or else whether all that were tried have refused.
func (c *Client) tryEach(ctx context.Context) (again, refused bool) {
	refused = true
	for _, address := range c.addresses.order(time.Now()) {
		end := c.follow(ctx, address)
		for end.repair() && c.mayRepair() && ctx.Err() == nil {
			end = c.follow(ctx, address)
		}
		if ctx.Err() != nil {
			return false, false
		}
		if end.failure.refused() {
			if c.files.reread() {
				return true, true // It was not what the files hold that was refused.
			}
			c.bar(address, end)
		} else {
			refused = false
			if hint := min(end.failure.hint, c.limits.hintCap); hint > 0 {
				c.addresses.hold(address, time.Now().Add(hint))
			}
		}
		if end.failure.cause == CauseSilent || end.failure.cause == CauseTimeout {
			c.addresses.avoid(address)
		}
		if end.failure.cause == CauseAged {
			c.addresses.choose()
		}
		if end.synced {
			return c.wasSteady(end), refused
		}
	}
	return false, refused
}

// bar leaves an address alone whose syncer has refused. A refusal after a stream that lived longer than it would cost
// now is the first again.
func (c *Client) bar(address string, end ending) {
	if end.synced && end.lived >= c.refusals.ceiling() {
		c.refusals.reset()
	}
	delay := max(c.refusals.next(), min(end.failure.hint, c.limits.refusalCap))
	c.addresses.bar(address, time.Now().Add(delay))
}

// pardon has addresses tried again that have refused, because the credential is another now. It reports whether
// there were any.
func (c *Client) pardon() bool {
	c.refusals.reset()
	return c.addresses.pardon()
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

// pause waits, or less when the context ends, or when files have changed after a refusal.
func (c *Client) pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-c.files.changed:
			if c.pardon() {
				return
			}
		}
	}
}
