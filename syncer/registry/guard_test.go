package registry

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// guarded is a registry with a guard, in a bubble of synctest.
type guarded struct {
	t        *testing.T
	registry *Registry
	source   *Source
	log      bytes.Buffer
}

var testGuard = GuardOptions{Share: 0.5, Minimum: 4, Window: time.Minute, Hold: 10 * time.Minute}

// withGuard runs a test with a guard in a bubble. The source has put in n public Services, s00 and on.
func withGuard(t *testing.T, n int, test func(*guarded)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{t: t}
		options := testGuard
		options.Log = slog.New(slog.NewTextHandler(&g.log, nil))
		g.registry = New(Options{Guard: options})
		g.source = g.registry.AddSource("test")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.registry.RunGuard(ctx)
		}()
		g.create(names("s", 0, n)...)
		g.source.Synced()
		test(g)
		cancel()
		<-done
	})
}

// names are prefix00, prefix01 and so on, from one number up to another.
func names(prefix string, from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%s%02d", prefix, i))
	}
	return all
}

func (g *guarded) create(names ...string) { g.put(Public(), names...) }

func (g *guarded) put(visibility Visibility, names ...string) {
	g.t.Helper()
	var updates []Update
	for _, name := range names {
		updates = append(updates, update(name, visibility, serviceBody(name)))
	}
	mustApply(g.t, g.source, updates...)
}

// remove removes objects with one Apply, and removeEach with one for each.
func (g *guarded) remove(names ...string) {
	g.t.Helper()
	var updates []Update
	for _, name := range names {
		updates = append(updates, gone(name))
	}
	mustApply(g.t, g.source, updates...)
}

func (g *guarded) removeEach(names ...string) {
	g.t.Helper()
	for _, name := range names {
		g.remove(name)
	}
}

func (g *guarded) apply(updates ...Update) {
	g.t.Helper()
	mustApply(g.t, g.source, updates...)
}

// all is every key that there is.
func (g *guarded) all() []string {
	g.registry.mu.RLock()
	defer g.registry.mu.RUnlock()
	return slices.Sorted(maps.Keys(g.registry.entries))
}

func (g *guarded) expect(when string, want ...string) {
	g.t.Helper()
	slices.Sort(want)
	if got := g.all(); !slices.Equal(got, want) {
		g.t.Errorf("Resources %s: got %q, want %q", when, got, want)
	}
}

func (g *guarded) status() GuardStatus { return g.registry.GuardStatus()[0] }

func (g *guarded) heldOf(kind string) int {
	for _, status := range g.status().Kinds {
		if status.Kind == kind {
			return status.Held
		}
	}
	return 0
}

