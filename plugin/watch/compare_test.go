package watch

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const replica = "generation-2"

// compareWith is the Welcome of another replica, with a Compare in so many buckets.
func compareWith(buckets uint32) *registryv1.WatchResponse {
	return welcomeOf(&registryv1.Welcome{
		Mode: registryv1.Mode_MODE_COMPARE, Generation: replica, View: view, ClusterDomain: domain, HeartbeatIntervalMillis: 10_000, Buckets: buckets,
	})
}

func differingBuckets(buckets ...uint32) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_DifferingBuckets{DifferingBuckets: &registryv1.DifferingBuckets{Buckets: buckets}}}
}

// outcome is the delta that ends a Compare.
func outcome(revision uint64, upserts ...*registryv1.Resource) *registryv1.WatchResponse {
	return deltaOf(&registryv1.Delta{ToRevision: revision, Upserts: upserts})
}

func digestOf(r *registryv1.Resource) uint64 {
	return uint64(registryv1.DigestResource(r.GetKey(), r.GetBody()))
}

func shortOf(r *registryv1.Resource) uint32 {
	return registryv1.DigestResource(r.GetKey(), r.GetBody()).Short()
}

func bucketOf(r *registryv1.Resource, count int) uint32 {
	return uint32(registryv1.Bucket(r.GetKey(), count))
}

