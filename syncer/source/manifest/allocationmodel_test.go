package manifest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/source"
)

// world is a desk with a memory of who was served what, and when last.
type world struct {
	*desk
	random *rand.Rand
	// claims are the hosts of each ServiceEntry that is there.
	claims map[string][]string
	// last is who had an address last, and when that was seen last.
	last map[string]tenancy
	// before is the address of each host that was claimed all the time since it was served.
	before map[string]string
	steps  []string
}

type tenancy struct {
	host string
	at   time.Time
}

// TestAllocationAgainstAModel has ServiceEntries come, change and go, time pass, the ledger fail and syncers
// be killed at random. Whatever happens: what is served is in the ledger, which the desk holds; two hosts never
// have one address; nobody gets what rests; nothing changes while it is claimed; and all have an address when
// all is well.
func TestAllocationAgainstAModel(t *testing.T) {
	const ranges = "240.240.0.0/27" // 31 addresses for 8 hosts: enough, and soon used up by what rests.
	for seed := range uint64(200) {
		w := &world{
			desk: newDesk(t, ranges), random: rand.New(rand.NewPCG(seed, 5)),
			claims: map[string][]string{}, last: map[string]tenancy{}, before: map[string]string{},
		}
		for range 60 {
			w.step(ranges)
			w.check()
		}
		w.recover()
		if t.Failed() {
			t.Fatalf("seed %d, after\n%s", seed, strings.Join(w.steps, "\n"))
		}
	}
}

func (w *world) say(format string, arguments ...any) {
	w.steps = append(w.steps, fmt.Sprintf("%s  ", w.now.Format(time.TimeOnly))+fmt.Sprintf(format, arguments...))
}

func (w *world) step(ranges string) {
	name := fmt.Sprint("entry-", w.random.IntN(5))
	switch w.random.IntN(10) {
	case 0, 1, 2, 3:
		var claimed []string
		for range 1 + w.random.IntN(3) {
			if host := fmt.Sprintf("host-%d.example.com", w.random.IntN(8)); !slices.Contains(claimed, host) {
				claimed = append(claimed, host)
			}
		}
		w.say("put %s %v", name, claimed)
		w.claims[name] = claimed
		w.forgetUnclaimed()
		w.follow(entryOf(name, hosts(claimed...)))
	case 4, 5:
		if _, there := w.claims[name]; there {
			w.say("remove %s", name)
			delete(w.claims, name)
			w.forgetUnclaimed()
			w.follow(withoutState(entryOf(name)))
		}
	case 6:
		w.now = w.now.Add(time.Duration(w.random.Int64N(int64(quarantine))))
		w.say("time passes")
		w.follow()
	case 7:
		w.fault = nil
		if w.random.IntN(2) == 0 {
			w.fault = errors.New("no space left on device")
		}
		w.say("ledger fails: %t", w.fault != nil)
	case 8, 9:
		w.say("restart")
		w.open(ranges)
		var all []source.Change
		for _, name := range slices.Sorted(maps.Keys(w.claims)) {
			all = append(all, entryOf(name, hosts(w.claims[name]...)))
		}
		w.follow(all...)
	}
}

// forgetUnclaimed forgets the addresses of hosts that nobody claims: they may change.
func (w *world) forgetUnclaimed() {
	maps.DeleteFunc(w.before, func(host, _ string) bool { return !w.claimed(host) })
}

func (w *world) claimed(host string) bool {
	for _, hosts := range w.claims {
		if slices.Contains(hosts, host) {
			return true
		}
	}
	return false
}

// addresses are those of each host that is served.
func (w *world) addresses() map[string]string {
	addresses := map[string]string{}
	for key, address := range w.served {
		_, host, _ := strings.Cut(key, " ")
		if had, found := addresses[host]; found && had != address {
			w.t.Errorf("Host %s: served with %s and %s", host, had, address)
		}
		addresses[host] = address
	}
	return addresses
}

func (w *world) check() {
	owners := map[string]string{}
	for host, address := range w.addresses() {
		if other, found := owners[address]; found {
			w.t.Errorf("Address %s: served for %s and %s", address, host, other)
		}
		owners[address] = host
		if last, found := w.last[address]; found && last.host != host && w.now.Sub(last.at) < quarantine {
			w.t.Errorf("Address %s: served for %s, and for %s %v ago", address, host, last.host, w.now.Sub(last.at))
		}
		if before, found := w.before[host]; found && before != address {
			w.t.Errorf("Host %s: served with %s, and with %s before, though it was claimed all the time", host, address, before)
		}
		w.last[address], w.before[host] = tenancy{host, w.now}, address
	}
}

// recover waits until everything that time brings is done, with a ledger that works.
func (w *world) recover() {
	w.fault = nil
	w.say("all is well")
	for range 10 {
		w.now = w.now.Add(quarantine + time.Second)
		w.follow()
		w.check()
	}
	addresses := w.addresses()
	for _, hosts := range w.claims {
		for _, host := range hosts {
			if addresses[host] == "" {
				w.t.Errorf("Host %s: it is claimed and has no address", host)
			}
		}
	}
}
