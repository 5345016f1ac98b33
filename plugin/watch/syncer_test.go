package watch

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const (
	generation = "generation-1"
	view       = "prod"
	domain     = "cluster.local"
	// patience bounds waits on a real network. It is reached only when a test fails.
	patience = 20 * time.Second
)

// scriptedSyncer is a gRPC server whose side of each stream is played by the test.
type scriptedSyncer struct {
	registryv1.UnimplementedRegistryServer
	server *grpc.Server
	served chan error
	calls  chan *call
}

// startSyncer serves on a listener until the test ends it, or else its end.
func startSyncer(t *testing.T, listener net.Listener, options ...grpc.ServerOption) *scriptedSyncer {
	t.Helper()
	options = append(options, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	s := &scriptedSyncer{server: grpc.NewServer(options...), served: make(chan error, 1), calls: make(chan *call)}
	registryv1.RegisterRegistryServer(s.server, s)
	go func() { s.served <- s.server.Serve(listener) }()
	t.Cleanup(s.stop)
	return s
}

func (s *scriptedSyncer) stop() {
	s.server.Stop()
	select {
	case err := <-s.served:
		s.served <- err
	default:
		s.served <- <-s.served
	}
}

// Watch implements the service: it hands the stream to the test.
func (s *scriptedSyncer) Watch(stream grpc.BidiStreamingServer[registryv1.WatchRequest, registryv1.WatchResponse]) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	c := &call{stream: stream, hello: request.GetHello(), acks: make(chan uint64, 1024), answers: make(chan *registryv1.WatchRequest, 1024), end: make(chan error, 1)}
	c.metadata, _ = metadata.FromIncomingContext(stream.Context())
	select {
	case s.calls <- c:
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	// As soon as the client is gone, so is the call.
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			if request.GetAck() == nil {
				c.answers <- request
				continue
			}
			c.acks <- request.GetAck().GetRevision()
		}
	}()
	select {
	case err := <-c.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// next is the next stream that a client opens.
func (s *scriptedSyncer) next(t *testing.T) *call {
	t.Helper()
	return receiveFrom(t, s.calls, "stream")
}

func receiveFrom[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case received := <-from:
		return received
	case <-timeout.C:
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

// call is one stream, on the syncer's side.
type call struct {
	stream   grpc.BidiStreamingServer[registryv1.WatchRequest, registryv1.WatchResponse]
	hello    *registryv1.Hello
	metadata metadata.MD
	acks     chan uint64
	// answers are what the client says in a Compare.
	answers chan *registryv1.WatchRequest
	end     chan error
}

func (c *call) send(t *testing.T, messages ...*registryv1.WatchResponse) {
	t.Helper()
	for _, message := range messages {
		if err := c.stream.Send(message); err != nil {
			t.Fatalf("syncer cannot send %s: %v", kindOf(message), err)
		}
	}
}

// gone waits until the client has given the stream up.
func (c *call) gone(t *testing.T) {
	t.Helper()
	receiveFrom(t, c.stream.Context().Done(), "end of the stream")
}

func welcomeWith(mode registryv1.Mode) *registryv1.WatchResponse {
	return welcomeOf(&registryv1.Welcome{
		Mode: mode, Generation: generation, View: view, ClusterDomain: domain, HeartbeatIntervalMillis: 10_000,
	})
}

func welcomeOf(welcome *registryv1.Welcome) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Welcome{Welcome: welcome}}
}

func deltaOf(delta *registryv1.Delta) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Delta{Delta: delta}}
}

// wholeView is a full sync to a revision, in one frame a resource.
func wholeView(revision uint64, resources ...*registryv1.Resource) []*registryv1.WatchResponse {
	if len(resources) == 0 {
		return []*registryv1.WatchResponse{deltaOf(&registryv1.Delta{ToRevision: revision, Replace: true})}
	}
	var frames []*registryv1.WatchResponse
	for i, resource := range resources {
		frames = append(frames, deltaOf(&registryv1.Delta{
			ToRevision: revision, Replace: true, Upserts: []*registryv1.Resource{resource}, More: i < len(resources)-1,
		}))
	}
	return frames
}

