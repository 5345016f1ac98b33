package mirror

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Change takes a mirror from one revision of its view to another.
type Change struct {
	// Generation, View and ClusterDomain are as the syncer's Welcome says. Only a Replace may change
	// them, and a Compared the generation.
	Generation, View, ClusterDomain string
	// From is the revision that the mirror must be at; it is not looked at with Replace or Compared. To is
	// the revision that it is at afterwards.
	From, To uint64
	// Replace empties the mirror first: Upserts are the whole view.
	Replace bool
	// Compared is the position that the mirror was at when it was compared with the syncer's view, and
	// must be at still: Upserts and Removals are what was found to differ. Nil: they follow on from From.
	Compared *registryv1.Position
	// Upserts are new or changed resources. The mirror keeps their bodies: do not modify them after.
	Upserts []*registryv1.Resource
	// Removals are the keys of resources that are gone. An unknown one is an error: it means that the
	// two ends differ.
	Removals []string
}

// ErrPosition says that a change does not follow on from where the mirror is. The two ends differ: take
// a Replace.
var ErrPosition = errors.New("the change does not follow on from the mirror's position")

// Apply applies a change as a whole. The new State is visible when Apply returns; until then the old one
// is, also during a Replace. On an error nothing has changed; it wraps ErrPosition or names the resource
// that is at fault.
func (m *Mirror) Apply(c Change) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	next, err := m.State().apply(c, m)
	if err != nil {
		return fmt.Errorf("apply change to revision %d: %w", c.To, err)
	}
	m.publish(next)
	return nil
}

func (s *State) apply(c Change, m *Mirror) (*State, error) {
	if err := s.follows(c); err != nil {
		return nil, err
	}
	base := s
	if c.Replace {
		base = emptyState(s.namespace, s.ttls)
		base.clusterDomain, base.view = c.ClusterDomain, c.View
	}
	next, err := base.changed(c)
	if err != nil {
		return nil, err
	}
	next.loaded = true
	next.generation, next.revision = c.Generation, c.To
	next.serial = s.serial
	if !s.sameZone(next) {
		next.serial = nextSerial(s.serial, m.now())
	}
	return next, nil
}

// changed is the State with the upserts and without the removals of a change.
func (s *State) changed(c Change) (*State, error) {
	if err := checkKeys(c.Upserts, c.Removals); err != nil {
		return nil, err
	}
	if s.Resources() == 0 && len(c.Removals) == 0 {
		return fill(s, content{len(c.Upserts), func(i int, to []byte) ([]byte, int) {
			r := c.Upserts[i]
			return append(append(to, r.GetKey()...), r.GetBody()...), len(r.GetKey())
		}})
	}
	edit := begin(s)
	if err := edit.change(c.Upserts, c.Removals); err != nil {
		return nil, err
	}
	return edit.finish()
}

// follows reports why a change cannot be applied to the State, whatever it holds.
func (s *State) follows(c Change) error {
	switch {
	case c.Generation == "":
		return errors.New("the change names no generation")
	case c.Replace:
		if err := registryv1.CheckName(c.ClusterDomain); err != nil {
			return fmt.Errorf("cluster domain %s: %w", quote(c.ClusterDomain), err)
		}
		return nil
	case !s.loaded:
		return fmt.Errorf("%w: it is from revision %d, and the mirror holds nothing", ErrPosition, c.From)
	case c.Compared == nil && c.Generation != s.generation:
		return fmt.Errorf("%w: it is of generation %s, and the mirror is at %s", ErrPosition, quote(c.Generation), quote(s.generation))
	case c.View != s.view:
		return fmt.Errorf("%w: it is of the view of %s, and the mirror is of %s", ErrPosition, quote(c.View), quote(s.view))
	case c.ClusterDomain != s.clusterDomain:
		return fmt.Errorf("%w: its cluster domain is %s, and the mirror's is %s", ErrPosition, quote(c.ClusterDomain), quote(s.clusterDomain))
	case c.Compared != nil:
		if at := s.Position(); !proto.Equal(c.Compared, at) {
			return fmt.Errorf("%w: it was compared at %s, and is at %s", ErrPosition, point(c.Compared), point(at))
		}
		return nil
	case c.From != s.revision:
		return fmt.Errorf("%w: it is from revision %d, and the mirror is at %d", ErrPosition, c.From, s.revision)
	case c.To < c.From:
		return fmt.Errorf("%w: it goes back from revision %d to %d", ErrPosition, c.From, c.To)
	}
	return nil
}

// point names a position.
func point(p *registryv1.Position) string {
	return fmt.Sprintf("revision %d of generation %s", p.GetRevision(), quote(p.GetGeneration()))
}

// sameZone reports whether both States answer the same, so that a zone made of them need not be
// transferred again.
func (s *State) sameZone(other *State) bool {
	return s.loaded && s.digest == other.digest && s.Resources() == other.Resources() &&
		s.clusterDomain == other.clusterDomain && s.view == other.view
}