func TestCompare(t *testing.T) {
	a, b, c := service("a", 1), service("b", 2), service("c", 3)
	changed := service("a", 9)
	tests := []struct {
		name   string
		mirror *mirror.Mirror
		play   func(v *virtual, call *call)
	}{
		{"Hello says what is held", mirrorAt(t, 3, a, b), func(v *virtual, call *call) {
			want := &registryv1.Hello{
				Node: "vm-1", Version: "1.0", Namespace: view, Compare: true,
				Position: &registryv1.Position{Generation: generation, Revision: 3, View: view},
				Holding:  &registryv1.Holding{View: view, ClusterDomain: domain, Digest: digestOf(a) + digestOf(b), Resources: 2},
			}
			if got := call.hello; !proto.Equal(got, want) {
				v.t.Errorf("Hello is %v, want %v", got, want)
			}
		}},
		{"nothing differs, by one digest", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(0), outcome(1), proof(1, a))
			v.settle()
			mustHold(v.t, v.mirror, 1, "a")
			want := []string{"connected " + first, "compared", "applied 0+ 0-", "heartbeat"}
			if got := v.recorder.all(); !slices.Equal(got, want) {
				v.t.Errorf("observer saw %q, want %q", got, want)
			}
			if len(call.answers) != 0 {
				v.t.Errorf("the client said %v, want nothing", <-call.answers)
			}
			if got := receiveFrom(v.t, call.acks, "ack"); got != 1 {
				v.t.Errorf("Ack is of revision %d, want 1", got)
			}
		}},
		{"only what differs is listed and changed, and deltas follow", mirrorAt(t, 3, a, b), func(v *virtual, call *call) {
			call.send(v.t, compareWith(64))
			digests := receiveFrom(v.t, call.answers, "answer").GetBucketDigests().GetDigests()
			if len(digests) != 64 || digests[bucketOf(a, 64)] != shortOf(a) || digests[bucketOf(b, 64)] != shortOf(b) {
				v.t.Fatalf("digests of %d buckets, want 64 with those of a and b", len(digests))
			}
			named := []uint32{bucketOf(a, 64), bucketOf(c, 64)}
			slices.Sort(named)
			call.send(v.t, differingBuckets(named...))
			listed := receiveFrom(v.t, call.answers, "answer").GetResourceDigests()
			counts := []uint32{1, 0}
			if named[0] != bucketOf(a, 64) {
				counts = []uint32{0, 1}
			}
			if !slices.Equal(listed.GetDigests(), []uint32{shortOf(a)}) || !slices.Equal(listed.GetCounts(), counts) || listed.GetMore() {
				v.t.Fatalf("listed %v, want the digest of a", listed)
			}
			// Frames are applied together.
			call.send(v.t, deltaOf(&registryv1.Delta{ToRevision: 2, RemovedPlaces: []uint32{0}, More: true}))
			v.settle()
			mustHold(v.t, v.mirror, 3, "a", "b")
			call.send(v.t, outcome(2, changed, c), proof(2, changed, b, c), step(2, service("d", 4)))
			v.settle()
			mustHold(v.t, v.mirror, 3, "a", "b", "c", "d")
			if got := v.mirror.State().Position().GetGeneration(); got != replica {
				v.t.Errorf("mirror is of generation %q, want %q", got, replica)
			}
			if got := v.recorder.applied[0]; got.Upserts != 2 || got.Removals != 0 || got.Frames != 2 {
				v.t.Errorf("the outcome was %+v, want two upserts in two frames", got)
			}
		}},
		{"what is gone is removed by its place, or by its key where it went in between", mirrorAt(t, 3, a, b, c), func(v *virtual, call *call) {
			call.send(v.t, compareWith(64))
			receiveFrom(v.t, call.answers, "answer")
			call.send(v.t, differingBuckets(bucketOf(a, 64)))
			receiveFrom(v.t, call.answers, "answer")
			call.send(v.t, deltaOf(&registryv1.Delta{ToRevision: 2, RemovedPlaces: []uint32{0}, Removals: []string{b.GetKey()}}), proof(2, c))
			v.settle()
			mustHold(v.t, v.mirror, 2, "c")
			if got := v.recorder.count("heartbeat"); got != 1 {
				v.t.Errorf("observer saw %q, want one heartbeat", v.recorder.all())
			}
		}},
		{"no bucket differs after all", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			call.send(v.t, differingBuckets(), outcome(2, b), proof(2, a, b))
			v.settle()
			mustHold(v.t, v.mirror, 2, "a", "b")
			if len(call.answers) != 0 {
				v.t.Errorf("the client said %v, want nothing", <-call.answers)
			}
		}},
		{"the whole view comes instead", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			call.send(v.t, differingBuckets(bucketOf(a, 2)))
			receiveFrom(v.t, call.answers, "answer")
			call.send(v.t, wholeView(2, b, c)...)
			call.send(v.t, proof(2, b, c))
			v.settle()
			mustHold(v.t, v.mirror, 2, "b", "c")
			if v.recorder.count("compared") != 0 || v.recorder.count("full sync") != 1 {
				v.t.Errorf("observer saw %q, want a full sync and no Compare", v.recorder.all())
			}
		}},
		{"cut short, it leaves the mirror as it was", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			call.end <- errShutdown
			again := v.only().next(v.t)
			mustHold(v.t, v.mirror, 3, "a")
			if got := again.hello; got.GetPosition().GetRevision() != 3 || got.GetHolding().GetResources() != 1 {
				v.t.Errorf("Hello is %v, want the same as before", got)
			}
		}},
		{"a syncer that goes silent in it is left", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			began := time.Now()
			time.Sleep(patience)
			call.gone(v.t)
			if got, want := time.Since(began), 30*time.Second; got != want {
				v.t.Errorf("left after %s, want %s", got, want)
			}
		}},
		{"a mismatch has it compared, and one after that replaced", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, b))
			call.gone(v.t)
			again := v.only().next(v.t)
			if got := again.hello; got.GetPosition() != nil || got.GetHolding() == nil {
				v.t.Fatalf("Hello after a mismatch is %v, want no position, and what is held", got)
			}
			again.send(v.t, compareWith(0), outcome(5), proof(5, b))
			again.gone(v.t)
			last := v.only().next(v.t)
			if got := last.hello; got.GetPosition() != nil || got.GetHolding() != nil {
				v.t.Fatalf("Hello after a Compare that did not help is %v, want neither", got)
			}
			last.sync(v.t, 7, b)
			v.settle()
			mustHold(v.t, v.mirror, 7, "b")
			last.end <- errShutdown
			if got := v.only().next(v.t).hello; got.GetPosition().GetRevision() != 7 || got.GetHolding() == nil {
				v.t.Errorf("Hello after the repair is %v, want position and what is held", got)
			}
		}},
		{"a mismatch long after a Compare has it compared again", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(0), outcome(5), proof(5, a), proof(5, b))
			call.gone(v.t)
			if got := v.only().next(v.t).hello; got.GetPosition() != nil || got.GetHolding() == nil {
				v.t.Errorf("Hello is %v, want no position, and what is held", got)
			}
		}},
		{"a syncer that refuses the answers is asked for the whole view", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			call.end <- status.Error(codes.InvalidArgument, "not what was asked for")
			if got := v.only().next(v.t).hello; got.GetPosition() != nil || got.GetHolding() != nil {
				v.t.Errorf("Hello is %v, want neither position nor what is held", got)
			}
		}},
		{"a syncer that has no room now is not asked for more", mirrorAt(t, 3, a), func(v *virtual, call *call) {
			call.send(v.t, compareWith(2))
			receiveFrom(v.t, call.answers, "answer")
			call.end <- status.Error(codes.ResourceExhausted, "too many")
			if got := v.only().next(v.t).hello; got.GetPosition() == nil || got.GetHolding() == nil {
				v.t.Errorf("Hello is %v, want position and what is held", got)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, test.mirror, []string{first}, func(v *virtual) {
				test.play(v, v.only().next(v.t))
			})
		})
	}
}

