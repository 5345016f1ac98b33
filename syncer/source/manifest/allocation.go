package manifest

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/source"
	"github.com/meshvm/meshvm/syncer/vip"
)

// Allocation says how the hosts of manifests are given virtual IPs.
type Allocation struct {
	// Options of the allocator.
	Options vip.Options
	// Records are what the ledger holds.
	Records []vip.Record
	// Ledger is where records are kept.
	Ledger Ledger
}

// Ledger keeps the records of virtual IPs, so that they outlive the process.
type Ledger interface {
	// Save makes records the whole content of the ledger. They last when it returns without an error.
	Save(records []vip.Record) error
}

// allocation gives virtual IPs to the hosts of ServiceEntries that are read from manifests. Manifests have no
// status that could be written: what it gives is put into copies of them, and kept in a ledger. An address is
// in the ledger before anybody hears of it.
type allocation struct {
	ledger  Ledger
	log     *slog.Logger
	metrics allocationMetrics

	// mu guards the allocator, which people ask too.
	mu        sync.Mutex
	allocator *vip.Allocator

	entries map[vip.Owner]*allocated
	// unsaved are the addresses whose records the ledger does not hold as they are now. A ServiceEntry whose
	// status has one of them lags: it stays as it was.
	unsaved map[netip.Addr]bool
	lagging map[vip.Owner]bool
	// stale says that the ledger has to be saved. retry is when, if that has failed, for the failures-th time.
	stale    bool
	retry    time.Time
	failures int
}

// allocated is a ServiceEntry and what was given to it.
type allocated struct {
	object registry.Object
	// state is the ServiceEntry as the manifest has it.
	state *networkingv1.ServiceEntry
	// planned is the status that it should have, status the one that it is served with.
	planned, status []vip.HostAddress
	problems        []vip.Problem
	// faults are entries of the manifest's status that no address can be read from.
	faults []source.Problem
}

// Times between two tries to save the ledger.
const (
	firstRetry   = time.Second
	longestRetry = time.Minute
)

func newAllocation(config *Allocation, log *slog.Logger, metrics allocationMetrics) *allocation {
	a := &allocation{
		ledger:    config.Ledger,
		log:       log,
		metrics:   metrics,
		allocator: vip.New(config.Options),
		entries:   map[vip.Owner]*allocated{},
		unsaved:   map[netip.Addr]bool{},
		lagging:   map[vip.Owner]bool{},
	}
	a.allocator.Restore(config.Records)
	return a
}

// follow takes changes of objects and returns them with the virtual IPs that ServiceEntries have now, and with
// all others whose virtual IPs are other ones now. accepts tells states that count.
func (a *allocation) follow(changes []source.Change, accepts func(source.Change) bool, now time.Time) []source.Change {
	touched := map[vip.Owner]bool{}
	a.mu.Lock()
	for _, change := range changes {
		if accepts(change) {
			a.take(change, touched)
		}
	}
	a.plan(touched)
	records := a.recordsToSave(now)
	a.mu.Unlock()
	if records != nil {
		a.save(records, now)
	}
	return a.apply(changes, touched)
}

// take tells the allocator of a change.
func (a *allocation) take(change source.Change, touched map[vip.Owner]bool) {
	owner := vip.Owner{Namespace: change.Object.Namespace, Name: change.Object.Name}
	holder := change.Object.String()
	switch state := change.State.(type) {
	case *corev1.Service:
		a.allocator.Reserve(holder, prefixes(state.Spec.ClusterIPs, []string{state.Spec.ClusterIP})...)
	case *networkingv1.ServiceEntry:
		entry := a.entries[owner]
		if entry == nil {
			entry = &allocated{object: change.Object}
			a.entries[owner] = entry
		}
		entry.state = state
		entry.planned = merge(entry.planned, entry.written())
		a.allocator.Reserve(holder, prefixes(state.Spec.GetAddresses())...)
		a.put(owner, entry)
		touched[owner] = true
	case nil:
		a.allocator.Reserve(holder)
		if change.Object.Kind == source.KindServiceEntry {
			a.allocator.Remove(owner)
			delete(a.entries, owner)
			delete(a.lagging, owner)
		}
	}
}

