package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/syncer/registry"
)

// claim is one file's word on an object.
type claim struct {
	file   string
	object object
}

func (c claim) at() string { return fmt.Sprintf("%s:%d", c.file, c.object.line) }

// claims are the objects of all files. The first file by name has the say.
type claims struct {
	cluster  string
	byObject map[registry.Object][]claim
	byFile   map[string][]registry.Object
}

// replace makes objects the file's only ones, and returns every object that it had or has.
func (c *claims) replace(file string, objects []object) []registry.Object {
	touched := c.byFile[file]
	for _, object := range touched {
		rest := slices.DeleteFunc(c.byObject[object], func(claim claim) bool { return claim.file == file })
		if len(rest) == 0 {
			delete(c.byObject, object)
		} else {
			c.byObject[object] = rest
		}
	}
	delete(c.byFile, file)
	var held []registry.Object
	for _, object := range objects {
		key := registry.Object{
			Kind:      object.kind,
			Namespace: object.state.GetNamespace(),
			Name:      object.state.GetName(),
			Cluster:   c.cluster,
		}
		c.byObject[key] = append(c.byObject[key], claim{file, object})
		slices.SortStableFunc(c.byObject[key], func(a, b claim) int {
			return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.object.line, b.object.line))
		})
		held = append(held, key)
	}
	if len(held) > 0 {
		c.byFile[file] = held
	}
	return append(slices.Clone(touched), held...)
}

// winner is the claim that counts, if there is any.
func (c *claims) winner(object registry.Object) (claim, bool) {
	if claims := c.byObject[object]; len(claims) > 0 {
		return claims[0], true
	}
	return claim{}, false
}

// conflicts says which claims of an object do not count.
func (c *claims) conflicts(object registry.Object) []string {
	var lines []string
	claims := c.byObject[object]
	for _, loser := range claims[min(1, len(claims)):] {
		lines = append(lines, fmt.Sprintf("%s: %s is in %s already, which wins; want each object once", loser.at(), object, claims[0].at()))
	}
	return lines
}