// TestCompareListsInParts lists more than goes into one message.
func TestCompareListsInParts(t *testing.T) {
	const size = 2*digestsAtOnce + 100
	resources := make([]*registryv1.Resource, size)
	want := map[uint32]bool{}
	for i := range resources {
		resources[i] = service(fmt.Sprintf("service-%d", i), 1)
		want[shortOf(resources[i])] = true
	}
	inVirtualTime(t, mirrorAt(t, 3, resources...), []string{first}, func(v *virtual) {
		call := v.only().next(v.t)
		call.send(v.t, compareWith(1))
		receiveFrom(v.t, call.answers, "answer")
		call.send(v.t, differingBuckets(0))
		got := map[uint32]bool{}
		for i := range 3 {
			answer := receiveFrom(v.t, call.answers, "answer")
			if size := proto.Size(answer); size > 40<<10 {
				v.t.Errorf("message %d has %d bytes", i, size)
			}
			if more := answer.GetResourceDigests().GetMore(); more != (i < 2) {
				v.t.Errorf("message %d of 3: more is %v", i+1, more)
			}
			for _, digest := range answer.GetResourceDigests().GetDigests() {
				got[digest] = true
			}
			if counts := answer.GetResourceDigests().GetCounts(); i == 0 && !slices.Equal(counts, []uint32{size}) || i > 0 && len(counts) > 0 {
				v.t.Errorf("message %d of 3 counts %d, want %d in the first alone", i+1, counts, size)
			}
		}
		// Half a digest may be that of two, once in a hundred runs or so.
		if !maps.Equal(got, want) {
			v.t.Errorf("%d resources are listed, want %d", len(got), len(want))
		}
	})
}

