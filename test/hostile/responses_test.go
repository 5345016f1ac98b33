package hostile

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/watch"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// hostileSyncer is a gRPC server behind mutual TLS that a VM trusts, and that says to each what it is told to say.
type hostileSyncer struct {
	address string
	files   files
	// says is what the next stream is sent, and how it ends.
	says atomic.Pointer[script]
}

type script struct {
	messages []raw
	end      error
}

func startHostile(f *testing.F) *hostileSyncer {
	f.Helper()
	s := &hostileSyncer{files: certificates(f)}
	listener := listen(f)
	s.address = listener.Addr().String()
	grpcServer := grpc.NewServer(grpc.Creds(credentials.NewTLS(s.files.config(f))), grpc.ForceServerCodecV2(newRawCodec()))
	grpcServer.RegisterService(&grpc.ServiceDesc{
		ServiceName: registryv1.Registry_ServiceDesc.ServiceName, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: registryv1.Registry_ServiceDesc.Streams[0].StreamName, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.play(stream) },
		}},
	}, s)
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()
	f.Cleanup(func() {
		grpcServer.Stop()
		if err := <-served; err != nil {
			f.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *hostileSyncer) play(stream grpc.ServerStream) error {
	var hello raw
	if err := stream.RecvMsg(&hello); err != nil {
		return err
	}
	script := s.says.Load()
	for _, message := range script.messages {
		if err := stream.SendMsg(message); err != nil {
			return err
		}
	}
	return script.end
}

// oneStream ends a client's Run with its first stream.
type oneStream struct {
	watch.Ignore
	stop    context.CancelFunc
	reasons []watch.Reason
}

func (o *oneStream) ConnectFailed(string, watch.Cause) { o.stop() }
func (o *oneStream) Disconnected(string, watch.Cause)  { o.stop() }
func (o *oneStream) Refused(reason watch.Reason)       { o.reasons = append(o.reasons, reason) }

// reasons are all that a refusal is counted by: the label of a metric must not be a peer's to choose.
var reasons = []watch.Reason{
	watch.ReasonOutOfTurn, watch.ReasonMode, watch.ReasonWelcome, watch.ReasonGap, watch.ReasonFrames, watch.ReasonSize,
	watch.ReasonContent, watch.ReasonKey, watch.ReasonBody, watch.ReasonName, watch.ReasonAddress, watch.ReasonPort,
}

const generation = "generation-1"

// FuzzResponses: a syncer that a VM trusts says anything. The VM never panics, holds what it held or a registry that
// can be saved and is the same again, and logs nothing that a terminal would act on.
func FuzzResponses(f *testing.F) {
	known := resource("web", &registryv1.Service{Addresses: [][]byte{{10, 0, 0, 1}}})
	welcome := func(mode registryv1.Mode, edit func(*registryv1.Welcome)) *registryv1.WatchResponse {
		w := &registryv1.Welcome{Mode: mode, Generation: generation, View: namespace, ClusterDomain: domain, HeartbeatIntervalMillis: 1}
		if edit != nil {
			edit(w)
		}
		return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Welcome{Welcome: w}}
	}
	delta := func(d *registryv1.Delta) *registryv1.WatchResponse {
		return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Delta{Delta: d}}
	}
	step := func(upserts ...*registryv1.Resource) *registryv1.WatchResponse {
		return delta(&registryv1.Delta{FromRevision: 1, ToRevision: 2, Upserts: upserts, ObservedAt: &timestamppb.Timestamp{Seconds: -1 << 62}})
	}
	whole := func(upserts ...*registryv1.Resource) *registryv1.WatchResponse {
		return delta(&registryv1.Delta{ToRevision: 9, Replace: true, Upserts: upserts})
	}
	beat := &registryv1.WatchResponse{Response: &registryv1.WatchResponse_Heartbeat{Heartbeat: &registryv1.Heartbeat{
		Revision: 1, Digest: uint64(registryv1.DigestResource(known.GetKey(), known.GetBody())), Resources: 1, CurrentAt: &timestamppb.Timestamp{Seconds: 1 << 62, Nanos: -1},
	}}}
	differ := func(buckets ...uint32) *registryv1.WatchResponse {
		return &registryv1.WatchResponse{Response: &registryv1.WatchResponse_DifferingBuckets{DifferingBuckets: &registryv1.DifferingBuckets{Buckets: buckets}}}
	}
	full, resume, compare := registryv1.Mode_MODE_FULL, registryv1.Mode_MODE_RESUME, registryv1.Mode_MODE_COMPARE
	buckets := func(count uint32) func(*registryv1.Welcome) {
		return func(w *registryv1.Welcome) { w.Buckets = count }
	}
	f.Add([]byte(nil), uint32(0), "")
	f.Add(said([]byte{0xff}), uint32(codes.Unavailable), "a\n\x1b[2J\u009b\u202e\xff")
	f.Add(said(welcome(full, nil), whole(known)), uint32(codes.Aborted), "slow")
	f.Add(said(welcome(resume, nil), beat, step(resource("db", &registryv1.Service{})), beat), uint32(0), "")
	f.Add(said(welcome(resume, nil), step(resource("db", &registryv1.Service{Host: "a\x1b[2J"}))), uint32(0), "")
	f.Add(said(welcome(resume, nil), step(resource("db", &registryv1.Service{Addresses: [][]byte{{0, 0, 0, 0}}}))), uint32(0), "")
	f.Add(said(welcome(resume, nil), step(resource("db", &registryv1.Service{Headless: true}))), uint32(0), "")
	f.Add(said(welcome(resume, nil), step(&registryv1.Resource{Key: "a\x1b[2J", Body: []byte{0xff}})), uint32(0), "")
	f.Add(said(welcome(resume, nil), step(make([]*registryv1.Resource, 100)...)), uint32(0), "")
	f.Add(said(welcome(compare, buckets(4)), differ(0, 1, 2, 3), delta(&registryv1.Delta{ToRevision: 7, RemovedPlaces: []uint32{0}})), uint32(0), "")
	f.Add(said(welcome(compare, buckets(1<<31)), differ(1<<31)), uint32(0), "")
	f.Add(said(welcome(full, func(w *registryv1.Welcome) { w.Generation, w.View = "\x1b[2J", "A\n" })), uint32(0), "")
	f.Add(said(welcome(full, func(w *registryv1.Welcome) { w.ClusterDomain = strings.Repeat("a.", 4000) })), uint32(0), "")

	s := startHostile(f)
	f.Fuzz(func(t *testing.T, input []byte, code uint32, text string) {
		m := newMirror()
		if err := m.Apply(mirror.Change{Generation: generation, View: namespace, ClusterDomain: domain, Replace: true, To: 1, Upserts: []*registryv1.Resource{known}}); err != nil {
			t.Fatal(err)
		}
		before := m.State()
		// 17 codes are known; what is beyond is as good as any.
		s.says.Store(&script{conversation(input), status.Error(codes.Code(code%20), strings.ToValidUTF8(text, "?"))})
		logs := &lockedBuffer{}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		observer := &oneStream{stop: cancel}
		client, err := watch.New(watch.Config{
			Addresses: []string{s.address}, TLS: watch.TLSFiles{CertFile: s.files.certificate, KeyFile: s.files.key, CAFile: s.files.authority},
			Namespace: namespace, Node: "vm-1",
		}, m, slog.New(slog.NewTextHandler(logs, nil)), observer)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Run(ctx); err == nil || ctx.Err() == context.DeadlineExceeded {
			t.Fatalf("Run: got %v, want the end of the first stream", err)
		}
		for _, reason := range observer.reasons {
			if !slices.Contains(reasons, reason) {
				t.Errorf("Refused: got reason %q, want one of %q", reason, reasons)
			}
		}
		texts := logs.take() + client.Status().LastError
		if i := strings.IndexFunc(texts, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("Said: got %q at %d of %q, want what can be printed", texts[i:][:1], i, texts)
		}
		if m.State() != before {
			checkSaved(t, m)
		}
	})
}

// checkSaved holds that what a mirror holds can be saved, and is the same again.
func checkSaved(t *testing.T, m *mirror.Mirror) {
	t.Helper()
	path := t.TempDir() + "/snapshot"
	if err := m.Save(path); err != nil {
		t.Fatalf("Save: %v", err)
	}
	again := newMirror()
	if err := again.Load(path); err != nil {
		t.Fatalf("Load what was saved: %v", err)
	}
	if got, want := again.State(), m.State(); got.Digest() != want.Digest() || got.Resources() != want.Resources() || !proto.Equal(got.Position(), want.Position()) {
		t.Errorf("Saved and loaded: got %d resources at %v, want %d at %v", got.Resources(), got.Position(), want.Resources(), want.Position())
	}
}

// resource is a Service of the namespace, sound but for what it is given.
func resource(name string, s *registryv1.Service) *registryv1.Resource {
	if s.GetHost() == "" {
		s.Host = name + "." + namespace + ".svc." + domain
	}
	s.Namespace, s.Name = namespace, name
	body, err := proto.Marshal(&registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
	if err != nil {
		panic(err)
	}
	return &registryv1.Resource{Key: registryv1.ServiceKey("", namespace, name), Body: body}
}
