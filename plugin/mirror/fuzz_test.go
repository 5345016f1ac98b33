package mirror

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// FuzzSnapshot feeds the decoder anything, as it is and with length and checksum set right. It must
// refuse or yield a registry that can be saved and is the same again.
func FuzzSnapshot(f *testing.F) {
	whole := saved(f, sample(f))
	f.Add(whole, false)
	f.Add(whole, true)
	f.Add(whole[:len(whole)/2], true)
	f.Add(headerOnly(testGeneration, testDomain), true)
	f.Add(twice(whole), true)
	f.Add([]byte("apiVersion: v1"), false)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = sealed(data)
		}
		state, err := restored(data)
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
	})
}

// FuzzApply feeds Apply any body. It must refuse and change nothing, or apply it; and what is removed
// again has left no trace.
func FuzzApply(f *testing.F) {
	for _, resource := range []*registryv1.Resource{
		kubernetesService("prod", "web", "10.0.0.1", "2001:db8::1"),
		headlessService("prod", "other"),
		endpointSlice("prod", "db-2", "db", ready("db-0", "10.1.0.1"), ready("", "10.1.0.9")),
		serviceEntry("prod", "x", "db-0.db.prod.svc.cluster.local", "10.1.0.1"),
		serviceEntry("prod", "x", "*.example.com", "192.0.2.1"),
		namespaceResource("prod"),
		{Key: "newer", Body: protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), []byte("body"))},
	} {
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
			return
		}
		checkInvariants(t, m.State())
		undo := delta(m.State(), []string{key})
		if held, known := before.resources.Get(key); known {
			undo = delta(m.State(), nil, &registryv1.Resource{Key: key, Body: held.body})
		}
		mustApply(t, m, undo)
		if got := dump(m.State()); got != content {
			t.Errorf("Applied and undone: got\n%s\nwant\n%s", got, content)
		}
	})
}