// TestCompareThatCannotBeFollowed ends the stream, keeps the mirror, and has the whole view asked for
// where the Compare had begun.
func TestCompareThatCannotBeFollowed(t *testing.T) {
	a, b := service("a", 1), service("b", 2)
	other := func(edit func(*registryv1.Welcome)) *registryv1.WatchResponse {
		message := compareWith(2)
		edit(message.GetWelcome())
		return message
	}
	all := differingBuckets(0, 1)
	// In one of two buckets, a alone.
	own := differingBuckets(bucketOf(a, 2))
	removing := func(places ...uint32) *registryv1.WatchResponse {
		return deltaOf(&registryv1.Delta{ToRevision: 2, RemovedPlaces: places})
	}
	tests := []struct {
		name  string
		sent  []*registryv1.WatchResponse
		event string
		begun bool
	}{
		{"another view", []*registryv1.WatchResponse{other(func(w *registryv1.Welcome) { w.View = "staging" })}, "refused welcome", false},
		{"another cluster domain", []*registryv1.WatchResponse{other(func(w *registryv1.Welcome) { w.ClusterDomain = "other.example" })}, "refused welcome", false},
		{"no generation", []*registryv1.WatchResponse{other(func(w *registryv1.Welcome) { w.Generation = "" })}, "refused welcome", false},
		{"buckets that are no power of two", []*registryv1.WatchResponse{compareWith(3)}, "refused welcome", false},
		{"too many buckets", []*registryv1.WatchResponse{compareWith(2 * registryv1.MaxBuckets)}, "refused welcome", false},
		{"an absurd number of buckets", []*registryv1.WatchResponse{compareWith(1 << 31)}, "refused welcome", false},
		{"differing buckets twice", []*registryv1.WatchResponse{compareWith(2), all, all}, "refused out_of_turn", true},
		{"differing buckets that are not due", []*registryv1.WatchResponse{compareWith(0), all}, "refused out_of_turn", true},
		{"a differing bucket that is none", []*registryv1.WatchResponse{compareWith(2), differingBuckets(0, 2)}, "refused frames", true},
		{"an absurd differing bucket", []*registryv1.WatchResponse{compareWith(2), differingBuckets(1<<32 - 1)}, "refused frames", true},
		{"a differing bucket twice", []*registryv1.WatchResponse{compareWith(2), differingBuckets(1, 1)}, "refused frames", true},
		{"differing buckets in no order", []*registryv1.WatchResponse{compareWith(2), differingBuckets(1, 0)}, "refused frames", true},
		{"differing buckets between frames", []*registryv1.WatchResponse{compareWith(2), wholeView(2, a, b)[0], all}, "refused out_of_turn", true},
		{"a delta before the differing buckets", []*registryv1.WatchResponse{compareWith(2), outcome(2)}, "refused out_of_turn", true},
		{"a heartbeat before the outcome", []*registryv1.WatchResponse{compareWith(2), all, proof(2, a)}, "refused out_of_turn", true},
		{"a place beyond the list", []*registryv1.WatchResponse{compareWith(2), own, removing(1)}, "refused content", true},
		{"a place twice", []*registryv1.WatchResponse{compareWith(2), own, removing(0, 0)}, "refused content", true},
		{"a place where nothing was listed", []*registryv1.WatchResponse{compareWith(0), removing(0)}, "refused content", true},
		{"the removal of what is not held", []*registryv1.WatchResponse{compareWith(0), deltaOf(&registryv1.Delta{ToRevision: 2, Removals: []string{"x"}})}, "refused content", true},
		{"removed places with the whole view", []*registryv1.WatchResponse{compareWith(2), deltaOf(&registryv1.Delta{
			ToRevision: 2, Replace: true, RemovedPlaces: []uint32{1},
		})}, "refused frames", true},
		{"removed places outside of a Compare", []*registryv1.WatchResponse{welcomeWith(registryv1.Mode_MODE_RESUME), deltaOf(&registryv1.Delta{
			FromRevision: 3, ToRevision: 4, RemovedPlaces: []uint32{0},
		})}, "refused frames", false},
		{"a second outcome", []*registryv1.WatchResponse{compareWith(0), outcome(2), outcome(3)}, "refused gap", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
				call := v.only().next(v.t)
				for _, message := range test.sent {
					// The client may have gone by then.
					_ = call.stream.Send(message)
				}
				call.gone(v.t)
				again := v.only().next(v.t)
				if got := v.recorder.count(test.event); got != 1 {
					v.t.Errorf("observer saw %q, want %q once", v.recorder.all(), test.event)
				}
				if v.mirror.State().Host(hostOf("a")) == nil {
					v.t.Error("the mirror has lost what it held")
				}
				if got := again.hello; got.GetPosition() != nil || (got.GetHolding() == nil) != test.begun {
					v.t.Errorf("Hello is %v, want no position, and what is held: %v", got, !test.begun)
				}
				again.sync(v.t, 9, a, b)
				v.settle()
				mustHold(v.t, v.mirror, 9, "a", "b")
			})
		})
	}
	t.Run("that nobody asked for", func(t *testing.T) {
		inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
			call := v.only().next(v.t)
			call.send(v.t, compareWith(2))
			call.gone(v.t)
			if got := v.recorder.count("refused welcome"); got != 1 {
				v.t.Errorf("observer saw %q, want one refused welcome", v.recorder.all())
			}
		})
	})
}