func (a *allocation) put(owner vip.Owner, entry *allocated) {
	a.allocator.Put(vip.Claim{
		Owner:     owner,
		CreatedAt: entry.state.CreationTimestamp.Time,
		Hosts:     source.VirtualIPHosts(entry.state),
		Status:    entry.planned,
	})
}

// written is the status that the manifest has.
func (e *allocated) written() []vip.HostAddress {
	var status []vip.HostAddress
	e.faults = nil
	for i, entry := range e.state.Status.GetAddresses() {
		address, err := netip.ParseAddr(entry.GetValue())
		if err == nil && address.Zone() == "" && !address.IsUnspecified() && entry.GetHost() != "" {
			status = append(status, vip.HostAddress{Host: entry.GetHost(), Address: address.Unmap()})
			continue
		}
		e.faults = append(e.faults, source.Problem{
			Object: e.object, Field: fmt.Sprintf("status.addresses[%d]", i), What: fmt.Sprintf("host %q, value %q", entry.GetHost(), entry.GetValue()),
			Want: "a host and an address", Effect: source.Partial,
		})
	}
	return status
}

// merge is a status after somebody has written to it: what is written counts, and what was given for other
// hosts and families stays.
func merge(planned, written []vip.HostAddress) []vip.HostAddress {
	same := func(x, y vip.HostAddress) bool {
		return strings.EqualFold(strings.TrimSuffix(x.Host, "."), strings.TrimSuffix(y.Host, ".")) && x.Address.Is4() == y.Address.Is4()
	}
	kept := slices.DeleteFunc(slices.Clone(planned), func(had vip.HostAddress) bool {
		return slices.ContainsFunc(written, func(w vip.HostAddress) bool { return same(had, w) })
	})
	return append(kept, written...)
}

// prefixes are the texts that are addresses or networks, each as a network.
func prefixes(lists ...[]string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range slices.Concat(lists...) {
		if address, err := netip.ParseAddr(text); err == nil {
			address = address.Unmap().WithZone("")
			all = append(all, netip.PrefixFrom(address, address.BitLen()))
		} else if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix)
		}
	}
	return all
}

// maxRounds bounds how often what was given is planned with again. The second time nothing is left to do.
const maxRounds = 8

// noLimit has a plan give addresses to all hosts at once: nothing is written for each of them.
const noLimit = 1 << 30

// plan has the allocator decide, and tells it that its patches are applied.
func (a *allocation) plan(touched map[vip.Owner]bool) {
	for range maxRounds {
		plan := a.allocator.Plan(noLimit)
		for _, record := range plan.Store {
			a.unsaved[record.Address] = true
		}
		a.stale = a.stale || len(plan.Store)+len(plan.Forget) > 0
		for _, patch := range plan.Patches {
			entry := a.entries[patch.Owner]
			entry.planned = patch.Addresses
			a.put(patch.Owner, entry)
			touched[patch.Owner] = true
		}
		for _, verdict := range plan.Verdicts {
			a.entries[verdict.Owner].problems = verdict.Problems
			touched[verdict.Owner] = true
		}
		if len(plan.Patches) == 0 && !plan.More {
			return
		}
	}
}

// recordsToSave are what has to be saved now, nil if nothing has.
func (a *allocation) recordsToSave(now time.Time) []vip.Record {
	if !a.stale || now.Before(a.retry) {
		return nil
	}
	return a.allocator.Records()
}

