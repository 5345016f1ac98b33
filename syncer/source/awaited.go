package source

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/meshvm/meshvm/syncer/registry"
)

// Pending says what becomes of a host that is due a virtual IP and has none yet.
type Pending struct {
	// Hold is how long it has no address before it is passed on to the VM's other servers. Zero: it is
	// passed on at once.
	Hold time.Duration
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// VirtualIPs is what the statuses of ServiceEntries say, for people and metrics. It is safe for concurrent
// use.
type VirtualIPs struct {
	pending Pending

	mu sync.Mutex
	// entries are the ServiceEntries whose hosts are due virtual IPs, and other that were seen: a host that
	// becomes due in one of those has waited since then, not since the object was made.
	entries map[registry.Object]dueEntry
	other   map[registry.Object]bool
	// held are those with a host that is held back.
	held    map[registry.Object]heldEntry
	waiting int
}

// dueEntry is a ServiceEntry with hosts that are due virtual IPs.
type dueEntry struct {
	created time.Time
	hosts   []dueHost
}

// dueHost has addresses, or waits for them since a time.
type dueHost struct {
	host  string
	ips   virtualIPs
	since time.Time
}

func (h dueHost) waits() bool { return h.ips == virtualIPs{} }

// heldEntry is a ServiceEntry that has to be translated again.
type heldEntry struct {
	state *networkingv1.ServiceEntry
	until time.Time
}

func newVirtualIPs(pending Pending) *VirtualIPs {
	if pending.Now == nil {
		pending.Now = time.Now
	}
	return &VirtualIPs{
		pending: pending,
		entries: map[registry.Object]dueEntry{},
		other:   map[registry.Object]bool{},
		held:    map[registry.Object]heldEntry{},
	}
}

// see notes a ServiceEntry's present state, and returns which of its hosts are held back.
//
// A host waits from when its ServiceEntry was made, so that the restart of a syncer does not begin the time
// anew, and one that becomes due later from when that is seen.
func (v *VirtualIPs) see(object registry.Object, entry *networkingv1.ServiceEntry, hosts []string, addresses entryAddresses) (held map[string]bool) {
	now := v.pending.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	before, known := v.entries[object]
	known = known || v.other[object]
	v.drop(object)

	next := dueEntry{created: entry.CreationTimestamp.Time}
	var until time.Time
	for _, host := range hosts {
		if !addresses.due || !mayHaveVirtualIPs(host, entry) {
			continue
		}
		due := dueHost{host: host, ips: addresses.virtual[host]}
		if due.waits() {
			due.since = before.waitingSince(host, known, next.created, now)
			v.waiting++
			if ends := due.since.Add(v.pending.Hold); v.pending.Hold > 0 && now.Before(ends) {
				if held == nil {
					held = map[string]bool{}
				}
				held[host] = true
				if until.IsZero() || ends.Before(until) {
					until = ends
				}
			}
		}
		next.hosts = append(next.hosts, due)
	}
	switch {
	case len(next.hosts) == 0:
		v.other[object] = true
		return nil
	case held != nil:
		v.held[object] = heldEntry{entry, until}
	}
	v.entries[object] = next
	return held
}

// waitingSince is since when a host waits that waits now. A creation in the future is that of a clock that is
// ahead.
func (e dueEntry) waitingSince(host string, known bool, created, now time.Time) time.Time {
	for _, due := range e.hosts {
		if due.host == host && due.waits() {
			return due.since
		}
	}
	if known || created.After(now) {
		return now
	}
	return created
}

// forget takes a ServiceEntry out that is gone.
func (v *VirtualIPs) forget(object registry.Object) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(object)
}

func (v *VirtualIPs) drop(object registry.Object) {
	for _, due := range v.entries[object].hosts {
		if due.waits() {
			v.waiting--
		}
	}
	delete(v.entries, object)
	delete(v.other, object)
	delete(v.held, object)
}

// Waiting is how many hosts are due a virtual IP and have none, counted once for each ServiceEntry.
func (v *VirtualIPs) Waiting() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.waiting
}

// due is when the first host has been held back for long enough. Zero: none is held back.
func (v *VirtualIPs) due() (at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, held := range v.held {
		if at.IsZero() || held.until.Before(at) {
			at = held.until
		}
	}
	return at
}

// elapsed hands out the ServiceEntries with a host that has been held back for long enough, in order.
func (v *VirtualIPs) elapsed() []Change {
	now := v.pending.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	var changes []Change
	for object, held := range v.held {
		if !now.Before(held.until) {
			changes = append(changes, Change{Object: object, State: held.state})
			delete(v.held, object)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return compareObjects(a.Object, b.Object) })
	return changes
}

func compareObjects(a, b registry.Object) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.Cluster, b.Cluster))
}

// ElapsesAt is when Elapse has something to do that nothing but time brings. Zero: nothing.
func (t *Translator) ElapsesAt() time.Time { return t.virtualIPs.due() }

// Elapse is Translate of what has changed only because time has passed: hosts whose virtual IPs were awaited
// for long enough.
func (t *Translator) Elapse() ([]registry.Update, []Problem) {
	return t.Translate(t.virtualIPs.elapsed()...)
}

// VirtualIPs is what the statuses of the ServiceEntries that were translated say.
func (t *Translator) VirtualIPs() *VirtualIPs { return t.virtualIPs }
