package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen. Nothing waits nearly that long when all is well, but a slow machine.
const patience = time.Minute

// syncer is a server on loopback with a registry that the test feeds.
type syncer struct {
	t        *testing.T
	server   *Server
	registry *registry.Registry
	source   *registry.Source
	address  string // for VMs
	http     string
	logs     *transcript.Transcript
	stop     func() // ends Serve and waits for it
}

// startUnsynced is a running server whose only source has not synced.
func startUnsynced(t *testing.T, log registry.Options, edit func(*Options)) *syncer {
	t.Helper()
	r := registry.New(log)
	s := &syncer{t: t, registry: r, source: r.AddSource("manifests"), logs: &transcript.Transcript{}}
	opts := Options{
		Version:           "v1.2.3",
		Log:               slog.New(slog.NewTextHandler(s.logs, nil)),
		CoalesceWindow:    time.Millisecond,
		HeartbeatInterval: time.Hour, // tests of heartbeats set their own
		ShutdownTimeout:   time.Second,
	}
	if edit != nil {
		edit(&opts)
	}
	server, err := New(r, opts)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	vms, people := listen(t), listen(t)
	s.server, s.address, s.http = server, vms.Addr().String(), "http://"+people.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, vms, people) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Serve has not returned %s after its context ended", patience)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// start is a running server whose only source has synced with nothing.
func start(t *testing.T, edit func(*Options)) *syncer {
	t.Helper()
	s := startUnsynced(t, registry.Options{}, edit)
	s.source.Synced()
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return listener
}

func (s *syncer) apply(updates ...registry.Update) {
	s.t.Helper()
	if err := s.source.Apply(time.Now(), updates...); err != nil {
		s.t.Fatalf("Apply: %v", err)
	}
}

// service is a Kubernetes Service with a cluster IP.
func service(namespace, name, address string, visibility registry.Visibility) registry.Update {
	return claim(&registryv1.Service{
		Host:        name + "." + namespace + ".svc.cluster.local",
		Namespace:   namespace,
		Name:        name,
		Origin:      registryv1.Origin_ORIGIN_KUBERNETES,
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
		Addresses:   encodeAddresses(address),
	}, visibility)
}

func encodeAddresses(texts ...string) [][]byte {
	var encoded [][]byte
	for _, text := range texts {
		if text != "" {
			encoded = append(encoded, netip.MustParseAddr(text).AsSlice())
		}
	}
	return encoded
}

// claim is the object that a Service resource comes from.
func claim(s *registryv1.Service, visibility registry.Visibility) registry.Update {
	kind, key := "Service", registryv1.ServiceKey(s.GetCluster(), s.GetNamespace(), s.GetName())
	if s.GetOrigin() == registryv1.Origin_ORIGIN_SERVICE_ENTRY {
		kind, key = "ServiceEntry", registryv1.ServiceEntryKey(s.GetCluster(), s.GetNamespace(), s.GetName(), s.GetHost())
	}
	return registry.Update{
		Object: registry.Object{Kind: kind, Namespace: s.GetNamespace(), Name: s.GetName(), Cluster: s.GetCluster()},
		Resources: []registry.Resource{{
			Key: key, Visibility: visibility,
			Body: &registryv1.Body{Body: &registryv1.Body_Service{Service: s}},
		}},
	}
}

func gone(namespace, name string) registry.Update {
	return registry.Update{Object: registry.Object{Kind: "Service", Namespace: namespace, Name: name}}
}

func key(namespace, name string) string { return registryv1.ServiceKey("", namespace, name) }

// vm is a VM that follows the protocol and keeps what it is sent.
type vm struct {
	t       *testing.T
	stream  grpc.BidiStreamingClient[registryv1.WatchRequest, registryv1.WatchResponse]
	welcome *registryv1.Welcome

	resources map[string][]byte
	revision  uint64
	frames    []*registryv1.Delta
	heartbeat *registryv1.Heartbeat // the latest
	differing *registryv1.DifferingBuckets
	listed    []string // in a Compare, the keys in the order of their digests
	// comparing: a Delta from revision zero is the outcome of a Compare.
	comparing bool
}

