package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/vip"
)

const (
	// patience is how long a burst of events may last at most before the folder is looked at.
	patience = 400 * time.Millisecond
	// defaultRescan is the time between two looks at the folder that no event asks for.
	defaultRescan = 2 * time.Second
	// faultLogInterval is how often a folder that stays unreadable is logged.
	faultLogInterval = time.Minute
)

// Config says what is read and where it goes.
type Config struct {
	// Dir is the folder. Only its *.yaml, *.yml and *.json files are read, none in folders below.
	Dir string
	// Registry is what the manifests feed.
	Registry *registry.Source
	// Translation says how objects are read.
	Translation source.Options
	// Mesh is the mesh configuration that is followed, if any: a ConfigMap in the folder.
	Mesh source.MeshOptions
	// Log is where problems are reported. Nil: slog.Default.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Allocation is how hosts are given virtual IPs. Nil: they have those that a status in a manifest says.
	Allocation *Allocation
	// Rescan is the time between two looks at the folder that no event asks for. Zero: two seconds.
	Rescan time.Duration
}

// Source follows one folder of manifests.
type Source struct {
	config     Config
	log        *slog.Logger
	metrics    metrics
	translator *source.Translator
	mesh       *source.MeshFollower
	meshSeen   bool        // Whether mesh has seen the folder.
	allocation *allocation // Nil: none.

	folder folder
	claims claims
	// serving is the claim of each object that the translator saw last.
	serving   map[registry.Object]claim
	problems  source.Problems
	conflicts map[registry.Object][]string
	// Since when the folder cannot be read, and when that was logged last.
	unreadable, logged time.Time
	refused            int
}

// New prepares a source. It fails when the folder cannot be read.
func New(config Config) (*Source, error) {
	if config.Registry == nil {
		return nil, errors.New("a manifest source needs a registry")
	}
	if _, err := os.ReadDir(config.Dir); err != nil {
		return nil, fmt.Errorf("read folder of manifests %q: %w", config.Dir, withoutPath(err))
	}
	translator, err := source.NewTranslator(config.Translation)
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
	log = log.With("source", "manifests", "folder", config.Dir)
	mesh, err := source.NewMeshFollower(config.Mesh, translator, log, config.Metrics)
	if err != nil {
		return nil, err
	}
	var more []kind
	if config.Mesh.Followed() {
		more = append(more, meshKind(config.Mesh.ConfigMap))
	}
	if config.Translation.Sidecars != nil {
		more = append(more, sidecarKind())
	}
	config.Rescan = cmp.Or(config.Rescan, defaultRescan)
	s := &Source{
		config:     config,
		log:        log,
		metrics:    metrics,
		translator: translator,
		mesh:       mesh,
		folder:     folder{dir: config.Dir, more: more, files: map[string]*file{}, limit: MaxFiles},
		claims: claims{
			cluster:  config.Translation.Cluster,
			byObject: map[registry.Object][]claim{},
			byFile:   map[string][]registry.Object{},
		},
		serving:   map[registry.Object]claim{},
		conflicts: map[registry.Object][]string{},
	}
	if config.Allocation != nil {
		metrics, err := newAllocationMetrics(config.Metrics)
		if err != nil {
			return nil, err
		}
		s.allocation = newAllocation(config.Allocation, log, metrics)
	}
	return s, nil
}