// step is a delta of one revision.
func step(from uint64, upserts ...*registryv1.Resource) *registryv1.WatchResponse {
	return deltaOf(&registryv1.Delta{FromRevision: from, ToRevision: from + 1, Upserts: upserts})
}

// proof is a heartbeat for a mirror with just these resources.
func proof(revision uint64, resources ...*registryv1.Resource) *registryv1.WatchResponse {
	var digest registryv1.Digest
	for _, resource := range resources {
		digest.Add(registryv1.DigestResource(resource.GetKey(), resource.GetBody()))
	}
	return heartbeatOf(&registryv1.Heartbeat{
		Revision: revision, Digest: uint64(digest), Resources: uint64(len(resources)), CurrentAt: timestamppb.Now(),
	})
}

func heartbeatOf(heartbeat *registryv1.Heartbeat) *registryv1.WatchResponse {
	return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Heartbeat{Heartbeat: heartbeat}}
}

// service is a Kubernetes Service in the view's namespace.
func service(name string, address byte) *registryv1.Resource {
	body, err := proto.Marshal(&registryv1.Body{Body: &registryv1.Body_Service{Service: &registryv1.Service{
		Host: hostOf(name), Namespace: view, Name: name, Origin: registryv1.Origin_ORIGIN_KUBERNETES,
		Addresses: [][]byte{{10, 0, 0, address}}, AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
	}}})
	if err != nil {
		panic(err)
	}
	return &registryv1.Resource{Key: registryv1.ServiceKey("", view, name), Body: body}
}

func hostOf(name string) string { return name + "." + view + ".svc." + domain }

func newMirror() *mirror.Mirror { return mirror.New(mirror.Options{TTL: 30, EndpointTTL: 5}) }

// mirrorAt is a mirror that holds resources at a revision.
func mirrorAt(tb testing.TB, revision uint64, resources ...*registryv1.Resource) *mirror.Mirror {
	tb.Helper()
	m := newMirror()
	err := m.Apply(mirror.Change{
		Generation: generation, View: view, ClusterDomain: domain, Replace: true, To: revision, Upserts: resources,
	})
	if err != nil {
		tb.Fatalf("prepare mirror: %v", err)
	}
	return m
}

// mustHold checks what a mirror holds.
func mustHold(tb testing.TB, m *mirror.Mirror, revision uint64, names ...string) {
	tb.Helper()
	state := m.State()
	if got := state.Position().GetRevision(); got != revision {
		tb.Errorf("mirror is at revision %d, want %d", got, revision)
	}
	if got := state.Resources(); got != len(names) {
		tb.Errorf("mirror holds %d resources, want %d", got, len(names))
	}
	for _, name := range names {
		if state.Host(hostOf(name)) == nil {
			tb.Errorf("mirror does not know %s", hostOf(name))
		}
	}
}

// dialOnly is a dialFunc that goes to a fixed set of addresses.
func dialOnly(dials map[string]func(context.Context) (net.Conn, error)) dialFunc {
	return func(ctx context.Context, address string) (net.Conn, error) {
		dial, ok := dials[address]
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: net.UnknownNetworkError("no syncer at " + address)}
		}
		return dial(ctx)
	}
}

// sendEndlessDelta sends frames of one delta until the client gives the stream up.
func (c *call) sendEndlessDelta(t *testing.T, from uint64) {
	t.Helper()
	for i := range 10_000 {
		frame := deltaOf(&registryv1.Delta{
			FromRevision: from, ToRevision: from + 1, More: true,
			Upserts: []*registryv1.Resource{service(fmt.Sprintf("s%d", i), byte(i))},
		})
		if c.stream.Send(frame) != nil {
			return
		}
	}
	t.Fatal("the client takes in a delta without end")
}
