package kubernetes

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// A headless Service without a selector has EndpointSlices that somebody made by hand, or that are mirrored
// from Endpoints. They lack the label by which all others are followed: Kubernetes sets it on slices of its
// own only. They are followed by the names of their Services instead, and only while there are any.

const (
	// maxSelector bounds the names in a selector, in bytes: it is a part of a URL, and 8 KiB is what
	// proxies take of one. Of Services beyond that, slices are picked from those of all others.
	maxSelector = 4 << 10
	// wideGap is the time between two lists of the slices of all Services at least.
	wideGap = 10 * time.Second
	// narrowGap is that between two lists of the slices of a few.
	narrowGap = 200 * time.Millisecond
)

// services is a set of Services.
type services map[types.NamespacedName]bool

// selectorless is the headless Services without a selector that there are.
type selectorless struct {
	wake chan struct{}

	mu    sync.Mutex
	known bool // Whether the API server has listed Services yet.
	held  services
}

func newSelectorless() *selectorless {
	return &selectorless{wake: make(chan struct{}, 1), held: services{}}
}

// OnAdd, OnUpdate and OnDelete make it an informer's handler.
func (s *selectorless) OnAdd(object any, _ bool) { s.see(object) }
func (s *selectorless) OnUpdate(_, object any)   { s.see(object) }

func (s *selectorless) OnDelete(object any) {
	if key, err := cache.DeletionHandlingObjectToName(object); err == nil {
		s.set(types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, false)
	}
}

func (s *selectorless) see(object any) {
	if service, ok := object.(*corev1.Service); ok {
		name := types.NamespacedName{Namespace: service.Namespace, Name: service.Name}
		s.set(name, source.Headless(service) && len(service.Spec.Selector) == 0)
	}
}

func (s *selectorless) set(name types.NamespacedName, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[name] == is {
		return
	}
	if is {
		s.held[name] = true
	} else {
		delete(s.held, name)
	}
	s.signal()
}

// listed says that all that exist were seen.
func (s *selectorless) listed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = true
	s.signal()
}

// signal wakes who follows the slices.
func (s *selectorless) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// latest is all that there are, once that is known.
func (s *selectorless) latest() (held services, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return nil, false
	}
	return maps.Clone(s.held), true
}

// serviceOf names the Service that a slice belongs to.
func serviceOf(slice metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: slice.GetNamespace(), Name: slice.GetLabels()[discoveryv1.LabelServiceName]}
}

// unlabelled is how the slices of these Services that lack the label are watched.
func (of services) unlabelled() kind {
	k := endpointSliceKind
	k.of = "of headless Services without a selector"
	k.selector = selector{label: of.selector()}
	k.trim = func(object runtime.Object) metav1.Object {
		slice, ok := object.(*discoveryv1.EndpointSlice)
		if !ok || of[serviceOf(slice)] {
			return trimEndpointSlice(object)
		}
		// It came because its Service has the name of one of these, or because these are many.
		return &discoveryv1.EndpointSlice{ObjectMeta: identity(slice)}
	}
	return k
}

// selector picks the slices by the names of the Services, or all where those are too many.
func (of services) selector() string {
	selector := "!" + corev1.IsHeadlessService + "," + discoveryv1.LabelServiceName
	if names, few := of.names(); few {
		selector += " in (" + names + ")"
	}
	return selector
}

// names is a list of what the Services are called, and whether it is short enough to ask for.
func (of services) names() (list string, few bool) {
	names := make([]string, 0, len(of))
	for service := range of {
		names = append(names, service.Name)
	}
	slices.Sort(names)
	list = strings.Join(slices.Compact(names), ",")
	return list, len(list) <= maxSelector
}

// pause is how long the next list must wait after one for these Services.
func (of services) pause() time.Duration {
	if _, few := of.names(); few {
		return narrowGap
	}
	return wideGap
}

// wants reports whether a slice, or the trace of one whose deletion was missed, belongs to the Services.
func (of services) wants(object any) bool {
	if trace, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = trace.Obj
	}
	slice, ok := object.(metav1.Object)
	return ok && of[serviceOf(slice)]
}

// slicesOf follows the unlabelled slices of some Services.
type slicesOf struct {
	services services
	feed     feed
	started  time.Time
	informer *running // Nil where there are no Services.
	synced   chan struct{}
}

// followSlices starts to follow the unlabelled slices of some Services. arrived is called when everything
// that exists was delivered.
func (s *Source) followSlices(ctx context.Context, of services, number int, arrived func(), fail context.CancelCauseFunc) *slicesOf {
	f := &slicesOf{services: of, feed: feed{source.KindEndpointSlice, number}, started: time.Now(), synced: make(chan struct{})}
	if len(of) == 0 {
		close(f.synced)
		return f
	}
	if _, few := of.names(); !few {
		s.log.Warn("too many headless Services without a selector to ask for each: reading the slices of all Services", "services", len(of))
	}
	handler := cache.FilteringResourceEventHandler{FilterFunc: of.wants, Handler: s.enqueue(f.feed)}
	f.informer = s.run(ctx, of.unlabelled(), handler, func() {
		close(f.synced)
		arrived()
	}, fail)
	return f
}

func (f *slicesOf) delivered() bool {
	select {
	case <-f.synced:
		return true
	default:
		return false
	}
}

// followSelectorless follows the slices of headless Services without a selector. settled is called when
// those are there that exist at the start. When the Services change, one informer takes the place of
// another as soon as it has delivered what exists: nothing is missing in between, and what only the former
// had is gone.
func (s *Source) followSelectorless(ctx context.Context, settled func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var current, next *slicesOf
	defer func() {
		for _, followed := range []*slicesOf{current, next} {
			if followed != nil {
				followed.informer.stop()
			}
		}
	}()
	for number := 1; ; {
		if next != nil && next.delivered() {
			s.replaceSlices(current, next)
			current, next = next, nil
			settled()
		}
		again := time.Duration(0)
		held, known := s.selectorless.latest()
		switch {
		case !known || next != nil || current != nil && maps.Equal(current.services, held):
		case current != nil && time.Since(current.started) < held.pause():
			again = held.pause() - time.Since(current.started)
		default:
			next = s.followSlices(ctx, held, number, s.selectorless.signal, fail)
			number++
			continue
		}
		if waitFor(ctx, s.selectorless.wake, again) != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return nil
		}
	}
}

// replaceSlices ends an informer, if there is one, now that another has taken its place.
func (s *Source) replaceSlices(former, by *slicesOf) {
	if former == nil {
		return
	}
	former.informer.stop()
	s.queue.removeFeed(former.feed)
	if len(by.services) == 0 {
		s.health.forget(by.services.unlabelled())
	}
	s.log.Info("following the slices of headless Services without a selector", "services", len(by.services))
}
