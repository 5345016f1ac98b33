package source

import (
	"iter"
	"maps"
	"slices"
)

// label is one label with its value.
type label struct{ key, value string }

// byLabel is names of objects by their labels.
type byLabel map[label]map[string]bool

func (b byLabel) add(at label, name string) {
	if b[at] == nil {
		b[at] = map[string]bool{}
	}
	b[at][name] = true
}

func (b byLabel) remove(at label, name string) {
	if delete(b[at], name); len(b[at]) == 0 {
		delete(b, at)
	}
}

// workloads are by name, and found by a selector without looking at all of them. The zero value is for
// reading.
type workloads struct {
	named    map[string]*workload
	labelled byLabel
}

func newWorkloads() workloads { return workloads{map[string]*workload{}, byLabel{}} }

// put makes a workload known by a name, or nil forgotten.
func (w workloads) put(name string, is *workload) {
	if was := w.named[name]; was != nil {
		for key, value := range was.labels {
			w.labelled.remove(label{key, value}, name)
		}
	}
	if is == nil {
		delete(w.named, name)
		return
	}
	w.named[name] = is
	for key, value := range is.labels {
		w.labelled.add(label{key, value}, name)
	}
}

// selectedBy is the workloads that a selector selects, in no order. It looks at those that have the rarest of
// the selector's labels.
func (w workloads) selectedBy(selector map[string]string) iter.Seq2[string, *workload] {
	return func(yield func(string, *workload) bool) {
		var fewest map[string]bool
		for key, value := range selector {
			if have := w.labelled[label{key, value}]; fewest == nil || len(have) < len(fewest) {
				if fewest = have; len(have) == 0 {
					return
				}
			}
		}
		for name := range fewest {
			if is := w.named[name]; is.selectedBy(selector) && !yield(name, is) {
				return
			}
		}
	}
}

// workloadSelector is an object that selects workloads, or a nil pointer, which selects none.
type workloadSelector[S any] interface {
	comparable
	selector() map[string]string
	equal(S) bool
}

// selectors are objects that select workloads, by name, and found by the labels of a workload without looking
// at all of them. The zero value is for reading.
type selectors[S workloadSelector[S]] struct {
	named map[string]S
	// labelled has each at one of its labels.
	labelled byLabel
}

func newSelectors[S workloadSelector[S]]() selectors[S] {
	return selectors[S]{map[string]S{}, byLabel{}}
}

// put makes an object known by a name, or nil forgotten. It returns what was known, and whether that differs.
func (s selectors[S]) put(name string, is S) (was S, changed bool) {
	var none S
	was = s.named[name]
	if was.equal(is) {
		return was, false
	}
	if was != none {
		s.labelled.remove(firstLabel(was.selector()), name)
		delete(s.named, name)
	}
	if is != none {
		s.named[name] = is
		s.labelled.add(firstLabel(is.selector()), name)
	}
	return was, true
}

// firstLabel is the first label of a selector that has some.
func firstLabel(selector map[string]string) label {
	key := slices.Min(slices.Collect(maps.Keys(selector)))
	return label{key, selector[key]}
}

// selecting is the names of the objects that select a workload, which may be nil, in order.
func (s selectors[S]) selecting(w *workload) []string {
	if w == nil {
		return nil
	}
	var names []string
	for key, value := range w.labels {
		for name := range s.labelled[label{key, value}] {
			if w.selectedBy(s.named[name].selector()) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
