package server

import (
	"context"
	"errors"
	"slices"
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
	proof := st.server.registry.Proof(st.who.namespace)
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
	section, err := st.server.registry.Section(st.who.namespace, count, differing.buckets, differing.revision)
	if errors.Is(err, registry.ErrCompacted) {
		return st.replaceInstead(ctx)
	}
	if err != nil {
		return err
	}
	changes, removed := difference(section, held)
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
	// theirs is the sum of the VM's digests of them.
	theirs registryv1.Digest
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
	ours := st.server.registry.BucketDigests(st.who.namespace, count)
	differing := differingBuckets{revision: ours.Revision}
	for bucket, digest := range ours.Digests {
		if theirs[bucket] != uint64(digest) {
			differing.buckets = append(differing.buckets, uint32(bucket))
			differing.theirs.Add(registryv1.Digest(theirs[bucket]))
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

// listed takes in the digests of the resources that the VM holds in the buckets that differ.
func (st *stream) listed(ctx context.Context, differing differingBuckets, limit uint64) ([]uint64, error) {
	if len(differing.buckets) == 0 {
		return nil, nil
	}
	var held []uint64
	for more := true; more; {
		request, err := st.await(ctx, "resource digests")
		if err != nil {
			return nil, err
		}
		said := request.GetResourceDigests()
		more = said.GetMore()
		switch listed := uint64(len(held) + len(said.GetDigests())); {
		case more && len(said.GetDigests()) == 0:
			return nil, status.Error(codes.InvalidArgument, "resource digests that name none, and more to come")
		case listed > limit:
			return nil, status.Errorf(codes.InvalidArgument, "%d resource digests: hello said that the VM holds %d", listed, limit)
		}
		held = append(held, said.GetDigests()...)
	}
	var sum registryv1.Digest
	for _, digest := range held {
		sum.Add(registryv1.Digest(digest))
	}
	if sum != differing.theirs {
		return nil, status.Errorf(codes.InvalidArgument,
			"%d resource digests add up to %016x: those of the %d buckets that differ add up to %016x", len(held), uint64(sum), len(differing.buckets), uint64(differing.theirs))
	}
	return held, nil
}

// difference is what takes a VM that holds these resources in a section's buckets, and the view as it was
// elsewhere, to the section's revision. Removed are the digests that the view does not have. It sorts held.
func difference(section registry.Section, held []uint64) (changes registry.Changes, removed []uint64) {
	changes = registry.Changes{To: section.Revision, Upserts: section.Others.Upserts, Removals: section.Others.Removals}
	slices.Sort(held)
	stays := make([]bool, len(held))
	for _, entry := range section.Entries {
		if i, found := slices.BinarySearch(held, uint64(entry.Digest)); found && !stays[i] {
			stays[i] = true
			continue
		}
		changes.Upserts = append(changes.Upserts, entry)
	}
	for i, digest := range held {
		if !stays[i] {
			removed = append(removed, digest)
		}
	}
	return changes, removed
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
