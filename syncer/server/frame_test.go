package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// entriesOf are entries as a registry holds them.
func entriesOf(t *testing.T, updates ...registry.Update) []*registry.Entry {
	t.Helper()
	r := registry.New(registry.Options{})
	if err := r.AddSource("test").Apply(time.Now(), updates...); err != nil {
		t.Fatal(err)
	}
	entries := r.Content("prod").Entries
	slices.SortFunc(entries, func(a, b *registry.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

// decodeFrames reads frames as gRPC's protobuf codec would.
func decodeFrames(t *testing.T, d *delta, from uint64) []*registryv1.Delta {
	t.Helper()
	var deltas []*registryv1.Delta
	for _, f := range d.frames {
		buffers, err := newCodec().Marshal(f.message(from))
		if err != nil {
			t.Fatal(err)
		}
		response := &registryv1.WatchResponse{}
		if err := newCodec().Unmarshal(buffers, response); err != nil {
			t.Fatalf("decode a frame: %v", err)
		}
		if len(response.ProtoReflect().GetUnknown())+len(response.GetDelta().ProtoReflect().GetUnknown()) > 0 {
			t.Errorf("unknown fields in %v", response)
		}
		deltas = append(deltas, response.GetDelta())
	}
	return deltas
}

func TestFramesAreWhatProtobufWouldSend(t *testing.T) {
	entries := entriesOf(t, service("prod", "a", "10.0.0.1", registry.Public()), service("prod", "b", "10.0.0.2", registry.VisibleTo("prod")))
	observed := time.Unix(1_700_000_000, 5)
	tests := map[string]struct {
		delta *delta
		from  uint64
		want  *registryv1.Delta
	}{
		"changes": {
			encodeChanges(registry.Changes{From: 4, To: 9, Upserts: entries, Removals: []string{"x", "y"}, ObservedAt: observed}, 1<<20), 4,
			&registryv1.Delta{FromRevision: 4, ToRevision: 9, Removals: []string{"x", "y"}},
		},
		"outcome of a compare": {
			encodeDifference(registry.Changes{To: 9, Upserts: entries, Removals: []string{"x"}}, []uint32{1, 300, 1<<32 - 1}, 1<<20), 0,
			&registryv1.Delta{ToRevision: 9, Removals: []string{"x"}, RemovedPlaces: []uint32{1, 300, 1<<32 - 1}},
		},
		"nothing": {encodeChanges(registry.Changes{From: 4, To: 1 << 40}, 1<<20), 1 << 39, &registryv1.Delta{FromRevision: 1 << 39, ToRevision: 1 << 40}},
		"content": {encodeContent(registry.Content{Revision: 7, Entries: entries}, 1<<20), 0, &registryv1.Delta{ToRevision: 7, Replace: true}},
		"empty":   {encodeContent(registry.Content{}, 1<<20), 0, &registryv1.Delta{Replace: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			frames := decodeFrames(t, test.delta, test.from)
			if len(frames) != 1 {
				t.Fatalf("got %d frames, want 1", len(frames))
			}
			got := frames[0]
			if name == "changes" || name == "content" || name == "outcome of a compare" {
				for _, entry := range entries {
					test.want.Upserts = append(test.want.Upserts, &registryv1.Resource{Key: entry.Key, Body: entry.Body})
				}
			}
			if name == "changes" {
				if !got.GetObservedAt().AsTime().Equal(observed) {
					t.Errorf("observed at %v, want %v", got.GetObservedAt().AsTime(), observed)
				}
				got.ObservedAt = nil
			}
			if !proto.Equal(got, test.want) {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

func TestFramesKeepTheirLimit(t *testing.T) {
	var updates []registry.Update
	for i := range 200 {
		updates = append(updates, service("prod", fmt.Sprintf("s%d-%s", i, strings.Repeat("x", i%50)), "10.0.0.1", registry.Public()))
	}
	entries := entriesOf(t, updates...)
	const slack = 64 // what stands once in each frame
	for _, limit := range []int{1, 200, 1000, 1 << 20} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			frames := decodeFrames(t, encodeContent(registry.Content{Revision: 3, Entries: entries}, limit), 0)
			var keys []string
			for i, frame := range frames {
				if size := proto.Size(frame); size > limit+slack && len(frame.GetUpserts()) > 1 {
					t.Errorf("frame %d has %d bytes and %d resources, limit %d", i, size, len(frame.GetUpserts()), limit)
				}
				if frame.GetMore() != (i < len(frames)-1) || !frame.GetReplace() || frame.GetToRevision() != 3 {
					t.Errorf("frame %d of %d: more %t, replace %t, to %d", i, len(frames), frame.GetMore(), frame.GetReplace(), frame.GetToRevision())
				}
				for _, upsert := range frame.GetUpserts() {
					keys = append(keys, upsert.GetKey())
				}
			}
			if slices.Sort(keys); len(slices.Compact(keys)) != len(entries) {
				t.Errorf("%d resources arrive, want %d", len(keys), len(entries))
			}
		})
	}
}

func TestFieldNumbers(t *testing.T) {
	number := func(message proto.Message, field string) int {
		return int(message.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field)).Number())
	}
	for field, test := range map[string]struct {
		message proto.Message
		got     int
	}{
		"delta":          {&registryv1.WatchResponse{}, int(responseDelta)},
		"from_revision":  {&registryv1.Delta{}, int(deltaFrom)},
		"to_revision":    {&registryv1.Delta{}, int(deltaTo)},
		"upserts":        {&registryv1.Delta{}, int(deltaUpserts)},
		"removals":       {&registryv1.Delta{}, int(deltaRemovals)},
		"replace":        {&registryv1.Delta{}, int(deltaReplace)},
		"more":           {&registryv1.Delta{}, int(deltaMore)},
		"removed_places": {&registryv1.Delta{}, int(deltaRemoved)},
		"observed_at":    {&registryv1.Delta{}, int(deltaObservedAt)},
		"key":            {&registryv1.Resource{}, int(resourceKey)},
		"body":           {&registryv1.Resource{}, int(resourceBody)},
	} {
		if want := number(test.message, field); test.got != want {
			t.Errorf("field %s is written as %d, want %d", field, test.got, want)
		}
	}
}
