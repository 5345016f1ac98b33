package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// As in plugin/watch: how long connecting may take, the least time between two Acks, and the backoff.
const (
	connectTimeout = 10 * time.Second
	ackInterval    = 100 * time.Millisecond
	retryBase      = 250 * time.Millisecond
	retryCap       = 30 * time.Second
	hintCap        = 2 * time.Minute
	digestsAtOnce  = 8192
)

// vm is one simulated VM. It speaks the protocol as plugin/watch does and proves every heartbeat by what
// it was sent, but shares what it holds with the others of its view.
type vm struct {
	fleet       *fleet
	node, view  string
	ledger      *ledger
	local       net.IP
	certificate tls.Certificate
	counters    counters

	// held belongs to the goroutine that follows; between connections, to the fleet.
	held holding

	revision atomic.Uint64
	synced   atomic.Int64 // when a heartbeat first proved this stream, in nanoseconds since 1970
	mode     atomic.Int32
	failures atomic.Int64

	mu      sync.Mutex
	delays  []time.Duration
	problem error // the latest
}

// follow keeps the VM in step until the context ends.
func (v *vm) follow(ctx context.Context, address string) {
	ceiling := retryBase
	for ctx.Err() == nil {
		err := v.converse(ctx, address)
		if ctx.Err() != nil {
			return
		}
		v.failures.Add(1)
		v.mu.Lock()
		v.problem = err
		v.mu.Unlock()
		if v.synced.Swap(0) != 0 {
			ceiling = retryBase
		}
		delay := rand.N(ceiling + 1)
		if said, ok := errors.AsType[*errStream](err); ok {
			delay = max(delay, min(said.after, hintCap))
		}
		ceiling = min(2*ceiling, retryCap)
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// converse is one stream, until it ends.
func (v *vm) converse(ctx context.Context, address string) error {
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	t, err := dial(dialing, v.local, address, v.fleet.tls(v.certificate), &v.counters)
	cancel()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer t.close()
	defer context.AfterFunc(ctx, t.close)()
	c := conversation{vm: v, transport: t}
	defer c.stop()
	hello := &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: helloOf(v.held, v.node, v.view)}}
	if err := c.say(hello); err != nil {
		return err
	}
	for {
		message, err := t.next()
		if err != nil {
			return err
		}
		if err := c.receive(message); err != nil {
			return err
		}
	}
}

// conversation is what a VM needs to know of one stream.
type conversation struct {
	vm        *vm
	transport *transport

	generation string
	comparing  bool
	buckets    int
	listed     []registryv1.Digest // what the VM has listed in a Compare
	staged     []*frame

	mu    sync.Mutex
	acked time.Time
	due   uint64
	timer *time.Timer
}

func (c *conversation) say(request *registryv1.WatchRequest) error {
	encoded, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	return c.transport.send(encoded)
}

// receive takes a WatchResponse.
func (c *conversation) receive(message []byte) error {
	const fieldDelta = 2
	if number, kind, size := protowire.ConsumeTag(message); number == fieldDelta && kind == protowire.BytesType {
		delta, more := protowire.ConsumeBytes(message[size:])
		if more < 0 {
			return fmt.Errorf("parse response: %w", protowire.ParseError(more))
		}
		c.vm.counters.deltaIn.Add(int64(len(message)))
		return c.receiveDelta(delta)
	}
	var response registryv1.WatchResponse
	if err := proto.Unmarshal(message, &response); err != nil {
		return fmt.Errorf("parse response: %w", err)
	}
	switch said := response.GetResponse().(type) {
	case *registryv1.WatchResponse_Welcome:
		return c.receiveWelcome(said.Welcome)
	case *registryv1.WatchResponse_Heartbeat:
		return c.receiveHeartbeat(said.Heartbeat)
	case *registryv1.WatchResponse_DifferingBuckets:
		return c.list(said.DifferingBuckets.GetBuckets())
	default:
		return nil
	}
}

