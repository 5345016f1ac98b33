package mirror

import (
	"cmp"
	"iter"
	"net/netip"
	"strings"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror/trie"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// State is the content of a mirror at one revision. It is immutable and safe for concurrent use.
type State struct {
	loaded        bool
	generation    string
	view          string
	clusterDomain string
	revision      uint64
	serial        uint32
	digest        registryv1.Digest
	// size is about what the resources take, as sizeOf has it.
	size int

	// namespace stands in for view where the syncer names none.
	namespace string
	ttls      lifetimes
	// dots is how many dots the names of endpoints may have: no fewer than any has.
	dots int
	// superseded is closed when a change takes the place of this State.
	superseded chan struct{}

	indexes
}

// indexes are what a State is read through.
type indexes struct {
	// resources by key, as they came.
	resources trie.Map[string, resource]
	// hosts by name, wildcards by what follows `*.`.
	hosts, wildcards trie.Map[string, *claimed]
	// services are the headless ones, and those that slices name.
	services trie.Map[serviceName, *service]
	// enclosers counts, for every name that exists because others exist below it, why it does.
	enclosers trie.Map[string, int]
	// pointers by address, IPv4 in its four-byte form.
	pointers trie.Map[netip.Addr, pointers]
}

// resource is one entry of the registry as it came.
type resource struct {
	// text is key and body in one piece.
	text string
	// member is set where the resource has a part in a headless Service.
	member *member
}

// body is the encoded body of the resource that has a key.
func (r resource) body(key string) string { return r.text[len(key):] }

// digest is the digest of the resource that has a key. It is made again each time: that costs less than
// the memory to keep it.
func (r resource) digest(key string) registryv1.Digest {
	return registryv1.DigestResource(key, []byte(r.body(key)))
}

// lifetimes are the TTLs of record sets, in seconds.
type lifetimes struct{ fixed, endpoint uint32 }

func emptyState(namespace string, ttls lifetimes) *State {
	return &State{
		namespace:  namespace,
		ttls:       ttls,
		superseded: make(chan struct{}),
		indexes: indexes{
			resources: trie.New[string, resource](trie.HashString),
			hosts:     trie.New[string, *claimed](trie.HashString),
			wildcards: trie.New[string, *claimed](trie.HashString),
			services:  trie.New[serviceName, *service](trie.HashComparable),
			enclosers: trie.New[string, int](trie.HashString),
			pointers:  trie.New[netip.Addr, pointers](trie.HashComparable),
		},
	}
}

// Loaded reports whether the State holds a registry, even an empty one. Before, no name is known not
// to exist.
func (s *State) Loaded() bool { return s.loaded }

// Position says which point of whose history the State is, nil when not loaded. The caller may keep it
// and change it.
func (s *State) Position() *registryv1.Position {
	if !s.loaded {
		return nil
	}
	return &registryv1.Position{Generation: s.generation, Revision: s.revision, View: s.view}
}

// View is the namespace whose view of the registry this is: what the syncer said, else the VM's own.
func (s *State) View() string { return cmp.Or(s.view, s.namespace) }

// ClusterDomain is the DNS zone of the cluster's Services, as the syncer named it. Empty when not
// loaded.
func (s *State) ClusterDomain() string { return s.clusterDomain }

// Digest is the digest of all resources.
func (s *State) Digest() registryv1.Digest { return s.digest }

// Resources is the number of resources.
func (s *State) Resources() int { return s.resources.Len() }

// Serial is the serial number of a zone made of this State: the Unix time of the last change, in
// seconds, but always greater than the serial before it in the arithmetic of RFC 1982. It survives a
// restart in the snapshot. Zero when not loaded.
func (s *State) Serial() uint32 { return s.serial }

// Host finds what answers a name: a host of just this name, or else an endpoint of a headless
// Service. Nil: neither. Wildcards are not considered.
func (s *State) Host(name string) *Host {
	if held, found := s.hosts.Get(name); found {
		return s.hostOf(held)
	}
	for label, parent := range splits(name, s.dots) {
		if held, found := s.hosts.Get(parent); found {
			if endpoint := s.hostOf(held).endpoint(label); endpoint != nil {
				return endpoint
			}
		}
	}
	return nil
}

// splits is the ways in which a name can be that of an endpoint, with at most so many dots, of the host
// that is named by what follows.
func splits(name string, dots int) iter.Seq2[string, string] {
	return func(yield func(label, host string) bool) {
		for end := 0; dots >= 0; dots-- {
			next := strings.IndexByte(name[end:], '.')
			if next < 0 || !yield(name[:end+next], name[end+next+1:]) {
				return
			}
			end += next + 1
		}
	}
}

// Wildcard finds the wildcard host that covers a name: of all `*.SUFFIX` that the name is below, at any
// depth, the one with the longest suffix. Nil: none. A wildcard does not cover its own apex, SUFFIX.
func (s *State) Wildcard(name string) *Host {
	if s.wildcards.Len() == 0 {
		return nil
	}
	for {
		_, suffix, found := strings.Cut(name, ".")
		if !found {
			return nil
		}
		if held, found := s.wildcards.Get(suffix); found {
			return s.hostOf(held)
		}
		name = suffix
	}
}

// Encloses reports whether a name exists only because something below it does, or because it is a
// namespace's: an empty non-terminal (RFC 8499). The cluster domain exists as soon as it is known.
func (s *State) Encloses(name string) bool {
	if _, found := s.enclosers.Get(name); !found && !above(name, s.clusterDomain) {
		return false
	}
	_, isHost := s.hosts.Get(name)
	return !isHost
}

// above reports whether a name is the domain or one that the domain lies in, but not the root.
func above(name, domain string) bool {
	below, found := strings.CutSuffix(domain, name)
	return found && name != "" && (below == "" || strings.HasSuffix(below, "."))
}

// Hosts is every host that has a claim, wildcards among them, in no order. Endpoints come with their
// Service.
func (s *State) Hosts() iter.Seq[*Host] {
	return func(yield func(*Host) bool) {
		for _, index := range []trie.Map[string, *claimed]{s.hosts, s.wildcards} {
			for _, held := range index.All() {
				if !yield(s.hostOf(held)) {
					return
				}
			}
		}
	}
}

// HostNames is the name of every host that has a claim, in no order: without the final dot, a wildcard as *.suffix. Endpoints are not
// among them. Nothing is decoded for it.
func (s *State) HostNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range s.hosts.All() {
			if !yield(name) {
				return
			}
		}
		for suffix := range s.wildcards.All() {
			if !yield(registryv1.WildcardPrefix + suffix) {
				return
			}
		}
	}
}

