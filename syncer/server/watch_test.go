package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

func TestWelcomeMode(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	s.apply(service("prod", "b", "10.0.0.2", registry.Public()))
	generation := s.registry.Generation()
	tests := map[string]struct {
		position *registryv1.Position
		want     registryv1.Mode
	}{
		"holds nothing":         {nil, registryv1.Mode_MODE_FULL},
		"holds all":             {&registryv1.Position{Generation: generation, Revision: 2, View: "prod"}, registryv1.Mode_MODE_RESUME},
		"holds some":            {&registryv1.Position{Generation: generation, Revision: 1, View: "prod"}, registryv1.Mode_MODE_RESUME},
		"of another generation": {&registryv1.Position{Generation: "other", Revision: 2, View: "prod"}, registryv1.Mode_MODE_FULL},
		"of another view":       {&registryv1.Position{Generation: generation, Revision: 2, View: "dev"}, registryv1.Mode_MODE_FULL},
		"of the future":         {&registryv1.Position{Generation: generation, Revision: 3, View: "prod"}, registryv1.Mode_MODE_FULL},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := openStream(t, s.dial())
			if test.want == registryv1.Mode_MODE_RESUME {
				v.revision = test.position.GetRevision()
			}
			v.say(helloOf(&registryv1.Hello{Namespace: "prod", Position: test.position}))
			v.until("the welcome", func() bool { return v.welcome != nil })
			if got := v.welcome.GetMode(); got != test.want {
				t.Errorf("mode = %v, want %v", got, test.want)
			}
			if got := v.welcome; got.GetGeneration() != generation || got.GetView() != "prod" || got.GetClusterDomain() != "cluster.local" ||
				got.GetHeartbeatIntervalMillis() != uint32(time.Hour.Milliseconds()) {
				t.Errorf("welcome = %v", got)
			}
		})
	}
}

func TestFullSyncSendsTheView(t *testing.T) {
	tests := map[string]struct {
		namespace string
		want      []string
	}{
		"the namespace itself": {"prod", []string{key("prod", "own"), key("prod", "public"), key("prod", "shared")}},
		"one it is shared to":  {"dev", []string{key("prod", "public"), key("prod", "shared")}},
		"another":              {"test", []string{key("prod", "public")}},
		"none":                 {"", []string{key("prod", "public")}},
	}
	s := start(t, nil)
	s.apply(
		service("prod", "public", "10.0.0.1", registry.Public()),
		service("prod", "own", "10.0.0.2", registry.VisibleTo("prod")),
		service("prod", "shared", "10.0.0.3", registry.VisibleTo("prod", "dev")),
		service("prod", "nobodys", "10.0.0.4", registry.Nobody()),
	)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := watch(t, s.dial(), &registryv1.Hello{Namespace: test.namespace})
			if got := v.keys(); !slices.Equal(got, test.want) {
				t.Errorf("sent %v, want %v", got, test.want)
			}
		})
	}
}

func TestFullSyncInFramesOfBoundedSize(t *testing.T) {
	const limit = 4 << 10
	s := start(t, func(o *Options) { o.FrameBytes = limit })
	var updates []registry.Update
	for i := range 300 {
		updates = append(updates, service("prod", fmt.Sprintf("service-%03d", i), "10.0.0.1", registry.Public()))
	}
	s.apply(updates...)
	v := watch(t, s.dial(), &registryv1.Hello{})
	if len(v.resources) != len(updates) {
		t.Errorf("sent %d resources, want %d", len(v.resources), len(updates))
	}
	if len(v.frames) < 5 {
		t.Errorf("%d resources came in %d frames of at most %d bytes", len(updates), len(v.frames), limit)
	}
	for i, frame := range v.frames {
		if !frame.GetReplace() || frame.GetToRevision() != 1 || frame.GetMore() != (i < len(v.frames)-1) {
			t.Errorf("frame %d: replace %t, to %d, more %t", i, frame.GetReplace(), frame.GetToRevision(), frame.GetMore())
		}
	}
}

