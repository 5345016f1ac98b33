package watch

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const (
	first  = "127.0.0.1:1"
	second = "127.0.0.2:2"
)

var errShutdown = status.Error(codes.Unavailable, "shutting down")

// sync brings a client that has just called into step by a full sync.
func (c *call) sync(t *testing.T, revision uint64, resources ...*registryv1.Resource) {
	t.Helper()
	c.send(t, welcomeWith(registryv1.Mode_MODE_FULL))
	c.send(t, wholeView(revision, resources...)...)
	c.send(t, proof(revision, resources...))
}

// next is the next stream to any of the syncers.
func (v *virtual) next() (address string, c *call) {
	v.t.Helper()
	var others []string
	for address := range v.syncers {
		others = append(others, address)
	}
	for len(others) < 2 {
		others = append(others, others[0])
	}
	select {
	case c = <-v.syncers[others[0]].calls:
		return others[0], c
	case c = <-v.syncers[others[1]].calls:
		return others[1], c
	case <-time.After(10 * time.Minute):
		v.t.Fatalf("no stream within ten minutes; log:\n%s", v.log)
		panic("unreachable")
	}
}

func other(address string) string {
	if address == first {
		return second
	}
	return first
}

func TestFollow(t *testing.T) {
	a, b, c := service("a", 1), service("b", 2), service("c", 3)
	tests := []struct {
		name   string
		mirror *mirror.Mirror
		play   func(v *virtual)
	}{
		{"an empty mirror says so and gets the whole view at once, however many frames it comes in", newMirror(), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			want := &registryv1.Hello{Node: "vm-1", Version: "1.0", Namespace: view, Compare: true}
			if got := call.hello; got.String() != want.String() {
				t.Errorf("Hello is %v, want %v", got, want)
			}
			call.send(t, welcomeWith(registryv1.Mode_MODE_FULL))
			frames := wholeView(7, a, b, c)
			call.send(t, frames[:2]...)
			v.settle()
			if v.mirror.State().Loaded() {
				t.Error("mirror is loaded before the last frame came")
			}
			call.send(t, frames[2], proof(7, a, b, c))
			v.settle()
			mustHold(t, v.mirror, 7, "a", "b", "c")
			want3 := []string{"connected " + first, "full sync", "applied 3+ 0-", "heartbeat"}
			if got := v.recorder.all(); !slices.Equal(got, want3) {
				t.Errorf("observer saw %q, want %q", got, want3)
			}
			if got := v.recorder.applied[0].Frames; got != 3 {
				t.Errorf("observer saw %d frames, want 3", got)
			}
		}},
		{"a full sync cut short leaves the mirror as it was", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_FULL))
			call.send(t, wholeView(7, b, c)[0])
			call.end <- errShutdown
			again := v.only().next(t)
			mustHold(t, v.mirror, 3, "a")
			if got := again.hello.GetPosition().GetRevision(); got != 3 {
				t.Errorf("Hello has revision %d, want 3", got)
			}
		}},
		{"a mirror that holds something resumes from there", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			want := &registryv1.Position{Generation: generation, Revision: 3, View: view}
			if got := call.hello.GetPosition(); got.String() != want.String() {
				t.Errorf("Hello has position %v, want %v", got, want)
			}
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), step(3, b), proof(4, a, b))
			v.settle()
			mustHold(t, v.mirror, 4, "a", "b")
			want2 := []string{"connected " + first, "resumed", "applied 1+ 0-", "heartbeat"}
			if got := v.recorder.all(); !slices.Equal(got, want2) {
				t.Errorf("observer saw %q, want %q", got, want2)
			}
		}},
		{"deltas follow, upserts and removals", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a), step(3, b), deltaOf(&registryv1.Delta{
				FromRevision: 4, ToRevision: 9, Upserts: []*registryv1.Resource{c}, Removals: []string{a.GetKey()},
			}), proof(9, b, c))
			v.settle()
			mustHold(t, v.mirror, 9, "b", "c")
			if got := v.recorder.count("heartbeat"); got != 2 {
				t.Errorf("observer saw %d heartbeats, want 2", got)
			}
		}},
		{"frames of one delta are applied together", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), deltaOf(&registryv1.Delta{
				FromRevision: 3, ToRevision: 4, Upserts: []*registryv1.Resource{b}, More: true,
			}))
			v.settle()
			mustHold(t, v.mirror, 3, "a")
			call.send(t, deltaOf(&registryv1.Delta{FromRevision: 3, ToRevision: 4, Removals: []string{a.GetKey()}}))
			v.settle()
			mustHold(t, v.mirror, 4, "b")
		}},
		{"acks are coalesced and the last is sent", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
			v.settle()
			if got := receiveFrom(t, call.acks, "ack"); got != 3 {
				t.Errorf("first Ack is of revision %d, want 3", got)
			}
			for revision := range uint64(50) {
				call.send(t, step(3+revision, service("b", byte(revision))))
			}
			v.settle()
			if got := len(call.acks); got != 0 {
				t.Errorf("%d more Acks at once, want none", got)
			}
			time.Sleep(defaultLimits.ack)
			v.settle()
			if got := len(call.acks); got != 1 {
				t.Fatalf("%d Acks after %s, want 1", got, defaultLimits.ack)
			}
			if got := <-call.acks; got != 53 {
				t.Errorf("last Ack is of revision %d, want 53", got)
			}
		}},
		{"an unknown kind of message is passed over", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), &registryv1.WatchResponse{}, step(3, b))
			v.settle()
			mustHold(t, v.mirror, 4, "a", "b")
		}},
		{"a heartbeat confirms the mirror, but never for the future", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			time.Sleep(time.Minute / 4)
			past, future := proof(3, a), proof(3, a)
			past.GetHeartbeat().CurrentAt.Seconds -= 5
			future.GetHeartbeat().CurrentAt.Seconds += 3600
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), past)
			v.settle()
			if got, want := time.Since(v.mirror.ConfirmedAt()), 5*time.Second; got != want {
				t.Errorf("mirror was confirmed %s ago, want %s", got, want)
			}
			call.send(t, future)
			v.settle()
			if got := time.Since(v.mirror.ConfirmedAt()); got != 0 {
				t.Errorf("mirror was confirmed %s ago, want now", got)
			}
			past.GetHeartbeat().CurrentAt.Seconds -= 60
			call.send(t, past)
			v.settle()
			if got := time.Since(v.mirror.ConfirmedAt()); got != 0 {
				t.Errorf("mirror was confirmed %s ago after an older heartbeat, want now", got)
			}
		}},
		{"a time that stands still in the future confirms the mirror once", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			future := proof(3, a)
			future.GetHeartbeat().CurrentAt.Seconds += 3600
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), future)
			for range 12 {
				time.Sleep(5 * time.Second)
				call.send(t, future)
			}
			v.settle()
			if got, want := v.mirror.Age(), time.Minute; got != want {
				t.Errorf("Age: got %s, want %s", got, want)
			}
			moved := proof(3, a)
			moved.GetHeartbeat().CurrentAt.Seconds = future.GetHeartbeat().GetCurrentAt().GetSeconds() + 1
			call.send(t, moved)
			v.settle()
			if got := v.mirror.Age(); got != 0 {
				t.Errorf("Age after the source has moved on: got %s, want none", got)
			}
		}},
		{"a heartbeat without a time proves the mirror and confirms nothing", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			timeless := proof(3, a)
			timeless.GetHeartbeat().CurrentAt = nil
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), timeless)
			v.settle()
			if !v.client.Status().Synced {
				t.Error("not synced")
			}
			if got := v.mirror.ConfirmedAt(); !got.IsZero() {
				t.Errorf("mirror was confirmed at %s, want never", got)
			}
		}},
		{"status and log tell each change once", mirrorAt(t, 3, a), func(v *virtual) {
			t := v.t
			call := v.only().next(t)
			call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME))
			v.settle()
			if got := v.client.Status(); got.Address != first || got.Synced {
				t.Errorf("status after Welcome is %+v, want %s and not synced", got, first)
			}
			call.send(t, proof(3, a), proof(3, a))
			v.settle()
			since := time.Now()
			if got, want := v.client.Status(), (Status{Address: first, Since: since, Synced: true}); !reflect.DeepEqual(got, want) {
				t.Errorf("status in step is %+v, want %+v", got, want)
			}
			v.line().cut.Store(true)
			time.Sleep(time.Second)
			call.end <- errShutdown
			v.settle()
			got := v.client.Status()
			if got.Address != "" || got.Synced || !got.Since.Equal(since.Add(time.Second)) || !strings.Contains(got.LastError, "connection refused") {
				t.Errorf("status after the end is %+v, want no address, since a second after %s, connection refused", got, since)
			}
			for _, words := range [][]string{{"in step with syncer", "address=" + first}, {"lost syncer", "address=" + first, "shutting down"}} {
				if got := v.log.lines(words...); len(got) != 1 {
					t.Errorf("%d log lines with %q, want 1; log:\n%s", len(got), words, v.log)
				}
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, test.mirror, []string{first}, test.play)
		})
	}
}

