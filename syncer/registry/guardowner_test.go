package registry

import (
	"slices"
	"testing"
	"time"
)

// selected is what workloads, all of them present, yield for the Service that selects them.
func selected(service string, workloads ...string) []Update {
	var updates []Update
	for _, name := range workloads {
		updates = append(updates, Update{
			Object: workload(service, name), Present: true,
			Resources: []Resource{{Key: service + name, Visibility: Public(), Body: serviceBody(name)}},
		})
	}
	return updates
}

func workload(service, name string) Object {
	return Object{Kind: "WorkloadEntry", Namespace: object(service).Namespace, Name: name, Of: Owner{Kind: "Service", Name: service}}
}

// unselected are the same workloads when they yield nothing any more, and are there or not.
func unselected(present bool, service string, workloads ...string) []Update {
	var updates []Update
	for _, name := range workloads {
		updates = append(updates, Update{Object: workload(service, name), Present: present})
	}
	return updates
}

func keys(service string, workloads ...string) []string {
	var all []string
	for _, name := range workloads {
		all = append(all, service+name)
	}
	return all
}

// TestWhatIsSelectedIsHeldWithWhatSelectsIt: s00 selects ten workloads of ten, and vanishes alone or with others.
func TestWhatIsSelectedIsHeldWithWhatSelectsIt(t *testing.T) {
	vms := names("vm", 0, 10)
	withVMs := func(services []string) []string { return append(services, keys("s00", vms...)...) }
	for _, test := range []struct {
		name string
		do   func(*guarded)
		want []string
	}{
		{"what selects goes alone", func(g *guarded) {
			g.apply(append(unselected(false, "s00", vms...), gone("s00"))...)
		}, names("s", 1, 10)},
		{"what selects goes alone, and what it selected after it", func(g *guarded) {
			g.remove("s00")
			g.apply(unselected(false, "s00", vms...)...)
		}, names("s", 1, 10)},
		{"what selects goes with most others", func(g *guarded) {
			g.apply(append(append(unselected(false, "s00", vms...), gone("s00")), removals(names("s", 1, 6)...)...)...)
		}, withVMs(names("s", 0, 10))},
		{"what selects goes first, and most others after it", func(g *guarded) {
			g.apply(append(unselected(false, "s00", vms...), gone("s00"))...)
			g.removeEach(names("s", 1, 6)...)
		}, withVMs(names("s", 0, 10))},
		{"it is held, and then somebody says that it was meant", func(g *guarded) {
			g.apply(append(append(unselected(false, "s00", vms...), gone("s00")), removals(names("s", 1, 6)...)...)...)
			g.registry.ReleaseHeld("", "Service")
		}, names("s", 6, 10)},
		{"it is held, and then time is over", func(g *guarded) {
			g.apply(append(append(unselected(false, "s00", vms...), gone("s00")), removals(names("s", 1, 6)...)...)...)
			wait(testGuard.Hold)
		}, names("s", 6, 10)},
		{"it is held, and back with what it selects now", func(g *guarded) {
			g.apply(append(append(unselected(false, "s00", vms...), gone("s00")), removals(names("s", 1, 6)...)...)...)
			g.apply(append(selected("s00", "vm00"), update("s00", Public(), serviceBody("s00")))...)
		}, append(names("s", 0, 10), "s00vm00")},
		{"workloads vanish", func(g *guarded) { g.apply(unselected(false, "s00", vms[:6]...)...) }, withVMs(names("s", 0, 10))},
		{"workloads vanish one by one", func(g *guarded) {
			for _, vm := range vms[:6] {
				g.apply(unselected(false, "s00", vm)...)
			}
		}, withVMs(names("s", 0, 10))},
		{"few workloads vanish", func(g *guarded) { g.apply(unselected(false, "s00", vms[:5]...)...) },
			append(names("s", 0, 10), keys("s00", vms[5:]...)...)},
		{"workloads are there and not selected any more", func(g *guarded) { g.apply(unselected(true, "s00", vms...)...) }, names("s", 0, 10)},
		{"most are not selected any more, and one vanishes", func(g *guarded) {
			g.apply(unselected(true, "s00", vms[:8]...)...)
			g.apply(unselected(false, "s00", vms[8])...)
		}, append(names("s", 0, 10), "s00"+vms[9])},
		{"most are not selected any more, and one vanishes with them", func(g *guarded) {
			g.apply(append(unselected(true, "s00", vms[:8]...), unselected(false, "s00", vms[8])...)...)
		}, append(names("s", 0, 10), "s00"+vms[9])},
		{"most are hidden, and one vanishes", func(g *guarded) {
			hidden := selected("s00", vms[:8]...)
			for i := range hidden {
				hidden[i].Resources[0].Visibility = Nobody()
			}
			g.apply(hidden...)
			g.apply(unselected(false, "s00", vms[8])...)
		}, append(append(names("s", 0, 10), keys("s00", vms[:8]...)...), "s00"+vms[9])},
		{"what selected goes, and then a workload of another", func(g *guarded) {
			g.apply(selected("s01", "vm10", "vm11", "vm12")...)
			g.apply(append(unselected(false, "s00", vms...), gone("s00"))...)
			g.apply(unselected(false, "s01", "vm10")...)
		}, append(names("s", 1, 10), "s01vm11", "s01vm12")},
		{"one that was held is there again, and not selected", func(g *guarded) {
			g.apply(unselected(false, "s00", vms[:6]...)...)
			g.apply(unselected(true, "s00", vms[0])...)
		}, append(names("s", 0, 10), keys("s00", vms[1:]...)...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			withGuard(t, 10, func(g *guarded) {
				g.apply(selected("s00", vms...)...)
				g.expect("at first", withVMs(names("s", 0, 10))...)
				wait(time.Second)
				test.do(g)
				g.expect("then", slices.Clone(test.want)...)
			})
		})
	}
}

func removals(names ...string) []Update {
	var updates []Update
	for _, name := range names {
		updates = append(updates, gone(name))
	}
	return updates
}
