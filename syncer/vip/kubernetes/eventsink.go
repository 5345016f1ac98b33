package kubernetes

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// eventSink sends Events until it is closed.
type eventSink struct {
	client corev1client.EventInterface
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	group sync.WaitGroup
}

func newEventSink(ctx context.Context, client corev1client.EventInterface) *eventSink {
	ctx, cancel := context.WithCancel(ctx)
	return &eventSink{client: client, ctx: ctx, cancel: cancel}
}

// close returns when nothing is under way any more.
func (s *eventSink) close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.group.Wait()
}

func (s *eventSink) send(request func(ctx context.Context) (*corev1.Event, error)) (*corev1.Event, error) {
	s.mu.Lock()
	if err := s.ctx.Err(); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.group.Add(1)
	s.mu.Unlock()
	defer s.group.Done()
	ctx, cancel := context.WithTimeout(s.ctx, requestTimeout)
	defer cancel()
	return request(ctx)
}

// Create implements record.EventSink.
func (s *eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.send(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.CreateWithEventNamespaceWithContext(ctx, event)
	})
}

// Update implements record.EventSink.
func (s *eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.send(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.UpdateWithEventNamespaceWithContext(ctx, event)
	})
}

// Patch implements record.EventSink.
func (s *eventSink) Patch(event *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.send(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.PatchWithEventNamespaceWithContext(ctx, event, data)
	})
}