func TestResumeSendsTheRest(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()), service("prod", "b", "10.0.0.2", registry.Public()))
	held := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	s.apply(service("prod", "c", "10.0.0.3", registry.Public()), gone("prod", "b"))

	v := openStream(t, s.dial())
	v.revision, v.resources = held.revision, held.resources
	v.say(helloOf(&registryv1.Hello{Namespace: "prod", Position: held.position()}))
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
	if len(v.frames) != 1 || len(v.frames[0].GetUpserts()) != 1 || !slices.Equal(v.frames[0].GetRemovals(), []string{key("prod", "b")}) {
		t.Errorf("sent %v, want one delta with the upsert of c and the removal of b", v.frames)
	}
	if v.frames[0].GetObservedAt().AsTime().Before(time.Now().Add(-time.Minute)) {
		t.Errorf("observed at %v", v.frames[0].GetObservedAt().AsTime())
	}
}

func TestPositionThatTheLogHasForgottenIsFull(t *testing.T) {
	s := startUnsynced(t, registry.Options{LogBytes: 2000}, nil)
	s.source.Synced()
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	held := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	for i := range 20 {
		s.apply(service("prod", "a", fmt.Sprintf("10.0.1.%d", i), registry.Public()))
	}
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod", Position: held.position()})
	if got := v.welcome.GetMode(); got != registryv1.Mode_MODE_FULL {
		t.Errorf("mode = %v, want FULL", got)
	}
}

func TestStreamThatFallsOffTheLogIsReplaced(t *testing.T) {
	// One change larger than the log: nobody can follow it.
	s := startUnsynced(t, registry.Options{LogBytes: 1000}, nil)
	s.source.Synced()
	s.apply(service("prod", "gone-soon", "10.0.0.1", registry.Public()))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	updates := []registry.Update{gone("prod", "gone-soon")}
	for i := range 20 {
		updates = append(updates, service("prod", fmt.Sprintf("new-%d", i), "10.0.0.2", registry.Public()))
	}
	s.apply(updates...)
	v.until("the whole view", func() bool { return len(v.resources) == 20 })
	if last := v.frames[len(v.frames)-1]; !last.GetReplace() {
		t.Errorf("the view came without replace: %v", last)
	}
	if got := counterValue(t, s.server.metrics.compacted); got != 1 {
		t.Errorf("compacted_total = %v, want 1", got)
	}
}

func TestVisibilityChanges(t *testing.T) {
	tests := map[string]struct {
		before, after registry.Visibility
		want          string // what dev is sent
	}{
		"no longer exported":     {registry.Public(), registry.VisibleTo("prod"), "removal"},
		"exported to nobody":     {registry.VisibleTo("dev"), registry.Nobody(), "removal"},
		"exported":               {registry.VisibleTo("prod"), registry.VisibleTo("dev", "prod"), "upsert"},
		"exported to more":       {registry.VisibleTo("dev"), registry.Public(), "nothing"},
		"between others":         {registry.VisibleTo("prod"), registry.VisibleTo("test"), "nothing"},
		"exported to everyone":   {registry.Nobody(), registry.Public(), "upsert"},
		"exported to fewer, dev": {registry.Public(), registry.VisibleTo("dev"), "nothing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil)
			s.apply(service("prod", "a", "10.0.0.1", test.before))
			v := watch(t, s.dial(), &registryv1.Hello{Namespace: "dev"})
			first := len(v.frames)
			s.apply(service("prod", "a", "10.0.0.1", test.after))
			s.apply(service("prod", "marker", "10.0.0.2", registry.Public()))
			v.until("the marker", func() bool { return v.resources[key("prod", "marker")] != nil })
			got := "nothing"
			for _, frame := range v.frames[first:] {
				for _, upsert := range frame.GetUpserts() {
					if upsert.GetKey() == key("prod", "a") {
						got = "upsert"
					}
				}
				if slices.Contains(frame.GetRemovals(), key("prod", "a")) {
					got = "removal"
				}
			}
			if got != test.want {
				t.Errorf("dev was sent %s, want %s", got, test.want)
			}
		})
	}
}

func TestNothingInvisibleIsSent(t *testing.T) {
	s := start(t, func(o *Options) { o.HeartbeatInterval = 5 * time.Millisecond })
	s.apply(service("prod", "hidden-first", "10.0.0.1", registry.VisibleTo("prod")))
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "dev"})
	for i := range 10 {
		s.apply(service("prod", fmt.Sprintf("hidden-%d", i), "10.0.0.1", registry.VisibleTo("prod")))
		s.apply(gone("prod", fmt.Sprintf("hidden-%d", i)))
	}
	last := s.registry.Revision()
	// The VM learns that time has passed, and nothing else.
	v.until("a heartbeat at the last revision", func() bool { return v.heartbeat.GetRevision() == last })
	for _, frame := range v.frames {
		if strings.Contains(frame.String(), "hidden") {
			t.Errorf("dev was sent %v", frame)
		}
	}
}

