package verdict

import (
	"slices"
	"strings"
)

// undecided are signs of the API server's own store, or of a webhook behind it, that could not be asked.
var undecided = []string{"etcdserver:", "connection refused", "connection reset", "deadline exceeded", "timed out", "i/o timeout", "currently unable to handle"}

// Undecided reports whether the words that the API server adds to a no say that it does not know: it reports faults of its own as a no.
// Words that it does not know are a no.
func Undecided(words string) bool {
	return slices.ContainsFunc(undecided, func(sign string) bool { return strings.Contains(words, sign) })
}
