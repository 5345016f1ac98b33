package kubernetes

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// nth is a condition that holds for a request the nth time that another does.
func nth(n int32, condition func(*http.Request) bool) func(*http.Request) bool {
	var seen atomic.Int32
	return func(request *http.Request) bool { return condition(request) && seen.Add(1) == n }
}

// statuses are what all ServiceEntries of the test's namespace say, by host and family.
func (f *fixture) statuses(names []string) map[string]string {
	f.t.Helper()
	all := map[string]string{}
	for _, name := range names {
		for _, pair := range f.addresses(name) {
			host, address, _ := strings.Cut(pair, "=")
			family := "IPv4"
			if strings.Contains(address, ":") {
				family = "IPv6"
			}
			all[host+" "+family] = address
		}
	}
	return all
}

func expectNoAddressTwice(t *testing.T, statuses map[string]string) {
	t.Helper()
	of := map[string]string{}
	for host, address := range statuses {
		if other, taken := of[address]; taken {
			t.Errorf("%s has %s, which %s has as well", host, address, other)
		}
		of[address] = host
	}
}

// A leader dies at some request. What was in a status stays, what was in the ledger is what is given, and a
// leader that starts from nothing changes nothing.
func TestLeaderThatDies(t *testing.T) {
	tests := map[string]*cut{
		"between allocation and ledger":              newCut(false, nth(1, isLedgerWrite)),
		"when some of the ledger is written":         newCut(false, nth(20, isLedgerWrite)),
		"with its answer on the way":                 newCut(true, nth(20, isLedgerWrite)),
		"between ledger and the first status":        newCut(false, nth(1, isPatch)),
		"after the first status":                     newCut(true, nth(1, isPatch)),
		"when some of the statuses are written":      newCut(false, nth(17, isPatch)),
		"when all but the last of them are written":  newCut(false, nth(40, isPatch)),
		"after the last of them, without its answer": newCut(true, nth(40, isPatch)),
	}
	for name, death := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var names []string
			for i := range 40 {
				name := fmt.Sprintf("e%d", i)
				names = append(names, name)
				f.create(f.serviceEntry(name, name+".test"))
			}
			first := f.start(through(death))
			f.eventually("the death of the leader", func() bool {
				select {
				case <-death.died:
					return true
				default:
					return false
				}
			})
			atDeath, stored := f.statuses(names), f.records()
			second := f.start()
			for _, name := range names {
				f.awaitAddresses(name, 2)
			}
			after := f.statuses(names)
			expectNoAddressTwice(t, after)
			for host, address := range atDeath {
				if after[host] != address {
					t.Errorf("%s: got %s after the change of leaders, want %s as before", host, after[host], address)
				}
			}
			records := f.records()
			for address, record := range stored {
				if now := records[address]; now.Host != record.Host {
					t.Errorf("record of %s: got host %q, want %q as before", address, now.Host, record.Host)
				}
			}
			first.stop()
			second.stop()

			versions := map[string]string{}
			for _, name := range names {
				versions[name] = f.get(name).GetResourceVersion()
			}
			third := f.start()
			third.awaitLeading()
			f.settle()
			if got := f.statuses(names); !maps.Equal(got, after) {
				t.Errorf("addresses after a start from nothing: got %v, want %v", got, after)
			}
			for _, name := range names {
				if got := f.get(name).GetResourceVersion(); got != versions[name] {
					t.Errorf("%s was written by a start from nothing", name)
				}
			}
		})
	}
}

// Whoever was deposed without knowing it cannot do harm: what it writes late fails, or is what the next
// leader would have written.
func TestTwoThatBelieveToLead(t *testing.T) {
	f := newFixture(t)
	var names []string
	for i := range 30 {
		name := fmt.Sprintf("e%d", i)
		names = append(names, name)
	}
	// They have the same ledger, but each a Lease of its own.
	a, b := f.start(), f.start(func(c *Config) { c.Identity = "second"; c.leaseName = "another-lease" })
	f.grantLease("another-lease")
	a.awaitLeading()
	b.awaitLeading()
	for _, name := range names {
		f.create(f.serviceEntry(name, name+".test"))
	}
	for _, name := range names {
		f.awaitAddresses(name, 2)
	}
	statuses := f.statuses(names)
	expectNoAddressTwice(t, statuses)
	for address, record := range f.records() {
		if host, found := statuses[record.Host+" "+map[bool]string{true: "IPv4", false: "IPv6"}[address.Is4()]]; found && host != address.String() && record.InUse() {
			t.Errorf("record of %s: it is in use by %s, whose status says %s", address, record.Host, host)
		}
	}
	if got := slices.Max([]float64{a.metric("ledger_writes_total", "result", "conflict"), b.metric("ledger_writes_total", "result", "conflict")}); got == 0 {
		t.Error("conflicts on the ledger: got none, want some: both lead")
	}
}