// Addresses is every address that points back to a name, with its names as Pointers has them, in no order.
func (s *State) Addresses() iter.Seq2[netip.Addr, []string] {
	return func(yield func(netip.Addr, []string) bool) {
		for address, held := range s.pointers.All() {
			if !yield(address, held.answer()) {
				return
			}
		}
	}
}

// Pointers is the names that an address points back to, in order of precedence: the Service with this
// cluster IP (one only, as CoreDNS has it), endpoints, hosts of ServiceEntries; each by name. Nil: none.
// The caller must not modify it.
func (s *State) Pointers(addr netip.Addr) []string {
	held, _ := s.pointers.Get(addr.Unmap())
	return held.answer()
}

// withLifetimes is the State with every record set prepared anew.
func (s *State) withLifetimes(ttls lifetimes, now time.Time) *State {
	next := *s
	next.ttls = ttls
	if !s.loaded {
		return &next
	}
	next.serial = nextSerial(s.serial, now)
	hosts, wildcards := s.hosts.Edit(), s.wildcards.Edit()
	for name, held := range s.hosts.All() {
		hosts.Put(name, held.withLifetimes(ttls))
	}
	for suffix, held := range s.wildcards.All() {
		wildcards.Put(suffix, held.withLifetimes(ttls))
	}
	next.hosts, next.wildcards = hosts.Map(), wildcards.Map()
	return &next
}

// nextSerial is the serial of a change after a previous one.
func nextSerial(previous uint32, now time.Time) uint32 {
	serial := uint32(now.Unix())
	// RFC 1982, section 3.2: serials compare by the sign of their difference.
	if int32(serial-previous) <= 0 {
		return previous + 1
	}
	return serial
}
