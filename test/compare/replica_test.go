// Package compare tests what a VM and two replicas of a syncer make of each other: the real server, the
// real client and the real mirror, over TCP on loopback, in one process.
package compare

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen. Nothing waits that long when all is well.
const patience = 60 * time.Second

// replica is one syncer, with a registry that the test feeds.
type replica struct {
	registry *registry.Registry
	source   *registry.Source
	address  string
	// bytes is what has gone over its connections, both ways.
	bytes *atomic.Int64
	// watchers is how many VMs it serves.
	watchers func() int
	stop     func()
}

func startReplica(tb testing.TB, log registry.Options, edit func(*server.Options), updates ...registry.Update) *replica {
	tb.Helper()
	r := registry.New(log)
	rep := &replica{registry: r, source: r.AddSource("test"), bytes: &atomic.Int64{}}
	rep.apply(tb, updates...)
	rep.source.Synced()
	opts := server.Options{CoalesceWindow: time.Millisecond, HeartbeatInterval: time.Second, ShutdownTimeout: time.Second}
	if edit != nil {
		edit(&opts)
	}
	s, err := server.New(r, opts)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	rep.watchers = func() int { return len(s.Watchers()) }
	vms, people := listen(tb), listen(tb)
	rep.address = vms.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, countingListener{vms, rep.bytes}, people) }()
	rep.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	tb.Cleanup(rep.stop)
	return rep
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	return listener
}

func (r *replica) apply(tb testing.TB, updates ...registry.Update) {
	tb.Helper()
	if err := r.source.Apply(time.Now(), updates...); err != nil {
		tb.Fatalf("Apply: %v", err)
	}
}

// content is key and digest of all that a namespace sees.
func (r *replica) content(namespace string) map[string]registryv1.Digest {
	content := map[string]registryv1.Digest{}
	for _, entry := range r.registry.Content(namespace).Entries {
		content[entry.Key] = entry.Digest
	}
	return content
}

// held is key and digest of all that a mirror holds.
func held(m *mirror.Mirror) map[string]registryv1.Digest {
	return maps.Collect(m.State().InBuckets(1, func(int) bool { return true }))
}

// countingListener counts what goes over its connections.
type countingListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn, l.bytes}, nil
}

type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// follower keeps a mirror in step with replicas.
type follower struct {
	tb   testing.TB
	stop func()

	mu      sync.Mutex
	seen    tally
	changed chan struct{}
}

// tally is what a follower's client has reported.
type tally struct {
	resumed, compared, full, heartbeats, mismatches, refused int
	upserts, removals, digestBytes                           int
}

var _ watch.Observer = (*follower)(nil)

// follow begins to keep a mirror in step.
func follow(tb testing.TB, m *mirror.Mirror, namespace string, addresses ...string) *follower {
	tb.Helper()
	f := &follower{tb: tb, changed: make(chan struct{})}
	client, err := watch.New(watch.Config{Addresses: addresses, Insecure: true, Namespace: namespace, Node: "vm-1"}, m, nil, f)
	if err != nil {
		tb.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Run(ctx) // it ends as it is told to
	}()
	f.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	tb.Cleanup(f.stop)
	return f
}

// await waits until what was reported is as wanted.
func (f *follower) await(what string, wanted func(tally) bool) tally {
	f.tb.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		seen, changed := f.seen, f.changed
		f.mu.Unlock()
		if wanted(seen) {
			return seen
		}
		select {
		case <-changed:
		case <-timeout.C:
			f.tb.Fatalf("not within %s: %s; seen: %+v", patience, what, seen)
		}
	}
}

func inStep(seen tally) bool { return seen.heartbeats > 0 }

// once follows until in step, and stops.
func once(tb testing.TB, m *mirror.Mirror, namespace string, r *replica) tally {
	tb.Helper()
	f := follow(tb, m, namespace, r.address)
	seen := f.await("in step", inStep)
	f.stop()
	return seen
}

func (f *follower) note(edit func(*tally)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.seen)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) Connected(string)                  {}
func (f *follower) ConnectFailed(string, watch.Cause) {}
func (f *follower) Disconnected(string, watch.Cause)  {}
func (f *follower) Resumed()                          { f.note(func(s *tally) { s.resumed++ }) }
func (f *follower) FullSync()                         { f.note(func(s *tally) { s.full++ }) }
func (f *follower) Heartbeat(time.Time)               { f.note(func(s *tally) { s.heartbeats++ }) }
func (f *follower) Mismatch()                         { f.note(func(s *tally) { s.mismatches++ }) }
func (f *follower) Refused(watch.Reason)              { f.note(func(s *tally) { s.refused++ }) }
func (f *follower) Compared(bytes int) {
	f.note(func(s *tally) { s.compared++; s.digestBytes += bytes })
}
func (f *follower) Applied(delta watch.Applied) {
	f.note(func(s *tally) { s.upserts += delta.Upserts; s.removals += delta.Removals })
}

func newMirror() *mirror.Mirror { return mirror.New(mirror.Options{TTL: 30, EndpointTTL: 5}) }

// service is a Kubernetes Service with one port, as most are.
func service(namespace, name string, address uint32, visibility registry.Visibility) registry.Update {
	ip := netip.AddrFrom4([4]byte{10, byte(address >> 16), byte(address >> 8), byte(address)})
	return registry.Update{
		Object: registry.Object{Kind: "Service", Namespace: namespace, Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.ServiceKey("", namespace, name), Visibility: visibility,
			Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{
				Host:        name + "." + namespace + ".svc.cluster.local",
				Namespace:   namespace,
				Name:        name,
				Origin:      registryv1.Origin_ORIGIN_KUBERNETES,
				AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
				Addresses:   [][]byte{ip.AsSlice()},
				Ports:       []*registryv1.Port{{Name: "http", Number: 8080, Protocol: registryv1.Protocol_PROTOCOL_TCP}},
			}}},
		}},
	}
}

func gone(namespace, name string) registry.Update {
	return registry.Update{Object: registry.Object{Kind: "Service", Namespace: namespace, Name: name}}
}

// services are count Services, twenty to a namespace, that everyone sees.
func services(count int) []registry.Update {
	updates := make([]registry.Update, count)
	for i := range updates {
		updates[i] = numbered(i, uint32(i))
	}
	return updates
}

func numbered(i int, address uint32) registry.Update {
	return service(fmt.Sprintf("team-%d", i/20), fmt.Sprintf("reviews-%d", i), address, registry.Public())
}
