package watch

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// digestsAtOnce is how many digests go into one message: 32 KiB, half of what a syncer takes.
const digestsAtOnce = 4096

// comparison is a Compare that goes on: from a Welcome that begins it to the delta that ends it. All of
// it is about one State; the mirror refuses the outcome if it is at another position by then.
type comparison struct {
	state *mirror.State
	// count is the number of buckets. Zero: one digest has said it all.
	count int
	// differing are the buckets that differ, once asked is no longer set.
	differing []bool
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
		BucketDigests: &registryv1.BucketDigests{Digests: state.BucketDigests(c.count)},
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
	c.differing = make([]bool, c.count)
	for i, bucket := range said.GetBuckets() {
		if int64(bucket) >= int64(c.count) || i > 0 && bucket <= said.GetBuckets()[i-1] {
			return nil, refuse(ReasonFrames, "DifferingBuckets names bucket %d of %d, or not in order", bucket, c.count)
		}
		c.differing[bucket] = true
	}
	if len(said.GetBuckets()) == 0 {
		return nil, nil
	}
	var digests []uint64
	for _, digest := range c.listed() {
		digests = append(digests, uint64(digest))
	}
	var answers []*registryv1.WatchRequest
	for more := true; more; {
		part := digests[:min(len(digests), digestsAtOnce)]
		digests = digests[len(part):]
		more = len(digests) > 0
		answer := &registryv1.WatchRequest{Request: &registryv1.WatchRequest_ResourceDigests{
			ResourceDigests: &registryv1.ResourceDigests{Digests: part, More: more},
		}}
		c.bytes += proto.Size(answer)
		answers = append(answers, answer)
	}
	return answers, nil
}

// listed yields what is in the buckets that differ.
func (c *comparison) listed() func(yield func(string, registryv1.Digest) bool) {
	return c.state.InBuckets(c.count, func(bucket int) bool { return c.differing[bucket] })
}

// conclude makes the outcome of the Compare a change of the mirror: it finds the resources whose digests
// are to be removed.
func (c *comparison) conclude(whole *staged) error {
	whole.change.Compared = c.state.Position()
	if len(whole.removed) == 0 {
		return nil
	}
	slices.Sort(whole.removed)
	upserted := make(map[string]struct{}, len(whole.change.Upserts))
	for _, resource := range whole.change.Upserts {
		upserted[resource.GetKey()] = struct{}{}
	}
	found := 0
	if len(c.differing) > 0 {
		for key, digest := range c.listed() {
			if _, removed := slices.BinarySearch(whole.removed, uint64(digest)); !removed {
				continue
			}
			found++
			// One that has changed comes anew.
			if _, changed := upserted[key]; !changed {
				whole.change.Removals = append(whole.change.Removals, key)
			}
		}
	}
	if found != len(whole.removed) {
		return &refusal{reason: ReasonContent, err: fmt.Errorf(
			"delta to revision %d removes %d resources by digest, of which the mirror has listed %d", whole.change.To, len(whole.removed), found)}
	}
	return nil
}
