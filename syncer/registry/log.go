package registry

import (
	"errors"
	"sort"
	"time"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// ErrCompacted says that the log no longer reaches back to the revision asked for.
var ErrCompacted = errors.New("the change log no longer reaches back to that revision")

// ErrFuture says that the revision asked for does not exist yet.
var ErrFuture = errors.New("that revision does not exist yet")

// record is one change of one resource.
type record struct {
	revision uint64
	observed time.Time
	key      string
	entry    *Entry // nil: removed
	// Who saw the resource before, and what. Nobody, when it was not there.
	was            Visibility
	wasDigest      registryv1.Digest
	wasDestination *Destination
}

// recordOverhead is what a record and its entry cost beside key and body, roughly.
const recordOverhead = 256

func (r record) bytes() int {
	size := recordOverhead + len(r.key)
	if r.entry != nil {
		size += len(r.entry.Body)
	}
	return size
}

// changeLog holds the latest records, oldest first, bounded by bytes.
type changeLog struct {
	limit   int
	bytes   int
	records []record
	// floor is the revision that the oldest record follows: the earliest one may resume from.
	floor uint64
}

func (l *changeLog) append(r record) {
	l.records = append(l.records, r)
	l.bytes += r.bytes()
}

// last is the revision of the newest record.
func (l *changeLog) last() uint64 {
	if len(l.records) == 0 {
		return l.floor
	}
	return l.records[len(l.records)-1].revision
}

// trim drops the oldest revisions, whole ones only, until the log is within its limit. The newest
// revision may go too: a change larger than the limit is not held.
func (l *changeLog) trim() {
	drop := 0
	for l.bytes > l.limit && drop < len(l.records) {
		l.floor = l.records[drop].revision
		for drop < len(l.records) && l.records[drop].revision == l.floor {
			l.bytes -= l.records[drop].bytes()
			drop++
		}
	}
	clear(l.records[:drop])
	l.records = l.records[drop:]
}

// between is the records of the revisions in (from, to].
func (l *changeLog) between(from, to uint64) ([]record, error) {
	if from < l.floor {
		return nil, ErrCompacted
	}
	if to > l.last() || from > to {
		return nil, ErrFuture
	}
	after := func(revision uint64) int {
		return sort.Search(len(l.records), func(i int) bool { return l.records[i].revision > revision })
	}
	return l.records[after(from):after(to)], nil
}
