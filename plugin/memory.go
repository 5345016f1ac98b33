package meshvm

import (
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// The garbage collector lets the heap grow to twice what is live before it collects. That is cheap for a
// small mesh. For a large one it would be most of the process's memory, on a machine that is there for
// something else: so a soft limit makes the collector come earlier. The limit moves with what is live,
// because a fixed one would make the collector run without end where a mesh has outgrown it.
const (
	// leastMemory is the limit that a mesh of 100,000 services stays within, beside some 20 MiB of the
	// program itself. A smaller mesh never comes near it.
	leastMemory = 112 << 20
	// runtimeMemory is what the runtime needs besides the heap.
	runtimeMemory = 12 << 20
	// loadingMemory is how many times the size of its snapshot a mirror takes while it is loaded.
	loadingMemory = 10
)

// memoryLimit sets the process's soft memory limit, unless the operator has set one with GOMEMLIMIT.
type memoryLimit struct {
	mu sync.Mutex
	// loading is how many snapshots are being loaded, and loaded whether one was since follow was last
	// called.
	loading int
	loaded  bool
	// present is the limit as last set; zero: none yet.
	present int64
	// percent is the collector's own setting, while a snapshot is being loaded.
	percent int
}

// follow sets the limit by what is live. It is cheap enough to be called every second.
func (m *memoryLimit) follow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loading > 0 {
		return
	}
	if m.loaded && m.present > 0 {
		// What loading left behind goes back to the machine.
		debug.FreeOSMemory()
	}
	m.loaded = false
	live := liveHeap()
	m.set(max(leastMemory, live+live/3+runtimeMemory))
}

// during loads a snapshot file. All that loading makes is kept, or needed until its end: to collect
// meanwhile would only take time.
func (m *memoryLimit) during(path string, load func() error) error {
	var size int64
	if info, err := os.Stat(path); err == nil { // load reports what is wrong with it
		size = info.Size()
	}
	m.mu.Lock()
	if m.loading++; m.loading == 1 && m.set(max(leastMemory, liveHeap()+loadingMemory*size+runtimeMemory)) {
		m.percent = debug.SetGCPercent(-1)
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.loaded = true
		if m.loading--; m.loading == 0 && m.present > 0 {
			debug.SetGCPercent(m.percent)
		}
	}()
	return load()
}

// set reports whether the limit is ours to set. One that differs by little stays.
func (m *memoryLimit) set(limit int64) bool {
	if m.present == 0 && debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return false
	}
	if difference := limit - m.present; difference > m.present/20 || -difference > m.present/20 {
		m.present = limit
		debug.SetMemoryLimit(limit)
	}
	return true
}

// liveHeap is what the last collection found to be in use, in bytes.
func liveHeap() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(min(sample[0].Value.Uint64(), math.MaxInt64/4))
}
