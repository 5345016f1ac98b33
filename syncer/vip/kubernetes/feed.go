package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// logInterval is how often a fault that lasts is logged.
const logInterval = 30 * time.Second

// feed is a kind of object that is watched.
type feed struct {
	resource  string
	example   runtime.Object
	listWatch *cache.ListWatch
	// trim keeps of an object what counts.
	trim func(runtime.Object) metav1.Object
	// put is given every state of an object, and remove what is gone.
	put    func(metav1.Object)
	remove func(namespace, name string)
}

// follow runs an informer until ctx is done, and returns when it has stopped and nothing is told any more.
// synced is called once, after all that exists was put.
func (f feed) follow(ctx context.Context, log *slog.Logger, synced func(cache.Store)) error {
	informer := cache.NewSharedIndexInformerWithOptions(f.listWatch, f.example,
		cache.SharedIndexInformerOptions{ObjectDescription: f.resource})
	registration, err := informer.AddEventHandler(f)
	sometimes := rate.Sometimes{First: 1, Interval: logInterval}
	if err = errors.Join(err,
		informer.SetTransform(f.transform),
		informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || ctx.Err() != nil {
				return // That is how watches end when all is well.
			}
			sometimes.Do(func() { log.Warn("cannot watch, trying again", "resource", f.resource, "error", err) })
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
		synced(informer.GetStore())
	case <-stopped:
	}
	<-stopped
	return nil
}

func (f feed) transform(object any) (any, error) {
	if raw, ok := object.(runtime.Object); ok {
		if trimmed := f.trim(raw); trimmed != nil {
			return trimmed, nil
		}
	}
	return object, nil // Transformed already, or the trace of a missed deletion.
}

// OnAdd, OnUpdate and OnDelete make it an informer's handler.
func (f feed) OnAdd(object any, _ bool) {
	if state, ok := object.(metav1.Object); ok {
		f.put(state)
	}
}

// OnUpdate passes over what was only listed again.
func (f feed) OnUpdate(before, after any) {
	was, ok := before.(metav1.Object)
	is, fine := after.(metav1.Object)
	if ok && fine && (was.GetUID() != is.GetUID() || was.GetResourceVersion() != is.GetResourceVersion()) {
		f.put(is)
	}
}

// OnDelete takes traces of missed deletions as well.
func (f feed) OnDelete(object any) {
	if name, err := cache.DeletionHandlingObjectToName(object); err == nil {
		f.remove(name.Namespace, name.Name)
	}
}

func listWatch[L runtime.Object](
	list func(context.Context, metav1.ListOptions) (L, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return list(ctx, options)
		},
		WatchFuncWithContext: watch,
	}
}