// wait lets time pass and everything run that is due meanwhile.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestGuardHolds(t *testing.T) {
	sliceOf := func(name string) Object { return Object{Kind: "EndpointSlice", Namespace: "prod", Name: name} }
	slice := func(name string) Update {
		return Update{Object: sliceOf(name), Resources: []Resource{{Key: name, Visibility: Public(), Body: sliceBody("s00")}}}
	}
	tests := map[string]struct {
		had  int
		do   func(*guarded)
		kept []string // of what the source has no longer
	}{
		"nothing of what is half": {10, func(g *guarded) { g.remove(names("s", 0, 5)...) }, nil},
		"more than half":          {10, func(g *guarded) { g.remove(names("s", 0, 6)...) }, names("s", 0, 6)},
		"everything":              {10, func(g *guarded) { g.remove(names("s", 0, 10)...) }, names("s", 0, 10)},
		"one by one":              {10, func(g *guarded) { g.removeEach(names("s", 0, 6)...) }, names("s", 0, 6)},
		"slowly, within the window": {10, func(g *guarded) {
			for _, name := range names("s", 0, 6) {
				g.remove(name)
				wait(11 * time.Second)
			}
		}, names("s", 0, 6)},
		"nothing, slower than the window": {10, func(g *guarded) {
			for _, name := range names("s", 0, 10) {
				g.remove(name)
				wait(25 * time.Second)
			}
		}, nil},
		"only what is recent": {12, func(g *guarded) {
			g.remove(names("s", 0, 2)...)
			wait(2 * time.Minute)
			g.removeEach(names("s", 2, 9)...)
		}, names("s", 2, 9)},
		"what follows as well": {10, func(g *guarded) {
			g.remove(names("s", 0, 6)...)
			wait(30 * time.Second)
			g.remove("s06")
		}, names("s", 0, 7)},
		"nothing that goes alone after the window": {20, func(g *guarded) {
			g.remove(names("s", 0, 11)...)
			wait(2 * time.Minute)
			g.remove("s11")
		}, names("s", 0, 11)},
		"nothing of few":       {3, func(g *guarded) { g.remove(names("s", 0, 3)...) }, nil},
		"the least that count": {4, func(g *guarded) { g.remove(names("s", 0, 4)...) }, names("s", 0, 4)},
		"nothing that is replaced one by one": {10, func(g *guarded) {
			for _, name := range names("s", 0, 10) {
				g.remove(name)
				g.create(name)
			}
		}, nil},
		"nothing that others replace one by one": {10, func(g *guarded) {
			for i := range 10 {
				g.remove(names("s", i, i+1)...)
				g.create(names("t", i, i+1)...)
			}
			g.expect("after the replacement", names("t", 0, 10)...)
		}, nil},
		"nothing that others replace at once": {10, func(g *guarded) {
			var updates []Update
			for i, name := range names("s", 0, 10) {
				replacement := names("t", i, i+1)[0]
				updates = append(updates, gone(name), update(replacement, Public(), serviceBody(replacement)))
			}
			g.apply(updates...)
		}, nil},
		"nothing that comes and goes": {10, func(g *guarded) {
			g.create(names("t", 0, 5)...)
			g.remove(names("t", 0, 5)...)
		}, nil},
		"a namespace's own": {50, func(g *guarded) {
			g.put(VisibleTo("vm"), names("t", 0, 6)...)
			g.remove(names("t", 0, 6)...)
		}, names("t", 0, 6)},
		"what everybody sees, beside much that few see": {6, func(g *guarded) {
			for i := range 20 {
				g.put(VisibleTo(fmt.Sprint("team", i)), names("t", i, i+1)...)
			}
			g.remove(names("s", 0, 6)...)
		}, names("s", 0, 6)},
		"a little of every namespace's, and all together": {1, func(g *guarded) {
			for i := range 10 {
				g.put(VisibleTo(fmt.Sprint("team", i)), names("t", i, i+1)...)
			}
			g.remove(names("t", 0, 10)...)
		}, names("t", 0, 10)},
		"nothing that nobody sees": {1, func(g *guarded) {
			g.put(Nobody(), names("t", 0, 10)...)
			g.remove(names("t", 0, 10)...)
		}, nil},
		"a kind, beside another of which nothing vanishes": {50, func(g *guarded) {
			for _, name := range names("e", 0, 6) {
				g.apply(slice(name))
			}
			for _, name := range names("e", 0, 6) {
				g.apply(Update{Object: sliceOf(name)})
			}
		}, names("e", 0, 6)},
		"the few endpoints of Services, with them": {10, func(g *guarded) {
			g.apply(slice("e00"))
			g.apply(Update{Object: sliceOf("e00")})
			g.removeEach(names("s", 0, 6)...)
		}, append(names("s", 0, 6), "e00")},
		"endpoints that follow their Services": {10, func(g *guarded) {
			g.apply(slice("e00"))
			g.remove(names("s", 0, 6)...)
			g.apply(Update{Object: sliceOf("e00")})
		}, append(names("s", 0, 6), "e00")},
		"not what says less": {10, func(g *guarded) {
			g.apply(Update{Object: object("s00"), Resources: []Resource{
				{Key: "s00", Visibility: Public(), Body: serviceBody("s00")}, {Key: "a", Visibility: Public(), Body: serviceBody("a")},
			}})
			g.create("s00")
		}, nil},
		"not what fewer may see": {10, func(g *guarded) {
			g.put(VisibleTo("vm"), names("s", 0, 10)...)
			if got := len(g.registry.Content("other").Entries); got != 0 {
				g.t.Errorf("Resources that another namespace sees: got %d, want 0", got)
			}
			g.put(Public(), names("s", 0, 10)...)
		}, nil},
		"the first of a kind whose definition goes": {10, func(g *guarded) {
			g.source.SetTerminating("Service", true)
			g.remove("s00")
		}, []string{"s00"}},
		"nothing of few whose definition goes": {3, func(g *guarded) {
			g.source.SetTerminating("Service", true)
			g.removeEach(names("s", 0, 3)...)
		}, nil},
		"nothing when the definition stays after all": {10, func(g *guarded) {
			g.source.SetTerminating("Service", true)
			g.source.SetTerminating("Service", false)
			g.remove("s00")
		}, nil},
		"the state before an update that is overtaken": {10, func(g *guarded) {
			updates := []Update{update("s00", Public(), serviceBody("s00", 1))}
			for _, name := range names("s", 0, 6) {
				updates = append(updates, gone(name))
			}
			g.apply(updates...)
		}, names("s", 0, 6)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			withGuard(t, test.had, func(g *guarded) {
				test.do(g)
				kept := 0
				for _, kind := range g.status().Kinds {
					kept += kind.Held
				}
				if kept != len(test.kept) {
					t.Errorf("Resources held: got %d, want %d", kept, len(test.kept))
				}
				all := g.all()
				for _, key := range test.kept {
					if !slices.Contains(all, key) {
						t.Errorf("Resource %s: got none, want it held", key)
					}
				}
				before := len(all)
				wait(testGuard.Hold)
				all = g.all()
				if got, want := len(all), before-len(test.kept); got != want {
					t.Errorf("Resources after the hold: got %d, want %d", got, want)
				}
				for _, key := range test.kept {
					if slices.Contains(all, key) {
						t.Errorf("Resource %s: got one after the hold, want it gone", key)
					}
				}
			})
		})
	}
}

func TestGuardBeginsWhenTheSourceHasSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{t: t, registry: New(Options{Guard: testGuard})}
		g.source = g.registry.AddSource("test")
		g.create(names("s", 0, 10)...)
		g.remove(names("s", 0, 9)...)
		g.expect("while the source loads", "s09")
		g.source.Synced()
		g.create(names("s", 0, 10)...)
		g.remove(names("s", 0, 9)...)
		g.expect("then", names("s", 0, 10)...)
	})
}

func TestWithoutAGuardEverythingPasses(t *testing.T) {
	g := &guarded{t: t, registry: New(Options{})}
	g.source = g.registry.AddSource("test")
	g.source.Synced()
	g.create(names("s", 0, 100)...)
	g.source.SetTerminating("Service", true)
	g.remove(names("s", 0, 100)...)
	g.expect("after the removal")
	if got := g.registry.ReleaseHeld("", ""); got != 0 {
		t.Errorf("Released: got %d, want 0", got)
	}
	if got := g.registry.GuardStatus(); len(got) != 0 {
		t.Errorf("Status: got %v, want none", got)
	}
}

func TestHoldsEnd(t *testing.T) {
	tests := map[string]struct {
		do   func(*guarded)
		left []string
		want map[Release]uint64
	}{
		"because time is over": {
			func(*guarded) { wait(10 * time.Minute) },
			names("s", 6, 10), map[Release]uint64{ReleasedExpired: 6},
		},
		"not before": {
			func(*guarded) { wait(10*time.Minute - time.Second) },
			names("s", 0, 10), map[Release]uint64{},
		},
		"because somebody says so": {
			func(g *guarded) {
				if got := g.registry.ReleaseHeld("", ""); got != 6 {
					g.t.Errorf("Released: got %d, want 6", got)
				}
			},
			names("s", 6, 10), map[Release]uint64{ReleasedOperator: 6},
		},
		"because somebody says so of the kind": {
			func(g *guarded) { g.registry.ReleaseHeld("test", "Service") },
			names("s", 6, 10), map[Release]uint64{ReleasedOperator: 6},
		},
		"not because somebody says so of another kind": {
			func(g *guarded) { g.registry.ReleaseHeld("test", "ServiceEntry") },
			names("s", 0, 10), map[Release]uint64{},
		},
		"not because somebody says so of another source": {
			func(g *guarded) { g.registry.ReleaseHeld("other", "") },
			names("s", 0, 10), map[Release]uint64{},
		},
		"for what follows at once as well, when somebody says so": {
			func(g *guarded) {
				g.registry.ReleaseHeld("", "")
				wait(59 * time.Second)
				g.removeEach(names("s", 6, 10)...)
			},
			nil, map[Release]uint64{ReleasedOperator: 6},
		},
		"because the objects are back": {
			func(g *guarded) { g.create(names("s", 0, 6)...) },
			names("s", 0, 10), map[Release]uint64{ReleasedReturned: 6},
		},
		"for those that are back": {
			func(g *guarded) {
				g.create("s00", "s01")
				wait(10 * time.Minute)
			},
			slices.Concat(names("s", 0, 2), names("s", 6, 10)), map[Release]uint64{ReleasedReturned: 2, ReleasedExpired: 4},
		},
		"because as many others are there": {
			func(g *guarded) { g.create(names("t", 0, 6)...) },
			slices.Concat(names("s", 6, 10), names("t", 0, 6)), map[Release]uint64{ReleasedReplaced: 6},
		},
		"not because a few others are there": {
			func(g *guarded) { g.create(names("t", 0, 5)...) },
			slices.Concat(names("s", 0, 10), names("t", 0, 5)), map[Release]uint64{},
		},
		"because some are back and others there for the rest": {
			func(g *guarded) {
				g.create("s00")
				g.create(names("t", 0, 5)...)
			},
			slices.Concat([]string{"s00"}, names("s", 6, 10), names("t", 0, 5)), map[Release]uint64{ReleasedReturned: 1, ReleasedReplaced: 5},
		},
		"and removals that are said twice change nothing": {
			func(g *guarded) { g.remove(names("s", 0, 6)...) },
			names("s", 0, 10), map[Release]uint64{},
		},
		"and begin again": {
			func(g *guarded) {
				g.create(names("s", 0, 6)...)
				g.remove(names("s", 0, 6)...)
			},
			names("s", 0, 10), map[Release]uint64{ReleasedReturned: 6},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			withGuard(t, 10, func(g *guarded) {
				g.remove(names("s", 0, 6)...)
				test.do(g)
				g.expect("then", test.left...)
				for _, release := range Releases() {
					if got, want := g.status().Released[release], test.want[release]; got != want {
						t.Errorf("Released, %s: got %d, want %d", release, got, want)
					}
				}
				g.registry.ReleaseHeld("", "")
				if got := g.heldOf("Service"); got != 0 {
					t.Errorf("Held after a release of all: got %d, want 0", got)
				}
			})
		})
	}
}

