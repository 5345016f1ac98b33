package kubernetes

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/registry"
)

// inform runs an informer of a resource until ctx is done, and returns when it has stopped and none
// of its handlers runs any more. synced is called once, after the handler was given everything that
// exists.
func (s *Source) inform(ctx context.Context, k kind, handler cache.ResourceEventHandler, synced func()) error {
	informer := cache.NewSharedIndexInformerWithOptions(
		s.observe(k), k.example, cache.SharedIndexInformerOptions{ObjectDescription: k.resource.Resource})
	registration, err := informer.AddEventHandler(handler)
	if err = errors.Join(err,
		informer.SetTransform(transform(k)),
		// What goes wrong is reported where requests are observed.
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			s.log.Debug("watch ended", "resource", k.resource.Resource, "error", err)
		}),
	); err != nil {
		return err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		informer.RunWithContext(ctx)
	}()
	select {
	case <-registration.HasSyncedChecker().Done():
		synced()
	case <-stopped:
	}
	<-stopped
	return nil
}

// transform has an informer keep what names depend on.
func transform(k kind) cache.TransformFunc {
	return func(object any) (any, error) {
		if raw, ok := object.(runtime.Object); ok {
			if trimmed := k.trim(raw); trimmed != nil {
				return trimmed, nil
			}
		}
		return object, nil // Transformed already, or the trace of a missed deletion.
	}
}

// observe is the kind's lists and watches, each of them a sign of whether the server serves them.
func (s *Source) observe(k kind) *cache.ListWatch {
	plain := k.listWatch(s.clients)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			k.selector.apply(&options)
			s.health.await(ctx)
			list, err := plain.ListWithContextFunc(ctx, options)
			s.health.observe(ctx, k, "list", err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			k.selector.apply(&options)
			s.health.await(ctx)
			events, err := plain.WatchFuncWithContext(ctx, options)
			// An older server knows no lists that are streamed. A list follows.
			if streamed := options.SendInitialEvents != nil; !streamed || !apierrors.IsInvalid(err) {
				s.health.observe(ctx, k, "watch", err)
			}
			return events, err
		},
	}
}

// enqueue is the handler that feeds the queue.
type enqueue struct {
	queue   *queue
	feed    feed
	cluster string
}

func (e enqueue) OnAdd(object any, _ bool) { e.put(object) }

func (e enqueue) OnUpdate(before, after any) {
	was, ok := before.(metav1.Object)
	is, fine := after.(metav1.Object)
	if ok && fine && was.GetUID() == is.GetUID() && was.GetResourceVersion() == is.GetResourceVersion() {
		return // Listed again, and nothing happened.
	}
	e.put(after)
}

func (e enqueue) OnDelete(object any) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return // Not possible: informers deliver objects and traces of missed deletions.
	}
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return // Likewise.
	}
	e.queue.put(e.feed, e.object(namespace, name), nil)
}

func (e enqueue) put(object any) {
	if state, ok := object.(metav1.Object); ok {
		e.queue.put(e.feed, e.object(state.GetNamespace(), state.GetName()), state)
	}
}

func (e enqueue) object(namespace, name string) registry.Object {
	return registry.Object{Kind: e.feed.kind, Namespace: namespace, Name: name, Cluster: e.cluster}
}

// handlers are given everything one after the other.
type handlers []cache.ResourceEventHandler

func (h handlers) OnAdd(object any, initial bool) {
	for _, handler := range h {
		handler.OnAdd(object, initial)
	}
}

func (h handlers) OnUpdate(before, after any) {
	for _, handler := range h {
		handler.OnUpdate(before, after)
	}
}

func (h handlers) OnDelete(object any) {
	for _, handler := range h {
		handler.OnDelete(object)
	}
}