// Run loads the folder, reports the source as synced, and follows the folder until ctx is done. It
// fails when the folder cannot be read at first; later it waits for it to return. Run a Source
// once.
func (s *Source) Run(ctx context.Context) (err error) {
	watcher := newWatcher(s.log)
	defer func() { err = errors.Join(err, watcher.close()) }()

	// Watched before it is read: nothing that happens in between is missed.
	watcher.follow(s.config.Dir)
	if err := s.refresh(time.Now()); err != nil {
		return err
	}
	s.config.Registry.Synced()
	s.log.Info("manifests loaded", "files", len(s.folder.files), "objects", len(s.serving))

	rescan := time.NewTicker(s.config.Rescan)
	defer rescan.Stop()
	settled := time.NewTimer(0) // At once, for links: where they lead is known only now.
	defer settled.Stop()
	elapsed := time.NewTimer(0)
	defer elapsed.Stop()
	var since time.Time // When the first event came that was not looked into yet.
	look := func(now time.Time) {
		observed := cmp.Or(since, now)
		s.follow(watcher, observed)
		if since = (time.Time{}); !s.folder.waiting.IsZero() {
			since = observed
			settled.Reset(quiet)
		}
	}
	for {
		if due := sooner(s.translator.ElapsesAt(), s.allocation.wake()); due.IsZero() {
			elapsed.Stop()
		} else {
			elapsed.Reset(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-elapsed.C:
			s.elapse(time.Now())
		case <-rescan.C:
			if since.IsZero() { // Else somebody may be in the middle of writing.
				look(time.Now())
			}
		case <-settled.C:
			look(time.Now())
		case err := <-watcher.errors():
			s.log.Warn("some file events were lost, looking at the whole folder", "error", err)
			look(time.Now())
		case <-watcher.events():
			now := time.Now()
			since = cmp.Or(since, now)
			settled.Reset(min(quiet, patience-now.Sub(since)))
		}
	}
}

// follow looks at the folder, and once more when there are new places to watch.
func (s *Source) follow(watcher *watcher, observed time.Time) {
	for range 2 {
		err := s.refresh(observed)
		if !watcher.follow(append(s.folder.linkedFolders(), s.config.Dir)...) || err != nil {
			return
		}
	}
}

// refresh brings the registry in step with the folder. A folder that cannot be read is reported and
// changes nothing.
func (s *Source) refresh(observed time.Time) error {
	changed, err := s.folder.refresh()
	s.reportFolder(err)
	if err != nil {
		return err
	}
	var touched []registry.Object
	for _, name := range changed {
		var objects []object
		if file := s.folder.files[name]; file != nil {
			s.reportFile(file)
			objects = file.objects
		}
		touched = append(touched, s.claims.replace(name, objects)...)
	}
	s.metrics.loads.Add(float64(len(changed)))
	s.apply(observed, touched)
	s.measure()
	return nil
}

// apply has the translator and the registry follow what became of the touched objects.
func (s *Source) apply(observed time.Time, touched []registry.Object) {
	slices.SortFunc(touched, compareObjects)
	var changes []source.Change
	for _, object := range slices.Compact(touched) {
		winner, found := s.claims.winner(object)
		s.reportConflicts(object)
		served, was := s.serving[object]
		switch {
		case found && was && winner == served:
		case found:
			s.serving[object] = winner
			changes = append(changes, source.Change{Object: object, State: winner.object.state})
		case was:
			delete(s.serving, object)
			changes = append(changes, source.Change{Object: object})
		}
	}
	s.translate(observed, s.takeMesh(changes))
}

// elapse does what nothing but time brings: the end of a wait for a virtual IP, or of a quarantine.
func (s *Source) elapse(now time.Time) {
	updates, _ := s.translator.Elapse() // What is wrong with the objects has been reported.
	s.put(now, updates)
	s.translate(now, nil)
	s.measure()
}

// translate brings changed objects into the registry, with the virtual IPs that they are given.
func (s *Source) translate(observed time.Time, changes []source.Change) {
	if changes = s.withVirtualIPs(changes); len(changes) == 0 {
		return
	}
	updates, problems := s.translator.Translate(changes...)
	if due := s.translator.Due(); due != nil {
		// Their problems are what they were.
		more, _ := s.translator.Translate(s.withVirtualIPs(s.picked(due))...)
		updates = append(updates, more...)
	}
	s.reportObjects(changes, problems)
	s.put(observed, updates)
}

// withVirtualIPs is changed objects with the virtual IPs that they are given, and others whose virtual IPs
// differ now.
func (s *Source) withVirtualIPs(changes []source.Change) []source.Change {
	if s.allocation == nil {
		return changes
	}
	defer s.allocation.measure()
	return s.allocation.follow(changes, s.translator.Accepts, time.Now())
}

func (s *Source) put(observed time.Time, updates []registry.Update) {
	if err := s.config.Registry.Apply(observed, updates...); err != nil {
		s.log.Error("the registry refused objects, their last good state stays", "error", err)
	}
}

// VirtualIPs is what the statuses of the ServiceEntries that are followed say, those that are given included.
func (s *Source) VirtualIPs() *source.VirtualIPs { return s.translator.VirtualIPs() }

// Table is all virtual IPs, for people. It is safe for concurrent use.
func (s *Source) Table() vip.Table {
	if s.allocation == nil {
		return s.VirtualIPs().Table()
	}
	return s.allocation.table()
}

func compareObjects(a, b registry.Object) int {
	return cmp.Or(
		strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Name, b.Name),
	)
}