// TestEndpointsAreHeldWithTheirServices: no longer, lest stale endpoints stand beside new ones.
func TestEndpointsAreHeldWithTheirServices(t *testing.T) {
	slice := func(name string, resources ...Resource) Update {
		return Update{Object: Object{Kind: "EndpointSlice", Namespace: "prod", Name: name}, Resources: resources}
	}
	body := func(name string) Resource { return Resource{Key: name, Visibility: Public(), Body: sliceBody("s00")} }
	tests := map[string]struct {
		do   func(*guarded)
		want []string
	}{
		"until it is back":       {func(g *guarded) { g.create("s00") }, names("s", 0, 10)},
		"until it is back, too":  {func(g *guarded) { g.create("s00"); g.apply(slice("e01", body("e01"))) }, append(names("s", 0, 10), "e01")},
		"not until others are":   {func(g *guarded) { g.create("s01") }, append(names("s", 0, 10), "e00")},
		"unless they are back":   {func(g *guarded) { g.apply(update("s00", Public(), serviceBody("s00")), slice("e00", body("e00"))) }, append(names("s", 0, 10), "e00")},
		"until its time is over": {func(*guarded) { wait(testGuard.Hold) }, names("s", 6, 10)},
		"until somebody says so": {func(g *guarded) { g.registry.ReleaseHeld("", "Service") }, names("s", 6, 10)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			withGuard(t, 10, func(g *guarded) {
				g.apply(slice("e00", body("e00")))
				g.apply(slice("e00"))
				g.remove(names("s", 0, 6)...)
				g.expect("while they are held", append(names("s", 0, 10), "e00")...)
				test.do(g)
				g.expect("then", test.want...)
			})
		})
	}
}

