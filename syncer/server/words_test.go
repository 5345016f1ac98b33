package server

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestRequestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	pace := newRequestPace(now)
	send := func(count int) (allowed int) {
		for range count {
			if pace.allows(now) {
				allowed++
			}
		}
		return allowed
	}
	if got := send(requestsAtOnce); got != requestsAtOnce {
		t.Fatalf("At once: got %d allowed, want %d", got, requestsAtOnce)
	}
	if pace.allows(now) {
		t.Error("One more: got it allowed, want it refused")
	}
	now = now.Add(2 * time.Second)
	if got, want := send(2*requestsPerSecond), 2*requestsPerSecond-1; got != want {
		t.Errorf("After two seconds: got %d allowed, want %d", got, want)
	}
	now = now.Add(24 * time.Hour)
	if got := send(2 * requestsAtOnce); got != requestsAtOnce {
		t.Errorf("After a day: got %d allowed, want %d", got, requestsAtOnce)
	}
	now = now.Add(-time.Hour)
	if pace.allows(now) {
		t.Error("After the clock was set back: got one allowed, want it refused")
	}
}

func TestWordsBeyondMeasure(t *testing.T) {
	s := start(t, func(o *Options) { o.HelloTimeout = patience })
	t.Run("a hello", func(t *testing.T) {
		v := openStream(t, s.dial())
		v.say(helloOf(&registryv1.Hello{Version: strings.Repeat("v", maxHelloBytes)}))
		if err := v.failure(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "hello has 4") {
			t.Errorf("got %v, want InvalidArgument of its size", err)
		}
	})
	for name, request := range map[string]*registryv1.WatchRequest{"acks": ackOf(0), "requests of a newer kind": {}} {
		t.Run(name, func(t *testing.T) {
			v := watch(t, s.dial(), &registryv1.Hello{})
			for range 3 * requestsAtOnce {
				v.say(request)
			}
			if err := v.failure(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "requests a second") {
				t.Errorf("got %v, want ResourceExhausted of their number", err)
			}
		})
	}
	eventually(t, "nobody watches", func() bool { return len(s.server.Watchers()) == 0 })
}
