package source

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshvm/meshvm/syncer/registry"
)

// Sidecars are Istio's Sidecars, and the WorkloadEntries that say which of them a VM has. They say through which
// scope a VM sees the registry, by the rules by which Istio chooses the Sidecar of its Envoy. It is safe for
// concurrent use.
//
// They are no boundary beyond exportTo: a VM's name is its own word, and so may its address be.
type Sidecars struct {
	mu         sync.Mutex
	root       string
	changed    chan struct{} // Closed and replaced whenever Scope may say something else.
	namespaces map[string]*sidecarNamespace
}

// sidecarNamespace is what is known of a namespace.
type sidecarNamespace struct {
	sidecars  map[string]*sidecar
	workloads map[string]*sidecarWorkload
	// byAddress are the names of the workloads of an address.
	byAddress map[netip.Addr][]string
}

// sidecar is one Sidecar. It is immutable but for scopes.
type sidecar struct {
	object  registry.Object
	created time.Time
	// selects: it is for workloads with the labels of selector only.
	selects  bool
	selector map[string]string
	egress   []egressListener
	// scopes are those of the namespaces that asked, as `.` is the VM's.
	scopes map[string]*registry.Scope
}

// egressListener is an egress listener, its hosts as they are written.
type egressListener struct {
	port  uint32
	hosts []string
}

// sidecarWorkload is a WorkloadEntry as a Sidecar sees it.
type sidecarWorkload struct {
	labels  map[string]string
	address netip.Addr
	created time.Time
}

// NewSidecars has none yet. The root namespace, whose Sidecar is that of all namespaces without one, is
// DefaultRootNamespace.
func NewSidecars() *Sidecars {
	return &Sidecars{root: DefaultRootNamespace, changed: make(chan struct{}), namespaces: map[string]*sidecarNamespace{}}
}

// SetRootNamespace makes a namespace the root namespace from now on.
func (s *Sidecars) SetRootNamespace(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root != name {
		s.root = name
		s.announce()
	}
}

// Changed is closed when Scope may say something else than before Changed was called.
func (s *Sidecars) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Sidecars) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Scope is what a VM sees its view through, nil for all of it, and the Sidecar that says so, the zero value
// where none does. The VM is the WorkloadEntry of its namespace that has its name, or else its address.
func (s *Sidecars) Scope(namespace, name string, address netip.Addr) (*registry.Scope, registry.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	applied := s.namespaces[namespace].applied(name, address)
	if applied == nil {
		applied = s.namespaces[s.root].wide()
	}
	if applied == nil {
		return nil, registry.Object{}
	}
	return applied.scope(namespace), applied.object
}

// scope is what a Sidecar makes of a VM in a namespace. Without egress listeners it hides nothing.
func (s *sidecar) scope(namespace string) *registry.Scope {
	if len(s.egress) == 0 {
		return nil
	}
	if scope := s.scopes[namespace]; scope != nil {
		return scope
	}
	listeners := make([]registry.EgressListener, 0, len(s.egress))
	for _, egress := range s.egress {
		listener := registry.EgressListener{Port: egress.port}
		for _, text := range egress.hosts {
			// All that cannot be read were left out, whatever the namespace.
			if host, err := registry.ParseEgressHost(text, namespace); err == nil {
				listener.Hosts = append(listener.Hosts, host)
			}
		}
		listeners = append(listeners, listener)
	}
	s.scopes[namespace] = registry.NewScope(listeners)
	return s.scopes[namespace]
}

// applied is the Sidecar of its own namespace that a VM has: of those that select it the oldest, else of those
// for all the oldest.
func (n *sidecarNamespace) applied(name string, address netip.Addr) *sidecar {
	if n == nil || len(n.sidecars) == 0 {
		return nil
	}
	labels := n.labels(name, address)
	if selected := n.oldest(func(s *sidecar) bool { return s.selects && subset(s.selector, labels) }); selected != nil {
		return selected
	}
	return n.wide()
}