// TestAWatcherSeesNothingOfAHold: what is held back at once makes no revision, and what comes back is the same
// as if nothing had happened.
func TestAWatcherSeesNothingOfAHold(t *testing.T) {
	withGuard(t, 10, func(g *guarded) {
		before, proof := g.registry.Revision(), g.registry.Proof("vm")
		g.remove(names("s", 0, 10)...)
		g.create(names("s", 0, 10)...)
		if got := g.registry.Revision(); got != before {
			t.Errorf("Revisions made by a hold: got %d, want 0", got-before)
		}

		g.removeEach(names("s", 0, 10)...) // The first five pass and come back.
		changes, err := g.registry.Changes("vm", before, g.registry.Revision())
		if err != nil || len(changes.Upserts)+len(changes.Removals) > 0 {
			t.Errorf("Changes over a hold: got %d upserts, %q removed and %v, want none", len(changes.Upserts), changes.Removals, err)
		}
		if got := g.registry.Proof("vm"); got.Digest != proof.Digest || got.Resources != proof.Resources {
			t.Errorf("Proof: got %+v, want as before: %+v", got, proof)
		}
		held := g.registry.Revision()
		wait(testGuard.Hold)
		changes, err = g.registry.Changes("vm", held, g.registry.Revision())
		if err != nil || !slices.Equal(slices.Sorted(slices.Values(changes.Removals)), names("s", 0, 10)) {
			t.Errorf("Removed when the hold ends: got %q and %v, want all", changes.Removals, err)
		}
		if age := time.Since(changes.ObservedAt); age != 0 {
			t.Errorf("Removals when the hold ends: got observed %s ago, want now", age)
		}
	})
}

func TestGuardTells(t *testing.T) {
	withGuard(t, 10, func(g *guarded) {
		g.remove(names("s", 0, 6)...)
		g.remove("s06")
		status := g.status()
		if got, want := status.Holds, uint64(1); got != want {
			t.Errorf("Holds: got %d, want %d", got, want)
		}
		kind := status.Kinds[0]
		if got, want := *kind.Loss, (Loss{"Service", "any", 6, 10, LossOfShare}); got != want {
			t.Errorf("Loss: got %+v, want %+v", got, want)
		}
		if kind.Live != 3 || kind.Held != 7 || len(kind.Objects) != 7 || kind.Objects[0] != object("s00") {
			t.Errorf("Status: got %+v, want 3 live and the held ones", kind)
		}
		if got, want := kind.Next, time.Now().Add(testGuard.Hold); !got.Equal(want) || !kind.Last.Equal(want) {
			t.Errorf("Ends: got %s and %s, want %s", got, kind.Last, want)
		}
		g.create("s00")
		g.registry.ReleaseHeld("", "")
	})
	withGuard(t, 10, func(g *guarded) {
		g.remove(names("s", 0, 6)...)
		g.create("s00")
		g.registry.ReleaseHeld("", "")
		synctest.Wait() // Whoever releases what is over may be the one who tells.
		lines := strings.Split(strings.TrimSpace(g.log.String()), "\n")
		want := []string{
			`level=WARN msg="holding back removals, the names stay for now" source=test kind=Service ` +
				`reason="more than the allowed share vanished within the window" "vanished kind"=Service visibility=any vanished=6 of=10 hold=10m0s`,
			`level=INFO msg="no removals are held back any more" source=test kind=Service after=0s most=6 of=10 returned=1 replaced=0 expired=0 operator=5`,
		}
		if len(lines) != len(want) {
			t.Fatalf("Log: got %q, want %d lines", lines, len(want))
		}
		for i := range want {
			if !strings.Contains(lines[i], want[i]) {
				t.Errorf("Log: got %s, want %s", lines[i], want[i])
			}
		}
	})
}

