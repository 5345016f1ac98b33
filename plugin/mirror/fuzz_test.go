package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// FuzzSnapshot feeds the decoder anything, as it is and with length, checksum and digest set right. It must
// refuse and say why, or yield a registry that can be saved and is the same again.
func FuzzSnapshot(f *testing.F) {
	whole := saved(f, sample(f))
	for _, data := range [][]byte{
		whole, whole[:len(whole)/2], whole[:preambleSize], nil, headerOnly(testGeneration, testDomain), twice(whole), digestBroken(bytes.Clone(whole)),
		saved(f, loaded(f)), saved(f, loaded(f, fuzzResources()...)), []byte("apiVersion: v1"),
	} {
		f.Add(data, false)
		f.Add(data, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend {
			data = mended(data)
		}
		state, err := restored(data)
		if unusable, is := errors.AsType[*SnapshotError](err); is != (err != nil) || is && unusable.Fault == "" {
			t.Fatalf("Error: got %v, want a SnapshotError with its fault", err)
		}
		if err != nil {
			return
		}
		checkInvariants(t, state)
		var b bytes.Buffer
		if err := encodeSnapshot(&b, state, 0); err != nil {
			t.Fatalf("Encode: %v", err)
		}
		again, err := restored(b.Bytes())
		if err != nil {
			t.Fatalf("Decode what was encoded: %v", err)
		}
		if got, want := dump(again), dump(state); got != want {
			t.Errorf("Saved and loaded: got\n%s\nwant\n%s", got, want)
		}
		for at := 0; at < b.Len(); at += 1 + b.Len()/16 {
			flipped := bytes.Clone(b.Bytes())
			flipped[at] ^= 1 << (at % 8)
			if _, err := restored(flipped); err == nil {
				t.Errorf("Bit %d of byte %d flipped: got a registry, want an error", at%8, at)
			}
		}
	})
}

// mended is data with the length, the digest and the checksum that a snapshot of its content would have: the
// decoder must not rely on them alone.
func mended(data []byte) []byte {
	data = sealed(data)
	decoded, err := decodeSnapshot(data)
	if err != nil {
		return data
	}
	var digest registryv1.Digest
	fields := fieldReader{rest: decoded.encoded}
	for fields.err == nil && len(fields.rest) > 0 {
		digest.Add(registryv1.DigestResource(string(fields.bytes()), fields.bytes()))
	}
	// The digest is the last but one of the header's fields.
	end := len(data) - checksumSize - len(decoded.encoded)
	binary.LittleEndian.PutUint64(data[end-16:], uint64(digest))
	return sealed(data)
}

// fuzzResources are resources of every kind.
func fuzzResources() []*registryv1.Resource {
	return []*registryv1.Resource{
		kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1"),
		headlessService("prod", "other"),
		endpointSlice("prod", "db-2", "db", ready("db-0", "10.1.0.1"), ready("", "10.1.0.9")),
		serviceResource("alias", &registryv1.Service{
			Host: "alias.prod.svc." + testDomain, Namespace: "prod", Name: "alias",
			Origin: registryv1.Origin_ORIGIN_KUBERNETES, ExternalName: "db.example.net",
		}),
		serviceEntry("prod", "x", "db-0.db.prod.svc.cluster.local", "10.1.0.1"),
		serviceEntry("prod", "y", "*.example.com", "192.0.2.1"),
		namespaceResource("prod"),
		{Key: "newer", Body: protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("body"))},
	}
}

// FuzzApply feeds Apply any body. It must refuse and change nothing, or apply it; and what is removed
// again has left no trace.
func FuzzApply(f *testing.F) {
	for _, resource := range fuzzResources() {
		f.Add(resource.Key, resource.Body)
	}
	f.Fuzz(func(t *testing.T, key string, body []byte) {
		m := sample(t)
		before := m.State()
		content := dump(before)
		if err := m.Apply(delta(before, nil, &registryv1.Resource{Key: key, Body: body})); err != nil {
			if m.State() != before || dump(before) != content {
				t.Fatalf("Refused (%v), and the State changed", err)
			}
			if key != "" && !strings.Contains(err.Error(), quote(key)) {
				t.Errorf("Error: got %q, want it to name %s", err, quote(key))
			}
			return
		}
		checkInvariants(t, m.State())
		undo := delta(m.State(), []string{key})
		if held, known := before.resources.Get(key); known {
			undo = delta(m.State(), nil, &registryv1.Resource{Key: key, Body: []byte(held.body(key))})
		}
		mustApply(t, m, undo)
		if got := dump(m.State()); got != content {
			t.Errorf("Applied and undone: got\n%s\nwant\n%s", got, content)
		}
	})
}
