package kubernetes

import (
	"context"
	"errors"
	"slices"
	"sync"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshvm/meshvm/syncer/source"
)

// Pods are most of what changes in a cluster, and names depend on few of them: those that a ServiceEntry
// selects, where endpoints answer its hosts. So they are followed in namespaces that have such a ServiceEntry,
// and only while they have.

// maxPodNamespaces bounds the namespaces whose Pods are followed. Each is a watch of its own.
const maxPodNamespaces = 1000

// podSelectors is the ServiceEntries that select Pods.
type podSelectors struct {
	wake chan struct{}

	mu    sync.Mutex
	known bool                       // Whether it is known which ServiceEntries there are.
	held  map[string]map[string]bool // Names by namespace, none of them empty.
}

func newPodSelectors() *podSelectors {
	return &podSelectors{wake: make(chan struct{}, 1), held: map[string]map[string]bool{}}
}

// OnAdd, OnUpdate and OnDelete make it an informer's handler.
func (p *podSelectors) OnAdd(object any, _ bool) { p.see(object) }
func (p *podSelectors) OnUpdate(_, object any)   { p.see(object) }

func (p *podSelectors) OnDelete(object any) {
	if key, err := cache.DeletionHandlingObjectToName(object); err == nil {
		p.set(key.Namespace, key.Name, false)
	}
}

// see takes a ServiceEntry. One that cannot be decoded stays what it was.
func (p *podSelectors) see(object any) {
	if entry, ok := object.(*networkingv1.ServiceEntry); ok {
		p.set(entry.Namespace, entry.Name, source.SelectsPods(entry))
	}
}

func (p *podSelectors) set(namespace, name string, selects bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := p.held[namespace]
	if names[name] == selects {
		return
	}
	switch {
	case names == nil:
		p.held[namespace] = map[string]bool{name: true}
	case selects:
		names[name] = true
	default:
		if delete(names, name); len(names) == 0 {
			delete(p.held, namespace)
		}
	}
	p.signal()
}

// listed says that all that exist were seen.
func (p *podSelectors) listed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = true
	p.signal()
}

// gone says that there are none any more.
func (p *podSelectors) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.held)
	p.signal()
}

// signal wakes who follows the Pods.
func (p *podSelectors) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// latest is the namespaces whose Pods are needed, in order, how many more there are than can be followed, and
// whether it is known which ServiceEntries there are.
func (p *podSelectors) latest() (namespaces []string, left int, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	namespaces = make([]string, 0, len(p.held))
	for namespace := range p.held {
		namespaces = append(namespaces, namespace)
	}
	slices.Sort(namespaces)
	if left = len(namespaces) - maxPodNamespaces; left > 0 {
		namespaces = namespaces[:maxPodNamespaces]
	}
	return namespaces, max(0, left), p.known
}

// podsOf follows the Pods of a namespace.
type podsOf struct {
	kind     kind
	feed     feed
	informer *running
	synced   chan struct{}
}

func (f *podsOf) delivered() bool {
	select {
	case <-f.synced:
		return true
	default:
		return false
	}
}

// followPods follows the Pods of namespaces where they are needed. settled is called when those are there
// that are needed at the start.
func (s *Source) followPods(ctx context.Context, settled func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	followed := map[string]*podsOf{}
	defer func() {
		for _, f := range followed {
			f.informer.stop()
		}
	}()
	leftBefore := 0
	for number := 1; ; {
		namespaces, left, known := s.podSelectors.latest()
		if left > leftBefore {
			s.log.Error("ServiceEntries of too many namespaces select Pods: those of the last by name are not answered",
				"not answered", left, "limit", maxPodNamespaces)
		}
		leftBefore = left
		for namespace, f := range followed {
			if _, needed := slices.BinarySearch(namespaces, namespace); !needed {
				s.unfollowPods(namespace, f)
				delete(followed, namespace)
			}
		}
		delivered := true
		for _, namespace := range namespaces {
			if followed[namespace] == nil {
				s.log.Info("following the Pods of a namespace, a ServiceEntry selects some", "namespace", namespace)
				followed[namespace] = s.followPodsOf(ctx, namespace, number, fail)
				number++
			}
			delivered = delivered && followed[namespace].delivered()
		}
		if known && delivered {
			settled()
		}
		if waitFor(ctx, s.podSelectors.wake, 0) != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return nil
		}
	}
}

func (s *Source) followPodsOf(ctx context.Context, namespace string, number int, fail context.CancelCauseFunc) *podsOf {
	f := &podsOf{kind: podKind(namespace), feed: feed{source.KindPod, number}, synced: make(chan struct{})}
	f.informer = s.run(ctx, f.kind, s.enqueue(f.feed), func() {
		close(f.synced)
		s.podSelectors.signal()
	}, fail)
	return f
}

// unfollowPods stops to follow the Pods of a namespace, and takes away what they brought.
func (s *Source) unfollowPods(namespace string, f *podsOf) {
	f.informer.stop()
	s.queue.removeFeed(f.feed)
	s.health.forget(f.kind)
	s.log.Info("no longer following the Pods of a namespace, no ServiceEntry selects any", "namespace", namespace)
}
