package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

func newTestAdmission(places, room int) *admission {
	return newAdmission(places, room, time.Hour, newMetrics(prometheus.NewRegistry()))
}

// hintOf is when a status asks to come again, and fails the test where it does not.
func hintOf(t *testing.T, err error) time.Duration {
	t.Helper()
	said := status.Convert(err)
	if said.Code() != codes.ResourceExhausted {
		t.Fatalf("got %v, want ResourceExhausted", err)
	}
	for _, detail := range said.Details() {
		if info, isHint := detail.(*errdetails.RetryInfo); isHint {
			return info.GetRetryDelay().AsDuration()
		}
	}
	t.Fatalf("%v says nothing of when to come again", err)
	return 0
}

func (a *admission) count(t *testing.T, result string) float64 {
	t.Helper()
	return counterValue(t, a.metrics.admissions.WithLabelValues(result))
}

func TestAdmissionIsInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAdmission(1, 100)
		first, err := a.enter(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				release, err := a.enter(t.Context(), time.Hour)
				if err != nil {
					t.Errorf("stream %d: %v", i, err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				release()
			})
			synctest.Wait()
		}
		if placed, waiting := a.load(); placed != 1 || waiting != 20 {
			t.Errorf("%d have a place and %d wait, want 1 and 20", placed, waiting)
		}
		first()
		first() // twice is once
		group.Wait()
		if !slices.IsSorted(order) || len(order) != 20 {
			t.Errorf("served in the order %v, want that of arrival", order)
		}
		if placed, waiting := a.load(); placed != 0 || waiting != 0 {
			t.Errorf("%d have a place and %d wait in the end, want none", placed, waiting)
		}
		if once, later := a.count(t, admittedAtOnce), a.count(t, admittedLater); once != 1 || later != 20 {
			t.Errorf("counted %v at once and %v that waited, want 1 and 20", once, later)
		}
	})
}

func TestAdmissionTurnsAway(t *testing.T) {
	tests := map[string]struct {
		room   int
		result string
		enter  func(ctx context.Context, a *admission) error
		hinted bool
	}{
		"where the queue is full": {0, turnedAway, func(ctx context.Context, a *admission) error {
			_, err := a.enter(ctx, time.Hour)
			return err
		}, true},
		"who waited in vain": {1, waitedInVain, func(ctx context.Context, a *admission) error {
			_, err := a.enter(ctx, 20*time.Second)
			return err
		}, true},
		"nobody who left": {1, leftTheQueue, func(ctx context.Context, a *admission) error {
			ctx, leave := context.WithTimeout(ctx, time.Second)
			defer leave()
			_, err := a.enter(ctx, time.Hour)
			return err
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newTestAdmission(1, test.room)
				release, err := a.enter(t.Context(), time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				defer release()
				err = test.enter(t.Context(), a)
				if test.hinted {
					if hint := hintOf(t, err); hint < shortestHint || hint > longestHint {
						t.Errorf("come again in %s, want %s to %s", hint, shortestHint, longestHint)
					}
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the reason of the context", err)
				}
				if got := a.count(t, test.result); got != 1 {
					t.Errorf("result %s counted %v times, want once", test.result, got)
				}
				if _, waiting := a.load(); waiting != 0 {
					t.Errorf("%d still wait", waiting)
				}
			})
		})
	}
}

// TestAdmissionSpreadsACrowd has a crowd turned away at once, which must come back at the pace at which it
// can be served: neither all together nor later than needed.
func TestAdmissionSpreadsACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd, turn, places = 400, 400 * time.Millisecond, 4
		a := newTestAdmission(places, 0)
		// A past of turns of that length.
		for range 100 {
			release, err := a.enter(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(turn)
			release()
		}
		for range places {
			if _, err := a.enter(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		perSecond := map[int]int{}
		var last time.Duration
		for range crowd {
			_, err := a.enter(t.Context(), 0)
			hint := hintOf(t, err)
			perSecond[int(hint/time.Second)]++
			last = max(last, hint)
		}
		// 400 turns of 0.4 s in 4 places are 40 s, and chance adds up to a quarter.
		if last < 40*time.Second || last > 52*time.Second {
			t.Errorf("the last is asked to come in %s, want 40 s to 52 s", last)
		}
		for second, came := range perSecond {
			if came > 40 {
				t.Errorf("%d are asked to come in second %d: 10 a second can be served", came, second)
			}
		}
	})
}

func TestAdmissionHintsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newTestAdmission(1, 0)
		if _, err := a.enter(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for range 10_000 {
			_, err := a.enter(t.Context(), 0)
			if hint := hintOf(t, err); hint < shortestHint || hint > longestHint {
				t.Fatalf("come again in %s, want %s to %s", hint, shortestHint, longestHint)
			}
		}
		// What was promised is over some time.
		time.Sleep(2 * longestHint)
		_, err := a.enter(t.Context(), 0)
		if hint := hintOf(t, err); hint > 2*shortestHint {
			t.Errorf("after a while, come again in %s, want about %s", hint, shortestHint)
		}
	})
}

func TestFullSyncQueueHasAnEnd(t *testing.T) {
	s := start(t, func(o *Options) { o.FullSyncs, o.FullSyncQueue = 1, 1 })
	s.server.admission.places <- struct{}{} // somebody else's
	waiting := openStream(t, s.dial())
	waiting.say(helloOf(&registryv1.Hello{Node: "waiting"}))
	eventually(t, "one waits", func() bool { _, waiting := s.server.admission.load(); return waiting == 1 })

	turnedAway := openStream(t, s.dial())
	turnedAway.say(helloOf(&registryv1.Hello{Node: "turned away"}))
	err := turnedAway.failure()
	if hint := hintOf(t, err); hint < shortestHint {
		t.Errorf("come again in %s, want %s at least", hint, shortestHint)
	}
	<-s.server.admission.places
	waiting.until("the first heartbeat", func() bool { return waiting.heartbeat != nil })
}

// TestFallenOffTheLogWithoutAPlace is about VMs that have been welcomed: they are not left in silence.
func TestFallenOffTheLogWithoutAPlace(t *testing.T) {
	s := startUnsynced(t, registry.Options{LogBytes: 1}, func(o *Options) {
		o.FullSyncs = 1
		o.HeartbeatInterval = 20 * time.Millisecond
	})
	s.source.Synced()
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	s.server.admission.places <- struct{}{} // somebody else's
	for i := range 200 {
		s.apply(service("prod", "b", "10.0.0."+string('1'+rune(i%9)), registry.Public()))
	}
	err := v.failure()
	if hint := hintOf(t, err); hint < shortestHint {
		t.Errorf("come again in %s, want %s at least", hint, shortestHint)
	}
	if got := counterValue(t, s.server.metrics.compacted); got != 1 {
		t.Errorf("fallen off the log %v times, want once", got)
	}
}
