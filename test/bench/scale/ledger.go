package main

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// ledger is what one view held at which revision, by what any VM of it has been sent. All VMs of the view
// share it, so that each can prove every heartbeat's digest from the deltas that it was sent itself
// without holding a hundred thousand names.
type ledger struct {
	mu     sync.RWMutex
	frames map[uint64]*frame
	// histories are by generation.
	histories map[string]*history
	latest    *content
}

// framesKept bounds the parsed frames: those of one round, by far.
const framesKept = 4096

func newLedger() *ledger {
	return &ledger{frames: map[uint64]*frame{}, histories: map[string]*history{}}
}

// history is one generation: of each key the digests at the revisions of which a VM knows them.
type history struct {
	points map[string][]point
}

// point is a key's digest at a revision.
type point struct {
	revision uint64
	digest   registryv1.Digest
	present  bool
}

// position is a point in the history of what one VM holds. It is immutable.
type position struct {
	history  *history
	revision uint64
	// floor is the revision of the Delta, whole view or outcome of a Compare, that the VM began with in
	// this history. What has no point since then is as parent has it.
	floor  uint64
	parent *position
}

// at is a key's digest for a VM at a position. It is called with the ledger's lock held.
func (p *position) at(key string) (registryv1.Digest, bool) {
	for ; p != nil; p = p.parent {
		points := p.history.points[key]
		for i := len(points) - 1; i >= 0 && points[i].revision >= p.floor; i-- {
			if points[i].revision <= p.revision {
				return points[i].digest, points[i].present
			}
		}
	}
	return 0, false
}

// keys are all that a VM at the position may hold, each once. It is called with the ledger's lock held.
func (p *position) keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := map[string]struct{}{}
		for from := p; from != nil; from = from.parent {
			for key := range from.history.points {
				if _, again := seen[key]; again {
					continue
				}
				seen[key] = struct{}{}
				if !yield(key) {
					return
				}
			}
		}
	}
}

// frame is a Delta message but for from_revision, parsed once for all VMs that are sent the same bytes.
type frame struct {
	to            uint64
	replace, more bool
	observed      time.Time
	upserts       []resource
	removals      []string
	removed       []uint32          // places in what the VM has listed
	sum           registryv1.Digest // of the upserts
	recorded      map[*history]bool
}

type resource struct {
	key    string
	digest registryv1.Digest
}

// frame is the frame of an encoded Delta, and the revision that it is from. Its bytes are not kept.
func (l *ledger) frame(delta []byte) (from uint64, f *frame, err error) {
	const fieldFrom = 1
	if number, kind, size := protowire.ConsumeTag(delta); number == fieldFrom && kind == protowire.VarintType {
		value, more := protowire.ConsumeVarint(delta[size:])
		if more < 0 {
			return 0, nil, fmt.Errorf("parse delta: %w", protowire.ParseError(more))
		}
		from, delta = value, delta[size+more:]
	}
	sum := xxhash.Sum64(delta)
	l.mu.RLock()
	f = l.frames[sum]
	l.mu.RUnlock()
	if f != nil {
		return from, f, nil
	}
	if f, err = parseFrame(delta); err != nil {
		return 0, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if earlier := l.frames[sum]; earlier != nil {
		return from, earlier, nil
	}
	if len(l.frames) >= framesKept {
		clear(l.frames)
	}
	l.frames[sum] = f
	return from, f, nil
}

func parseFrame(encoded []byte) (*frame, error) {
	var delta registryv1.Delta
	if err := proto.Unmarshal(encoded, &delta); err != nil {
		return nil, fmt.Errorf("parse delta: %w", err)
	}
	f := &frame{to: delta.GetToRevision(), replace: delta.GetReplace(), more: delta.GetMore(), removals: delta.GetRemovals(), recorded: map[*history]bool{}}
	if at := delta.GetObservedAt(); at != nil {
		f.observed = at.AsTime()
	}
	f.upserts = make([]resource, 0, len(delta.GetUpserts()))
	for _, upsert := range delta.GetUpserts() {
		digest := registryv1.DigestResource(upsert.GetKey(), upsert.GetBody())
		f.upserts = append(f.upserts, resource{upsert.GetKey(), digest})
		f.sum.Add(digest)
	}
	f.removed = delta.GetRemovedPlaces()
	return f, nil
}

// holding is what one VM holds.
type holding struct {
	generation string
	position   *position
	digest     registryv1.Digest
	resources  int
}

func (h holding) revision() uint64 {
	if h.position == nil {
		return 0
	}
	return h.position.revision
}

// apply is what a VM holds after a Delta, whole, of a generation. A compared one names what is gone by its
// place among the resources that the VM has listed. It leaves held as it is.
func (l *ledger) apply(held holding, generation string, compared bool, listed []registryv1.Digest, frames []*frame) (holding, error) {
	last := frames[len(frames)-1]
	history := l.record(generation, frames)
	next := holding{generation: generation, digest: held.digest, resources: held.resources}
	next.position = &position{history: history, revision: last.to}
	switch {
	case last.replace:
		next.digest, next.resources = 0, 0
		next.position.floor = last.to
		for _, f := range frames {
			next.digest += f.sum
			next.resources += len(f.upserts)
		}
		return next, nil
	case compared:
		next.position.floor, next.position.parent = last.to, held.position
	default:
		if held.position == nil || held.position.history != history {
			return holding{}, errors.New("a delta from a revision of another generation")
		}
		next.position.floor, next.position.parent = held.position.floor, held.position.parent
	}
	gone := map[registryv1.Digest]int{}
	for _, f := range frames {
		for _, place := range f.removed {
			if int(place) >= len(listed) {
				return holding{}, fmt.Errorf("a delta removes place %d of %d listed", place, len(listed))
			}
			gone[listed[place]]++
		}
	}
	take := func(key string) {
		if digest, present := held.position.at(key); present {
			next.digest.Remove(digest)
			next.resources--
			if gone[digest] > 0 {
				gone[digest]--
			}
		}
	}
	l.mu.RLock()
	for _, f := range frames {
		for _, key := range f.removals {
			take(key)
		}
		for _, upsert := range f.upserts {
			take(upsert.key)
			next.digest.Add(upsert.digest)
			next.resources++
		}
	}
	l.mu.RUnlock()
	maps.DeleteFunc(gone, func(_ registryv1.Digest, times int) bool { return times == 0 })
	if len(gone) > 0 {
		removed := l.removeDigests(held.position, next.position, gone)
		for _, digest := range removed {
			next.digest.Remove(digest)
		}
		next.resources -= len(removed)
	}
	return next, nil
}

// removeDigests records that resources with these digests, which a VM held at a position, are not there at
// another, and returns the digests of those that it finds. It looks at all keys: a Compare names no other
// way what is gone.
func (l *ledger) removeDigests(before, after *position, gone map[registryv1.Digest]int) []registryv1.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []string
	var found []registryv1.Digest
	for key := range before.keys() {
		if digest, present := before.at(key); present && gone[digest] > 0 {
			gone[digest]--
			keys, found = append(keys, key), append(found, digest)
		}
	}
	for _, key := range keys {
		after.history.add(key, point{revision: after.revision})
	}
	return found
}