// Whatever cannot be followed ends the stream, keeps the mirror, and asks for a full copy at once.
func TestRepair(t *testing.T) {
	a, b := service("a", 1), service("b", 2)
	resume := welcomeWith(registryv1.Mode_MODE_RESUME)
	tests := []struct {
		name  string
		sent  []*registryv1.WatchResponse
		event string
	}{
		{"digest mismatch", []*registryv1.WatchResponse{resume, proof(3, b)}, "mismatch"},
		{"revision mismatch", []*registryv1.WatchResponse{resume, proof(4, a)}, "mismatch"},
		{"count mismatch", []*registryv1.WatchResponse{resume, proof(3, a, &registryv1.Resource{})}, "mismatch"},
		{"gap in revisions", []*registryv1.WatchResponse{resume, step(4, b)}, "refused gap"},
		{"delta that has been applied before", []*registryv1.WatchResponse{resume, step(3, b), step(3, b)}, "refused gap"},
		{"removal of what is not there", []*registryv1.WatchResponse{resume, deltaOf(&registryv1.Delta{
			FromRevision: 3, ToRevision: 4, Removals: []string{"Service/x/y"},
		})}, "refused content"},
		{"resource that comes twice", []*registryv1.WatchResponse{resume, step(3, b, b)}, "refused content"},
		{"mode of the future", []*registryv1.WatchResponse{welcomeWith(99)}, "refused mode"},
		{"delta before Welcome", []*registryv1.WatchResponse{step(3, b)}, "refused out_of_turn"},
		{"unknown message before Welcome", []*registryv1.WatchResponse{{}}, "refused out_of_turn"},
		{"second Welcome", []*registryv1.WatchResponse{resume, resume}, "refused out_of_turn"},
		{"differing buckets that nobody asked for", []*registryv1.WatchResponse{resume, {
			Response: &registryv1.WatchResponse_DifferingBuckets{DifferingBuckets: &registryv1.DifferingBuckets{}},
		}}, "refused out_of_turn"},
		{"heartbeat before the whole view", []*registryv1.WatchResponse{welcomeWith(registryv1.Mode_MODE_FULL), proof(3, a)}, "refused out_of_turn"},
		{"delta before the whole view", []*registryv1.WatchResponse{welcomeWith(registryv1.Mode_MODE_FULL), step(3, b)}, "refused out_of_turn"},
		{"heartbeat between frames", []*registryv1.WatchResponse{resume, deltaOf(&registryv1.Delta{
			FromRevision: 3, ToRevision: 4, More: true,
		}), proof(3, a)}, "refused out_of_turn"},
		{"frames of two deltas", []*registryv1.WatchResponse{resume, deltaOf(&registryv1.Delta{
			FromRevision: 3, ToRevision: 4, More: true,
		}), step(4, b)}, "refused frames"},
		{"delta that goes back", []*registryv1.WatchResponse{resume, deltaOf(&registryv1.Delta{FromRevision: 3, ToRevision: 2})}, "refused frames"},
		{"resume of another generation", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_RESUME, Generation: "generation-2", View: view, ClusterDomain: domain,
		})}, "refused welcome"},
		{"resume of another view", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_RESUME, Generation: generation, View: "staging", ClusterDomain: domain,
		})}, "refused welcome"},
		{"resume with another cluster domain", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_RESUME, Generation: generation, View: view, ClusterDomain: "other.example",
		})}, "refused welcome"},
		{"Welcome without a generation", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{Mode: registryv1.Mode_MODE_FULL})}, "refused welcome"},
		{"generation that moves the cursor", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_FULL, Generation: "\x1b[2J", View: view, ClusterDomain: domain,
		})}, "refused welcome"},
		{"generation without end", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_FULL, Generation: strings.Repeat("g", 1<<20), View: view, ClusterDomain: domain,
		})}, "refused welcome"},
		{"view of no namespace", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_FULL, Generation: generation, View: "a.b\n", ClusterDomain: domain,
		})}, "refused welcome"},
		{"cluster domain that is no DNS name", []*registryv1.WatchResponse{welcomeOf(&registryv1.Welcome{
			Mode: registryv1.Mode_MODE_FULL, Generation: generation, View: view, ClusterDomain: "Cluster Local",
		})}, "refused welcome"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
				t := v.t
				began := time.Now()
				call := v.only().next(t)
				call.send(t, test.sent...)
				call.gone(t)
				again := v.only().next(t)
				if got := time.Since(began); got != 0 {
					t.Errorf("the next stream came after %s, want at once", got)
				}
				if got := v.recorder.count(test.event); got != 1 {
					t.Errorf("observer saw %q, want %q once", v.recorder.all(), test.event)
				}
				if v.mirror.State().Host(hostOf("a")) == nil {
					t.Error("the mirror has lost what it held")
				}
				if got := again.hello.GetPosition(); got != nil {
					t.Errorf("Hello has position %v, want none", got)
				}
				if got := again.hello.GetHolding(); got.GetView() != view || got.GetResources() == 0 {
					t.Errorf("Hello has holding %v, want that of the view", got)
				}
				if got := v.log.lines("level=WARN", "address="+first); len(got) != 1 {
					t.Errorf("%d warnings, want 1; log:\n%s", len(got), v.log)
				}
				again.sync(t, 9, a, b)
				v.settle()
				mustHold(t, v.mirror, 9, "a", "b")
				again.end <- errShutdown
				if got := v.only().next(t).hello.GetPosition().GetRevision(); got != 9 {
					t.Errorf("after the repair Hello has revision %d, want 9", got)
				}
			})
		})
	}
}

