package kubernetes

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestEveryHostGetsOneAddressOfEachFamily(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("before", "a.test", "b.test", "*.wild.test"))
	r := f.start()
	f.create(f.serviceEntry("after", "c.test"))

	taken := map[string]bool{}
	f.awaitAddresses("before", 4)
	f.awaitAddresses("after", 2)
	records := f.records()
	for _, name := range []string{"before", "after"} {
		for _, pair := range f.addresses(name) {
			host, text, _ := strings.Cut(pair, "=")
			address := netip.MustParseAddr(text)
			if !r.config.Allocation.Ranges.Contains(address) {
				t.Errorf("address of %s: got %s, want one of the ranges", host, address)
			}
			if taken[text] {
				t.Errorf("address of %s: got %s, which another host has", host, address)
			}
			taken[text] = true
			if record := records[address]; record.Host != host || !record.InUse() {
				t.Errorf("record of %s: got %+v, want that %s has it", address, record, host)
			}
		}
	}
	if slices.ContainsFunc(f.addresses("before"), func(pair string) bool { return strings.HasPrefix(pair, "*") }) {
		t.Errorf("addresses of a wildcard without DYNAMIC_DNS: got %q, want none", f.addresses("before"))
	}
	r.expectMetric(1, "leader")
	r.expectMetric(3, "used_addresses", "range", "240.240.0.0/24")
	r.expectMetric(254, "addresses", "range", "240.240.0.0/24")
}

func TestRunLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("a", "a.test", "b.test", "c.test", "d.test"))
	f.addresses("a") // The administrator's connection is there.
	before := goleak.IgnoreCurrent()
	r := f.start(within("240.240.0.0/30"))
	f.eventually("an Event", func() bool { return f.event("a", "AddressesExhausted") })
	r.stop()
	goleak.VerifyNone(t, before)
}
