package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// firstReload and lastReload are how long a leader waits that has to begin anew.
	firstReload = 500 * time.Millisecond
	lastReload  = 30 * time.Second
)

// term is the time for which a replica leads: what it knows of the cluster, and what it decided.
type term struct {
	controller *Controller
	log        *slog.Logger
	events     *events
	view       *view
	patcher    *patcher

	mu sync.Mutex
	// allocator is nil until the ledger is read.
	allocator *vip.Allocator
}

// lead gives virtual IPs until ctx is done, and returns when nothing of it runs any more.
func (c *Controller) lead(ctx context.Context, events *events) {
	c.log.Info("leading: this replica gives virtual IPs")
	defer c.log.Info("no longer leading")
	t := &term{controller: c, log: c.log, events: events, view: newView(c.config.Allocation.Ranges)}
	t.patcher = newPatcher(c.clients.statuses, c.log, c.metrics, t.view.retry)
	c.setTerm(t)
	c.metrics.leader.Set(1)
	defer c.metrics.resign()
	defer c.setTerm(nil)

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var group sync.WaitGroup
	defer group.Wait()
	defer fail(nil)
	settled := newAwaited()
	t.followAll(ctx, &group, settled, fail)
	group.Go(func() { t.patcher.run(ctx) })
	if settled.wait(ctx, t.log) {
		t.allocateUntil(ctx)
	}
	if cause := causeOf(ctx); cause != nil {
		t.log.Error("cannot follow the cluster, no virtual IP is given until the next election", "error", cause)
	}
}

func (c *Controller) setTerm(t *term) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = t
}

// followAll starts all that tells of the cluster.
func (t *term) followAll(ctx context.Context, group *sync.WaitGroup, settled *awaited, fail context.CancelCauseFunc) {
	start := func(name string, follow func(ctx context.Context, settled func()) error) {
		delivered := settled.add(name)
		group.Go(func() {
			if err := follow(ctx, delivered); err != nil {
				fail(err)
			}
		})
	}
	plainly := func(f feed) func(context.Context, func()) error {
		return func(ctx context.Context, delivered func()) error {
			return f.follow(ctx, t.log, func(cache.Store) { delivered() })
		}
	}
	start("serviceentries.networking.istio.io", t.followEntries)
	start("services", plainly(t.serviceFeed()))
	start("nodes", plainly(t.nodeFeed()))
	start("servicecidrs.networking.k8s.io", t.followServiceCIDRs)
}

// followServiceCIDRs follows them where they are served: before Kubernetes 1.33 they are not.
func (t *term) followServiceCIDRs(ctx context.Context, delivered func()) error {
	for {
		_, err := t.controller.clients.networking.ServiceCIDRs().List(ctx, metav1.ListOptions{Limit: 1})
		switch {
		case apierrors.IsNotFound(err):
			delivered()
			return nil
		case err == nil || apierrors.IsForbidden(err):
			return t.serviceCIDRFeed().follow(ctx, t.log, func(cache.Store) { delivered() })
		}
		t.log.Warn("cannot find out whether ServiceCIDRs are served, trying again", "error", err)
		if !waitFor(ctx, nil, maxSettlePoll) {
			return nil
		}
	}
}

// allocateUntil allocates until ctx is done, and begins anew from what is stored whenever it cannot go on.
func (t *term) allocateUntil(ctx context.Context) {
	for wait := firstReload; ; {
		began := time.Now()
		err := t.allocate(ctx)
		t.setAllocator(nil)
		if ctx.Err() != nil {
			return
		}
		unreadable := &unreadableError{}
		switch {
		case errors.As(err, &unreadable):
			t.controller.metrics.unreadable.Set(1)
			t.log.Error("the ledger of virtual IPs cannot be understood, none is given until it is repaired or removed",
				"configmap", unreadable.namespace+"/"+unreadable.name, "error", unreadable.err)
		case errors.Is(err, errConflict):
			t.log.Warn("somebody else has written the ledger of virtual IPs, reading it anew", "error", err)
		default:
			t.log.Warn("cannot give virtual IPs, trying again", "error", err)
		}
		if time.Since(began) > lastReload {
			wait = firstReload
		}
		if !waitFor(ctx, nil, wait) {
			return
		}
		wait = min(2*wait, lastReload)
	}
}

func (t *term) setAllocator(a *vip.Allocator) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.allocator = a
}

// causeOf is why ctx is done, nil if it was stopped.
func causeOf(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return nil
	}
	return cause
}

// awaited are what has not delivered yet what exists.
type awaited struct {
	done chan struct{} // Closed when there is none.

	mu    sync.Mutex
	names []string
}

func newAwaited() *awaited { return &awaited{done: make(chan struct{})} }

// add awaits something. All are added before any is settled.
func (a *awaited) add(name string) (settled func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names = append(a.names, name)
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.names = slices.DeleteFunc(a.names, func(n string) bool { return n == name })
		if len(a.names) == 0 {
			close(a.done)
		}
	})
}

// wait returns when all have delivered, and says at intervals which have not. It reports whether ctx is not
// done.
func (a *awaited) wait(ctx context.Context, log *slog.Logger) bool {
	ticker := time.NewTicker(logInterval)
	defer ticker.Stop()
	for {
		select {
		case <-a.done:
			return true
		case <-ctx.Done():
			return false
		case <-ticker.C:
			a.mu.Lock()
			left := slices.Clone(a.names)
			a.mu.Unlock()
			log.Warn("waiting for the API server, no virtual IP is given yet", "waiting for", left)
		}
	}
}
