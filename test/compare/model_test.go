package compare

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/syncer/registry"
)

// The model of a mesh: what each Service's address is, and who sees it. All else follows from that.

type modelService struct {
	address    uint32
	visibility registry.Visibility
}

type model map[string]modelService

// view is what a namespace sees, as text: two views with one text answer alike.
func (m model) view(namespace string) string {
	var lines []string
	for name, s := range m {
		if s.visibility.In(namespace) {
			lines = append(lines, fmt.Sprintf("%s.prod.svc.cluster.local. 10.%d.%d.%d", name, byte(s.address>>16), byte(s.address>>8), byte(s.address)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// answers is what a mirror answers, as a model's view has it.
func answers(s *mirror.State) string {
	var lines []string
	for host := range s.Hosts() {
		lines = append(lines, host.FQDN()+" "+host.A.RRs[0].(*dns.A).A.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// moment is a point in the history of one replica.
type moment struct {
	generation string
	revision   uint64
}

// history is what every view was at every moment.
type history map[moment]map[string]string

var (
	modelNamespaces   = []string{"a", "b", "c", ""}
	modelVisibilities = []registry.Visibility{
		registry.Public(), registry.Public(), registry.VisibleTo("a"), registry.VisibleTo("a", "b"), registry.VisibleTo("c"), registry.Nobody(),
	}
)

// modelRun is two replicas of one mesh, the VMs that follow them, and the model that all are held against.
type modelRun struct {
	*rand.Rand
	t        *testing.T
	model    model
	past     history
	watchers []*modelVM
	joined   int

	mu       sync.Mutex
	replicas []*replica
}

// modelVM is a VM that notes every state that its mirror comes to.
type modelVM struct {
	namespace string
	mirror    *mirror.Mirror
	follower  *follower
	relay     *relay
	stalled   bool

	stop  chan struct{}
	ended chan struct{}
	// seen is what the mirror came to, in order; read it after ended.
	seen []observation
}

type observation struct {
	moment
	answers string
}

// TestModel makes random changes of Services and of who sees them, has VMs join, leave, stall and lose their
// line, replicas restart, and logs too short for those who were away, and holds all VMs against the model:
// in the end each mirror equals its view, by digest and by answers, and on the way it never went back and
// never showed what its view was not at that revision.
func TestModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := &modelRun{Rand: rand.New(rand.NewPCG(seed, 4)), t: t, model: model{}, past: history{}}
			for range 2 {
				r.replicas = append(r.replicas, r.startReplica())
			}
			r.join()
			for step := range 120 {
				r.step()
				if step%30 == 29 {
					r.settle()
				}
			}
			for len(r.watchers) > 0 {
				r.leave(0)
			}
		})
	}
}

func (r *modelRun) step() {
	for range 1 + r.IntN(4) {
		r.change()
	}
	switch chance := r.IntN(100); {
	case chance < 15 && len(r.watchers) < 8:
		r.join()
	case chance < 22 && len(r.watchers) > 1:
		r.leave(r.IntN(len(r.watchers)))
	case chance < 40 && len(r.watchers) > 0:
		r.stall(r.watchers[r.IntN(len(r.watchers))])
	case chance < 48 && len(r.watchers) > 0:
		r.watchers[r.IntN(len(r.watchers))].relay.cut()
	case chance < 53:
		for range 200 { // more than the log holds
			r.change()
		}
	case chance < 57:
		r.restart(r.IntN(len(r.replicas)))
	}
}

// change changes one Service, in both replicas.
func (r *modelRun) change() {
	name := fmt.Sprintf("service-%d", r.IntN(30))
	update := gone("prod", name)
	if r.IntN(10) < 3 {
		delete(r.model, name)
	} else {
		s := modelService{r.Uint32N(1 << 24), modelVisibilities[r.IntN(len(modelVisibilities))]}
		r.model[name] = s
		update = service("prod", name, s.address, s.visibility)
	}
	for _, rep := range r.replicas {
		rep.apply(r.t, update)
		r.remember(rep)
	}
}

// remember notes what every view is at a replica's revision.
func (r *modelRun) remember(rep *replica) {
	views := map[string]string{}
	for _, namespace := range modelNamespaces {
		views[namespace] = r.model.view(namespace)
	}
	r.past[moment{rep.registry.Generation(), rep.registry.Revision()}] = views
}

func (r *modelRun) startReplica() *replica {
	var updates []registry.Update
	for _, name := range slices.Sorted(maps.Keys(r.model)) {
		updates = append(updates, service("prod", name, r.model[name].address, r.model[name].visibility))
	}
	rep := startReplica(r.t, registry.Options{LogBytes: 8 << 10}, nil, updates...)
	r.remember(rep)
	return rep
}

func (r *modelRun) restart(i int) {
	old := r.replicas[i]
	fresh := r.startReplica()
	r.mu.Lock()
	r.replicas[i] = fresh
	r.mu.Unlock()
	old.stop()
}

// anyReplica is where a VM's next connection goes.
func (r *modelRun) anyReplica() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replicas[rand.IntN(len(r.replicas))].address
}

func (r *modelRun) join() {
	r.joined++
	vm := &modelVM{
		namespace: modelNamespaces[r.IntN(len(modelNamespaces))],
		mirror:    newMirror(),
		relay:     startRelay(r.t, r.anyReplica),
		stop:      make(chan struct{}),
		ended:     make(chan struct{}),
	}
	vm.follower = follow(r.t, vm.mirror, vm.namespace, vm.relay.address)
	go vm.observe()
	r.watchers = append(r.watchers, vm)
}

// observe notes each state that the mirror comes to. It may miss one that another follows at once.
func (vm *modelVM) observe() {
	defer close(vm.ended)
	for {
		changed := vm.mirror.Changed()
		if state := vm.mirror.State(); state.Loaded() {
			position := state.Position()
			vm.seen = append(vm.seen, observation{moment{position.GetGeneration(), position.GetRevision()}, answers(state)})
		}
		select {
		case <-changed:
		case <-vm.stop:
			return
		}
	}
}

// stall holds a VM's line, or lets it go on.
func (r *modelRun) stall(vm *modelVM) {
	if vm.stalled {
		vm.relay.held.Unlock()
	} else {
		vm.relay.held.Lock()
	}
	vm.stalled = !vm.stalled
}

// leave ends a VM and looks at what it has seen.
func (r *modelRun) leave(i int) {
	vm := r.watchers[i]
	r.watchers = slices.Delete(r.watchers, i, i+1)
	if vm.stalled {
		r.stall(vm)
	}
	vm.follower.stop()
	vm.relay.close()
	close(vm.stop)
	<-vm.ended

	last := map[string]uint64{}
	for _, o := range vm.seen {
		if o.revision < last[o.generation] {
			r.t.Errorf("VM in %q: went back from revision %d to %d of one generation", vm.namespace, last[o.generation], o.revision)
		}
		last[o.generation] = o.revision
		views, known := r.past[o.moment]
		if !known {
			r.t.Errorf("VM in %q: came to revision %d, which never was", vm.namespace, o.revision)
		} else if want := views[vm.namespace]; o.answers != want {
			r.t.Errorf("VM in %q at revision %d: answered\n%s\nwant\n%s", vm.namespace, o.revision, o.answers, want)
		}
	}
}

// settle lets all VMs go on and waits until each equals its view.
func (r *modelRun) settle() {
	r.t.Helper()
	for _, vm := range r.watchers {
		if vm.stalled {
			r.stall(vm)
		}
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for _, vm := range r.watchers {
		for !r.equal(vm) {
			changed := vm.mirror.Changed()
			if r.equal(vm) {
				break
			}
			select {
			case <-changed:
			case <-deadline.C:
				r.t.Fatalf("VM in %q within %s: answers\n%s\nwant\n%s", vm.namespace, patience, answers(vm.mirror.State()), r.model.view(vm.namespace))
			}
		}
	}
}

// equal reports whether a mirror equals its view of one of the replicas, by digest, and of the model, by
// answers.
func (r *modelRun) equal(vm *modelVM) bool {
	state := vm.mirror.State()
	return state.Loaded() && answers(state) == r.model.view(vm.namespace) && slices.ContainsFunc(r.replicas, func(rep *replica) bool {
		proof := rep.registry.Proof(vm.namespace)
		return state.Digest() == proof.Digest && state.Resources() == proof.Resources
	})
}