// TestGuardIsSafeForConcurrentUse is for the race detector: everything at once, and then nothing is left over.
func TestGuardIsSafeForConcurrentUse(t *testing.T) {
	withGuard(t, 10, func(g *guarded) {
		var group sync.WaitGroup
		for _, prefix := range []string{"a", "b", "c"} {
			group.Go(func() {
				for range 20 {
					g.create(names(prefix, 0, 30)...)
					g.remove(names(prefix, 0, 30)...)
					time.Sleep(time.Second)
				}
			})
		}
		group.Go(func() {
			for range 30 {
				g.registry.ReleaseHeld("", "Service")
				g.source.SetTerminating("Service", true)
				time.Sleep(time.Second)
			}
		})
		group.Go(func() {
			for range 50 {
				g.registry.GuardStatus()
				time.Sleep(time.Second)
			}
		})
		group.Wait()
		wait(testGuard.Hold)
		g.expect("in the end", names("s", 0, 10)...)
	})
}

func TestGuardOptionsThatMakeNoSense(t *testing.T) {
	tests := map[string]struct {
		options GuardOptions
		want    string
	}{
		"share below 0":       {GuardOptions{Share: -0.1}, "share -0.1"},
		"share that is all":   {GuardOptions{Share: 1}, "share 1"},
		"share of no number":  {GuardOptions{Share: math.NaN()}, "share NaN"},
		"minimum below 0":     {GuardOptions{Minimum: -1}, "minimum -1"},
		"window that is past": {GuardOptions{Window: -time.Second}, "window -1s"},
		"hold that is past":   {GuardOptions{Hold: -time.Second}, "hold -1s"},
		"none":                {GuardOptions{}, ""},
		"defaults":            {GuardOptions{Share: 0.5}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Validate: got %v, want %q", err, test.want)
			}
		})
	}
}

// TestGuardProperties has objects come and go at random and holds what follows from the documentation
// against the registry, after every change.
func TestGuardProperties(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			withGuard(t, 10, func(g *guarded) {
				p := property{guarded: g, random: rand.New(rand.NewPCG(seed, 4)), truth: map[string]Visibility{}, since: map[string]time.Time{}}
				for _, name := range names("s", 0, 10) {
					p.truth[name] = Public()
				}
				for range 400 {
					p.step()
					p.check()
				}
				// Left alone, the registry comes to what the source says.
				wait(testGuard.Hold)
				g.expect("long after the last change", slices.Collect(maps.Keys(p.truth))...)
			})
		})
	}
}

// property is what the source says, and what was seen of the registry.
type property struct {
	*guarded
	random *rand.Rand
	truth  map[string]Visibility
	since  map[string]time.Time // since when the source has it no longer
	sizes  []size
	// ended is how many resources went because a hold ended, and excused until when others may go after
	// that: an operator who releases something lets pass what follows.
	ended   uint64
	excused time.Time
}

// size is how much there was of each class at some time.
type size struct {
	at      time.Time
	classes map[string]int
}

// class is whom an object is visible to, always the same.
func class(name string) Visibility {
	switch name[2] % 3 {
	case 0:
		return Public()
	case 1:
		return VisibleTo("vm")
	}
	return VisibleTo("vm", "other")
}

