package meshvm

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// saving is a follower without a stream that keeps its snapshot until the test ends.
func saving(t *testing.T, path string) *follower {
	t.Helper()
	f := &follower{
		mirror: mirror.New(mirror.Options{}),
		log:    newLogger(),
		file:   &snapshotFile{path: path},
	}
	f.file.owner = f
	ctx, cancel := context.WithCancel(t.Context())
	changed := f.mirror.Changed()
	f.tasks.Go(func() { f.keepSnapshot(ctx, changed) })
	f.cancel = cancel
	return f
}

func savedAt(t *testing.T, path string) time.Time {
	t.Helper()
	saved := mirror.New(mirror.Options{})
	if err := saved.Load(path); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return saved.ConfirmedAt()
}

func TestSnapshotIsSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.snapshot")
	synctest.Test(t, func(t *testing.T) {
		f := saving(t, path)
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("Snapshot of nothing: got %v, want %v", err, fs.ErrNotExist)
		}

		load(t, f)
		f.mirror.Confirm(time.Now())
		changed := time.Now()
		time.Sleep(saveDelay)
		synctest.Wait()
		if got := savedAt(t, path); !got.Equal(changed) {
			t.Errorf("Saved %v after a change: got current at %v, want %v", saveDelay, got, changed)
		}

		time.Sleep(saveInterval / 2)
		f.mirror.Confirm(time.Now())
		confirmed := time.Now()
		time.Sleep(saveInterval)
		synctest.Wait()
		if got := savedAt(t, path); !got.Equal(confirmed) {
			t.Errorf("Saved without a change: got current at %v, want %v", got, confirmed)
		}

		f.mirror.Confirm(time.Now())
		stopped := time.Now()
		f.close()
		if got := savedAt(t, path); !got.Equal(stopped) {
			t.Errorf("Saved at the end: got current at %v, want %v", got, stopped)
		}
	})
}

func TestSnapshotThatCannotBeSaved(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(folder, "registry.snapshot")
	synctest.Test(t, func(t *testing.T) {
		f := saving(t, path)
		load(t, f)
		time.Sleep(saveDelay)
		synctest.Wait()
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveRetry)
		synctest.Wait()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("Snapshot %v after it could not be saved: %v", saveRetry, err)
		}
		f.close()
	})
}

// TestClockSetBack sets a machine's clock back by an hour while no syncer is in reach: the registry must go
// on ageing.
func TestClockSetBack(t *testing.T) {
	wall, elapsed := time.Unix(1_700_000_000, 0), time.Duration(0)
	f := &follower{mirror: mirror.New(mirror.Options{
		Now:     func() time.Time { return wall },
		Elapsed: func() time.Duration { return elapsed },
	})}
	load(t, f)
	f.mirror.Confirm(wall)
	wall, elapsed = wall.Add(-time.Hour), 10*time.Minute
	f.measureAge()
	if got, want := f.staleFor(), 10*time.Minute; got != want {
		t.Errorf("Stale for: got %v, want %v", got, want)
	}
}
