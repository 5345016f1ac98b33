package watch

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

func TestStaging(t *testing.T) {
	early, late := timestamppb.New(time.Unix(100, 0)), timestamppb.New(time.Unix(200, 0))
	resource := func(key string) *registryv1.Resource {
		return &registryv1.Resource{Key: key, Body: []byte("body")}
	}
	tests := []struct {
		name   string
		frames []*registryv1.Delta
		// whole is what the last frame yields; nil: nothing.
		whole  *Applied
		reason Reason
	}{
		{"one frame is whole", []*registryv1.Delta{
			{FromRevision: 1, ToRevision: 2, Upserts: []*registryv1.Resource{resource("a")}, Removals: []string{"bc"}},
		}, &Applied{Frames: 1, Bytes: 7, Upserts: 1, Removals: 1}, ""},
		{"an empty delta moves the revision on", []*registryv1.Delta{{FromRevision: 1, ToRevision: 2}}, &Applied{Frames: 1}, ""},
		{"more frames are due", []*registryv1.Delta{{FromRevision: 1, ToRevision: 2, More: true}}, nil, ""},
		{"frames add up, and the oldest change counts", []*registryv1.Delta{
			{ToRevision: 2, Replace: true, Upserts: []*registryv1.Resource{resource("a")}, ObservedAt: late, More: true},
			{ToRevision: 2, Replace: true, Upserts: []*registryv1.Resource{resource("b")}, ObservedAt: early, More: true},
			{ToRevision: 2, Replace: true},
		}, &Applied{Frames: 3, Bytes: 10, Upserts: 2, Replace: true, ObservedAt: early.AsTime()}, ""},
		{"a time that is none is left out", []*registryv1.Delta{
			{ToRevision: 2, ObservedAt: &timestamppb.Timestamp{Nanos: -1}},
		}, &Applied{Frames: 1}, ""},
		{"another revision begins too early", []*registryv1.Delta{{FromRevision: 1, ToRevision: 2, More: true}, {FromRevision: 1, ToRevision: 3}}, nil, ReasonFrames},
		{"another start", []*registryv1.Delta{{FromRevision: 1, ToRevision: 3, More: true}, {FromRevision: 2, ToRevision: 3}}, nil, ReasonFrames},
		{"a whole view within a difference", []*registryv1.Delta{{ToRevision: 3, More: true}, {ToRevision: 3, Replace: true}}, nil, ReasonFrames},
		{"revisions that go back", []*registryv1.Delta{{FromRevision: 3, ToRevision: 2}}, nil, ReasonFrames},
		{"more bytes than may be held", []*registryv1.Delta{{ToRevision: 2, Removals: []string{string(make([]byte, 1024))}}}, nil, ReasonSize},
		{"more entries than may be held", []*registryv1.Delta{{ToRevision: 2, Removals: make([]string, 1024/entryOverhead)}}, nil, ReasonSize},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := staging{limit: 1024}
			var whole *staged
			var err error
			for i, frame := range test.frames {
				if whole, err = s.add(frame); i < len(test.frames)-1 && (err != nil || whole != nil) {
					t.Fatalf("frame %d: got %v and error %v, want more to come", i+1, whole, err)
				}
			}
			refused, got := errors.AsType[*refusal](err)
			if got != (test.reason != "") || got && refused.reason != test.reason {
				t.Fatalf("error is %v, want reason %q", err, test.reason)
			}
			if (whole != nil) != (test.whole != nil) {
				t.Fatalf("delta is %v, want %v", whole, test.whole)
			}
			if whole != nil {
				got := Applied{
					Frames: whole.frames, Bytes: whole.bytes, Upserts: len(whole.change.Upserts), Removals: len(whole.change.Removals),
					Replace: whole.change.Replace, ObservedAt: whole.observedAt,
				}
				if got != *test.whole {
					t.Errorf("delta is %+v, want %+v", got, *test.whole)
				}
			}
			last := test.frames[len(test.frames)-1]
			if got, want := s.pending(), err == nil && last.GetMore(); got != want {
				t.Errorf("frames are pending: %v, want %v", got, want)
			}
		})
	}
}

func TestAppliedDelay(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		name  string
		delta Applied
		want  time.Duration
		known bool
	}{
		{"initial state", Applied{AppliedAt: now}, 0, false},
		{"a change", Applied{ObservedAt: now.Add(-time.Second), AppliedAt: now}, time.Second, true},
		{"a syncer that names the year 1970", Applied{ObservedAt: time.Unix(1, 0), AppliedAt: time.Unix(1<<31, 0)}, 0, false},
		{"clocks apart", Applied{ObservedAt: now.Add(time.Second), AppliedAt: now}, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, known := test.delta.Delay(); got != test.want || known != test.known {
				t.Errorf("Delay is %s, %v, want %s, %v", got, known, test.want, test.known)
			}
		})
	}
}

