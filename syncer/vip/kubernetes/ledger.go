package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// ledgerParallel bounds the requests for the ledger that are under way at once.
	ledgerParallel = 16
	// requestTimeout bounds one request.
	requestTimeout = 30 * time.Second
)

// errConflict means that somebody else has written the ledger.
var errConflict = errors.New("somebody else has written it since it was read")

// unreadableError means that a part of the ledger makes no sense. No address can be given: it might rest, or
// be another's.
type unreadableError struct {
	namespace, name string
	err             error
}

func (e *unreadableError) Error() string {
	return fmt.Sprintf("ConfigMap %s/%s: %v", e.namespace, e.name, e.err)
}

func (e *unreadableError) Unwrap() error { return e.err }

// ledger is the records as they are stored, each shard with the version that it has in the API server.
type ledger struct {
	client  corev1client.ConfigMapInterface
	metrics *metrics
	shards  [shardCount]shard
}

type shard struct {
	// meta is of the ConfigMap as it was read or written last. Without a version there is none.
	meta    metav1.ObjectMeta
	records map[netip.Addr]vip.Record
}

// readLedger reads all of it. A shard that is not there is empty.
func readLedger(ctx context.Context, client corev1client.ConfigMapInterface, metrics *metrics) (*ledger, error) {
	l := &ledger{client: client, metrics: metrics}
	err := parallel(ctx, ledgerParallel, shardCount, func(ctx context.Context, number int) error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		stored, err := client.Get(ctx, shardName(number), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			l.shards[number] = shard{meta: newShardMeta(number)}
			return nil
		case err != nil:
			return fmt.Errorf("read ConfigMap %s: %w", shardName(number), err)
		}
		records, err := parseShard(number, stored.Data)
		if err != nil {
			return &unreadableError{stored.Namespace, stored.Name, err}
		}
		l.shards[number] = newShard(stored, records)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func newShardMeta(number int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: shardName(number),
		Labels: map[string]string{
			"app.kubernetes.io/managed-by": "meshvm-syncer",
			"app.kubernetes.io/part-of":    "meshvm",
			"app.kubernetes.io/component":  "vip-ledger",
		},
	}
}

// records are all that there are.
func (l *ledger) records() []vip.Record {
	var all []vip.Record
	for i := range l.shards {
		all = slices.AppendSeq(all, maps.Values(l.shards[i].records))
	}
	return all
}

// write stores and forgets records. After an error the ledger has to be read anew: it is not known what of
// it was written. The error is errConflict when somebody else has written.
func (l *ledger) write(ctx context.Context, store []vip.Record, forget []netip.Addr) error {
	touched := map[int]map[netip.Addr]vip.Record{}
	next := func(address netip.Addr) map[netip.Addr]vip.Record {
		number := shardOf(address)
		if touched[number] == nil {
			touched[number] = maps.Clone(l.shards[number].records)
			if touched[number] == nil {
				touched[number] = map[netip.Addr]vip.Record{}
			}
		}
		return touched[number]
	}
	for _, record := range store {
		next(record.Address)[record.Address] = record
	}
	for _, address := range forget {
		delete(next(address), address)
	}
	numbers := slices.Sorted(maps.Keys(touched))
	return parallel(ctx, ledgerParallel, len(numbers), func(ctx context.Context, i int) error {
		err := l.writeShard(ctx, numbers[i], touched[numbers[i]])
		switch {
		case err == nil:
			l.metrics.ledgerWrites.WithLabelValues("ok").Inc()
		case errors.Is(err, errConflict):
			l.metrics.ledgerWrites.WithLabelValues("conflict").Inc()
		case ctx.Err() == nil:
			l.metrics.ledgerWrites.WithLabelValues("error").Inc()
		}
		return err
	})
}

func (l *ledger) writeShard(ctx context.Context, number int, records map[netip.Addr]vip.Record) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	content, err := encodeShard(records)
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", shardName(number), err)
	}
	held := &l.shards[number]
	next := &corev1.ConfigMap{ObjectMeta: held.meta, Data: content}
	var stored *corev1.ConfigMap
	if held.meta.ResourceVersion == "" {
		stored, err = l.client.Create(ctx, next, metav1.CreateOptions{})
	} else {
		stored, err = l.client.Update(ctx, next, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || held.meta.ResourceVersion != "" && apierrors.IsNotFound(err):
		return fmt.Errorf("write ConfigMap %s: %w", shardName(number), errConflict)
	case err != nil:
		return fmt.Errorf("write ConfigMap %s: %w", shardName(number), err)
	}
	*held = newShard(stored, records)
	return nil
}

func newShard(stored *corev1.ConfigMap, records map[netip.Addr]vip.Record) shard {
	meta := stored.ObjectMeta
	meta.ManagedFields = nil // They are the API server's, and large.
	return shard{meta: meta, records: records}
}

// parallel does something for 0 to count-1, of which at most some at once, and waits for all. After the first
// error no more are begun.
func parallel(ctx context.Context, limit, count int, do func(ctx context.Context, i int) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	numbers := make(chan int)
	var group sync.WaitGroup
	for range min(limit, count) {
		group.Go(func() {
			for i := range numbers {
				if err := do(ctx, i); err != nil {
					fail(err)
				}
			}
		})
	}
	for i := range count {
		select {
		case numbers <- i:
		case <-ctx.Done():
		}
	}
	close(numbers)
	group.Wait()
	return context.Cause(ctx)
}