func TestRepairThatDoesNotHelpIsSlowedDown(t *testing.T) {
	a, b := service("a", 1), service("b", 2)
	inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
		began := time.Now()
		var at []time.Duration
		for range 6 {
			call := v.only().next(v.t)
			at = append(at, time.Since(began))
			call.send(v.t, welcomeWith(registryv1.Mode_MODE_FULL), wholeView(3, a)[0], proof(3, b))
			call.gone(v.t)
		}
		want := []time.Duration{0, 0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond}
		if !slices.Equal(at, want) {
			v.t.Errorf("full copies were asked for at %v, want %v", at, want)
		}
		mustHold(v.t, v.mirror, 3, "a")
	})
}

func TestAResumeThatNobodyAskedForIsRefused(t *testing.T) {
	inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
		call := v.only().next(v.t)
		call.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME))
		call.gone(v.t)
		if got := v.recorder.count("refused welcome"); got != 1 {
			v.t.Errorf("observer saw %q, want one refused welcome", v.recorder.all())
		}
		v.settle()
		if got := v.log.lines("Hello had no position"); len(got) != 1 {
			v.t.Errorf("%d log lines that say why, want 1; log:\n%s", len(got), v.log)
		}
	})
}

func TestFailover(t *testing.T) {
	a := service("a", 1)
	tests := []struct {
		name string
		// fault happens to the syncer that is followed.
		fault func(v *virtual, address string, c *call)
		// after is when another stream comes, same whether to the same syncer.
		after time.Duration
		same  bool
		cause Cause
	}{
		{"a syncer that restarts is called again", func(_ *virtual, _ string, c *call) {
			c.end <- errShutdown
		}, 0, true, CauseUnavailable},
		{"a syncer that ends the stream is called again", func(_ *virtual, _ string, c *call) {
			c.end <- nil
		}, 0, true, CauseEnded},
		{"a VM that was too slow resumes", func(_ *virtual, _ string, c *call) {
			c.end <- status.Error(codes.Aborted, "too slow")
		}, 0, true, CauseAborted},
		{"a syncer that is gone is left at once", func(v *virtual, address string, c *call) {
			v.lines[address].cut.Store(true)
			c.end <- errShutdown
		}, 0, false, CauseUnavailable},
		{"a syncer that hangs is left after the connect timeout", func(v *virtual, address string, c *call) {
			v.lines[address].stuck.Store(true)
			c.end <- errShutdown
		}, defaultLimits.connect, false, CauseUnavailable},
		{"a syncer that fell silent is not the first to be tried", func(*virtual, string, *call) {
		}, 30 * time.Second, false, CauseSilent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, mirrorAt(t, 3, a), []string{first, second}, func(v *virtual) {
				t := v.t
				address, call := v.next()
				call.send(t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
				time.Sleep(time.Second)
				call.send(t, proof(3, a))
				v.settle()
				began := time.Now()
				test.fault(v, address, call)
				next, again := v.next()
				if got := time.Since(began); got != test.after {
					t.Errorf("the next stream came after %s, want %s", got, test.after)
				}
				if got := next == address; got != test.same {
					t.Errorf("the next stream went to the same syncer: %v, want %v", got, test.same)
				}
				if got := again.hello.GetPosition().GetRevision(); got != 3 {
					t.Errorf("Hello has revision %d, want 3", got)
				}
				if event := fmt.Sprintf("disconnected %s %s", address, test.cause); v.recorder.count(event) != 1 {
					t.Errorf("observer saw %q, want %q", v.recorder.all(), event)
				}
			})
		})
	}
}

