package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

const (
	// A new definition is asked at growing intervals whether it is served yet.
	minSettlePoll = 100 * time.Millisecond
	maxSettlePoll = 2 * time.Second
)

var definitionResource = apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")

// definitionKind is how the definition of a kind is watched: that one only, and its metadata only.
func definitionKind(k kind) kind {
	return kind{
		name:     "CustomResourceDefinition",
		resource: definitionResource,
		selector: selector{field: "metadata.name=" + k.definition},
		example:  &metav1.PartialObjectMetadata{},
		listWatch: func(c *clients) *cache.ListWatch {
			client := c.metadata.Resource(definitionResource)
			return listWatch(client.List, client.Watch)
		},
		trim: func(object runtime.Object) metav1.Object {
			definition, ok := object.(*metav1.PartialObjectMetadata)
			if !ok {
				return nil
			}
			trimmed := &metav1.PartialObjectMetadata{ObjectMeta: identity(definition)}
			trimmed.DeletionTimestamp = definition.DeletionTimestamp
			return trimmed
		},
	}
}

// sighting is the latest that is known of a definition's presence.
type sighting struct {
	wake chan struct{}
	// terminating is told at once whether the definition, and so all its objects, are being deleted.
	terminating func(bool)

	mu    sync.Mutex
	known bool      // Whether the API server has said anything yet.
	uid   types.UID // Empty: it is not there.
}

func newSighting(terminating func(bool)) *sighting {
	return &sighting{wake: make(chan struct{}, 1), terminating: terminating}
}

// OnAdd, OnUpdate and OnDelete make a sighting an informer's handler.
func (s *sighting) OnAdd(object any, _ bool) { s.see(object) }
func (s *sighting) OnUpdate(_, object any)   { s.see(object) }

func (s *sighting) OnDelete(any) {
	s.terminating(true)
	s.set("")
}

func (s *sighting) see(object any) {
	if definition, ok := object.(metav1.Object); ok {
		s.terminating(definition.GetDeletionTimestamp() != nil)
		s.set(definition.GetUID())
	}
}

// listed says that all that exists was seen.
func (s *sighting) listed() {
	s.mu.Lock()
	uid := s.uid
	s.mu.Unlock()
	s.set(uid)
}

func (s *sighting) set(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.uid = true, uid
	s.signal()
}

// signal wakes who follows the kind.
func (s *sighting) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sighting) latest() (uid types.UID, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uid, s.known
}

// followWhileDefined follows a kind for as long as its definition is there and served. settled is
// called when it is known that there is nothing to follow, or when what exists was delivered.
func (s *Source) followWhileDefined(ctx context.Context, k kind, settled func()) error {
	seen := newSighting(func(terminating bool) { s.config.Registry.SetTerminating(k.name, terminating) })
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group.Go(func() {
		if err := s.inform(ctx, definitionKind(k), seen, seen.listed); err != nil {
			cancel(err)
		}
	})

	follows := versions{source: s, settled: settled, wake: seen.signal, fail: cancel}
	defer follows.stop()
	poll := minSettlePoll
	for {
		again := time.Duration(0)
		uid, known := seen.latest()
		if follows.definition != uid {
			follows.unfollow()
		}
		follows.take()
		switch {
		case !known:
		case uid == "":
			settled()
		default:
			state, err := s.definitionState(ctx, k)
			switch {
			case err != nil && ctx.Err() == nil:
				s.log.Warn("cannot read the definition of a kind, trying again", "definition", k.definition, "error", err)
				again = maxSettlePoll
			case state.refusal != "":
				s.log.Warn("the definition of a kind is there but cannot be followed", "definition", k.definition, "problem", state.refusal)
				follows.unfollow()
				settled()
			case state.version != "":
				poll = minSettlePoll
				follows.follow(ctx, k, state.version, uid)
			default:
				again, poll = poll, min(2*poll, maxSettlePoll)
			}
		}
		if err := waitFor(ctx, seen.wake, again); err != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		}
	}
}

// waitFor waits for a wake, or for some time unless that is zero. It fails when ctx is done.
func waitFor(ctx context.Context, wake <-chan struct{}, limit time.Duration) error {
	var expired <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-expired:
	}
	return nil
}

// running is an informer that runs.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (s *Source) run(ctx context.Context, k kind, handler cache.ResourceEventHandler, settled func(), fail context.CancelCauseFunc) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := s.inform(ctx, k, handler, settled); err != nil {
			fail(err)
		}
	}()
	return r
}

// stop ends the informer and waits for it. It may be called on nil.
func (r *running) stop() {
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// definitionState is how a definition's objects can be read.
type definitionState struct {
	// version is the one to read them in. Empty: they are not served yet.
	version string
	// refusal says why they never will be, as the definition stands.
	refusal string
}

func (s *Source) definitionState(ctx context.Context, k kind) (definitionState, error) {
	raw, err := s.clients.dynamic.Resource(definitionResource).Get(ctx, k.definition, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return definitionState{}, nil // Just gone. The watch will say so.
	}
	if err != nil {
		return definitionState{}, err
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, &definition); err != nil {
		return definitionState{}, fmt.Errorf("decode definition %s: %w", k.definition, err)
	}
	if refusal := refusalOf(&definition, k); refusal != "" {
		return definitionState{refusal: refusal}, nil
	}
	if !condition(&definition, apiextensionsv1.Established, apiextensionsv1.ConditionTrue) {
		return definitionState{}, nil
	}
	// Established comes a little before its objects are served, and so does a version that is added.
	version := servedVersion(&definition, k)
	_, err = s.clients.dynamic.Resource(k.inVersion(version, 0).resource).List(ctx, metav1.ListOptions{Limit: 1, ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return definitionState{}, nil
	}
	// Any other error is the informer's to meet, to report and to get over.
	return definitionState{version: version}, nil
}

func refusalOf(definition *apiextensionsv1.CustomResourceDefinition, k kind) string {
	switch {
	case servedVersion(definition, k) == "":
		return "it does not serve version " + strings.Join(k.versions, ", ")
	case condition(definition, apiextensionsv1.NamesAccepted, apiextensionsv1.ConditionFalse):
		return "its names are not accepted"
	}
	return ""
}

func condition(definition *apiextensionsv1.CustomResourceDefinition, kind apiextensionsv1.CustomResourceDefinitionConditionType, status apiextensionsv1.ConditionStatus) bool {
	return slices.ContainsFunc(definition.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == kind && c.Status == status
	})
}