// FuzzSession plays arbitrary conversations. Whatever comes, the mirror holds just what the last whole
// delta that was accepted made of it.
func FuzzSession(f *testing.F) {
	a, b := service("a", 1), service("b", 2)
	conversation := func(messages ...*registryv1.WatchResponse) []byte {
		var encoded bytes.Buffer
		for _, message := range messages {
			if _, err := protodelim.MarshalTo(&encoded, message); err != nil {
				f.Fatal(err)
			}
		}
		return encoded.Bytes()
	}
	full, resume := welcomeWith(registryv1.Mode_MODE_FULL), welcomeWith(registryv1.Mode_MODE_RESUME)
	f.Add(conversation(append(append([]*registryv1.WatchResponse{full}, wholeView(5, a, b)...), proof(5, a, b), step(5, a))...))
	f.Add(conversation(resume, proof(1, a), step(1, b), proof(2, a, b)))
	f.Add(conversation(resume, deltaOf(&registryv1.Delta{FromRevision: 1, ToRevision: 2, Upserts: []*registryv1.Resource{b, b}, Removals: []string{a.GetKey()}})))
	f.Add(conversation(resume, deltaOf(&registryv1.Delta{FromRevision: 1, ToRevision: 2, More: true}), proof(1, a)))
	f.Add(conversation(full, wholeView(5, a, b)[0], full))
	f.Add(conversation(step(1, b)))
	f.Add(conversation(compareWith(0), outcome(7), proof(7, a), step(7, b)))
	f.Add(conversation(compareWith(4), differingBuckets(0, 1, 2, 3), outcome(7, b), proof(7, a, b)))
	f.Add(conversation(compareWith(1), differingBuckets(0), deltaOf(&registryv1.Delta{
		ToRevision: 2, Upserts: []*registryv1.Resource{b}, RemovedPlaces: []uint32{0},
	}), proof(2, b)))
	f.Add(conversation(compareWith(2), wholeView(5, a, b)[0], differingBuckets()))

	f.Fuzz(func(t *testing.T, encoded []byte) {
		m := mirrorAt(t, 1, a)
		s := newSession(m, Ignore{}, trustPosition, 1<<20)
		held := map[string][]byte{a.GetKey(): a.GetBody()}
		var frames []*registryv1.Delta
		for input := bytes.NewReader(encoded); ; {
			message := &registryv1.WatchResponse{}
			if err := (protodelim.UnmarshalOptions{MaxSize: 1 << 20}).UnmarshalFrom(input, message); err != nil {
				break
			}
			before := m.State()
			acknowledge, err := s.receive(message)
			if err != nil {
				if m.State() != before {
					t.Fatal("a message that was refused has changed the mirror")
				}
				refused, _ := errors.AsType[*refusal](err)
				if absurd := refused != nil && refused.absurd(); absurd != (s.trust == trustPosition) {
					t.Fatalf("the mirror is trusted: %v after %v, want only after an absurd resource", s.trust == trustPosition, err)
				}
				break
			}
			if frame := message.GetDelta(); frame != nil && s.welcome != nil {
				frames = append(frames, frame)
				if !frame.GetMore() {
					if !acknowledge || m.State().Position().GetRevision() != frame.GetToRevision() {
						t.Fatalf("mirror is at %v after a whole delta to revision %d", m.State().Position(), frame.GetToRevision())
					}
					take(held, frames)
					frames = nil
				}
			}
			if got, want := s.staging.pending(), len(frames) > 0; got != want {
				t.Fatalf("frames are pending: %v, want %v", got, want)
			}
			if err := differs(m.State(), heartbeatFor(m.State().Position().GetRevision(), held)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// take applies the frames of a delta to a plain map.
func take(held map[string][]byte, frames []*registryv1.Delta) {
	if frames[0].GetReplace() {
		clear(held)
	}
	for _, frame := range frames {
		for _, resource := range frame.GetUpserts() {
			held[resource.GetKey()] = resource.GetBody()
		}
	}
	for _, frame := range frames {
		for _, key := range frame.GetRemovals() {
			delete(held, key)
		}
		// All that can have been listed is what the mirror began with.
		if only := service("a", 1).GetKey(); len(frame.GetRemovedPlaces()) > 0 && !slices.ContainsFunc(frames, func(f *registryv1.Delta) bool {
			return slices.ContainsFunc(f.GetUpserts(), func(r *registryv1.Resource) bool { return r.GetKey() == only })
		}) {
			delete(held, only)
		}
	}
}

func heartbeatFor(revision uint64, held map[string][]byte) *registryv1.Heartbeat {
	var digest registryv1.Digest
	for key, body := range held {
		digest.Add(registryv1.DigestResource(key, body))
	}
	return &registryv1.Heartbeat{Revision: revision, Digest: uint64(digest), Resources: uint64(len(held))}
}