func TestPrefersTheLastGoodSyncer(t *testing.T) {
	a := service("a", 1)
	inVirtualTime(t, mirrorAt(t, 3, a), []string{first, second}, func(v *virtual) {
		inStep := func(c *call) {
			c.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
			time.Sleep(time.Second)
		}
		address, call := v.next()
		inStep(call)
		v.lines[address].cut.Store(true)
		call.end <- errShutdown
		good, call := v.next()
		if good != other(address) {
			v.t.Fatalf("the second stream went to %s, want %s", good, other(address))
		}
		v.lines[address].cut.Store(false)
		inStep(call)
		for range 16 {
			call.end <- errShutdown
			var next string
			if next, call = v.next(); next != good {
				v.t.Fatalf("a stream went to %s, want the last good %s", next, good)
			}
			inStep(call)
		}
	})
}

func TestBackoff(t *testing.T) {
	a := service("a", 1)
	t.Run("doubles up to the cap, one dial each time", func(t *testing.T) {
		inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
			call := v.only().next(v.t)
			v.line().cut.Store(true)
			began := time.Now()
			call.end <- errShutdown
			for i, milliseconds := range []int{250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000} {
				ceiling := time.Duration(milliseconds) * time.Millisecond
				v.settle()
				if got, want := v.line().dials.Load(), int64(i+1); got != want {
					v.t.Fatalf("%d dials after %s, want %d", got, time.Since(began), want)
				}
				time.Sleep(ceiling - time.Nanosecond)
				v.settle()
				if got, want := v.line().dials.Load(), int64(i+1); got != want {
					v.t.Fatalf("%d dials after %s, want %d", got, time.Since(began), want)
				}
				time.Sleep(time.Nanosecond)
			}
			lines := v.log.lines("level=WARN", "cannot follow syncer", "address="+first)
			if most := int(time.Since(began)/time.Minute) + 1; len(lines) == 0 || len(lines) > most {
				v.t.Fatalf("%d log lines in %s, want 1 to %d; log:\n%s", len(lines), time.Since(began), most, v.log)
			}
			if lines := v.log.lines("connection refused", "not_logged_since=7"); len(lines) != 1 {
				v.t.Errorf("%d log lines that name the cause and count what went unsaid, want 1; log:\n%s", len(lines), v.log)
			}
		})
	})
	t.Run("begins anew after a steady stream", func(t *testing.T) {
		inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
			v.line().cut.Store(true)
			time.Sleep(time.Minute)
			v.line().cut.Store(false)
			call := v.only().next(v.t)
			call.sync(v.t, 3, a)
			time.Sleep(31 * time.Second / 2)
			call.send(v.t, proof(3, a))
			time.Sleep(31 * time.Second / 2)
			v.line().cut.Store(true)
			dials := v.line().dials.Load()
			call.end <- errShutdown
			time.Sleep(250 * time.Millisecond)
			v.settle()
			if got := v.line().dials.Load() - dials; got != 2 {
				v.t.Errorf("%d dials within 250ms, want 2", got)
			}
		})
	})
	t.Run("slows down streams that come into step and end at once", func(t *testing.T) {
		inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
			began := time.Now()
			var at []time.Duration
			for range 5 {
				call := v.only().next(v.t)
				at = append(at, time.Since(began))
				call.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
				v.settle()
				call.end <- errShutdown
			}
			want := []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, 1750 * time.Millisecond, 3750 * time.Millisecond}
			if !slices.Equal(at, want) {
				v.t.Errorf("streams came at %v, want %v", at, want)
			}
		})
	})
}