// record notes the frames of a whole Delta, each once.
func (l *ledger) record(generation string, frames []*frame) *history {
	l.mu.RLock()
	h := l.histories[generation]
	done := h != nil && !slices.ContainsFunc(frames, func(f *frame) bool { return !f.recorded[h] })
	l.mu.RUnlock()
	if done {
		return h
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h = l.histories[generation]; h == nil {
		h = &history{points: map[string][]point{}}
		l.histories[generation] = h
	}
	for _, f := range frames {
		if f.recorded[h] {
			continue
		}
		f.recorded[h] = true
		for _, key := range f.removals {
			h.add(key, point{revision: f.to})
		}
		for _, upsert := range f.upserts {
			h.add(upsert.key, point{revision: f.to, digest: upsert.digest, present: true})
		}
	}
	return h
}

func (h *history) add(key string, p point) {
	points := h.points[key]
	i := len(points)
	for i > 0 && points[i-1].revision > p.revision {
		i--
	}
	if i > 0 && points[i-1].revision == p.revision {
		return
	}
	h.points[key] = slices.Insert(points, i, p)
}

// content is what every VM at a revision of a generation holds, by the finest buckets of a Compare.
type content struct {
	history  *history
	revision uint64
	buckets  [registryv1.MaxBuckets][]registryv1.Digest
}

// content is what a VM at a position holds.
func (l *ledger) content(p *position) *content {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest != nil && l.latest.history == p.history && l.latest.revision == p.revision {
		return l.latest
	}
	c := &content{history: p.history, revision: p.revision}
	for key := range p.keys() {
		if digest, present := p.at(key); present {
			bucket := registryv1.Bucket(key, registryv1.MaxBuckets)
			c.buckets[bucket] = append(c.buckets[bucket], digest)
		}
	}
	l.latest = c
	return c
}

// digests are those of count buckets, short.
func (c *content) digests(count int) []uint32 {
	sums := make([]uint32, count)
	for fine, digests := range c.buckets {
		for _, digest := range digests {
			sums[fine&(count-1)] += digest.Short()
		}
	}
	return sums
}

// listed are the digests of the resources in those of count buckets that are named, and how many each has.
func (c *content) listed(count int, named []uint32) (counts []uint32, digests []registryv1.Digest) {
	for _, bucket := range named {
		before := len(digests)
		for fine := int(bucket); fine < len(c.buckets); fine += count {
			digests = append(digests, c.buckets[fine]...)
		}
		counts = append(counts, uint32(len(digests)-before))
	}
	return counts, digests
}

// helloOf says what a VM holds.
func helloOf(held holding, node, view string) *registryv1.Hello {
	hello := &registryv1.Hello{Node: node, Version: "bench", Namespace: view, Compare: true}
	if held.position != nil {
		hello.Position = &registryv1.Position{Generation: held.generation, Revision: held.revision(), View: view}
		hello.Holding = &registryv1.Holding{View: view, ClusterDomain: clusterDomain, Digest: uint64(held.digest), Resources: uint64(held.resources)}
	}
	return hello
}

const clusterDomain = "cluster.local"