func (a *allocation) save(records []vip.Record, now time.Time) {
	err := a.ledger.Save(records)
	a.metrics.saved(err)
	if err != nil {
		a.failures++
		a.retry = now.Add(min(firstRetry<<min(a.failures-1, 10), longestRetry))
		a.log.Error("cannot save the ledger of virtual IPs, nobody is given a new one until it can be", "error", err, "failures", a.failures, "next try", a.retry)
		return
	}
	if a.failures > 0 {
		a.log.Info("the ledger of virtual IPs is saved again", "failures", a.failures)
	}
	a.stale, a.failures, a.retry = false, 0, time.Time{}
	clear(a.unsaved)
}

// apply puts into the changes what ServiceEntries have now, and adds those that changed only by that.
func (a *allocation) apply(changes []source.Change, touched map[vip.Owner]bool) []source.Change {
	for owner := range a.lagging {
		touched[owner] = true
	}
	var applied []source.Change
	for _, change := range changes {
		owner := vip.Owner{Namespace: change.Object.Namespace, Name: change.Object.Name}
		if state, isEntry := change.State.(*networkingv1.ServiceEntry); isEntry && touched[owner] && a.entries[owner].state == state {
			continue // Below.
		}
		applied = append(applied, change)
	}
	for owner := range touched {
		entry := a.entries[owner]
		if entry == nil {
			continue
		}
		isUnsaved := func(had vip.HostAddress) bool { return a.unsaved[had.Address] }
		if slices.ContainsFunc(entry.planned, isUnsaved) {
			a.lagging[owner] = true
		} else {
			entry.status = entry.planned
			delete(a.lagging, owner)
		}
		applied = append(applied, source.Change{Object: entry.object, State: entry.served()})
	}
	slices.SortFunc(applied, func(x, y source.Change) int { return compareObjects(x.Object, y.Object) })
	return applied
}

// served is the ServiceEntry with the status that it is served with.
func (e *allocated) served() *networkingv1.ServiceEntry {
	served := e.state.DeepCopy()
	served.Status.Addresses = nil
	for _, given := range e.status {
		served.Status.Addresses = append(served.Status.Addresses, &networking.ServiceEntryAddress{Host: given.Host, Value: given.Address.String()})
	}
	return served
}

// wants says what somebody should do about a problem.
var wants = map[vip.Reason]string{
	vip.Conflict:  "an address for one host only",
	vip.Exhausted: "larger ranges, or fewer hosts",
	vip.Divergent: "the same address in each of them",
}

// problemsOf are the present problems of an object's virtual IPs.
func (a *allocation) problemsOf(object registry.Object) []source.Problem {
	if a == nil || object.Kind != source.KindServiceEntry {
		return nil
	}
	entry := a.entries[vip.Owner{Namespace: object.Namespace, Name: object.Name}]
	if entry == nil {
		return nil
	}
	problems := slices.Clone(entry.faults)
	for _, problem := range entry.problems {
		problems = append(problems, source.Problem{
			Object: object, Field: "status.addresses", What: fmt.Sprintf("%s: host %s: %s", problem.Reason, problem.Host, problem.Message),
			Want: wants[problem.Reason], Effect: source.Served,
		})
	}
	return problems
}

// wake is when there is something to do that nothing but time brings. Zero: nothing.
func (a *allocation) wake() time.Time {
	if a == nil {
		return time.Time{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return sooner(a.allocator.Wake(), a.retry)
}

// sooner is the earlier of two times, of which the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// table is all virtual IPs, for people.
func (a *allocation) table() vip.Table {
	a.mu.Lock()
	defer a.mu.Unlock()
	return vip.Table{Mode: vip.ModeAllocate, Ranges: a.allocator.Usage(), Hosts: a.allocator.Rows()}
}

// measure counts hosts with problems.
func (a *allocation) measure() {
	a.mu.Lock()
	usage := a.allocator.Usage()
	a.mu.Unlock()
	hosts := map[vip.Reason]map[string]bool{}
	for _, entry := range a.entries {
		for _, problem := range entry.problems {
			if hosts[problem.Reason] == nil {
				hosts[problem.Reason] = map[string]bool{}
			}
			hosts[problem.Reason][problem.Host] = true
		}
	}
	a.metrics.set(usage, hosts)
}
