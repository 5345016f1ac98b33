package watch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// digestsAtOnce is how many digests go into one message: 32 KiB, half of what a syncer takes. The first has
// the counts beside them.
const digestsAtOnce = 8192

// comparison is a Compare that goes on: from a Welcome that begins it to the delta that ends it. All of
// it is about one State; the mirror refuses the outcome if it is at another position by then.
type comparison struct {
	state *mirror.State
	// count is the number of buckets. Zero: one digest has said it all.
	count int
	// listed are the keys of what was listed, in that order.
	listed []string
	// asked: the syncer owes DifferingBuckets.
	asked bool
	// bytes is the size of the messages exchanged.
	bytes int
}

// beginCompare is a Compare as a Welcome begins it, and what it is answered with, if anything.
func beginCompare(welcome *registryv1.Welcome, state *mirror.State) (*comparison, *registryv1.WatchRequest, error) {
	count := welcome.GetBuckets()
	c := &comparison{state: state, count: int(min(count, registryv1.MaxBuckets+1))}
	if count == 0 {
		return c, nil, nil
	}
	if !registryv1.ValidBuckets(c.count) {
		return nil, nil, refuse(ReasonWelcome, "Welcome names %d buckets, want a power of two up to %d", count, registryv1.MaxBuckets)
	}
	c.asked = true
	answer := &registryv1.WatchRequest{Request: &registryv1.WatchRequest_BucketDigests{
		BucketDigests: &registryv1.BucketDigests{Digests: shortDigests(state.BucketDigests(c.count))},
	}}
	c.bytes += proto.Size(answer)
	return c, answer, nil
}

// list takes in which buckets differ and answers with the digests of what is in them.
func (c *comparison) list(said *registryv1.DifferingBuckets) ([]*registryv1.WatchRequest, error) {
	if !c.asked {
		return nil, refuse(ReasonOutOfTurn, "DifferingBuckets are not due")
	}
	c.asked = false
	c.bytes += proto.Size(said)
	if named := len(said.GetBuckets()); named > c.count {
		return nil, refuse(ReasonFrames, "DifferingBuckets names %d buckets of %d", named, c.count)
	}
	places := make(map[int]int, len(said.GetBuckets()))
	for i, bucket := range said.GetBuckets() {
		if int64(bucket) >= int64(c.count) || i > 0 && bucket <= said.GetBuckets()[i-1] {
			return nil, refuse(ReasonFrames, "DifferingBuckets names bucket %d of %d, or not in order", bucket, c.count)
		}
		places[int(bucket)] = i
	}
	if len(places) == 0 {
		return nil, nil
	}
	counts, digests := c.gather(places)
	var answers []*registryv1.WatchRequest
	for more := true; more; {
		part := digests[:min(len(digests), digestsAtOnce)]
		digests = digests[len(part):]
		more = len(digests) > 0
		answer := &registryv1.WatchRequest{Request: &registryv1.WatchRequest_ResourceDigests{
			ResourceDigests: &registryv1.ResourceDigests{Counts: counts, Digests: part, More: more},
		}}
		counts = nil
		c.bytes += proto.Size(answer)
		answers = append(answers, answer)
	}
	return answers, nil
}

// gather lists what the mirror holds in the buckets that have a place, bucket after bucket.
func (c *comparison) gather(places map[int]int) (counts, digests []uint32) {
	keys, shorts := make([][]string, len(places)), make([][]uint32, len(places))
	for key, digest := range c.state.InBuckets(c.count, func(bucket int) bool { _, named := places[bucket]; return named }) {
		place := places[registryv1.Bucket(key, c.count)]
		keys[place], shorts[place] = append(keys[place], key), append(shorts[place], digest.Short())
	}
	for _, held := range keys {
		counts = append(counts, uint32(len(held)))
	}
	c.listed = slices.Concat(keys...)
	return counts, slices.Concat(shorts...)
}

// conclude makes the outcome of the Compare a change of the mirror: it finds the resources that are removed
// by their places in the list.
func (c *comparison) conclude(whole *staged) error {
	whole.change.Compared = c.state.Position()
	upserted := make(map[string]struct{}, len(whole.change.Upserts))
	for _, resource := range whole.change.Upserts {
		upserted[resource.GetKey()] = struct{}{}
	}
	for i, place := range whole.removed {
		if int64(place) >= int64(len(c.listed)) || i > 0 && place <= whole.removed[i-1] {
			return refuse(ReasonContent, "delta to revision %d removes what is at place %d of %d listed, or not in order", whole.change.To, place, len(c.listed))
		}
		// One that has changed comes anew.
		if _, changed := upserted[c.listed[place]]; !changed {
			whole.change.Removals = append(whole.change.Removals, c.listed[place])
		}
	}
	return nil
}

func shortDigests(digests []uint64) []uint32 {
	short := make([]uint32, len(digests))
	for i, digest := range digests {
		short[i] = registryv1.Digest(digest).Short()
	}
	return short
}
