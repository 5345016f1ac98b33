package meshvm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/plugin/status"
)

// Bounds of the search for names like one that is not known.
const (
	maxNearest   = 5
	maxCompared  = 200_000
	maxDistance  = 4
	maxMisplaced = 5
)

// suggest names hosts that this machine may see and that somebody may have meant.
func (m *Meshvm) suggest(q *query, e *status.Explanation) {
	type near struct {
		name     string
		distance int
	}
	var nearest []near
	var elsewhere []string
	first, _, _ := strings.Cut(q.name, ".")
	services := ".svc." + q.state.ClusterDomain()
	limit, compared := min(maxDistance, max(1, len(first)/3)), 0
	for name := range q.state.HostNames() {
		if compared++; compared > maxCompared {
			break
		}
		if strings.HasSuffix(name, services) && strings.HasPrefix(name, first+".") && first != "" && name != q.name {
			elsewhere = append(elsewhere, name)
			continue
		}
		if d := distance(q.name, name, limit); d <= limit {
			nearest = append(nearest, near{name, d})
		}
	}
	slices.Sort(elsewhere)
	slices.SortFunc(nearest, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	if len(elsewhere) > 0 {
		elsewhere = elsewhere[:min(len(elsewhere), maxMisplaced)]
		e.Hints = append(e.Hints, fmt.Sprintf("a Service of that name is elsewhere: is it %s?", strings.Join(elsewhere, " or ")))
		e.Nearest = append(e.Nearest, elsewhere...)
	}
	for _, n := range nearest {
		if len(e.Nearest) < maxNearest {
			e.Nearest = append(e.Nearest, n.name)
		}
	}
}

// distance is how many bytes have to be put in, taken out, replaced or swapped with the next one to make one name of another (the
// optimal string alignment), or more than the limit where it is more than that.
func distance(a, b string, limit int) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > limit {
		return limit + 1
	}
	// What they end in alike, a domain mostly, costs nothing.
	for len(a) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var space [3][256]int
	before, last, row := space[0][:0], space[1][:0], space[2][:0]
	for i := range len(a) + 1 {
		before, last, row = append(before, 0), append(last, i), append(row, 0)
	}
	for j := range len(b) {
		row[0] = j + 1
		least := row[0]
		for i := range len(a) {
			replaced := last[i]
			if a[i] != b[j] {
				replaced++
			}
			row[i+1] = min(replaced, last[i+1]+1, row[i]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[i+1] = min(row[i+1], before[i-1]+1)
			}
			least = min(least, row[i+1])
		}
		if least > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return min(last[len(a)], limit+1)
}
