package kubernetes

import (
	"context"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// A new definition is asked at growing intervals whether it is served yet.
	minSettlePoll = 100 * time.Millisecond
	maxSettlePoll = 2 * time.Second

	definitionName = "serviceentries.networking.istio.io"
)

// entryResources are the versions of ServiceEntries, the one that is preferred first. All hold the same.
var entryResources = []schema.GroupVersionResource{
	{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
	{Group: "networking.istio.io", Version: "v1beta1", Resource: "serviceentries"},
	{Group: "networking.istio.io", Version: "v1alpha3", Resource: "serviceentries"},
}

// definition is the latest that is known of the definition of ServiceEntries.
type definition struct {
	wake chan struct{}

	mu    sync.Mutex
	known bool
	uid   types.UID // Empty: it is not there.
}

func (d *definition) set(uid types.UID, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uid, d.known = uid, known || d.known
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *definition) latest() (uid types.UID, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uid, d.known
}

func (t *term) definitionFeed(d *definition) feed {
	client := t.controller.clients.definitions.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"))
	plain := listWatch(client.List, client.Watch)
	const only = "metadata.name=" + definitionName
	return feed{
		resource: "customresourcedefinitions",
		example:  &metav1.PartialObjectMetadata{},
		listWatch: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				options.FieldSelector = only
				return plain.ListWithContextFunc(ctx, options)
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
				options.FieldSelector = only
				return plain.WatchFuncWithContext(ctx, options)
			},
		},
		trim: func(object runtime.Object) metav1.Object {
			definition, ok := object.(*metav1.PartialObjectMetadata)
			if !ok {
				return nil
			}
			return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Name: definition.Name, UID: definition.UID, ResourceVersion: definition.ResourceVersion,
			}}
		},
		put:    func(object metav1.Object) { d.set(object.GetUID(), false) },
		remove: func(string, string) { d.set("", false) },
	}
}

// followEntries follows ServiceEntries for as long as their definition is there, in a version that is served.
// settled is called when all that exist were put, or when it is known that there can be none.
func (t *term) followEntries(ctx context.Context, settled func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	d := &definition{wake: make(chan struct{}, 1)}
	var group sync.WaitGroup
	defer group.Wait()
	defer fail(nil)
	group.Go(func() {
		err := t.definitionFeed(d).follow(ctx, t.log, func(cache.Store) {
			uid, _ := d.latest()
			d.set(uid, true)
		})
		if err != nil {
			fail(err)
		}
	})

	var current *followed
	defer func() { current.stop() }()
	poll := minSettlePoll
	for {
		again := time.Duration(0)
		uid, known := d.latest()
		switch {
		case !known:
		case uid == "":
			if current != nil {
				t.log.Info("no longer following ServiceEntries, their definition is gone")
			}
			current.stop()
			current = nil
			t.view.retainEntries(func(vip.Owner) bool { return false })
			settled()
		default:
			resource, err := t.served(ctx)
			switch {
			case err != nil && ctx.Err() == nil:
				t.log.Warn("cannot find out which version of ServiceEntries is served, trying again", "error", err)
				again = maxSettlePoll
			case resource.Empty():
				// Not yet, or no longer. What is known stays until the definition goes.
				again, poll = poll, min(2*poll, maxSettlePoll)
			case current == nil || current.definition != uid || current.resource != resource:
				poll = minSettlePoll
				current.stop()
				t.log.Info("following ServiceEntries", "version", resource.Version)
				current = t.startEntries(ctx, resource, settled, fail)
				current.definition = uid
			}
		}
		if !waitFor(ctx, d.wake, again) {
			return causeOf(ctx)
		}
	}
}

// served is the version of ServiceEntries to follow: the first that is served. None: the zero value.
func (t *term) served(ctx context.Context) (schema.GroupVersionResource, error) {
	for _, resource := range entryResources {
		_, err := t.controller.clients.entries.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsForbidden(err):
			return resource, nil // The informer meets it, reports it and gets over it.
		case err != nil:
			return schema.GroupVersionResource{}, err
		default:
			return resource, nil
		}
	}
	return schema.GroupVersionResource{}, nil
}

// followed is an informer of ServiceEntries that runs.
type followed struct {
	definition types.UID
	resource   schema.GroupVersionResource
	cancel     context.CancelFunc
	done       chan struct{}
}

// stop ends it and waits for it. It may be called on nil.
func (f *followed) stop() {
	if f != nil {
		f.cancel()
		<-f.done
	}
}

func (t *term) startEntries(ctx context.Context, resource schema.GroupVersionResource, settled func(), fail context.CancelCauseFunc) *followed {
	ctx, cancel := context.WithCancel(ctx)
	f := &followed{resource: resource, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		err := t.entryFeed(resource).follow(ctx, t.log, func(store cache.Store) {
			// What another version had told, and is no longer there.
			t.view.retainEntries(func(owner vip.Owner) bool {
				_, found, err := store.GetByKey(owner.String())
				return found || err != nil
			})
			settled()
		})
		if err != nil {
			fail(err)
		}
	}()
	return f
}

func (t *term) entryFeed(resource schema.GroupVersionResource) feed {
	client := t.controller.clients.entries.Resource(resource)
	return feed{
		resource:  resource.GroupResource().String(),
		example:   &unstructured.Unstructured{},
		listWatch: listWatch(client.List, client.Watch),
		trim: func(object runtime.Object) metav1.Object {
			raw, ok := object.(*unstructured.Unstructured)
			if !ok {
				return nil
			}
			return readEntry(raw, resource)
		},
		put: func(object metav1.Object) {
			if e, ok := object.(*entry); ok {
				t.view.putEntry(e)
			}
		},
		remove: func(namespace, name string) { t.view.removeEntry(vip.Owner{Namespace: namespace, Name: name}) },
	}
}

// waitFor waits for a wake, or for some time unless that is zero. It reports whether ctx is not done.
func waitFor(ctx context.Context, wake <-chan struct{}, limit time.Duration) bool {
	var expired <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-expired:
	}
	return ctx.Err() == nil
}