func (p *property) step() {
	n := 1 + p.random.IntN(3)
	if p.random.IntN(12) == 0 {
		n = 10 + p.random.IntN(30)
	}
	create := p.random.IntN(2) == 0
	var updates []Update
	said := map[string]bool{}
	for range n {
		name := fmt.Sprintf("s%02d", p.random.IntN(40))
		if said[name] {
			continue
		}
		said[name] = true
		if p.random.IntN(10) == 0 {
			create = !create
		}
		if create {
			if _, had := p.truth[name]; !had {
				p.truth[name] = class(name)
			}
			delete(p.since, name)
			updates = append(updates, update(name, p.truth[name], serviceBody(name)))
		} else if _, had := p.truth[name]; had {
			delete(p.truth, name)
			p.since[name] = time.Now()
			updates = append(updates, gone(name))
		}
	}
	p.apply(updates...)
	switch p.random.IntN(8) {
	case 0:
		wait(time.Duration(p.random.IntN(int(testGuard.Hold))))
	case 1, 2:
		wait(time.Duration(p.random.IntN(int(testGuard.Window))))
	case 3:
		if p.random.IntN(4) == 0 {
			p.registry.ReleaseHeld("", "")
		}
	}
}

func (p *property) check() {
	p.t.Helper()
	now := time.Now()
	proof, reported := p.registry.Proof("vm"), p.heldOf("Service")
	counted := p.checkContent(now, proof.Digest, reported)
	p.checkShrink(now, counted)
}

// checkContent: what the source has is there, the rest is held and not for too long, and counts, digests and
// sizes are those of what is there.
func (p *property) checkContent(now time.Time, proven registryv1.Digest, reported int) map[string]int {
	p.t.Helper()
	p.registry.mu.RLock()
	defer p.registry.mu.RUnlock()
	held := p.source.guard.held
	for name := range p.truth {
		if p.registry.entries[name] == nil {
			p.t.Fatalf("%s: got none, want what the source has", name)
		}
		if held[object(name)] != nil {
			p.t.Fatalf("%s is held although the source has it", name)
		}
	}
	counted := map[string]int{}
	var digest registryv1.Digest
	for name, entry := range p.registry.entries {
		for scope := range scopeNames("Service", entry.Visibility) {
			counted[scope.class]++
		}
		if entry.Visibility.In("vm") {
			digest.Add(entry.Digest)
		}
		if _, has := p.truth[name]; has {
			continue
		}
		if held[object(name)] == nil {
			p.t.Fatalf("%s: got one that the source has no longer and that is not held", name)
		}
		// A removal that is taken back passed within a window before.
		if longest := testGuard.Hold + testGuard.Window; now.Sub(p.since[name]) >= longest {
			p.t.Fatalf("%s is gone for %s and still there, want it gone after %s", name, now.Sub(p.since[name]), longest)
		}
	}
	if proven != digest {
		p.t.Fatalf("Digest: got %v, want %v", proven, digest)
	}
	for name, s := range p.source.guard.scopes {
		if got, want := s.live+s.held, counted[name.class]; got != want {
			p.t.Fatalf("Scope %+v: got %d live and %d held, want %d together", name, s.live, s.held, want)
		}
	}
	if got := len(held); got != reported {
		p.t.Fatalf("Held: got %d, want %d", got, reported)
	}
	return counted
}

// checkShrink: no class loses more than the share within a window, unless holds ended in that.
func (p *property) checkShrink(now time.Time, counted map[string]int) {
	p.t.Helper()
	released := p.status().Released
	if ended := released[ReleasedExpired] + released[ReleasedOperator] + released[ReleasedReplaced]; ended != p.ended {
		p.ended, p.excused, p.sizes = ended, now.Add(testGuard.Window), nil
	}
	p.sizes = slices.DeleteFunc(p.sizes, func(s size) bool { return now.Sub(s.at) > testGuard.Window })
	if now.Before(p.excused) {
		p.sizes = nil
	}
	for _, s := range p.sizes {
		for class, peak := range s.classes {
			lost := peak - counted[class]
			if lost >= testGuard.Minimum && float64(lost) > testGuard.Share*float64(peak) {
				p.t.Fatalf("Class %q lost %d of %d within %s, want no more than %v", class, lost, peak, now.Sub(s.at), testGuard.Share)
			}
		}
	}
	p.sizes = append(p.sizes, size{now, counted})
}