func TestRetryHint(t *testing.T) {
	withRetryInfo := func(delay time.Duration) func(*call) {
		return func(c *call) {
			said, err := status.New(codes.ResourceExhausted, "too many initial syncs").WithDetails(
				&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
			if err != nil {
				panic(err)
			}
			c.end <- said.Err()
		}
	}
	withTrailer := func(value string) func(*call) {
		return func(c *call) {
			c.stream.SetTrailer(metadata.Pairs("retry-after", value))
			c.end <- errShutdown
		}
	}
	tests := []struct {
		name string
		end  func(*call)
		want time.Duration
	}{
		{"RetryInfo", withRetryInfo(5 * time.Second), 5 * time.Second},
		{"RetryInfo beyond the cap", withRetryInfo(time.Hour), defaultLimits.hintCap},
		{"RetryInfo below zero", withRetryInfo(-time.Hour), defaultLimits.retryBase},
		{"retry-after", withTrailer("7"), 7 * time.Second},
		{"retry-after that is no number", withTrailer("soon"), defaultLimits.retryBase},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
				call := v.only().next(v.t)
				began := time.Now()
				test.end(call)
				v.next()
				if got := time.Since(began); got != test.want {
					v.t.Errorf("the next stream came after %s, want %s", got, test.want)
				}
			})
		})
	}
	t.Run("holds only the syncer that gave it", func(t *testing.T) {
		inVirtualTime(t, newMirror(), []string{first, second}, func(v *virtual) {
			address, call := v.next()
			began := time.Now()
			withRetryInfo(10 * time.Second)(call)
			for range 3 {
				next, call := v.next()
				if next == address {
					v.t.Fatalf("%s was called again after %s", address, time.Since(began))
				}
				call.end <- errShutdown
			}
		})
	})
}

