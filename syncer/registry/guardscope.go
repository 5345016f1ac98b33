package registry

import (
	"iter"
	"time"
)

// scopeName is a part of what a source has: the resources of a kind that one class of watchers sees.
type scopeName struct {
	kind string
	// class is everyone, anyone, or the name of a namespace.
	class string
}

const (
	everyone = "*" // what every namespace sees
	anyone   = ""  // what any namespace sees: all
)

// visibility is the class for people.
func (n scopeName) visibility() string {
	if n.class == anyone {
		return "any"
	}
	return n.class
}

// scopeNames are the scopes that a resource of this kind and visibility is in.
func scopeNames(kind string, visibility Visibility) iter.Seq[scopeName] {
	return func(yield func(scopeName) bool) {
		switch {
		case visibility.public:
			_ = yield(scopeName{kind, anyone}) && yield(scopeName{kind, everyone})
		case len(visibility.namespaces) > 0 && yield(scopeName{kind, anyone}):
			for _, namespace := range visibility.namespaces {
				if !yield(scopeName{kind, namespace}) {
					return
				}
			}
		}
	}
}

// scope counts the resources of a part.
type scope struct {
	name scopeName
	// live is how many there are by the source's word, and held how many there are beside those.
	live, held int
	dirty      bool
	// meant is how many went in this batch and are no loss.
	meant int

	// settled is live when the latest batch ended, and levels are what it was before that, the earliest
	// first. Each is lower than the one before: a level that was reached again later says nothing.
	settled int
	levels  []level

	// exceeded says that the scope was found to lose too much when last something vanished.
	exceeded bool
	// base is how many there were before those that are held vanished. Zero: none is held for this scope.
	base int
}

// level is how many resources there were until a batch.
type level struct {
	resources int
	until     time.Time
	batch     uint64
}

// peak is the most resources that there were at any time since start, and the batch that ended
// that. Without one it was never more than it is.
func (s *scope) peak(start time.Time) (resources int, until uint64) {
	for len(s.levels) > 0 && s.levels[0].until.Before(start) {
		s.levels = s.levels[1:]
	}
	if len(s.levels) > 0 && s.levels[0].resources > s.settled {
		return s.levels[0].resources, s.levels[0].batch
	}
	// Only the batch that is about to be applied takes away from that.
	return s.settled, ^uint64(0)
}

// settle notes what a batch has done. Levels that ended before start are forgotten.
func (s *scope) settle(now time.Time, batch uint64, start time.Time) {
	s.dirty = false
	s.forgo()
	if s.held == 0 {
		s.base = 0
	}
	if s.live < s.settled {
		s.drop(s.settled)
		s.levels = append(s.levels, level{s.settled, now, batch})
	} else {
		s.drop(s.live)
	}
	s.settled = s.live
	s.peak(start)
}

// forgo makes the scope one that never had what went and is no loss.
func (s *scope) forgo() {
	if s.meant == 0 {
		return
	}
	s.settled -= s.meant
	for i := range s.levels {
		s.levels[i].resources -= s.meant
	}
	if s.base > 0 {
		s.base = max(1, s.base-s.meant)
	}
	s.meant = 0
}

// drop forgets the levels that are no higher than one that came after them.
func (s *scope) drop(resources int) {
	for len(s.levels) > 0 && s.levels[len(s.levels)-1].resources <= resources {
		s.levels = s.levels[:len(s.levels)-1]
	}
}

// replaced reports whether there are as many again as before some vanished.
func (s *scope) replaced() bool { return s.base > 0 && s.held > 0 && s.live >= s.base }
