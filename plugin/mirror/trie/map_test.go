package trie

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// hashes of differing quality: the worst puts all keys into one node below the hash's last bit.
var hashes = map[string]func(int) uint64{
	"good":             HashComparable[int],
	"few values":       func(key int) uint64 { return uint64(key % 7) },
	"one value":        func(int) uint64 { return 1<<63 + 42 },
	"only high bits":   func(key int) uint64 { return uint64(key) << 56 },
	"differs at last":  func(key int) uint64 { return uint64(key%2) << 63 },
	"identical to key": func(key int) uint64 { return uint64(key) },
}

// TestMapEqualsModel edits maps at random and holds every version, old ones too, against Go maps.
func TestMapEqualsModel(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			type version struct {
				m     Map[int, int]
				model map[int]int
			}
			m, model := New[int, int](hash), map[int]int{}
			var versions []version
			for range 120 {
				edit := m.Edit()
				for range random.IntN(40) {
					key, value := random.IntN(200), random.Int()
					_, there := model[key]
					switch random.IntN(5) {
					case 0, 1:
						if got := edit.Delete(key); got != there {
							t.Fatalf("Delete(%d): got %t, want %t", key, got, there)
						}
						delete(model, key)
					case 2:
						// What the Editor goes on to do must not show in a Map taken from it before.
						versions = append(versions, version{edit.Map(), maps.Clone(model)})
						fallthrough
					default:
						edit.Put(key, value)
						model[key] = value
					}
					if got, found := edit.Get(key); found != (model[key] != 0) || got != model[key] {
						t.Fatalf("Get(%d) while editing: got %d, %t, want %d", key, got, found, model[key])
					}
				}
				m = edit.Map()
				versions = append(versions, version{m, maps.Clone(model)})
			}
			for _, v := range versions {
				checkEqual(t, &v.m, v.model)
				checkShape(t, v.m.root, 0)
			}
			edit := m.Edit()
			for key := range model {
				edit.Delete(key)
			}
			if m := edit.Map(); m.root != nil || m.Len() != 0 {
				t.Errorf("Emptied map: got %d keys and root %v, want none", m.Len(), m.root)
			}
		})
	}
}

func checkEqual(t *testing.T, m *Map[int, int], model map[int]int) {
	t.Helper()
	if m.Len() != len(model) {
		t.Fatalf("Len: got %d, want %d", m.Len(), len(model))
	}
	if got := maps.Collect(m.All()); !maps.Equal(got, model) {
		t.Fatalf("All: got %v, want %v", got, model)
	}
	for key := range 200 {
		got, found := m.Get(key)
		if want, there := model[key]; found != there || got != want {
			t.Fatalf("Get(%d): got %d, %t, want %d, %t", key, got, found, want, there)
		}
	}
}

// checkShape checks that no node is larger than what it holds, nor there for a single entry.
func checkShape(t *testing.T, n *node[int, int], shift uint) {
	t.Helper()
	if n == nil {
		return
	}
	if shift > 0 && len(n.entries)+2*len(n.children) < 2 {
		t.Fatalf("Node at depth %d: got %d entries and %d children, want what one place cannot hold", shift/fanBits, len(n.entries), len(n.children))
	}
	if n.places&n.forks != 0 {
		t.Fatalf("Node at depth %d: got places %b and forks %b, want none in both", shift/fanBits, n.places, n.forks)
	}
	if cap(n.entries) != len(n.entries) || cap(n.children) != len(n.children) {
		t.Fatalf("Node at depth %d: got room to spare, want slices of the exact size", shift/fanBits)
	}
	for _, child := range n.children {
		checkShape(t, child, shift+fanBits)
	}
}

func TestAllStops(t *testing.T) {
	m := filled(1000)
	for want := range 3 {
		got := 0
		for range m.All() {
			if got == want {
				break
			}
			got++
		}
		if got != want {
			t.Errorf("Keys before the break: got %d, want %d", got, want)
		}
	}
}

func TestEmptyMap(t *testing.T) {
	m := New[string, int](HashString)
	if value, found := m.Get("a"); found || value != 0 {
		t.Errorf("Get: got %d, %t, want 0, false", value, found)
	}
	edit := m.Edit()
	if edit.Delete("a") {
		t.Error("Delete: got true, want false")
	}
	for key := range m.All() {
		t.Errorf("All: got %q, want nothing", key)
	}
}

func TestPutReplacesTheKey(t *testing.T) {
	hash := func(float64) uint64 { return 0 }
	m := New[float64, int](hash)
	edit := m.Edit()
	negative := 0.0
	negative *= -1
	edit.Put(0, 1)
	edit.Put(negative, 2) // equal to 0, and not the same
	m = edit.Map()
	for key, value := range m.All() {
		if 1/key > 0 || value != 2 || m.Len() != 1 {
			t.Errorf("Got %g: %d of %d, want -0: 2 of 1", key, value, m.Len())
		}
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	m := filled(1000)
	if got := testing.AllocsPerRun(100, func() { m.Get("key-500"); m.Get("nothing") }); got != 0 {
		t.Errorf("Allocations: got %g, want 0", got)
	}
}

func filled(count int) Map[string, int] {
	m := New[string, int](HashString)
	edit := m.Edit()
	for i := range count {
		edit.Put(fmt.Sprintf("key-%d", i), i)
	}
	return edit.Map()
}

func BenchmarkGet(b *testing.B) {
	for _, count := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			m := filled(count)
			b.ReportAllocs()
			for b.Loop() {
				m.Get("key-500")
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, count := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			m := filled(count)
			b.ReportAllocs()
			for b.Loop() {
				edit := m.Edit()
				edit.Put("key-500", 0)
				m = edit.Map()
			}
		})
	}
}

func BenchmarkFill(b *testing.B) {
	const count = 100_000
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		m := New[string, int](HashString)
		edit := m.Edit()
		for i, key := range keys {
			edit.Put(key, i)
		}
		m = edit.Map()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/key")
}
