package watch

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffCeiling(t *testing.T) {
	tests := []struct {
		name      string
		base, cap time.Duration
		want      []time.Duration
	}{
		{"doubles", 1, 100, []time.Duration{1, 2, 4, 8, 16, 32, 64, 100, 100}},
		{"cap below base", 10, 5, []time.Duration{5, 5}},
		{"cap that no doubling may overflow", 1 << 61, 1<<63 - 1, []time.Duration{1 << 61, 1 << 62, 1<<63 - 1, 1<<63 - 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := backoff{base: test.base, cap: test.cap, jitter: func(ceiling time.Duration) time.Duration { return ceiling }}
			for range 2 {
				var got []time.Duration
				for range test.want {
					got = append(got, b.next())
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("delays are %v, want %v", got, test.want)
				}
				b.reset()
			}
		})
	}
}

func TestBackoffJitterIsFull(t *testing.T) {
	b := backoff{base: 4, cap: 4}
	seen := map[time.Duration]bool{}
	// That one of five values does not come up in 1000 draws has a chance below 10^-90.
	for range 1000 {
		delay := b.next()
		if delay < 0 || delay > 4 {
			t.Fatalf("delay is %d, want 0 to 4", delay)
		}
		seen[delay] = true
	}
	if len(seen) != 5 {
		t.Errorf("delays are %v, want all of 0 to 4", seen)
	}
}

func TestAddresses(t *testing.T) {
	now := time.Unix(1000, 0)
	all := []string{"a", "b", "c", "b"}
	tests := []struct {
		name    string
		arrange func(*addresses)
		// begin is what the order begins with, set all that is in it.
		begin []string
		set   []string
		free  time.Duration
	}{
		{"each once", func(*addresses) {}, nil, []string{"a", "b", "c"}, 0},
		{"the preferred first", func(a *addresses) { a.prefer("c") }, []string{"c"}, []string{"a", "b", "c"}, 0},
		{"the last preferred first", func(a *addresses) { a.prefer("c"); a.prefer("b") }, []string{"b"}, []string{"a", "b", "c"}, 0},
		{"another avoided", func(a *addresses) { a.prefer("c"); a.avoid("a") }, []string{"c", "b", "a"}, []string{"a", "b", "c"}, 0},
		{"an avoided one that is well again", func(a *addresses) { a.avoid("a"); a.prefer("a") }, []string{"a"}, []string{"a", "b", "c"}, 0},
		{"any after the time of one is over", func(a *addresses) { a.prefer("c"); a.choose() }, nil, []string{"a", "b", "c"}, 0},
		{"without those held", func(a *addresses) { a.prefer("c"); a.hold("c", now.Add(1)) }, nil, []string{"a", "b"}, 0},
		{"held no longer", func(a *addresses) { a.hold("c", now) }, nil, []string{"a", "b", "c"}, 0},
		{"all held", func(a *addresses) {
			a.hold("a", now.Add(5))
			a.hold("b", now.Add(3))
			a.hold("c", now.Add(4))
		}, nil, nil, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := newAddresses(all)
			test.arrange(&a)
			firsts := map[string]bool{}
			for range 200 {
				order := a.order(now)
				if len(order) < len(test.begin) || !slices.Equal(order[:len(test.begin)], test.begin) {
					t.Fatalf("order is %q, want %q first", order, test.begin)
				}
				if len(order) > 0 {
					firsts[order[0]] = true
				}
				slices.Sort(order)
				if !slices.Equal(order, test.set) && len(order)+len(test.set) > 0 {
					t.Fatalf("order has %q, want %q", order, test.set)
				}
			}
			// Without a preference every address has its turn.
			if want := len(test.set); len(test.begin) == 0 && len(firsts) != want {
				t.Errorf("%d addresses came first in 200 orders, want %d", len(firsts), want)
			}
			if got := a.free(now); got != test.free {
				t.Errorf("some address is free in %d, want %d", got, test.free)
			}
		})
	}
}

func TestAnAvoidedAddressIsLast(t *testing.T) {
	a := newAddresses([]string{"a", "b", "c"})
	a.prefer("c")
	a.avoid("c")
	for range 200 {
		if order := a.order(time.Unix(1000, 0)); order[2] != "c" {
			t.Fatalf("order is %q, want c last", order)
		}
	}
}

// A syncer that does not read keeps nobody waiting but the goroutine that sends.
func TestAcknowledgerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan error)
		var sent []uint64
		a := newAcknowledger(100*time.Millisecond, func(revision uint64) error {
			sent = append(sent, revision)
			return <-release
		})
		ended := make(chan struct{})
		go func() {
			a.run(t.Context())
			close(ended)
		}()
		a.acknowledge(1)
		synctest.Wait()
		for revision := range uint64(10_000) {
			a.acknowledge(2 + revision)
		}
		release <- nil
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if want := []uint64{1, 10_001}; !slices.Equal(sent, want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
		release <- errors.New("the stream has ended")
		<-ended
	})
}
