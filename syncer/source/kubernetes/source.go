package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// maxBatch bounds what becomes one revision.
	maxBatch = 10_000
	// defaultProbe is the time between two probes of the API server.
	defaultProbe = 3 * time.Second
)

// Config says which API server is followed and where its names go.
type Config struct {
	// REST says how to reach the API server. See RESTConfig.
	REST *rest.Config
	// Registry is what the objects feed.
	Registry *registry.Source
	// Translation says how objects are read.
	Translation source.Options
	// Mesh is the mesh configuration that is followed, if any.
	Mesh source.MeshOptions
	// Version is this program's, for its user agent.
	Version string
	// Log is where problems are reported. Nil: slog.Default.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Probe is the time between two probes of the API server. Zero: three seconds.
	Probe time.Duration
}

// Source follows one API server.
type Source struct {
	config     Config
	log        *slog.Logger
	metrics    metrics
	clients    *clients
	health     *health
	queue      *queue
	translator *source.Translator
	problems   source.Problems

	selectorless *selectorless
	meshSighting *meshSighting
	mesh         *source.MeshFollower
	podSelectors *podSelectors
}

// New prepares a source. It sends no request: an API server that cannot be reached is no error.
func New(config Config) (*Source, error) {
	if config.REST == nil || config.Registry == nil {
		return nil, errors.New("a Kubernetes source needs an API server and a registry")
	}
	translator, err := source.NewTranslator(config.Translation)
	if err != nil {
		return nil, err
	}
	clients, err := connect(config.REST, cmp.Or(config.Version, "unknown"))
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(config.Metrics)
	if err != nil {
		return nil, err
	}
	log := config.Log
	if log == nil {
		log = slog.Default()
	}
	log = log.With("source", "kubernetes", "server", clients.host)
	mesh, err := source.NewMeshFollower(config.Mesh, translator, log, config.Metrics)
	if err != nil {
		return nil, err
	}
	return &Source{
		config:     config,
		log:        log,
		metrics:    metrics,
		clients:    clients,
		health:     newHealth(clients, config.Registry, log, metrics, cmp.Or(config.Probe, defaultProbe)),
		queue:      newQueue(),
		translator: translator,

		selectorless: newSelectorless(),
		meshSighting: newMeshSighting(),
		mesh:         mesh,
		podSelectors: newPodSelectors(),
	}, nil
}

// Run follows the API server until ctx is done, and returns when nothing of it runs any more. An API
// server that cannot be reached, or forbids, is reported and tried for ever. Run a Source once.
func (s *Source) Run(ctx context.Context) error {
	defer utilnet.CloseIdleConnectionsFor(s.clients.http.Transport)
	// What client-go says goes where all else goes.
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(s.log.Handler()))
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var group sync.WaitGroup
	defer group.Wait()
	defer fail(nil)

	group.Go(func() { s.health.probe(ctx) })
	awaited := newAwaited()
	kinds := s.kinds()
	settled := make([]func(), len(kinds))
	for i, k := range kinds {
		settled[i] = awaited.add(k.title())
	}
	settledSelectorless := awaited.add(services{}.unlabelled().title())
	group.Go(func() {
		if err := s.followSelectorless(ctx, settledSelectorless); err != nil {
			fail(err)
		}
	})
	if s.config.Mesh.Followed() {
		settledMesh := awaited.add(meshKind(s.config.Mesh.ConfigMap).title())
		group.Go(func() {
			if err := s.followMesh(ctx, settledMesh); err != nil {
				fail(err)
			}
		})
	}
	settledPods := awaited.add("pods that ServiceEntries select")
	group.Go(func() {
		if err := s.followPods(ctx, settledPods); err != nil {
			fail(err)
		}
	})
	for i, k := range kinds {
		follow := s.followAlways
		if k.definition != "" {
			follow = s.followWhileDefined
		}
		group.Go(func() {
			if err := follow(ctx, k, s.listed(k, settled[i])); err != nil {
				fail(err)
			}
		})
	}
	if s.awaitAll(ctx, awaited) {
		s.applyMesh() // Before anything is in the registry that it may hide.
		s.applyPending()
		s.config.Registry.Synced()
		s.log.Info("everything that exists is loaded")
		s.applyUntil(ctx)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

func (s *Source) applyUntil(ctx context.Context) {
	elapsed := time.NewTimer(0)
	defer elapsed.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.meshSighting.wake:
			s.applyMesh()
		case <-s.queue.wake:
			s.applyPending()
		case now := <-elapsed.C:
			updates, _ := s.translator.Elapse() // What is wrong with the objects has been reported.
			s.put(now, updates)
		}
		if due := s.translator.ElapsesAt(); due.IsZero() {
			elapsed.Stop()
		} else {
			elapsed.Reset(time.Until(due))
		}
	}
}

