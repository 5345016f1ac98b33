package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// What differs is encoded for one VM alone and held until it is sent; a whole view is encoded once for
// all. So a VM that lacks more than one resource in compareShare is sent the whole view, unless it lacks
// no more than alwaysCompared.
const (
	compareShare   = 4
	alwaysCompared = 64
)

// compareSurplus is how many times the view's resources, and alwaysCompared, a VM may hold to be compared:
// it bounds what it may list.
const compareSurplus = 4

func lacksTooMany(lacking, resources uint64) bool {
	return lacking > max(alwaysCompared, resources/compareShare)
}

// comparable reports whether comparing may cost less than the whole view.
func (st *stream) comparable(hello *registryv1.Hello) bool {
	holding := hello.GetHolding()
	if !hello.GetCompare() || holding == nil || holding.GetView() != st.who.namespace || holding.GetClusterDomain() != st.server.opts.ClusterDomain {
		return false
	}
	held, resources := holding.GetResources(), uint64(st.view.current().proof.Resources)
	if held < resources {
		return !lacksTooMany(resources-held, resources)
	}
	return held <= compareSurplus*(resources+alwaysCompared)
}

// equals reports whether a VM holds just what the view is, and at which revision.
func (st *stream) equals(holding *registryv1.Holding) (revision uint64, equal bool) {
	proof := st.view.open().Proof()
	return proof.Revision, holding.GetDigest() == uint64(proof.Digest) && holding.GetResources() == uint64(proof.Resources)
}

// compareAtOnce is a Compare of one digest: where the VM holds just what the view is, it says so and
// reports true. It needs no admission.
func (st *stream) compareAtOnce(holding *registryv1.Holding) (done bool, err error) {
	revision, equal := st.equals(holding)
	if !equal {
		return false, nil
	}
	if err := st.sayWelcome(registryv1.Mode_MODE_COMPARE, 0); err != nil {
		return true, err
	}
	return true, st.conclude(encodeChanges(registry.Changes{To: revision}, st.server.opts.FrameBytes))
}

// compare sends a stream that has been admitted what differs between what its VM holds and the view. All
// that it keeps while it waits for the VM is which buckets differ.
func (st *stream) compare(ctx context.Context, holding *registryv1.Holding) error {
	if done, err := st.compareAtOnce(holding); done || err != nil {
		return err
	}
	count := registryv1.BucketsFor(st.view.current().proof.Resources)
	st.due.Store(dueBucketDigests)
	if err := st.sayWelcome(registryv1.Mode_MODE_COMPARE, count); err != nil {
		return err
	}
	differing, err := st.compareBuckets(ctx, count)
	if err != nil {
		return err
	}
	held, err := st.listed(ctx, differing, holding.GetResources())
	if err != nil {
		return err
	}
	section, err := st.view.open().Section(count, differing.buckets, differing.revision)
	if errors.Is(err, registry.ErrCompacted) {
		return st.replaceInstead(ctx)
	}
	if err != nil {
		return err
	}
	changes, removed := difference(section, count, held)
	if lacksTooMany(uint64(len(changes.Upserts)), uint64(st.view.current().proof.Resources)) {
		return st.replaceInstead(ctx)
	}
	return st.conclude(encodeDifference(changes, removed, st.server.opts.FrameBytes))
}

// conclude sends the outcome of a Compare.
func (st *stream) conclude(d *delta) error {
	// The head must not be behind the outcome, or no proof would fit.
	st.view.advance()
	st.begun(modeCompare)
	return st.bring(modeCompare, d)
}

// replaceInstead sends the whole view where a Compare costs more than it saves.
func (st *stream) replaceInstead(ctx context.Context) error {
	st.begun(modeFull)
	return st.replace(ctx)
}

// differingBuckets are those whose digests a VM does not share with the view at a revision.
type differingBuckets struct {
	revision uint64
	// buckets are in ascending order.
	buckets []uint32
	// theirs are the VM's digests of them.
	theirs []uint32
}

// compareBuckets takes in the VM's bucket digests and names those that differ.
func (st *stream) compareBuckets(ctx context.Context, count int) (differingBuckets, error) {
	request, err := st.await(ctx, "bucket digests")
	if err != nil {
		return differingBuckets{}, err
	}
	theirs := request.GetBucketDigests().GetDigests()
	if len(theirs) != count {
		return differingBuckets{}, status.Errorf(codes.InvalidArgument, "digests of %d buckets: welcome asked for %d", len(theirs), count)
	}
	ours := st.view.open().BucketDigests(count)
	differing := differingBuckets{revision: ours.Revision}
	for bucket, digest := range ours.Digests {
		if theirs[bucket] != digest.Short() {
			differing.buckets = append(differing.buckets, uint32(bucket))
			differing.theirs = append(differing.theirs, theirs[bucket])
		}
	}
	response := &registryv1.WatchResponse{Response: &registryv1.WatchResponse_DifferingBuckets{
		DifferingBuckets: &registryv1.DifferingBuckets{Buckets: differing.buckets},
	}}
	st.countCompared(response)
	if len(differing.buckets) > 0 {
		st.due.Store(dueResourceDigests)
	}
	return differing, st.send(response)
}

// listed takes in what the VM holds in the buckets that differ.
func (st *stream) listed(ctx context.Context, differing differingBuckets, limit uint64) (heldBuckets, error) {
	held := heldBuckets{buckets: differing.buckets, ends: make([]int, 0, len(differing.buckets))}
	for more := len(differing.buckets) > 0; more; {
		request, err := st.await(ctx, "resource digests")
		if err != nil {
			return heldBuckets{}, err
		}
		said := request.GetResourceDigests()
		if more = said.GetMore(); more && len(said.GetDigests()) == 0 {
			return heldBuckets{}, status.Error(codes.InvalidArgument, "resource digests that name none, and more to come")
		}
		if len(held.ends) == 0 {
			if err := held.count(said.GetCounts(), limit); err != nil {
				return heldBuckets{}, err
			}
		}
		if held.digests = append(held.digests, said.GetDigests()...); len(held.digests) > held.size() {
			break
		}
	}
	return held, held.check(differing.theirs)
}

// await is the next part of what the VM owes in a Compare.
func (st *stream) await(ctx context.Context, what string) (*registryv1.WatchRequest, error) {
	timeout := time.NewTimer(st.server.opts.HelloTimeout)
	defer timeout.Stop()
	select {
	case request := <-st.requests:
		st.countCompared(request)
		return request, nil
	case <-timeout.C:
		return nil, status.Errorf(codes.Aborted, "no %s within %s: come again", what, st.server.opts.HelloTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// countCompared counts the bytes of a message of a Compare, but for its outcome.
func (st *stream) countCompared(m proto.Message) {
	st.server.metrics.compareBytes.Add(float64(proto.Size(m)))
}
