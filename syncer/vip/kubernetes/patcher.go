package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// patchWorkers is how many statuses are written at once.
	patchWorkers = 16
	// A status that could not be written is looked at again after a growing time.
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute

	fieldManager = "meshvm-syncer-vip"
)

// errStale means that a status was not what it was taken for. The informer brings what it is.
var errStale = fmt.Errorf("the object has changed since it was seen")

// work is what there is to write of a ServiceEntry, as it was seen when that was decided.
type work struct {
	entry *entry
	// addresses is what status.addresses should be, where they are to be written.
	addresses      []vip.HostAddress
	writeAddresses bool
	// condition is what the condition of ours should be, where it is to be written.
	condition      *condition
	writeCondition bool
}

// patcher writes statuses.
type patcher struct {
	statuses  metadata.Interface
	log       *slog.Logger
	metrics   *metrics
	queue     workqueue.TypedRateLimitingInterface[vip.Owner]
	pace      pace
	sometimes rate.Sometimes
	// retry has a ServiceEntry looked at again.
	retry func(vip.Owner)

	mu      sync.Mutex
	pending map[vip.Owner]work
}

func newPatcher(statuses metadata.Interface, log *slog.Logger, metrics *metrics, retry func(vip.Owner)) *patcher {
	return &patcher{
		statuses: statuses,
		log:      log,
		metrics:  metrics,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[vip.Owner](firstRetry, lastRetry)),
		sometimes: rate.Sometimes{First: 10, Interval: logInterval},
		retry:     retry,
		pending:   map[vip.Owner]work{},
	}
}

// run writes until ctx is done, and returns when nothing is under way any more.
func (p *patcher) run(ctx context.Context) {
	defer context.AfterFunc(ctx, p.queue.ShutDown)()
	var group sync.WaitGroup
	for range patchWorkers {
		group.Go(func() {
			for {
				owner, over := p.queue.Get()
				if over {
					return
				}
				p.process(ctx, owner)
				p.queue.Done(owner)
			}
		})
	}
	group.Wait()
	p.queue.ShutDown()
}

// put has work done, in the place of what is still to do for the same ServiceEntry.
func (p *patcher) put(w work) {
	owner := w.entry.owner()
	p.mu.Lock()
	p.pending[owner] = w
	p.mu.Unlock()
	p.queue.AddAfter(owner, p.pace.delay(owner, time.Now()))
}

// drop forgets what is still to do.
func (p *patcher) drop(owner vip.Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, owner)
}

// forget drops all that is known of a ServiceEntry that is gone.
func (p *patcher) forget(owner vip.Owner) {
	p.drop(owner)
	p.pace.forget(owner)
	p.queue.Forget(owner)
}

func (p *patcher) take(owner vip.Owner) (w work, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, found = p.pending[owner]
	delete(p.pending, owner)
	return w, found
}

func (p *patcher) process(ctx context.Context, owner vip.Owner) {
	if ctx.Err() != nil {
		return
	}
	w, found := p.take(owner)
	if !found {
		p.retry(owner) // It failed before, and nothing new has come since.
		return
	}
	err := p.write(ctx, w)
	switch {
	case err == nil:
		p.queue.Forget(owner)
	case ctx.Err() != nil:
	default:
		p.queue.AddRateLimited(owner)
	}
}

func (p *patcher) write(ctx context.Context, w work) error {
	seen := *w.entry
	if w.writeAddresses {
		operations, err := patchAddresses(&seen, w.addresses)
		if err = p.patch(ctx, &seen, operations, err); err != nil {
			return err
		}
		seen.status.present = true
	}
	if w.writeCondition {
		operations, err := patchCondition(&seen, w.condition, time.Now())
		return p.patch(ctx, &seen, operations, err)
	}
	return nil
}

// patch sends a patch, unless it could not be made.
func (p *patcher) patch(ctx context.Context, e *entry, operations []operation, err error) error {
	if err == nil {
		err = p.send(ctx, e, operations)
	}
	switch {
	case err == nil:
		p.metrics.patches.WithLabelValues("applied").Inc()
		p.pace.wrote(e.owner(), time.Now())
	case ctx.Err() != nil: // The end of the term.
	case apierrors.IsInvalid(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		p.metrics.patches.WithLabelValues("stale").Inc()
		p.log.Debug("a status was not what it was taken for, looking at it again", "ServiceEntry", e.owner().String(), "error", err)
		return errStale
	default:
		p.metrics.patches.WithLabelValues("failed").Inc()
		p.sometimes.Do(func() {
			p.log.Warn("cannot write a status, trying again", "ServiceEntry", e.owner().String(), "error", err)
		})
	}
	return err
}

func (p *patcher) send(ctx context.Context, e *entry, operations []operation) error {
	content, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("encode a patch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = p.statuses.Resource(e.resource).Namespace(e.Namespace).Patch(ctx, e.Name, types.JSONPatchType, content,
		metav1.PatchOptions{FieldManager: fieldManager}, "status")
	return err
}
