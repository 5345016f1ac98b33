package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// recorder is a codec that keeps every byte of every message that it receives.
type recorder struct {
	encoding.CodecV2

	mu   sync.Mutex
	sent [][]byte
}

func (r *recorder) Unmarshal(data mem.BufferSlice, v any) error {
	r.mu.Lock()
	r.sent = append(r.sent, data.Materialize())
	r.mu.Unlock()
	return r.CodecV2.Unmarshal(data, v)
}

func (r *recorder) messages() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sent)
}

// endpoints are those of a headless Service.
func endpoints(namespace, service, address string, visibility registry.Visibility) registry.Update {
	name := service + "-1"
	return registry.Update{
		Object: registry.Object{Kind: "EndpointSlice", Namespace: namespace, Name: name},
		Resources: []registry.Resource{{
			Key: registryv1.EndpointSliceKey("", namespace, name), Visibility: visibility,
			Body: &registryv1.Body{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{
				Namespace: namespace, Name: name, Service: service,
				Endpoints: []*registryv1.Endpoint{{Addresses: encodeAddresses(address), Hostname: service + "-0", Ready: true}},
			}}},
		}},
	}
}

// external is a ServiceEntry's host.
func external(namespace, name, host, address string, visibility registry.Visibility) registry.Update {
	return claim(&registryv1.Service{
		Host: host, Namespace: namespace, Name: name, Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY,
		AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL, Addresses: encodeAddresses(address),
	}, visibility)
}

// secrets are what only dev, or nobody, sees, in two versions; nil where there are none.
func secrets(are bool, version int) []registry.Update {
	if !are {
		return nil
	}
	address := func(last int) string { return fmt.Sprintf("203.0.113.%d", 10*version+last) }
	ours := registry.VisibleTo("dev")
	updates := []registry.Update{
		service("dev", "hushhush", address(1), ours),
		endpoints("dev", "hushhush", address(2), ours),
		external("dev", "classified", "classified.example.com", address(3), ours),
		// The private claim of a host that others see from elsewhere.
		external("dev", "contested", "api.example.com", address(4), ours),
		service("dev", "unseen", address(5), registry.Nobody()),
	}
	for i := range 40 {
		updates = append(updates, service("dev", fmt.Sprintf("whisper-%d-%d", version, i), address(6), ours))
	}
	return updates
}

// play is everything that a syncer may send to a VM of prod: a full sync, changes, a resume, a Compare in which much differs, and one
// in which nothing does. It returns the bytes of every message.
func play(t *testing.T, private bool) [][]byte {
	ours := newAuthority(t, "ours")
	files := writeTLS(t, ours, ours)
	s := start(t, func(o *Options) { o.TLS = &files })
	log := &recorder{CodecV2: encoding.GetCodecV2("proto")}
	comes := func(hello *registryv1.Hello) *vm {
		client := s.dialWith(as(t, ours.pool(), ours, "spiffe://cluster.local/ns/prod/sa/vm"), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(log)))
		v := openStream(t, client)
		hello.Compare = true
		if hello.GetPosition() != nil {
			v.revision = hello.GetPosition().GetRevision()
		}
		v.say(helloOf(hello))
		v.until("the welcome", func() bool { return v.welcome != nil })
		return v
	}
	var public []registry.Update
	for i := range 60 {
		public = append(public, service("dev", fmt.Sprintf("shown-%d", i), "10.0.1.1", registry.Public()))
	}
	s.apply(append(public, service("dev", "lent", "10.0.1.2", registry.VisibleTo("prod")),
		external("shop", "api", "api.example.com", "192.0.2.1", registry.Public()))...)
	if private {
		s.apply(secrets(true, 0)...)
	}

	v := comes(&registryv1.Hello{})
	v.until("the first heartbeat", func() bool { return v.heartbeat != nil })
	change := func(what string, update registry.Update, is func() bool) {
		t.Helper()
		if private {
			s.apply(secrets(true, 1)...)
			s.apply(gone("dev", "whisper-1-0"))
		}
		s.apply(update)
		v.until(what, is)
	}
	lent := key("dev", "lent")
	change("a change", service("dev", "lent", "10.0.1.3", registry.VisibleTo("prod")), func() bool { return bytes.Contains(v.resources[lent], []byte{10, 0, 1, 3}) })
	change("the end of an export", service("dev", "lent", "203.0.113.99", registry.VisibleTo("dev")), func() bool { return v.resources[lent] == nil })
	held, position := v.resources, v.position()

	if private {
		s.apply(secrets(true, 2)...)
	}
	s.apply(service("dev", "shown-1", "10.0.1.9", registry.Public()))
	v = comes(&registryv1.Hello{Position: position})
	v.resources = held
	v.until("the first heartbeat after the resume", func() bool { return v.heartbeat != nil })

	for _, lost := range []int{0, 20} {
		v = comes(&registryv1.Hello{Holding: (&vm{resources: held}).holding("prod")})
		v.comparing, v.resources = true, held
		v.compare()
		for i := range lost {
			delete(held, key("dev", fmt.Sprintf("shown-%d", i)))
		}
	}
	v = comes(&registryv1.Hello{Holding: (&vm{resources: held}).holding("prod")})
	v.comparing, v.resources = true, held
	v.compare()
	if got := len(v.resources); got != len(public)+1 {
		t.Errorf("the VM holds %d resources, want %d", got, len(public)+1)
	}
	return log.messages()
}

