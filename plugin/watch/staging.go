package watch

import (
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// entryOverhead is about what a resource or a removal costs in memory beyond its own bytes.
const entryOverhead = 64

// staging gathers the frames of one delta until the last.
type staging struct {
	// limit bounds what is held, in bytes.
	limit int

	change mirror.Change
	// removed are resources that are gone or changed, in the outcome of a Compare, by their places in the list.
	removed []uint32
	frames  int
	// bytes is the size of keys, bodies and places.
	bytes      int
	observedAt time.Time
}

// staged is a whole delta.
type staged struct {
	change        mirror.Change
	removed       []uint32
	frames, bytes int
	observedAt    time.Time
}

// pending reports whether more frames are due.
func (s *staging) pending() bool { return s.frames > 0 }

// add takes a frame. It returns the delta when this was its last frame, and else nil. Every frame of a
// delta names the same revisions. After an error nothing is held.
func (s *staging) add(frame *registryv1.Delta) (*staged, error) {
	if err := s.take(frame); err != nil {
		s.clear()
		return nil, err
	}
	if frame.GetMore() {
		return nil, nil
	}
	whole := &staged{change: s.change, removed: s.removed, frames: s.frames, bytes: s.bytes, observedAt: s.observedAt}
	s.clear()
	return whole, nil
}

func (s *staging) take(frame *registryv1.Delta) error {
	if !s.pending() {
		s.change.From, s.change.To, s.change.Replace = frame.GetFromRevision(), frame.GetToRevision(), frame.GetReplace()
		if s.change.To < s.change.From {
			return refuse(ReasonFrames, "delta goes back from revision %d to %d", s.change.From, s.change.To)
		}
	}
	if frame.GetFromRevision() != s.change.From || frame.GetToRevision() != s.change.To || frame.GetReplace() != s.change.Replace {
		return refuse(ReasonFrames, "frame %d of the delta from revision %d to %d is of another, from %d to %d",
			s.frames+1, s.change.From, s.change.To, frame.GetFromRevision(), frame.GetToRevision())
	}
	s.frames++
	for _, resource := range frame.GetUpserts() {
		s.bytes += len(resource.GetKey()) + len(resource.GetBody())
	}
	for _, key := range frame.GetRemovals() {
		s.bytes += len(key)
	}
	s.bytes += 4 * len(frame.GetRemovedPlaces())
	entries := len(s.change.Upserts) + len(s.change.Removals) + len(frame.GetUpserts()) + len(frame.GetRemovals()) + s.frames
	if held := s.bytes + entries*entryOverhead; held > s.limit {
		return refuse(ReasonSize, "delta to revision %d is over %d bytes by frame %d", s.change.To, s.limit, s.frames)
	}
	s.change.Upserts = append(s.change.Upserts, frame.GetUpserts()...)
	s.change.Removals = append(s.change.Removals, frame.GetRemovals()...)
	s.removed = append(s.removed, frame.GetRemovedPlaces()...)
	if at := frame.GetObservedAt(); at != nil && at.CheckValid() == nil {
		if seen := at.AsTime(); s.observedAt.IsZero() || seen.Before(s.observedAt) {
			s.observedAt = seen
		}
	}
	return nil
}

func (s *staging) clear() { *s = staging{limit: s.limit} }