// wide is the Sidecar for all workloads of a namespace.
func (n *sidecarNamespace) wide() *sidecar {
	if n == nil {
		return nil
	}
	return n.oldest(func(s *sidecar) bool { return !s.selects })
}

func (n *sidecarNamespace) oldest(picked func(*sidecar) bool) *sidecar {
	var oldest *sidecar
	for _, s := range n.sidecars {
		if picked(s) && (oldest == nil || cmp.Or(s.created.Compare(oldest.created), cmp.Compare(s.object.Name, oldest.object.Name)) < 0) {
			oldest = s
		}
	}
	return oldest
}

// labels are those of a VM, none where no WorkloadEntry is found to be it. Of several with its address it is
// the oldest.
func (n *sidecarNamespace) labels(name string, address netip.Addr) map[string]string {
	if named := n.workloads[name]; named != nil {
		return named.labels
	}
	var found *sidecarWorkload
	first := ""
	for _, candidate := range n.byAddress[address] {
		w := n.workloads[candidate]
		if found == nil || cmp.Or(w.created.Compare(found.created), cmp.Compare(candidate, first)) < 0 {
			found, first = w, candidate
		}
	}
	if found == nil {
		return nil
	}
	return found.labels
}

func subset(of, labels map[string]string) bool {
	for key, value := range of {
		if own, found := labels[key]; !found || own != value {
			return false
		}
	}
	return true
}

// put takes in a Sidecar's present state.
func (s *Sidecars) put(sidecar *sidecar) {
	sidecar.scopes = map[string]*registry.Scope{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in(sidecar.object.Namespace).sidecars[sidecar.object.Name] = sidecar
	s.announce()
}

// forget takes a Sidecar away.
func (s *Sidecars) forget(namespace, name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.namespaces[namespace]; n != nil && n.sidecars[name] != nil {
		delete(n.sidecars, name)
		s.leave(namespace)
		s.announce()
	}
}

// putWorkload takes in a WorkloadEntry's present state, nil when it is gone.
func (s *Sidecars) putWorkload(namespace, name string, w *sidecarWorkload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.in(namespace)
	before := n.workloads[name]
	if before.equal(w) {
		s.leave(namespace)
		return
	}
	if before != nil {
		delete(n.workloads, name)
		rest := slices.DeleteFunc(n.byAddress[before.address], func(other string) bool { return other == name })
		if n.byAddress[before.address] = rest; len(rest) == 0 {
			delete(n.byAddress, before.address)
		}
	}
	if w != nil {
		n.workloads[name] = w
		if w.address.IsValid() {
			n.byAddress[w.address] = append(n.byAddress[w.address], name)
		}
	}
	selects := n.oldest(func(s *sidecar) bool { return s.selects }) != nil
	s.leave(namespace)
	if selects { // Else labels decide nothing.
		s.announce()
	}
}

func (w *sidecarWorkload) equal(other *sidecarWorkload) bool {
	if w == nil || other == nil {
		return w == other
	}
	return maps.Equal(w.labels, other.labels) && w.address == other.address && w.created.Equal(other.created)
}

// in is a namespace to put something into. Whoever may have taken something out calls leave afterwards.
func (s *Sidecars) in(namespace string) *sidecarNamespace {
	n := s.namespaces[namespace]
	if n == nil {
		n = &sidecarNamespace{sidecars: map[string]*sidecar{}, workloads: map[string]*sidecarWorkload{}, byAddress: map[netip.Addr][]string{}}
		s.namespaces[namespace] = n
	}
	return n
}

func (s *Sidecars) leave(namespace string) {
	if n := s.namespaces[namespace]; len(n.sidecars)+len(n.workloads) == 0 {
		delete(s.namespaces, namespace)
	}
}

// peerAddress is an address as a peer's is compared with, invalid where the text is none.
func peerAddress(text string) netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
