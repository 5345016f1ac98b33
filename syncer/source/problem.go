package source

import (
	"fmt"

	"github.com/meshvm/meshvm/syncer/registry"
)

// Effect is what becomes of an object with a problem.
type Effect int

const (
	// Rejected means that nothing of the object's present state is taken. What it was before stays, if it
	// was anything.
	Rejected Effect = iota
	// Partial means that what the problem names is left out, the rest of the object is served.
	Partial
	// Nameless means that the object's present state is taken but makes no name.
	Nameless
	// Served means that the object is served as it is, but it is unlikely to be what its author wants.
	Served
)

// String says the effect in words.
func (e Effect) String() string {
	switch e {
	case Rejected:
		return "rejected, its last good state stays"
	case Partial:
		return "left out, the rest is served"
	case Nameless:
		return "there is no such name"
	default:
		return "served as it is"
	}
}

// Problem is one thing that is wrong with one object. It never concerns another object.
type Problem struct {
	Object registry.Object
	// Field is the path within the object: `spec.hosts[1]`.
	Field string
	// What is wrong, with the offending value, and what is expected instead.
	What, Want string
	Effect     Effect
}

// Error names the object, the field, what is wrong and what is expected.
func (p Problem) Error() string {
	return fmt.Sprintf("%s: %s: %s, want %s", p.Object, p.Field, p.What, p.Want)
}

// Problems are the present problems of many objects. The zero value has none. It is not safe for
// concurrent use.
type Problems struct {
	byObject map[registry.Object][]Problem
	count    int
}

// Replace makes found the only problems of the object and returns those that it did not have
// before: what is worth a log line.
func (p *Problems) Replace(object registry.Object, found []Problem) []Problem {
	if p.byObject == nil {
		p.byObject = map[registry.Object][]Problem{}
	}
	before := p.byObject[object]
	p.count += len(found) - len(before)
	if len(found) == 0 {
		delete(p.byObject, object)
		return nil
	}
	p.byObject[object] = found
	known := make(map[Problem]bool, len(before))
	for _, problem := range before {
		known[problem] = true
	}
	var fresh []Problem
	for _, problem := range found {
		if !known[problem] {
			fresh = append(fresh, problem)
		}
	}
	return fresh
}

// Len is the number of present problems.
func (p *Problems) Len() int { return p.count }