// dial connects to a syncer without TLS.
func (s *syncer) dial() registryv1.RegistryClient {
	s.t.Helper()
	return s.dialWith(grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (s *syncer) dialWith(options ...grpc.DialOption) registryv1.RegistryClient {
	s.t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+s.address, options...)
	if err != nil {
		s.t.Fatalf("dial: %v", err)
	}
	s.t.Cleanup(func() { connection.Close() })
	return registryv1.NewRegistryClient(connection)
}

func openStream(t *testing.T, client registryv1.RegistryClient) *vm {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	stream, err := client.Watch(ctx)
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	return &vm{t: t, stream: stream, resources: map[string][]byte{}}
}

// say sends a request. A stream that has ended already says so by io.EOF: Recv tells why.
func (v *vm) say(request *registryv1.WatchRequest) {
	v.t.Helper()
	if err := v.stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		v.t.Fatalf("Send: %v", err)
	}
}

func helloOf(hello *registryv1.Hello) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: hello}}
}

func ackOf(revision uint64) *registryv1.WatchRequest {
	return &registryv1.WatchRequest{Request: &registryv1.WatchRequest_Ack{Ack: &registryv1.Ack{Revision: revision}}}
}

// watch opens a stream and reads up to the first heartbeat.
func watch(t *testing.T, client registryv1.RegistryClient, hello *registryv1.Hello) *vm {
	t.Helper()
	v := openStream(t, client)
	v.say(helloOf(hello))
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
	return v
}

// until reads until the condition holds.
func (v *vm) until(what string, condition func() bool) {
	v.t.Helper()
	for !condition() {
		response, err := v.stream.Recv()
		if err != nil {
			v.t.Fatalf("waiting for %s: %v", what, err)
		}
		v.take(response)
	}
}

// failure reads until the stream ends.
func (v *vm) failure() error {
	for {
		response, err := v.stream.Recv()
		if err != nil {
			return err
		}
		v.take(response)
	}
}

func (v *vm) take(response *registryv1.WatchResponse) {
	v.t.Helper()
	switch response := response.GetResponse().(type) {
	case *registryv1.WatchResponse_Welcome:
		v.welcome = response.Welcome
	case *registryv1.WatchResponse_Delta:
		v.applyFrame(response.Delta)
	case *registryv1.WatchResponse_Heartbeat:
		v.heartbeat = response.Heartbeat
		v.checkProof()
	case *registryv1.WatchResponse_DifferingBuckets:
		v.differing = response.DifferingBuckets
	default:
		v.t.Fatalf("unexpected response %T", response)
	}
}

func (v *vm) applyFrame(delta *registryv1.Delta) {
	v.t.Helper()
	if from := delta.GetFromRevision(); !delta.GetReplace() && from != v.revision && (!v.comparing || from != 0) {
		v.t.Fatalf("delta is from revision %d, want %d", delta.GetFromRevision(), v.revision)
	}
	first := len(v.frames) == 0 || !v.frames[len(v.frames)-1].GetMore()
	v.frames = append(v.frames, delta)
	if delta.GetReplace() && first {
		clear(v.resources)
	}
	for _, place := range delta.GetRemovedPlaces() {
		v.removePlace(int(place))
	}
	for _, key := range delta.GetRemovals() {
		if _, found := v.resources[key]; !found {
			v.t.Errorf("removal of %q, which the VM does not hold", key)
		}
		delete(v.resources, key)
	}
	for _, upsert := range delta.GetUpserts() {
		v.resources[upsert.GetKey()] = upsert.GetBody()
	}
	if !delta.GetMore() {
		v.revision, v.comparing = delta.GetToRevision(), false
	}
}

func (v *vm) removePlace(place int) {
	v.t.Helper()
	if place >= len(v.listed) {
		v.t.Errorf("removal of place %d, the VM has listed %d", place, len(v.listed))
		return
	}
	delete(v.resources, v.listed[place])
}

// checkProof holds a heartbeat against what was sent.
func (v *vm) checkProof() {
	v.t.Helper()
	var digest registryv1.Digest
	for key, body := range v.resources {
		digest.Add(registryv1.DigestResource(key, body))
	}
	want := fmt.Sprintf("revision %d, %d resources, digest %x", v.revision, len(v.resources), digest)
	got := fmt.Sprintf("revision %d, %d resources, digest %x", v.heartbeat.GetRevision(), v.heartbeat.GetResources(), v.heartbeat.GetDigest())
	if got != want {
		v.t.Errorf("heartbeat proves %s; the VM was sent %s", got, want)
	}
}

func (v *vm) keys() []string {
	keys := make([]string, 0, len(v.resources))
	for key := range v.resources {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (v *vm) position() *registryv1.Position {
	return &registryv1.Position{Generation: v.welcome.GetGeneration(), Revision: v.revision, View: v.welcome.GetView()}
}

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func mustAddrPort(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
