package source

import (
	"fmt"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// BenchmarkWorkloadChange changes one of many WorkloadEntries, of which each of many ServiceEntries in the same
// namespace selects ten.
func BenchmarkWorkloadChange(b *testing.B) {
	for _, count := range []int{100, 10_000} {
		b.Run(fmt.Sprint(count, " workloads"), func(b *testing.B) {
			translator, err := NewTranslator(Options{})
			if err != nil {
				b.Fatal(err)
			}
			labelled := func(i int, address string) *networkingv1.WorkloadEntry {
				return vm(fmt.Sprintf("vm-%d", i), address, func(w *networkingv1.WorkloadEntry) {
					w.Spec.Labels = map[string]string{"app": fmt.Sprint("app-", i/10), "tier": "one"}
				})
			}
			var changes []Change
			for i := range count {
				changes = append(changes, present(labelled(i, "10.0.0.1")))
			}
			for i := range count / 10 {
				changes = append(changes, present(entry(selects("app", fmt.Sprint("app-", i), "tier", "one"), hosts(fmt.Sprintf("app-%d.com", i)),
					func(e *networkingv1.ServiceEntry) { e.Name = fmt.Sprint("app-", i) })))
			}
			translator.Translate(changes...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if updates, _ := translator.Translate(present(labelled(i%count, fmt.Sprintf("10.0.0.%d", i%200)))); len(updates) != 1 {
					b.Fatalf("updates: got %d, want 1", len(updates))
				}
			}
		})
	}
}
