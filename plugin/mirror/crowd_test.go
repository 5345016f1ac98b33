package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// TestManyHostsShareAnAddress: an address that thousands of hosts have points back to the same names, in whatever
// steps they came and went.
func TestManyHostsShareAnAddress(t *testing.T) {
	const hosts = 2000 // enough copies for indexOf to go about it in the other way
	var crowd, left []*registryv1.Resource
	for i := range hosts {
		name := fmt.Sprintf("h%d", (i*7919)%hosts)
		crowd = append(crowd, serviceEntry("prod", name, name+".example.com", "192.0.2.1", fmt.Sprintf("10.9.%d.%d", i>>8, i&255)))
		if i%3 == 0 {
			crowd = append(crowd, kubernetesService("prod", name, "192.0.2.1"))
		}
	}
	crowd = append(crowd, headlessService("prod", "db"), endpointSlice("prod", "db-1", "db", ready("db-0", "192.0.2.1"), ready("db-1", "192.0.2.1")))
	whole := loaded(t, crowd...).State()
	names := whole.pointers
	if held, _ := names.Get(netip.MustParseAddr("192.0.2.1")); len(held.names) != len(crowd) {
		t.Fatalf("Names of the address: got %d, want %d", len(held.names), len(crowd))
	}
	for _, step := range []int{1, 3, 100, len(crowd)} {
		t.Run(fmt.Sprintf("by %d", step), func(t *testing.T) {
			m := loaded(t, namespaceResource("prod"))
			mustApply(t, m, delta(m.State(), []string{namespaceResource("prod").Key}))
			for chunk := range slices.Chunk(crowd, step) {
				mustApply(t, m, delta(m.State(), nil, chunk...))
			}
			if got, want := dump(m.State()), dump(whole); got != want {
				t.Fatalf("In steps of %d: got\n%.2000s\nwant\n%.2000s", step, got, want)
			}
			checkInvariants(t, m.State())
			left = crowd[:len(crowd)/2]
			for chunk := range slices.Chunk(crowd[len(left):], step) {
				var keys []string
				for _, resource := range chunk {
					keys = append(keys, resource.Key)
				}
				mustApply(t, m, delta(m.State(), keys))
			}
			if got, want := dump(m.State()), dump(loaded(t, left...).State()); got != want {
				t.Errorf("Half of them gone in steps of %d: got\n%.2000s\nwant\n%.2000s", step, got, want)
			}
		})
	}
}