// followAlways follows a kind that every API server has.
func (s *Source) followAlways(ctx context.Context, k kind, settled func()) error {
	return s.inform(ctx, s.labelled(k), s.handler(k), settled)
}

// handler is given all objects of a kind.
func (s *Source) handler(k kind) cache.ResourceEventHandler {
	put := s.enqueue(feed{k.name, k.feed})
	switch k.name {
	case source.KindService:
		return handlers{put, s.selectorless}
	case source.KindServiceEntry:
		return handlers{put, s.podSelectors}
	}
	return put
}

// listed tells what depends on a kind that all its objects were given to its handler, and then settles it.
func (s *Source) listed(k kind, settled func()) func() {
	return func() {
		switch k.name {
		case source.KindService:
			s.selectorless.listed()
		case source.KindServiceEntry:
			s.podSelectors.listed()
		}
		settled()
	}
}

func (s *Source) enqueue(from feed) enqueue {
	return enqueue{s.queue, from, s.config.Translation.Cluster}
}

// awaitAll waits until every kind is settled, and says at intervals for which it waits. It reports
// whether that came before the end.
func (s *Source) awaitAll(ctx context.Context, awaited *awaited) bool {
	ticker := time.NewTicker(logInterval)
	defer ticker.Stop()
	for {
		select {
		case <-awaited.done:
			return true
		case <-ctx.Done():
			return false
		case <-ticker.C:
			s.log.Warn("waiting for the API server, no name is served yet", "waiting for", awaited.left())
		}
	}
}

// applyPending brings all pending changes into the registry.
func (s *Source) applyPending() {
	for {
		changes, since := s.queue.take(maxBatch)
		if len(changes) == 0 {
			return
		}
		s.apply(changes, since)
	}
}

func (s *Source) apply(changes []change, observed time.Time) {
	found := map[registry.Object][]source.Problem{}
	translatable := make([]source.Change, 0, len(changes))
	for _, change := range changes {
		if broken, ok := change.state.(*undecodable); ok {
			found[change.object] = []source.Problem{{
				Object: change.object, Field: broken.fault.field, What: broken.fault.err.Error(),
				Want: "what the API of the kind describes", Effect: source.Rejected,
			}}
			continue
		}
		translatable = append(translatable, source.Change{Object: change.object, State: change.state})
	}
	updates, problems := s.translator.Translate(translatable...)
	if due := s.translator.Due(); due != nil {
		s.queue.again(due)
	}
	for _, problem := range problems {
		found[problem.Object] = append(found[problem.Object], problem)
	}
	s.report(changes, found)
	s.put(observed, updates)
	for _, k := range s.kinds() {
		s.metrics.objects.WithLabelValues(k.name).Set(float64(s.queue.count(k.name)))
	}
	s.metrics.objects.WithLabelValues(source.KindPod).Set(float64(s.queue.count(source.KindPod)))
}

func (s *Source) put(observed time.Time, updates []registry.Update) {
	if err := s.config.Registry.Apply(observed, updates...); err != nil {
		s.log.Error("the registry refused objects, their last good state stays", "error", err)
	}
}

// VirtualIPs is what the statuses of the ServiceEntries that are followed say.
func (s *Source) VirtualIPs() *source.VirtualIPs { return s.translator.VirtualIPs() }

// Table is all virtual IPs that statuses say, for people. It is safe for concurrent use.
func (s *Source) Table() vip.Table { return s.VirtualIPs().Table() }

// report logs the problems that changed objects did not have before.
func (s *Source) report(changes []change, found map[registry.Object][]source.Problem) {
	for _, change := range changes {
		for _, problem := range s.problems.Replace(change.object, found[change.object]) {
			level := slog.LevelWarn
			if problem.Effect == source.Rejected {
				level = slog.LevelError
			}
			s.log.Log(context.Background(), level, "problem in object", "object", problem.Object.String(), "field", problem.Field,
				"problem", problem.What, "want", problem.Want, "effect", problem.Effect.String())
		}
	}
	s.metrics.problems.Set(float64(s.problems.Len()))
}

// awaited are the kinds that have not delivered yet what exists.
type awaited struct {
	done chan struct{} // Closed when there is none.

	mu    sync.Mutex
	names []string
}

func newAwaited() *awaited { return &awaited{done: make(chan struct{})} }

// add awaits a kind. All are added before the first is settled.
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

func (a *awaited) left() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.names)
}
