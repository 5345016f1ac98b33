package server

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
)

// TestPublisherGathersABurst holds the window to the millisecond, on a clock of its own.
func TestPublisherGathersABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 20 * time.Millisecond
		r := registry.New(registry.Options{})
		source := r.AddSource("test")
		var kept []rangeKey
		p := newPublisher(r, window, time.Now, func(key rangeKey, _ registry.Changes) { kept = append(kept, key) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { p.run(ctx); close(ended) }()
		v := p.join("prod", nil)
		apply := func(name string, visibility registry.Visibility) {
			t.Helper()
			if err := source.Apply(time.Now(), service("prod", name, "10.0.0.1", visibility)); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(when string, revision, changed uint64) {
			t.Helper()
			synctest.Wait()
			if got := v.current(); got.proof.Revision != revision || got.changed != changed {
				t.Errorf("%s: head at %d, changed at %d; want %d and %d", when, got.proof.Revision, got.changed, revision, changed)
			}
		}
		synctest.Wait()
		for i := range 20 {
			apply(fmt.Sprint("burst", i), registry.Public())
			time.Sleep(window / 20)
			if i < 18 {
				expect("within the window", 0, 0)
			}
		}
		expect("after the window", 20, 20)

		_, moved := v.next()
		apply("hidden", registry.VisibleTo("dev"))
		time.Sleep(window)
		expect("after a change that the view does not see", 21, 20)
		select {
		case <-moved:
			t.Error("the view's streams were woken for nothing")
		default:
		}

		apply("seen", registry.VisibleTo("prod"))
		time.Sleep(window)
		expect("after one that it sees", 22, 22)
		select {
		case <-moved:
		default:
			t.Error("the view's streams were not woken")
		}

		if want := []rangeKey{{view: "prod", from: 20, to: 22}}; !slices.Equal(kept, want) {
			t.Errorf("kept %+v for the streams, want %+v", kept, want)
		}
		if got := v.current().step("prod"); got != kept[0] {
			t.Errorf("the streams ask for %+v, kept is %+v", got, kept[0])
		}
		p.leave(v)
		if len(p.watched()) != 0 {
			t.Error("a view that nobody watches is kept")
		}
		cancel()
		<-ended
	})
}