func TestIdleViewIsNotWoken(t *testing.T) {
	s := start(t, nil)
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "dev"})
	before := len(v.frames)
	for i := range 5 {
		s.apply(service("prod", "hidden", fmt.Sprintf("10.0.0.%d", i), registry.VisibleTo("prod")))
	}
	s.apply(service("prod", "seen", "10.0.0.9", registry.Public()))
	v.until("what it sees", func() bool { return v.resources[key("prod", "seen")] != nil })
	if got := len(v.frames) - before; got != 1 {
		t.Errorf("got %d deltas, want one: %v", got, v.frames[before:])
	}
}

func TestBurstIsFewDeltas(t *testing.T) {
	s := start(t, func(o *Options) { o.CoalesceWindow = 100 * time.Millisecond })
	v := watch(t, s.dial(), &registryv1.Hello{})
	before := len(v.frames)
	const changes = 200
	for i := range changes {
		s.apply(service("prod", "a", fmt.Sprintf("10.0.0.%d", i), registry.Public()))
	}
	last := s.registry.Revision()
	v.until("the last revision", func() bool { return v.revision == last })
	// How many exactly is TestPublisherGathersABurst's.
	if got := v.frames[before:]; len(got) > changes/10 {
		t.Errorf("%d changes of one resource came as %d deltas", changes, len(got))
	}
}

func TestSlowFullSyncLosesItsPlace(t *testing.T) {
	s := start(t, func(o *Options) {
		o.FullSyncs = 1
		o.FullSyncPatience = 50 * time.Millisecond
		o.FrameBytes = 64 << 10
	})
	var updates []registry.Update
	for i := range 3000 {
		updates = append(updates, service("prod", fmt.Sprintf("service-%05d-%s", i, strings.Repeat("x", 40)), "10.0.0.1", registry.Public()))
	}
	s.apply(updates...)
	slow := openStream(t, s.dial())
	slow.say(helloOf(&registryv1.Hello{Node: "slow"}))
	eventually(t, "the slow VM has the only place", func() bool { return len(s.server.admission.places) == 1 })
	quick := watch(t, s.dial(), &registryv1.Hello{Node: "quick"})
	if len(quick.resources) != len(updates) {
		t.Errorf("sent %d resources, want %d", len(quick.resources), len(updates))
	}
	eventually(t, "no place is held", func() bool { return len(s.server.admission.places) == 0 })
	// The slow one goes on from where it was.
	slow.until("its first heartbeat", func() bool { return slow.heartbeat != nil })
}

func TestFullSyncWaitsForAPlace(t *testing.T) {
	s := start(t, func(o *Options) { o.FullSyncs = 1 })
	s.server.admission.places <- struct{}{} // somebody else's
	waiting := openStream(t, s.dial())
	waiting.say(helloOf(&registryv1.Hello{Node: "waiting"}))
	eventually(t, "it waits", func() bool { return len(s.server.Watchers()) == 1 })
	gone := openStream(t, s.dial())
	gone.say(helloOf(&registryv1.Hello{Node: "gone"}))
	eventually(t, "both wait", func() bool { return len(s.server.Watchers()) == 2 })
	if err := gone.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one has given up", func() bool { return len(s.server.Watchers()) == 1 })
	if waiting.welcome != nil {
		t.Error("a VM is welcomed before its turn")
	}
	<-s.server.admission.places
	waiting.until("the first heartbeat", func() bool { return waiting.heartbeat != nil })
}

