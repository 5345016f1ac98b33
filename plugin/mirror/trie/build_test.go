package trie

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestBuildEqualsPuts builds maps at once, with keys that come again, and holds them against a Go map; and
// then edits them, as any other map.
func TestBuildEqualsPuts(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			for count := range 150 {
				keys := make([]int, count)
				model := map[int]int{}
				for i := range keys {
					keys[i] = random.IntN(200)
					model[keys[i]] = model[keys[i]]*10 + 1 + i%7
				}
				m := Build(hash, count, func(i int) int { return keys[i] }, func(i int) int { return 1 + i%7 },
					func(held, added int) int { return held*10 + added })
				checkEqual(t, &m, model)
				checkShape(t, m.root, 0)

				edit := m.Edit()
				for _, key := range keys[:count/2] {
					edit.Delete(key)
				}
				if checkEqual(t, &m, model); t.Failed() {
					t.Fatal("The built map changed with an Editor of it")
				}
				for _, key := range keys[:count/2] {
					delete(model, key)
				}
				edited := edit.Map()
				checkEqual(t, &edited, model)
				checkShape(t, edited.root, 0)
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	const count = 100_000
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		Build(HashString, count, func(i int) string { return keys[i] }, func(i int) int { return i }, func(held, _ int) int { return held })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/key")
}
