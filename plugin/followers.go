package meshvm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshvm/meshvm/plugin/status"
)

// followers are the process's followers by their settings. A reload runs two instances of the plugin at
// once, and server blocks may share a mirror: so no instance owns one, each has a claim. An instance
// whose reload failed is never called again; the survivor drops its claims for it.
type followers struct {
	mu    sync.Mutex
	byKey map[string]*shared
	files map[string]*snapshotFile
	// memory is the limit for all of them.
	memory memoryLimit
	// sockets tell how they stand.
	sockets statusSockets
	// blocks are the instances of the plugin that answer.
	blocks blocks
}

// shared is a follower with those that have a claim on it.
type shared struct {
	*follower
	key string
	// claims are counted by the run, that is by the Corefile as loaded once, that they belong to.
	claims map[*run]int
	// maxStale is the last claim's max_stale as a time.Duration, zones its zones.
	maxStale atomic.Int64
	zones    atomic.Pointer[[]string]
}

// run is one loading of the Corefile. All instances of the plugin that it made share a pointer to it.
type run struct{ _ byte }

// process holds every follower there is.
var process = newFollowers()

func init() { prometheus.MustRegister(process) }

func newFollowers() *followers {
	p := &followers{byKey: map[string]*shared{}, files: map[string]*snapshotFile{}}
	p.sockets = statusSockets{source: status.Source{Report: p.report, Hosts: p.hosts, Explain: p.blocks.explain}, byPath: map[string]*statusSocket{}}
	return p
}

// key tells followers apart: by what decides which registry is mirrored, and where it is kept.
func (c *Config) key() string { return fmt.Sprintf("%q", []any{c.StreamConfig, c.SnapshotFile}) }

// claim is the follower for a configuration, whose status is served from now on. The first claim starts it, when its
// snapshot is loaded.
func (p *followers) claim(config *Config, by *run) (*follower, error) {
	f, err := p.claimFollower(config, by)
	if err == nil {
		p.sockets.claim(config.StatusSocket, by, f.log)
	}
	return f, err
}

func (p *followers) claimFollower(config *Config, by *run) (*follower, error) {
	heapFloor()
	p.mu.Lock()
	defer p.mu.Unlock()
	key := config.key()
	held, found := p.byKey[key]
	if !found {
		if err := p.checkSnapshot(config, by); err != nil {
			return nil, err
		}
		f, err := newFollower(config, p.file(config.SnapshotFile), &p.memory, newLogger())
		if err != nil {
			return nil, err
		}
		f.start()
		held = &shared{follower: f, key: key, claims: map[*run]int{}}
		p.byKey[key] = held
	}
	held.claims[by]++
	held.adopt(config)
	return held.follower, nil
}

// adopt takes over what a block may change without another follower.
func (s *shared) adopt(config *Config) {
	s.mirror.SetTTL(config.TTL, config.EndpointTTL)
	s.maxStale.Store(int64(config.MaxStale))
	s.zones.Store(&config.Zones)
}

// checkSnapshot refuses a snapshot file that another block of the same Corefile uses for another
// registry. Across a reload it is no conflict but a hand-over.
func (p *followers) checkSnapshot(config *Config, by *run) error {
	for _, held := range p.byKey {
		if held.file != nil && held.file.path == config.SnapshotFile && held.claims[by] > 0 {
			return fmt.Errorf("snapshot %s is used by another meshvm block with other settings; expected equal settings, or a file for each", config.SnapshotFile)
		}
	}
	return nil
}

func (p *followers) file(path string) *snapshotFile {
	if path == "" {
		return nil
	}
	if p.files[path] == nil {
		p.files[path] = &snapshotFile{path: path}
	}
	return p.files[path]
}

// release gives one claim of a run back. A follower without claims is stopped and its registry saved;
// its mirror goes on answering whoever still asks it.
func (p *followers) release(config *Config, by *run) {
	p.sockets.release(config.StatusSocket, by)
	p.mu.Lock()
	held := p.byKey[config.key()]
	if held == nil || held.claims[by] == 0 {
		p.mu.Unlock()
		return
	}
	if held.claims[by]--; held.claims[by] == 0 {
		delete(held.claims, by)
	}
	idle := p.takeIdle()
	p.mu.Unlock()
	closeAll(idle)
}

// reclaim drops the claims of all other runs, and gives by's followers their snapshot files back.
func (p *followers) reclaim(config *Config, by *run) {
	p.sockets.reclaim(by)
	p.mu.Lock()
	for _, held := range p.byKey {
		for other := range held.claims {
			if other != by {
				delete(held.claims, other)
			}
		}
	}
	idle := p.takeIdle()
	if held := p.byKey[config.key()]; held != nil {
		held.adopt(config)
		if held.file != nil {
			held.file.take(held.follower)
		}
	}
	p.mu.Unlock()
	closeAll(idle)
}

// takeIdle takes those out that nobody has a claim on.
func (p *followers) takeIdle() []*shared {
	var idle []*shared
	for key, held := range p.byKey {
		if len(held.claims) == 0 {
			delete(p.byKey, key)
			idle = append(idle, held)
		}
	}
	return idle
}

// closeAll closes without the lock, because it waits for the network and the disk.
func closeAll(idle []*shared) {
	for _, held := range idle {
		held.close()
	}
}

// all is every follower in use.
func (p *followers) all() []*shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*shared, 0, len(p.byKey))
	for _, held := range p.byKey {
		all = append(all, held)
	}
	return all
}