func TestDeltaIsEncodedOnceForAView(t *testing.T) {
	s := start(t, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	client := s.dial()
	var vms []*vm
	for range maxStreamsPerVM {
		vms = append(vms, watch(t, client, &registryv1.Hello{Namespace: "prod"}))
	}
	if got := counterValue(t, s.server.metrics.cacheMisses); got != 1 {
		t.Errorf("%d full syncs were encoded %v times, want once", len(vms), got)
	}
	s.apply(service("prod", "b", "10.0.0.2", registry.Public()))
	for _, v := range vms {
		v.until("the change", func() bool { return v.resources[key("prod", "b")] != nil })
	}
	if got := counterValue(t, s.server.metrics.cacheMisses); got != 2 {
		t.Errorf("one change to %d streams made %v encodings in all, want 2", len(vms), got)
	}
}

func TestSlowReaderIsCutAndDelaysNobody(t *testing.T) {
	s := start(t, func(o *Options) { o.SendTimeout = 2 * time.Second; o.FrameBytes = 64 << 10 })
	var updates []registry.Update
	for i := range 3000 {
		updates = append(updates, service("prod", fmt.Sprintf("service-%05d-%s", i, strings.Repeat("x", 40)), "10.0.0.1", registry.Public()))
	}
	s.apply(updates...)
	slow := openStream(t, s.dial())
	slow.say(helloOf(&registryv1.Hello{Node: "slow"}))
	eventually(t, "the slow VM watches", func() bool { return len(s.server.Watchers()) == 1 })

	quick := watch(t, s.dial(), &registryv1.Hello{Node: "quick"})
	s.apply(service("prod", "marker", "10.0.0.2", registry.Public()))
	quick.until("the marker", func() bool { return quick.resources[key("prod", "marker")] != nil })

	// gRPC takes the slow VM for 64 KiB of window and one message before it waits.
	eventually(t, "the slow VM is cut", func() bool { return len(s.server.Watchers()) == 1 })
	if got := counterValue(t, s.server.metrics.sendTimeouts); got != 1 {
		t.Errorf("send_timeouts_total = %v, want 1", got)
	}
	if got := s.server.Watchers()[0].Node; got != "quick" {
		t.Errorf("%q still watches, want quick", got)
	}
	if err := slow.failure(); status.Code(err) != codes.Aborted {
		t.Errorf("the slow VM's stream ended with %v, want ABORTED", err)
	}
	s.apply(service("prod", "marker2", "10.0.0.2", registry.Public()))
	quick.until("the second marker", func() bool { return quick.resources[key("prod", "marker2")] != nil })
}

func TestHeartbeatsProveEveryRevision(t *testing.T) {
	s := start(t, func(o *Options) { o.HeartbeatInterval = 2 * time.Millisecond })
	v := watch(t, s.dial(), &registryv1.Hello{Namespace: "prod"})
	for i := range 50 {
		s.apply(service("prod", fmt.Sprintf("s%d", i%7), fmt.Sprintf("10.0.0.%d", i), registry.VisibleTo([]string{"prod", "dev"}[i%2])))
		// Every heartbeat on the way is held against what was sent.
		if i%10 == 0 {
			last := s.registry.Revision()
			v.until("a heartbeat", func() bool { return v.heartbeat.GetRevision() >= last })
		}
	}
	last := s.registry.Revision()
	v.until("the last heartbeat", func() bool { return v.heartbeat.GetRevision() == last })
	if at := v.heartbeat.GetCurrentAt().AsTime(); time.Since(at) > time.Minute {
		t.Errorf("current at %v", at)
	}
}

func TestHeartbeatShowsThatASourceIsBehind(t *testing.T) {
	s := start(t, func(o *Options) { o.HeartbeatInterval = 2 * time.Millisecond })
	v := watch(t, s.dial(), &registryv1.Hello{})
	s.source.SetHealthy(false)
	behind := s.registry.CurrentAt()
	v.until("a heartbeat that stands still", func() bool { return v.heartbeat.GetCurrentAt().AsTime().Equal(behind) })
	s.source.SetHealthy(true)
	v.until("one that goes on", func() bool { return v.heartbeat.GetCurrentAt().AsTime().After(behind) })
}

func TestWatchIsRefused(t *testing.T) {
	tests := map[string]struct {
		say  []*registryv1.WatchRequest
		want codes.Code
		text string
	}{
		"ack first":            {[]*registryv1.WatchRequest{ackOf(1)}, codes.InvalidArgument, "the first request must be hello"},
		"nothing known":        {[]*registryv1.WatchRequest{{}}, codes.InvalidArgument, "the first request must be hello"},
		"no hello":             {nil, codes.InvalidArgument, "no hello within"},
		"second hello":         {[]*registryv1.WatchRequest{helloOf(&registryv1.Hello{}), helloOf(&registryv1.Hello{})}, codes.InvalidArgument, "Hello is out of turn"},
		"ack of the future":    {[]*registryv1.WatchRequest{helloOf(&registryv1.Hello{}), ackOf(7)}, codes.InvalidArgument, "ack"},
		"namespace is no name": {[]*registryv1.WatchRequest{helloOf(&registryv1.Hello{Namespace: "Prod/../x"})}, codes.InvalidArgument, `namespace "Prod/../x"`},
		"too large":            {[]*registryv1.WatchRequest{helloOf(&registryv1.Hello{Node: strings.Repeat("x", maxRequestBytes)})}, codes.ResourceExhausted, "larger than max"},
		"bucket digests": {[]*registryv1.WatchRequest{helloOf(&registryv1.Hello{}), {Request: &registryv1.WatchRequest_BucketDigests{BucketDigests: &registryv1.BucketDigests{}}}},
			codes.InvalidArgument, "BucketDigests is out of turn"},
	}
	s := start(t, func(o *Options) { o.HelloTimeout = 50 * time.Millisecond })
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := openStream(t, s.dial())
			for _, request := range test.say {
				v.say(request)
			}
			err := v.failure()
			if status.Code(err) != test.want || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
}

func TestNobodyIsServedBeforeEverySourceHasSynced(t *testing.T) {
	s := startUnsynced(t, registry.Options{}, nil)
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	v := openStream(t, s.dial())
	v.say(helloOf(&registryv1.Hello{}))
	err := v.failure()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "waiting for manifests to sync") {
		t.Errorf("got %v, want UNAVAILABLE that names the source", err)
	}
	if len(v.frames) > 0 || v.welcome != nil {
		t.Errorf("sent %v and %v before all is there", v.welcome, v.frames)
	}
	s.source.Synced()
	if v := watch(t, s.dial(), &registryv1.Hello{}); len(v.resources) != 1 {
		t.Errorf("sent %v, want one resource", v.keys())
	}
}

