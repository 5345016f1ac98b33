package meshvm

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// unlimited gives the test a process without a memory limit, and puts back what there was.
func unlimited(t *testing.T) {
	t.Helper()
	limit, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

// presentPercent is the collector's setting.
func presentPercent() int {
	percent := debug.SetGCPercent(-1)
	debug.SetGCPercent(percent)
	return percent
}

func TestMemoryLimit(t *testing.T) {
	snapshot := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := os.WriteFile(snapshot, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(snapshot, 100<<20); err != nil {
		t.Fatal(err)
	}

	t.Run("a small mesh", func(t *testing.T) {
		unlimited(t)
		var m memoryLimit
		m.follow()
		if got := debug.SetMemoryLimit(-1); got != leastMemory {
			t.Errorf("Limit: got %d, want %d", got, leastMemory)
		}
	})
	t.Run("the operator's own limit stays", func(t *testing.T) {
		unlimited(t)
		const theirs = 1 << 40
		debug.SetMemoryLimit(theirs)
		var m memoryLimit
		m.follow()
		err := m.during(snapshot, func() error {
			if got := presentPercent(); got != 100 {
				t.Errorf("GC percent while loading: got %d, want 100", got)
			}
			return nil
		})
		m.follow()
		if got := debug.SetMemoryLimit(-1); err != nil || got != theirs {
			t.Errorf("Limit: got %d (%v), want %d", got, err, theirs)
		}
	})
	t.Run("while snapshots are loaded", func(t *testing.T) {
		unlimited(t)
		var m memoryLimit
		fault := errors.New("no registry")
		err := m.during(snapshot, func() error {
			return m.during(snapshot, func() error {
				m.follow() // of another mirror, which must not change it
				if got, least := debug.SetMemoryLimit(-1), int64(loadingMemory*100<<20); got < least {
					t.Errorf("Limit while loading: got %d, want at least %d", got, least)
				}
				if got := presentPercent(); got != -1 {
					t.Errorf("GC percent while loading: got %d, want -1", got)
				}
				return fault
			})
		})
		if !errors.Is(err, fault) {
			t.Errorf("Error: got %v, want %v", err, fault)
		}
		m.follow()
		if got := presentPercent(); got != 100 {
			t.Errorf("GC percent after loading: got %d, want 100", got)
		}
		if got := debug.SetMemoryLimit(-1); got != leastMemory {
			t.Errorf("Limit after loading: got %d, want %d", got, leastMemory)
		}
	})
	t.Run("no snapshot", func(t *testing.T) {
		unlimited(t)
		var m memoryLimit
		if err := m.during(filepath.Join(t.TempDir(), "none"), func() error { return nil }); err != nil {
			t.Error(err)
		}
		m.follow()
		if got := presentPercent(); got != 100 {
			t.Errorf("GC percent: got %d, want 100", got)
		}
	})
}
