package redirect

import (
	"math/rand/v2"
	"testing"
	"time"
)

// checkBudget reports a window in which something was applied more often than it may be.
func checkBudget(t *testing.T, applies []time.Time) {
	t.Helper()
	for i := budgetTimes; i < len(applies); i++ {
		if distance := applies[i].Sub(applies[i-budgetTimes]); distance < budgetWindow {
			t.Fatalf("Applications %d to %d: got %d within %s, want no more than %d in %s", i-budgetTimes, i, budgetTimes+1, distance, budgetTimes, budgetWindow)
		}
	}
}

// TestBudget asks at random times, as others overwrite at random times.
func TestBudget(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 7))
		var b budget
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		var applies []time.Time
		var lastFought time.Time // the last application of this fight
		var pause time.Duration  // what has to follow it
		for range 400 {
			now = now.Add(time.Duration(random.Int64N(int64([]time.Duration{time.Millisecond, time.Second, 10 * time.Second, 2 * time.Minute}[random.IntN(4)]))))
			if random.IntN(4) == 0 {
				before := b
				if calm := b.calm(now); calm {
					if !before.last.IsZero() && now.Sub(before.last) < forgiven {
						t.Fatalf("Seed %d: forgiven after %s, want %s", seed, now.Sub(before.last), forgiven)
					}
					lastFought, pause = time.Time{}, 0
				}
				continue
			}
			wait, fighting := b.spend(now)
			switch {
			case wait > 0 && pause == 0:
				t.Fatalf("Seed %d: told to wait %s without a fight", seed, wait)
			case wait > 0:
				if want := lastFought.Add(pause).Sub(now); wait != want {
					t.Fatalf("Seed %d: told to wait %s, want %s", seed, wait, want)
				}
				continue
			}
			applies = append(applies, now)
			if !fighting {
				if pause > 0 {
					t.Fatalf("Seed %d: the fight ended without a calm minute", seed)
				}
				continue
			}
			if pause > 0 && now.Sub(lastFought) < pause {
				t.Fatalf("Seed %d: applied after %s in a fight, want no sooner than after %s", seed, now.Sub(lastFought), pause)
			}
			lastFought, pause = now, min(max(2*pause, firstPause), longestPause)
		}
		checkBudget(t, applies)
	}
}

// TestBudgetPauses lists what a fight comes to that never ends.
func TestBudgetPauses(t *testing.T) {
	var b budget
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range budgetTimes {
		if pause, fighting := b.spend(now); pause != 0 || fighting != (i == budgetTimes-1) {
			t.Fatalf("Time %d: got a pause of %s, fighting %t, want none, and a fight from time %d on", i+1, pause, fighting, budgetTimes)
		}
	}
	for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, longestPause, longestPause, longestPause} {
		pause, fighting := b.spend(now)
		if pause != want || !fighting {
			t.Fatalf("Pause: got %s, fighting %t, want %s", pause, fighting, want)
		}
		now = now.Add(pause)
		if pause, _ := b.spend(now); pause != 0 {
			t.Fatalf("After the pause: got %s more, want none", pause)
		}
	}
}

// TestBudgetOfWhoNeverStops is overwritten whenever it is looked at, once a second.
func TestBudgetOfWhoNeverStops(t *testing.T) {
	var b budget
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range longTimes {
		if pause, fighting := b.spend(now); pause != 0 || fighting != (i == longTimes-1) {
			t.Fatalf("Time %d: got a pause of %s, fighting %t, want none, and a fight from time %d on", i+1, pause, fighting, longTimes)
		}
		now = now.Add(time.Second)
	}
	if pause, fighting := b.spend(now); pause != firstPause-time.Second || !fighting {
		t.Errorf("In the fight: got a pause of %s, fighting %t, want %s", pause, fighting, firstPause-time.Second)
	}
	if want := "30 times in 1m0s"; b.over != want {
		t.Errorf("Over: got %q, want %q", b.over, want)
	}
}
