package hostile

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
)

// ends are what a stream of nonsense may end with: what the VM is told is wrong with what it says, or that it ended by
// itself. Unknown and Internal are for a syncer's own faults, but gRPC says Internal of what does not decode.
var ends = map[codes.Code]bool{
	codes.OK: true, codes.InvalidArgument: true, codes.PermissionDenied: true, codes.ResourceExhausted: true, codes.Internal: true, codes.Canceled: true,
}

// syncerUnderFire is a syncer behind mutual TLS, and a connection that it has let in.
type syncerUnderFire struct {
	server     *server.Server
	logs       *lockedBuffer
	connection *grpc.ClientConn
	// sound is a stream of a VM that behaves.
	sound grpc.BidiStreamingClient[registryv1.WatchRequest, registryv1.WatchResponse]
	feed  *registry.Source
}

// lockedBuffer is safe for concurrent use.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(text)
}

// take is what has been written since the last time.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buffer.Reset()
	return b.buffer.String()
}

func startUnderFire(f *testing.F) *syncerUnderFire {
	f.Helper()
	files := certificates(f)
	r := registry.New(registry.Options{})
	s := &syncerUnderFire{logs: &lockedBuffer{}, feed: r.AddSource("objects")}
	s.serve(f, "web", "10.0.0.1")
	s.feed.Synced()
	var err error
	s.server, err = server.New(r, server.Options{
		TLS: &server.TLSFiles{Certificate: files.certificate, Key: files.key, ClientCA: files.authority},
		Log: slog.New(slog.NewTextHandler(s.logs, nil)), CoalesceWindow: time.Millisecond, HelloTimeout: 200 * time.Millisecond,
	})
	if err != nil {
		f.Fatal(err)
	}
	vms, people := listen(f), listen(f)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, vms, people) }()
	f.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			f.Errorf("Serve: %v", err)
		}
	})
	s.connection, err = grpc.NewClient("passthrough:///"+vms.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewTLS(files.config(f))), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newRawCodec())))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.connection.Close() })
	s.sound, err = registryv1.NewRegistryClient(s.connection).Watch(ctx)
	if err != nil {
		f.Fatal(err)
	}
	if err := s.sound.Send(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: &registryv1.Hello{Namespace: namespace}}}); err != nil {
		f.Fatal(err)
	}
	return s
}

// serve makes a Service have an address.
func (s *syncerUnderFire) serve(tb testing.TB, name string, address string) {
	tb.Helper()
	body := &registryv1.Service{Host: name + "." + namespace + ".svc." + domain, Namespace: namespace, Name: name, Addresses: [][]byte{{10, 0, byte(len(address)), byte(len(name))}}}
	err := s.feed.Apply(time.Now(), registry.Update{
		Object: registry.Object{Kind: "Service", Namespace: namespace, Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.ServiceKey("", namespace, name), Visibility: registry.Public(), Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: body}},
		}},
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// FuzzRequests: a VM that the syncer has let in says anything. The syncer never panics, ends the stream with a word on
// why, keeps nothing of it, logs nothing that a terminal would act on, and goes on to serve a VM that behaves.
func FuzzRequests(f *testing.F) {
	hello := func(edit func(*registryv1.Hello)) *registryv1.WatchRequest {
		h := &registryv1.Hello{Node: "vm-1", Namespace: namespace, Compare: true}
		edit(h)
		return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: h}}
	}
	plain := hello(func(*registryv1.Hello) {})
	holding := hello(func(h *registryv1.Hello) {
		h.Holding = &registryv1.Holding{View: namespace, ClusterDomain: domain, Digest: 7, Resources: 1}
	})
	ack := func(revision uint64) *registryv1.WatchRequest {
		return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Ack{Ack: &registryv1.Ack{Revision: revision}}}
	}
	buckets := func(digests ...uint32) *registryv1.WatchRequest {
		return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_BucketDigests{BucketDigests: &registryv1.BucketDigests{Digests: digests}}}
	}
	listed := func(more bool, counts []uint32, digests ...uint32) *registryv1.WatchRequest {
		return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_ResourceDigests{ResourceDigests: &registryv1.ResourceDigests{Counts: counts, Digests: digests, More: more}}}
	}
	f.Add([]byte(nil))
	f.Add(said(plain, ack(0), ack(1)))
	f.Add(said(plain, ack(1<<63)))
	f.Add(said(plain, plain))
	f.Add(said(ack(1), plain))
	f.Add(said(plain, []byte{0xff}, []byte{}))
	f.Add(said([]byte{0xff}))
	f.Add(said(holding, buckets(7), listed(false, []uint32{1}, 7)))
	f.Add(said(holding, buckets(7), listed(true, []uint32{1}), listed(true, nil)))
	f.Add(said(holding, buckets(7), listed(false, []uint32{1 << 31, 1 << 31}, 7)))
	f.Add(said(holding, buckets()))
	f.Add(said(holding, buckets(1, 2, 3, 4, 5)))
	f.Add(said(plain, buckets(7), listed(false, nil)))
	f.Add(said(hello(func(h *registryv1.Hello) { h.Namespace = "other" })))
	f.Add(said(hello(func(h *registryv1.Hello) { h.Node, h.Version = "a\n\x1b[2J\u202e", strings.Repeat("v", 300) })))
	f.Add(said(hello(func(h *registryv1.Hello) { h.Node = strings.Repeat("n", 8<<10) })))
	f.Add(said(hello(func(h *registryv1.Hello) {
		h.Holding = &registryv1.Holding{View: namespace, ClusterDomain: domain, Resources: 1 << 63}
		h.Position = &registryv1.Position{Generation: strings.Repeat("g", 99), Revision: 1 << 63, View: "\x00"}
	})))
	f.Add(append(said(plain), bytes.Repeat(said(ack(1)), maxConversation)...))

	s := startUnderFire(f)
	f.Cleanup(func() {
		s.serve(f, "last", "10.0.0.9")
		for {
			response, err := s.sound.Recv()
			if err != nil {
				f.Fatalf("the VM that behaves: %v", err)
			}
			for _, resource := range response.GetDelta().GetUpserts() {
				if resource.GetKey() == registryv1.ServiceKey("", namespace, "last") {
					return
				}
			}
		}
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		stream, err := s.connection.NewStream(ctx, &registryv1.Registry_ServiceDesc.Streams[0], registryv1.Registry_Watch_FullMethodName)
		if err != nil {
			t.Fatalf("open a stream: %v", err)
		}
		for _, message := range conversation(input) {
			if stream.SendMsg(message) != nil {
				break // Recv says why
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			var response raw
			err = stream.RecvMsg(&response)
		}
		if said, _ := status.FromError(err); err.Error() != "EOF" && !ends[said.Code()] {
			t.Errorf("the stream ends with %v, want it told what is wrong", err)
		}
		for line := range strings.Lines(s.logs.take()) {
			if strings.Contains(line, "panic") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
				t.Errorf("log line %q, want no panic and what can be printed", line)
			}
		}
		for len(s.server.Watchers()) > 1 {
			if ctx.Err() != nil {
				t.Fatalf("watchers: got %d, want the one that behaves", len(s.server.Watchers()))
			}
			time.Sleep(time.Millisecond)
		}
	})
}
