package mirror

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// everyField are bodies that have every field set that there is.
func everyField() []*registryv1.Body {
	port := &registryv1.Port{Name: "http", Number: 80, Protocol: registryv1.Protocol_PROTOCOL_TCP, Target: 8080}
	return []*registryv1.Body{
		{Body: &registryv1.Body_Service{Service: &registryv1.Service{
			Host: "web.prod.svc.cluster.local", Namespace: "prod", Name: "web", Cluster: "east",
			Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY, Addresses: encodedAddresses("10.0.0.1", "2001:db8::1", "255.254.253.252"),
			AddressKind: registryv1.AddressKind_ADDRESS_KIND_LITERAL, Ports: []*registryv1.Port{port, {Number: 70000}, {}},
			Headless: true, ExternalName: "db.example.com", CreatedAt: 1 << 40, Derived: true, ExportedByName: true,
		}}},
		{Body: &registryv1.Body_EndpointSlice{EndpointSlice: &registryv1.EndpointSlice{
			Namespace: "prod", Name: "db-1", Cluster: "east", Service: "db", Ports: []*registryv1.Port{port},
			Endpoints: []*registryv1.Endpoint{
				{Addresses: encodedAddresses("10.0.0.1"), Hostname: "db-0", Ready: true, Serving: true, Terminating: true, Zone: "a", Node: "b", Name: "vm-10.0.0.1"},
				{Addresses: encodedAddresses("10.0.0.2", "2001:db8::2")}, {},
			},
		}}},
		{Body: &registryv1.Body_Namespace{Namespace: &registryv1.Namespace{Name: "prod", Cluster: "east"}}},
	}
}

// TestDecoderKnowsEveryField: a field added to the registry must be added to the decoder too, or every body
// that has it takes the slow way.
func TestDecoderKnowsEveryField(t *testing.T) {
	var d decoder
	for _, body := range everyField() {
		for _, message := range []proto.Message{body.GetService(), body.GetEndpointSlice(), body.GetNamespace()} {
			reflected := message.ProtoReflect()
			for i := range reflected.Descriptor().Fields().Len() {
				if field := reflected.Descriptor().Fields().Get(i); reflected.IsValid() && !reflected.Has(field) {
					t.Errorf("%s: is not set, want every field", field.FullName())
				}
			}
		}
		encoded, err := proto.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		if !d.known(string(encoded)) {
			t.Errorf("%v: is left to the general decoder", body)
		} else if !proto.Equal(&d.body, body) {
			t.Errorf("Decoded: got %v, want %v", &d.body, body)
		}
	}
}

// FuzzDecode holds the decoder against the general one. It is used twice, so that the second body must not
// have anything of the first.
func FuzzDecode(f *testing.F) {
	var bodies [][]byte
	for _, body := range everyField() {
		encoded, err := proto.Marshal(body)
		if err != nil {
			f.Fatal(err)
		}
		bodies = append(bodies, encoded)
	}
	for _, r := range fuzzResources() {
		bodies = append(bodies, r.Body)
	}
	service := bodies[0]
	bodies = append(bodies, nil, append(slices.Clip(service), service...), service[:len(service)-1],
		protowire.AppendVarint(nil, 1<<63),
		[]byte{0x0a, 3, 0x0a, 1, 0xff},                // no UTF-8
		[]byte{0x0a, 4, 0x0a, 2, 0xc3, 0xa4},          // not ASCII
		[]byte{0x0a, 4, 0x28, 0x81, 0x80, 0},          // a varint longer than it needs
		[]byte{0x0a, 4, 0x0a, 1, 'a', 0x78},           // a field unknown, cut off
		[]byte{0x0a, 0x83, 0x80, 0x00, 0x0a, 1, 'a'},  // a length longer than it needs
		[]byte{0x0a, 5, 0x0a, 1, 'a', 0x08, 1},        // a field of another type
		[]byte{0x0a, 3, 0x0a, 1, 'a', 0x12, 2, 10, 0}, // two kinds in one
	)
	for _, body := range bodies {
		f.Add(service, body)
		f.Add(body, service)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var d decoder
		for _, encoded := range [][]byte{first, second} {
			want, wantErr := decodeBody(encoded)
			got, err := d.decode(string(encoded))
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("Decode %x: got error %v, want %v", encoded, err, wantErr)
			}
			if err == nil && !proto.Equal(got, want) {
				t.Errorf("Decode %x: got %v, want %v", encoded, got, want)
			}
		}
	})
}