func (c *conversation) receiveWelcome(welcome *registryv1.Welcome) error {
	c.generation = welcome.GetGeneration()
	c.vm.mode.Store(int32(welcome.GetMode()))
	if c.comparing = welcome.GetMode() == registryv1.Mode_MODE_COMPARE; !c.comparing || welcome.GetBuckets() == 0 {
		return nil
	}
	c.buckets = int(welcome.GetBuckets())
	if !registryv1.ValidBuckets(c.buckets) {
		return fmt.Errorf("a Compare in %d buckets", c.buckets)
	}
	digests := c.vm.ledger.content(c.vm.held.position).digests(c.buckets)
	return c.say(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_BucketDigests{
		BucketDigests: &registryv1.BucketDigests{Digests: digests},
	}})
}

// list answers DifferingBuckets.
func (c *conversation) list(buckets []uint32) error {
	if len(buckets) == 0 {
		return nil
	}
	var counts []uint32
	counts, c.listed = c.vm.ledger.content(c.vm.held.position).listed(c.buckets, buckets)
	digests := c.listed
	for more := true; more; counts = nil {
		var part []uint32
		for _, digest := range digests[:min(len(digests), digestsAtOnce)] {
			part = append(part, digest.Short())
		}
		digests = digests[len(part):]
		more = len(digests) > 0
		err := c.say(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_ResourceDigests{
			ResourceDigests: &registryv1.ResourceDigests{Counts: counts, Digests: part, More: more},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *conversation) receiveDelta(encoded []byte) error {
	v := c.vm
	from, f, err := v.ledger.frame(encoded)
	if err != nil {
		return err
	}
	want := v.held.revision()
	if f.replace || c.comparing {
		want = 0
	}
	if from != want {
		return fmt.Errorf("a delta from revision %d: the VM is at %d", from, want)
	}
	c.staged = append(c.staged, f)
	if f.more {
		return nil
	}
	next, err := v.ledger.apply(v.held, c.generation, c.comparing, c.listed, c.staged)
	if err != nil {
		return err
	}
	v.held = next
	c.comparing, c.staged = false, c.staged[:0]
	v.counters.deltas.Add(1)
	v.revision.Store(f.to)
	if !f.observed.IsZero() && v.fleet.recording.Load() {
		delay := time.Since(f.observed)
		v.mu.Lock()
		v.delays = append(v.delays, delay)
		v.mu.Unlock()
	}
	return c.acknowledge(f.to)
}

// receiveHeartbeat holds what the syncer proves against what it has sent.
func (c *conversation) receiveHeartbeat(said *registryv1.Heartbeat) error {
	held := c.vm.held
	if said.GetRevision() != held.revision() || said.GetDigest() != uint64(held.digest) || said.GetResources() != uint64(held.resources) {
		err := fmt.Errorf("%w: it proves %d resources with digest %016x at revision %d; the VM was sent %d with %016x at %d", errMismatch,
			said.GetResources(), said.GetDigest(), said.GetRevision(), held.resources, uint64(held.digest), held.revision())
		c.vm.fleet.mismatch(err)
		return err
	}
	c.vm.synced.CompareAndSwap(0, time.Now().UnixNano())
	return nil
}

var errMismatch = errors.New("a heartbeat does not match")

// acknowledge has a revision acknowledged soon, and the last one always.
func (c *conversation) acknowledge(revision uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.due != 0
	c.due = revision
	if waiting {
		return nil
	}
	if wait := ackInterval - time.Since(c.acked); wait > 0 {
		if c.timer == nil {
			c.timer = time.AfterFunc(wait, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				// The reader learns of a stream that has ended by itself.
				_ = c.ack()
			})
		} else {
			c.timer.Reset(wait)
		}
		return nil
	}
	return c.ack()
}

// ack is called with mu held.
func (c *conversation) ack() error {
	revision := c.due
	c.due, c.acked = 0, time.Now()
	return c.say(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Ack{Ack: &registryv1.Ack{Revision: revision}}})
}

func (c *conversation) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}
