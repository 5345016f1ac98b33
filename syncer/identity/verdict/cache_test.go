package verdict

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshvm/meshvm/syncer/identity"
)

func key(name string) Key { return sha256.Sum256([]byte(name)) }

func newCache() *Cache[string] {
	return New[string](Options{
		Size: 8, Good: time.Minute, Bad: 10 * time.Second, Kept: 10 * time.Minute, Again: 10 * time.Second,
		AtOnce: 2, Timeout: 5 * time.Second,
	})
}

var errAway = errors.New("away")

// says is a source of verdicts with one answer.
func says(value string, err error) func(context.Context, bool) (Answer[string], error) {
	return func(context.Context, bool) (Answer[string], error) { return Answer[string]{Value: value}, err }
}

func TestOutcomes(t *testing.T) {
	no := identity.Refuse(identity.ReasonUntrusted, "no")
	type step struct {
		wait    time.Duration
		ask     func(context.Context, bool) (Answer[string], error)
		value   string
		outcome Outcome
		err     error
	}
	tests := map[string][]step{
		"a good verdict is remembered for its time": {
			{0, says("a", nil), "a", Asked, nil},
			{59 * time.Second, says("b", nil), "a", Remembered, nil},
			{2 * time.Second, says("b", nil), "b", Asked, nil},
		},
		"a bad one for a shorter time": {
			{0, says("", no), "", Asked, no},
			{9 * time.Second, says("b", nil), "", Remembered, no},
			{2 * time.Second, says("b", nil), "b", Asked, nil},
		},
		"that nobody can tell is not remembered": {
			{0, says("", errAway), "", Asked, errAway},
			{0, says("b", nil), "b", Asked, nil},
		},
		"the last good one goes on while nobody can tell": {
			{0, says("a", nil), "a", Asked, nil},
			{time.Minute, says("", errAway), "a", Kept, nil},
			{9 * time.Second, says("b", nil), "a", Remembered, nil},
			{2 * time.Second, says("b", nil), "b", Asked, nil},
		},
		"for a bounded time": {
			{0, says("a", nil), "a", Asked, nil},
			{11*time.Minute - time.Second, says("", errAway), "a", Kept, nil},
			{10 * time.Second, says("", errAway), "", Asked, errAway},
		},
		"and not once it was refused": {
			{0, says("a", nil), "a", Asked, nil},
			{time.Minute, says("", no), "", Asked, no},
			{11 * time.Second, says("", errAway), "", Asked, errAway},
		},
		"a verdict that ends is not kept beyond": {
			{0, func(context.Context, bool) (Answer[string], error) {
				return Answer[string]{Value: "a", Ends: time.Now().Add(30 * time.Second)}, nil
			}, "a", Asked, nil},
			{29 * time.Second, says("b", nil), "a", Remembered, nil},
			{2 * time.Second, says("", errAway), "", Asked, errAway},
		},
		"who asks is told what was good once": {
			{0, says("a", nil), "a", Asked, nil},
			{time.Minute, func(_ context.Context, wasGood bool) (Answer[string], error) {
				return Answer[string]{Value: fmt.Sprint(wasGood)}, nil
			}, "true", Asked, nil},
			{time.Minute, says("", no), "", Asked, no},
			{time.Minute, func(_ context.Context, wasGood bool) (Answer[string], error) {
				return Answer[string]{Value: fmt.Sprint(wasGood)}, nil
			}, "true", Asked, nil},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache()
				for i, step := range steps {
					time.Sleep(step.wait)
					value, outcome, err := c.Get(t.Context(), key("k"), step.ask)
					if value != step.value || outcome != step.outcome || !errors.Is(err, step.err) {
						t.Errorf("step %d: got %q, %d, %v, want %q, %d, %v", i+1, value, outcome, err, step.value, step.outcome, step.err)
					}
				}
			})
		})
	}
}

// TestStrangersPushOutNobody: bad verdicts without end leave the good ones where they are.
func TestStrangersPushOutNobody(t *testing.T) {
	c := newCache()
	if _, _, err := c.Get(t.Context(), key("vm"), says("a", nil)); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if _, _, err := c.Get(t.Context(), key(fmt.Sprint(i)), says("", identity.Refuse(identity.ReasonUntrusted, "no"))); err == nil {
			t.Fatal("got nil, want a refusal")
		}
	}
	if _, outcome, _ := c.Get(t.Context(), key("vm"), says("b", nil)); outcome != Remembered {
		t.Errorf("outcome for the VM: got %d, want %d", outcome, Remembered)
	}
	if good, bad := c.good.Len(), c.bad.Len(); good != 1 || bad != 8 {
		t.Errorf("kept: got %d good and %d bad verdicts, want 1 and 8", good, bad)
	}
}

func TestQuestionsShareAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		asked := 0
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				value, _, err := c.Get(t.Context(), key("k"), func(context.Context, bool) (Answer[string], error) {
					asked++
					time.Sleep(time.Second)
					return Answer[string]{Value: "a"}, nil
				})
				if value != "a" || err != nil {
					t.Errorf("got %q, %v, want a, nil", value, err)
				}
			})
		}
		group.Wait()
		if asked != 1 {
			t.Errorf("asked: got %d times, want once", asked)
		}
	})
}

// TestOneWhoLeavesSpoilsNothing: the others ask again, and get their answer.
func TestOneWhoLeavesSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		slow := func(ctx context.Context, _ bool) (Answer[string], error) {
			select {
			case <-time.After(time.Second):
				return Answer[string]{Value: "a"}, nil
			case <-ctx.Done():
				return Answer[string]{}, ctx.Err()
			}
		}
		leaving, leave := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if _, _, err := c.Get(leaving, key("k"), slow); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: got %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		group.Go(func() {
			if value, _, err := c.Get(t.Context(), key("k"), slow); value != "a" || err != nil {
				t.Errorf("who stayed: got %q, %v, want a, nil", value, err)
			}
		})
		synctest.Wait()
		leave()
		group.Wait()
	})
}

// TestAPanicSpoilsNothing: who waits for the same asks anew.
func TestAPanicSpoilsNothing(t *testing.T) {
	c := newCache()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("got no panic, want that of the question")
			}
		}()
		_, _, _ = c.Get(t.Context(), key("k"), func(context.Context, bool) (Answer[string], error) { panic("of the question") })
	}()
	for range 3 { // more than are asked at once
		if value, _, err := c.Get(t.Context(), key("k"), says("a", nil)); value != "a" || err != nil {
			t.Errorf("got %q, %v, want a, nil", value, err)
		}
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		running, most := 0, 0
		var mu sync.Mutex
		var group sync.WaitGroup
		var late int
		for i := range 20 {
			group.Go(func() {
				_, _, err := c.Get(t.Context(), key(fmt.Sprint(i)), func(ctx context.Context, _ bool) (Answer[string], error) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					defer func() {
						mu.Lock()
						running--
						mu.Unlock()
					}()
					select {
					case <-time.After(2 * time.Second):
						return Answer[string]{Value: "a"}, nil
					case <-ctx.Done():
						return Answer[string]{}, context.Cause(ctx)
					}
				})
				if err != nil {
					mu.Lock()
					late++
					mu.Unlock()
					if !strings.Contains(err.Error(), "no answer within 5s") {
						t.Errorf("got %v, want an error that says how long it took", err)
					}
				}
			})
		}
		group.Wait()
		// Two at once, two seconds each, five seconds' patience.
		if most != 2 || late != 16 {
			t.Errorf("got %d at once and %d too late, want 2 and 16", most, late)
		}
	})
}

// TestStrangersHoldUpNobody: questions about those who were good once are asked beside the others.
func TestStrangersHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		if _, _, err := c.Get(t.Context(), key("vm"), says("a", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		never := func(ctx context.Context, _ bool) (Answer[string], error) {
			<-ctx.Done()
			return Answer[string]{}, ctx.Err()
		}
		var strangers sync.WaitGroup
		for i := range 20 {
			strangers.Go(func() {
				if _, _, err := c.Get(t.Context(), key(fmt.Sprint(i)), never); err == nil {
					t.Error("a stranger: got nil, want an error")
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		value, outcome, err := c.Get(t.Context(), key("vm"), says("b", nil))
		if value != "b" || outcome != Asked || err != nil || time.Since(start) != 0 {
			t.Errorf("got %q, %d, %v after %s, want b, %d, nil at once", value, outcome, err, time.Since(start), Asked)
		}
		strangers.Wait()
	})
}

// TestACallersOwnTimeEndsForItAlone: it is served the last good verdict.
func TestACallersOwnTimeEndsForItAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache()
		if _, _, err := c.Get(t.Context(), key("k"), says("a", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		never := func(ctx context.Context, _ bool) (Answer[string], error) {
			<-ctx.Done()
			return Answer[string]{}, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		value, outcome, err := c.Get(ctx, key("k"), never)
		if value != "a" || outcome != Kept || err != nil {
			t.Errorf("got %q, %d, %v, want a, %d, nil", value, outcome, err, Kept)
		}
	})
}
