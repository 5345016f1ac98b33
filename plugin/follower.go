package meshvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
)

const (
	// saveDelay is how long after a change the snapshot is written: long enough to gather a burst, short
	// enough that a power cut costs seconds.
	saveDelay = 2 * time.Second
	// saveInterval is how old the snapshot's word on when the registry was current may get. After a
	// crash it decides whether answers are stale.
	saveInterval = 5 * time.Minute
	// saveRetry is how long a snapshot that could not be saved is left alone.
	saveRetry = 30 * time.Second
)

// follower is a mirror, the stream that keeps it in step with a syncer, and the snapshot that outlives
// both. It belongs to the process, not to an instance of the plugin.
type follower struct {
	config StreamConfig
	mirror *mirror.Mirror
	client *watch.Client
	log    *slog.Logger
	// file is nil where the Corefile keeps no snapshot.
	file *snapshotFile
	// memory is the process's.
	memory *memoryLimit

	// age is the age of the registry as a time.Duration, kept by follow so that queries need no clock.
	age atomic.Int64

	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// newFollower loads the snapshot, if there is one, and makes ready to follow a syncer.
func newFollower(config *Config, file *snapshotFile, memory *memoryLimit, log *slog.Logger) (*follower, error) {
	f := &follower{
		config: config.StreamConfig,
		mirror: mirror.New(mirror.Options{
			Namespace:   config.Namespace,
			TTL:         config.TTL,
			EndpointTTL: config.EndpointTTL,
		}),
		log:    log,
		file:   file,
		memory: memory,
	}
	client, err := watch.New(config.watchConfig(), f.mirror, log, streamMetrics{})
	if err != nil {
		return nil, err
	}
	f.client = client
	if file != nil {
		f.report(memory.during(file.path, func() error { return file.handOver(f) }))
	}
	f.measureAge()
	return f, nil
}

// watchConfig is the configuration as the stream wants it.
func (c StreamConfig) watchConfig() watch.Config {
	return watch.Config{
		Addresses:  c.Syncers,
		TLS:        watch.TLSFiles{CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, CAFile: c.TLS.CA},
		ServerName: c.TLSServerName,
		TokenFile:  c.TokenFile,
		Insecure:   c.Insecure,
		Namespace:  c.Namespace,
		Node:       c.Node,
		Version:    caddy.AppVersion,
	}
}

// report says how loading the snapshot went. The stream makes up for what is missing.
func (f *follower) report(err error) {
	switch state := f.mirror.State(); {
	case err == nil && state.Loaded():
		f.log.Info("loaded snapshot", "file", f.file.path, "resources", state.Resources(), "current_at", f.mirror.ConfirmedAt().UTC().Format(time.RFC3339))
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		f.log.Info("no snapshot yet", "file", f.file.path)
	default:
		snapshotErrors.WithLabelValues("load").Inc()
		f.log.Error("snapshot not loaded, a full sync will follow", "error", err)
	}
}

// start follows the syncer until close.
func (f *follower) start() {
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	changed := f.mirror.Changed()
	f.tasks.Go(func() {
		if err := f.client.Run(ctx); err != nil && ctx.Err() == nil {
			f.log.Error("stream ended for good", "error", err)
		}
	})
	f.tasks.Go(func() { f.keepAge(ctx) })
	if f.file != nil {
		f.tasks.Go(func() { f.keepSnapshot(ctx, changed) })
	}
}

// close ends the stream and saves what the mirror holds. The mirror goes on answering.
func (f *follower) close() {
	f.cancel()
	f.tasks.Wait()
}

// staleFor is how long ago the registry was last known to be current. It is at most a second behind.
func (f *follower) staleFor() time.Duration { return time.Duration(f.age.Load()) }

func (f *follower) keepAge(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.measureAge()
			f.memory.follow()
		}
	}
}

func (f *follower) measureAge() { f.age.Store(int64(f.mirror.Age())) }

// keepSnapshot saves within seconds of a change, now and then without one, and once more at the end. The
// first change is told by changed.
func (f *follower) keepSnapshot(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			f.save()
			return
		case <-changed:
		case <-time.After(saveInterval):
			// The same registry, but known to be current until later.
		}
		pause := saveDelay
		for {
			select {
			case <-ctx.Done():
				f.save()
				return
			case <-time.After(pause):
			}
			changed = f.mirror.Changed()
			if f.save() {
				break
			}
			pause = saveRetry
		}
	}
}

// save reports whether the snapshot is as it should be.
func (f *follower) save() bool {
	err := f.file.save(f)
	if err != nil {
		snapshotErrors.WithLabelValues("save").Inc()
		f.log.Error("snapshot not saved, the one before stays", "error", err)
	}
	return err == nil
}

// snapshotFile is a file that one follower at a time may write. When the Corefile changes, the new
// follower takes it over from the old one, which still answers for a moment.
type snapshotFile struct {
	path string

	mu    sync.Mutex
	owner *follower
}

// handOver makes f the owner and loads what the last owner knew, or else what is on disk.
func (s *snapshotFile) handOver(f *follower) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil && s.owner.mirror.State().Loaded() {
		if err := s.owner.mirror.Save(s.path); err != nil {
			s.owner.log.Error("snapshot not saved before it was handed over", "error", err)
		}
	}
	s.owner = f
	if err := f.mirror.Load(s.path); err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	return nil
}

// take makes f the owner again, after another follower came to nothing.
func (s *snapshotFile) take(f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = f
}

// save writes what f's mirror holds, unless that is nothing or the file is another follower's by now.
func (s *snapshotFile) save(f *follower) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != f || !f.mirror.State().Loaded() {
		return nil
	}
	return f.mirror.Save(s.path)
}