func TestAcksShowTheLag(t *testing.T) {
	s := start(t, nil)
	v := watch(t, s.dial(), &registryv1.Hello{Node: "vm-1\x1b[31m", Version: "v9", Namespace: "prod"})
	s.apply(service("prod", "a", "10.0.0.1", registry.Public()))
	s.apply(service("prod", "b", "10.0.0.2", registry.Public()))
	v.until("both", func() bool { return len(v.resources) == 2 })
	status := s.server.Watchers()[0]
	if status.Node != "vm-1?[31m" || status.Version != "v9" || status.Namespace != "prod" || status.Mode != modeFull || status.Address == "" {
		t.Errorf("status = %+v", status)
	}
	if status.Lag != 2 || status.Sent != 2 || status.Acked != 0 {
		t.Errorf("before the ack: lag %d, sent %d, acked %d, want 2, 2, 0", status.Lag, status.Sent, status.Acked)
	}
	v.say(ackOf(2))
	eventually(t, "the lag is gone", func() bool { return s.server.Watchers()[0].Lag == 0 })
	// What the VM does not see does not count.
	s.apply(service("dev", "c", "10.0.0.3", registry.VisibleTo("dev")))
	s.server.publisher.watched()[0].advance()
	if got := s.server.Watchers()[0]; got.Lag != 0 {
		t.Errorf("lag = %d after a change elsewhere, want 0", got.Lag)
	}
}

func TestVMThatEndsItsStream(t *testing.T) {
	s := start(t, nil)
	v := watch(t, s.dial(), &registryv1.Hello{})
	if err := v.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := v.failure(); err == nil || err.Error() != "EOF" {
		t.Errorf("got %v, want the end of the stream", err)
	}
	eventually(t, "nobody watches", func() bool { return len(s.server.Watchers()) == 0 && len(s.server.publisher.watched()) == 0 })
}

func TestShutdownTellsEveryStream(t *testing.T) {
	s := start(t, nil)
	v := watch(t, s.dial(), &registryv1.Hello{})
	waiting := openStream(t, s.dial())
	ended := make(chan error, 2)
	go func() { ended <- v.failure() }()
	go func() { ended <- waiting.failure() }()
	s.stop()
	for range 2 {
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("a stream ended with %v, want UNAVAILABLE", err)
		}
	}
}
