package kubernetes

import (
	"context"
	"errors"
	"testing"
)

// TestStoppedServersTakeNothingAway stops what is behind a source, the way it happens: the store alone, so that
// the API server is there and cannot serve, and both.
func TestStoppedServersTakeNothingAway(t *testing.T) {
	tests := []struct {
		name        string
		stop, start func(*fixture, context.Context) error
		logged      string
	}{
		{
			"etcd",
			func(f *fixture, _ context.Context) error { return f.plane.StopEtcd() },
			func(f *fixture, ctx context.Context) error { return f.plane.StartEtcd(ctx) },
			"etcd",
		},
		{
			"etcd and the API server",
			func(f *fixture, _ context.Context) error {
				return errors.Join(f.plane.StopAPIServer(), f.plane.StopEtcd())
			},
			func(f *fixture, ctx context.Context) error {
				return errors.Join(f.plane.StartEtcd(ctx), f.plane.StartAPIServer(ctx))
			},
			"refused",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.createService("a", "10.96.4.1")
			f.follow(f.shippedRole())
			f.awaitReady()
			f.expect("a 10.96.4.1")
			f.eventually("the source to be healthy", f.healthy)

			f.do(test.stop(f, t.Context()))
			stopped := true
			defer func() {
				if stopped {
					f.do(test.start(f, context.Background()))
				}
			}()
			f.eventually("the source to be unhealthy", func() bool { return !f.healthy() })
			f.expectLog("level=ERROR", "cannot reach the API server", test.logged)
			// The time up to which names are known to be current stands still, and they stay.
			before := f.registry.CurrentAt()
			f.expect("a 10.96.4.1")
			if got := f.registry.CurrentAt(); !got.Equal(before) {
				t.Errorf("CurrentAt during the outage: got %s, want it to stand still at %s", got, before)
			}
			if got := f.registry.Sources()[0]; !got.Synced || !got.CurrentAt.Equal(before) {
				t.Errorf("Source during the outage: got %+v, want it synced and current at %s", got, before)
			}
			select {
			case <-f.registry.Ready():
			default:
				t.Error("the registry is not ready any more, want what it has served")
			}

			f.do(test.start(f, t.Context()))
			stopped = false
			f.eventually("the source to be healthy again", f.healthy)
			f.expectLog("level=INFO", "the API server is back")
			f.createService("b", "10.96.4.2")
			f.expect("a 10.96.4.1", "b 10.96.4.2")
			for revision := uint64(1); revision <= f.registry.Revision(); revision++ {
				changes, err := f.registry.Changes(f.namespace, revision-1, revision)
				f.do(err)
				if len(changes.Removals) > 0 {
					t.Errorf("Revision %d removes %q, want nothing removed", revision, changes.Removals)
				}
			}
		})
	}
}