func TestPatience(t *testing.T) {
	a := service("a", 1)
	tests := []struct {
		name  string
		play  func(v *virtual)
		want  time.Duration
		event string
	}{
		{"no connection", func(v *virtual) {
			call := v.only().next(v.t)
			v.line().stuck.Store(true)
			call.end <- errShutdown
			// The backoff's first delay.
			time.Sleep(defaultLimits.retryBase)
		}, 10 * time.Second, "connect failed " + first + " timeout"},
		{"no Welcome", func(v *virtual) {
			v.only().next(v.t)
		}, 30 * time.Second, "connect failed " + first + " timeout"},
		{"no word after Welcome", func(v *virtual) {
			v.only().next(v.t).send(v.t, welcomeWith(registryv1.Mode_MODE_FULL))
		}, 30 * time.Second, "disconnected " + first + " silent"},
		{"no heartbeat for three intervals", func(v *virtual) {
			v.only().next(v.t).sync(v.t, 3, a)
		}, 30 * time.Second, "disconnected " + first + " silent"},
		{"no heartbeat where Welcome names no interval", func(v *virtual) {
			v.only().next(v.t).send(v.t, welcomeOf(&registryv1.Welcome{
				Mode: registryv1.Mode_MODE_FULL, Generation: generation, View: view, ClusterDomain: domain,
			}))
		}, 30 * time.Second, "disconnected " + first + " silent"},
		{"an interval too long to wait for", func(v *virtual) {
			v.only().next(v.t).send(v.t, welcomeOf(&registryv1.Welcome{
				Mode: registryv1.Mode_MODE_FULL, Generation: generation, View: view, ClusterDomain: domain, HeartbeatIntervalMillis: 1 << 31,
			}))
		}, 3 * time.Minute, "disconnected " + first + " silent"},
		{"a half-open connection is found by keepalive", func(v *virtual) {
			v.only().next(v.t).send(v.t, welcomeOf(&registryv1.Welcome{
				Mode: registryv1.Mode_MODE_FULL, Generation: generation, View: view, ClusterDomain: domain, HeartbeatIntervalMillis: 60_000,
			}))
			v.settle()
			v.line().last.Load().frozen.Store(true)
		}, 30 * time.Second, "disconnected " + first + " silent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
				test.play(v)
				v.settle()
				time.Sleep(test.want - time.Nanosecond)
				v.settle()
				if got := v.recorder.count(test.event); got != 0 {
					v.t.Fatalf("observer saw %q just before %s", test.event, test.want)
				}
				time.Sleep(time.Nanosecond)
				v.settle()
				if got := v.recorder.count(test.event); got != 1 {
					v.t.Errorf("observer saw %q after %s, want %q", v.recorder.all(), test.want, test.event)
				}
			})
		})
	}
}

