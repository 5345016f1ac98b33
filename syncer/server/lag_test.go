package server

import (
	"testing"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

func TestStepsSayWhenWhatIsLackingWasSent(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	fill := func(n int) (s steps) {
		for i := range n {
			s.add(uint64(10*(i+1)), at(i))
		}
		return s
	}
	tests := map[string]struct {
		steps    int
		revision uint64
		want     time.Time
	}{
		"nothing has happened":             {0, 0, time.Time{}},
		"everything is lacking":            {3, 0, at(0)},
		"at a step":                        {3, 10, at(1)},
		"between two":                      {3, 15, at(1)},
		"at the last":                      {3, 30, time.Time{}},
		"beyond the last":                  {3, 31, time.Time{}},
		"the greatest revision":            {3, 1<<64 - 2, time.Time{}},
		"full":                             {maxSteps, 0, at(0)},
		"longer ago than is remembered":    {maxSteps + 1, 0, at(maxSteps / 2)},
		"as long ago as is remembered":     {maxSteps + 1, maxSteps / 2 * 10, at(maxSteps / 2)},
		"the last of many":                 {5 * maxSteps, 10 * (5*maxSteps - 1), at(5*maxSteps - 1)},
		"the last of many is not lacking ": {5 * maxSteps, 10 * 5 * maxSteps, time.Time{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := fill(test.steps)
			if got := s.after(test.revision); !got.Equal(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if len(s.latest) > maxSteps {
				t.Errorf("%d are remembered, want %d at most", len(s.latest), maxSteps)
			}
		})
	}
}

func TestWatcherLag(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	ack := func(revision uint64) {
		t.Helper()
		v.say(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Ack{Ack: &registryv1.Ack{Revision: revision}}})
		eventually(t, "the ack is in", func() bool { return s.server.Watchers()[0].Acked == revision })
	}
	lag := func() WatcherStatus { return s.server.Watchers()[0] }
	ack(1)
	if got := lag(); got.Lag != 0 || got.LagFor != 0 {
		t.Errorf("brought up to date: behind by %d for %s, want 0", got.Lag, got.LagFor)
	}
	if got := sampleCount(t, s.server.metrics.acked); got != 0 {
		t.Errorf("%d lags observed for what brought it up to date, want 0", got)
	}
	s.apply(service("prod", "b", "10.0.0.2", registry.Public()))
	v.until("the change", func() bool { return v.resources[key("prod", "b")] != nil })
	eventually(t, "the VM is behind", func() bool { got := lag(); return got.Lag == 1 && got.LagFor > 0 })
	s.apply(service("dev", "hidden", "10.0.0.3", registry.VisibleTo("dev")))
	ack(2)
	if got := lag(); got.Lag != 0 || got.LagFor != 0 {
		t.Errorf("after the ack: behind by %d for %s, want 0", got.Lag, got.LagFor)
	}
	if got := sampleCount(t, s.server.metrics.acked); got != 1 {
		t.Errorf("%d lags observed, want 1", got)
	}
	ack(2)
	if got := sampleCount(t, s.server.metrics.acked); got != 1 {
		t.Errorf("%d lags observed after the same ack again, want 1", got)
	}
}
