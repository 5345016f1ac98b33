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
	// loading is how many snapshots are being loaded.
	loading int
	// paused is set from the first of them until follow is called after the last, and percent is the
	// collector's own setting meanwhile.
	paused  bool
	percent int
	// present is the limit as last set; zero: none yet.
	present int64
}

// follow sets the limit by what is live. It is cheap enough to be called every second.
func (m *memoryLimit) follow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loading > 0 {
		return
	}
	if m.paused {
		// First, or what loading left behind would be collected twice.
		debug.FreeOSMemory()
		debug.SetGCPercent(m.percent)
		m.paused = false
	}
	live := liveHeap()
	m.set(max(leastMemory, live+live/3+runtimeMemory))
}

// during loads a snapshot file. All that loading makes is kept, or needed until its end: to collect
// meanwhile would only take time. It pauses the collector below the limit until follow is called next, so
// that the first queries have the processors for themselves.
func (m *memoryLimit) during(path string, load func() error) error {
	var size int64
	if info, err := os.Stat(path); err == nil { // load reports what is wrong with it
		size = info.Size()
	}
	m.mu.Lock()
	m.loading++
	if m.set(max(leastMemory, m.present, liveHeap()+loadingMemory*size+runtimeMemory)) && !m.paused {
		m.paused, m.percent = true, debug.SetGCPercent(-1)
	}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.loading--
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