func TestRunEndsAtOnce(t *testing.T) {
	a := service("a", 1)
	tests := []struct {
		name  string
		reach func(v *virtual)
	}{
		{"while connecting", func(v *virtual) {
			call := v.only().next(v.t)
			v.line().stuck.Store(true)
			call.end <- errShutdown
			time.Sleep(time.Second)
		}},
		{"while waiting for Welcome", func(v *virtual) { v.only().next(v.t) }},
		{"between frames", func(v *virtual) {
			v.only().next(v.t).send(v.t, welcomeWith(registryv1.Mode_MODE_FULL), wholeView(3, a, a)[0])
		}},
		{"while in step", func(v *virtual) { v.only().next(v.t).sync(v.t, 3, a) }},
		{"while backing off", func(v *virtual) {
			call := v.only().next(v.t)
			v.line().cut.Store(true)
			call.end <- errShutdown
			time.Sleep(time.Minute)
		}},
		{"on a half-open connection", func(v *virtual) {
			v.only().next(v.t).sync(v.t, 3, a)
			v.settle()
			v.line().last.Load().frozen.Store(true)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
				test.reach(v)
				v.settle()
				began := time.Now()
				v.stop()
				err := <-v.ended
				if got := time.Since(began); got != 0 {
					v.t.Errorf("Run took %s to end, want no time", got)
				}
				v.ended <- err
			})
		})
	}
}

func TestRunWaitsForADialToEnd(t *testing.T) {
	inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
		call := v.only().next(v.t)
		v.line().linger.Store(int64(time.Second))
		v.line().stuck.Store(true)
		call.end <- errShutdown
		time.Sleep(time.Second)
		v.stop()
		err := <-v.ended
		if got := v.line().hanging.Load(); got != 0 {
			v.t.Errorf("Run returned with %d dials under way", got)
		}
		v.ended <- err
	})
}

func TestRunRunsOnce(t *testing.T) {
	inVirtualTime(t, newMirror(), []string{first}, func(v *virtual) {
		v.settle()
		if err := v.client.Run(v.t.Context()); err == nil || !strings.Contains(err.Error(), "already running") {
			v.t.Errorf("second Run returned %v, want that it is already running", err)
		}
	})
}
