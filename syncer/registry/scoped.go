package registry

import (
	"slices"
	"sync"
)

// scoped keeps the sums of the scoped views that are open. A change costs as much as there are scopes that
// import from its namespace.
type scoped struct {
	// unhidden is of the resources that no scope hides.
	unhidden *sums

	// The lists change with Registry.mu held for reading, and with this. They are read with Registry.mu held
	// for writing.
	mu sync.Mutex
	// anywhere are those that import from any namespace, within those that import from one.
	anywhere []*scopedSums
	within   map[string][]*scopedSums
}

func newScoped() *scoped {
	return &scoped{unhidden: newSums(), within: map[string][]*scopedSums{}}
}

// scopedSums is of what one scoped view sees of what a scope can hide.
type scopedSums struct {
	audience
	namespaceSum
}

// open is the sums of a view, from now on kept. Registry.mu is held for reading.
func (s *scoped) open(a audience, entries map[string]*Entry) *scopedSums {
	sums := &scopedSums{audience: a, namespaceSum: namespaceSum{buckets: bucketSums{}}}
	for _, e := range entries {
		if e.destination != nil && a.sees(e.Visibility, e.destination) {
			sums.add(e)
			sums.buckets.add(e)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	namespaces := a.scope.namespaces()
	if namespaces == nil {
		s.anywhere = append(s.anywhere, sums)
	}
	for name := range namespaces {
		s.within[name] = append(s.within[name], sums)
	}
	return sums
}

// close ends open. Registry.mu is held for reading.
func (s *scoped) close(sums *scopedSums) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := func(other *scopedSums) bool { return other == sums }
	s.anywhere = slices.DeleteFunc(s.anywhere, same)
	for name := range sums.scope.namespaces() {
		if s.within[name] = slices.DeleteFunc(s.within[name], same); len(s.within[name]) == 0 {
			delete(s.within, name)
		}
	}
}

// add and remove follow one entry. Registry.mu is held for writing.
func (s *scoped) add(e *Entry) {
	if e.destination == nil {
		s.unhidden.add(e)
		return
	}
	for sums := range s.concerned(e) {
		sums.add(e)
		sums.buckets.add(e)
	}
}

func (s *scoped) remove(e *Entry) {
	if e.destination == nil {
		s.unhidden.remove(e)
		return
	}
	for sums := range s.concerned(e) {
		sums.remove(e)
		sums.buckets.remove(e)
	}
}

// concerned are the open views that see an entry.
func (s *scoped) concerned(e *Entry) func(yield func(*scopedSums) bool) {
	return func(yield func(*scopedSums) bool) {
		for _, list := range [...][]*scopedSums{s.anywhere, s.within[e.destination.namespace]} {
			for _, sums := range list {
				if sums.sees(e.Visibility, e.destination) && !yield(sums) {
					return
				}
			}
		}
	}
}