// withoutTime is a message without what differs from one run to another: which revision it is of, of which generation, and when. It is nil
// for a message that says nothing else.
func withoutTime(t *testing.T, message []byte) []byte {
	t.Helper()
	response := &registryv1.WatchResponse{}
	if err := proto.Unmarshal(message, response); err != nil {
		t.Fatal(err)
	}
	switch said := response.GetResponse().(type) {
	case *registryv1.WatchResponse_Welcome:
		said.Welcome.Generation = ""
	case *registryv1.WatchResponse_Delta:
		said.Delta.FromRevision, said.Delta.ToRevision, said.Delta.ObservedAt = 0, 0, nil
		// A view is sent in no order.
		slices.SortFunc(said.Delta.Upserts, func(a, b *registryv1.Resource) int { return strings.Compare(a.GetKey(), b.GetKey()) })
		if proto.Size(said.Delta) == 0 {
			return nil
		}
	case *registryv1.WatchResponse_Heartbeat:
		said.Heartbeat.Revision, said.Heartbeat.CurrentAt = 0, nil
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(response)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTenantsSeeNothingOfEachOther: what a VM is sent is the same, byte for byte, whether or not there are resources that it may not
// see, whatever becomes of them: but for the numbers of revisions, the time, and the order of a whole view. So there is nothing of them in it: no key, no
// digest, no bucket, no count.
func TestTenantsSeeNothingOfEachOther(t *testing.T) {
	with, without := play(t, true), play(t, false)
	var both [2][][]byte
	for i, messages := range [][][]byte{with, without} {
		for _, message := range messages {
			if kept := withoutTime(t, message); kept != nil {
				both[i] = append(both[i], kept)
			}
		}
	}
	if len(both[0]) != len(both[1]) || len(both[0]) < 10 {
		t.Fatalf("messages: got %d with private resources, and %d without", len(both[0]), len(both[1]))
	}
	for i := range both[0] {
		if !bytes.Equal(both[0][i], both[1][i]) {
			t.Errorf("message %d: got %x\nand without private resources\n%x", i, both[0][i], both[1][i])
		}
	}

	// The same again for who does not trust that comparison: nothing of any private resource is in the bytes.
	all := bytes.Join(with, nil)
	needles := map[string][]byte{"the address of what was lent once": {203, 0, 113, 99}}
	for version := range 3 {
		for _, update := range secrets(true, version) {
			resource := update.Resources[0]
			body, err := proto.Marshal(resource.Body)
			if err != nil {
				t.Fatal(err)
			}
			what := resource.Key
			needles["key "+what] = []byte(what)
			needles["body of "+what] = body
			digest := registryv1.DigestResource(resource.Key, body)
			needles["digest of "+what] = binary.LittleEndian.AppendUint64(nil, uint64(digest))
			needles["digest of "+what+" the other way"] = binary.BigEndian.AppendUint64(nil, uint64(digest))
			needles["digest of "+what+" as a varint"] = binary.AppendUvarint(nil, uint64(digest))
		}
	}
	for _, word := range []string{"hushhush", "classified", "unseen", "whisper", "contested", "\xcb\x00\x71"} {
		needles[fmt.Sprintf("%q", word)] = []byte(word)
	}
	for what, needle := range needles {
		if bytes.Contains(all, needle) {
			t.Errorf("%s is in what the VM was sent", what)
		}
	}
	if !strings.Contains(string(all), "shown-59") || len(all) < 5000 {
		t.Errorf("the bytes do not hold what the VM may see, want them to")
	}
}
