package mirror

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// dump is all that a State holds and answers, as text: two States with one dump are alike.
func dump(s *State) string {
	lines := []string{fmt.Sprintf("view %q domain %q digest %x resources %d", s.view, s.clusterDomain, s.digest, s.Resources())}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for key, held := range s.resources.All() {
		add("resource %s %x %s", key, held.body(key), dumpMember(held.member))
	}
	for name, held := range s.hosts.All() {
		add("host %s: %s", name, dumpHost(s.hostOf(held)))
	}
	for suffix, held := range s.wildcards.All() {
		add("wildcard %s: %s", suffix, dumpHost(s.hostOf(held)))
	}
	for name, held := range s.services.All() {
		var members []string
		for _, m := range slices.Concat(held.claims, held.slices) {
			members = append(members, dumpMember(m))
		}
		add("service %v: %s", name, members)
	}
	for name, count := range s.enclosers.All() {
		add("encloser %s: %d %t", name, count, s.Encloses(name))
	}
	for address, held := range s.pointers.All() {
		add("pointers %s: %v, answered %v", address, held, s.Pointers(address))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func dumpMember(m *member) string {
	if m == nil {
		return "no member"
	}
	return fmt.Sprintf("%s %v host %q ready %v ports %v", m.key, m.service, m.host, m.ready, slices.Collect(m.ports.all))
}

func dumpHost(h *Host) string {
	text := fmt.Sprintf("%s ports %v %v %v %v headless %t cname %q of %s/%s claims %q", h.owner, slices.Collect(h.ports.all), h.Origin, h.AddressKind, dumpSets(h), h.Headless, h.ExternalName, h.Namespace, h.Name, h.Claims)
	if h.endpoints != nil {
		var endpoints []string
		for label, endpoint := range h.endpoints.hosts.All() {
			endpoints = append(endpoints, label+": "+dumpHost(endpoint))
		}
		slices.Sort(endpoints)
		text += fmt.Sprintf(" endpoints %q", endpoints)
	}
	return text
}

func dumpSets(h *Host) []string {
	var records []string
	for _, set := range []*RRset{h.A, h.AAAA} {
		if set == nil {
			records = append(records, "none")
			continue
		}
		records = append(records, fmt.Sprint("TTL ", set.TTL))
		for _, rr := range set.RRs {
			records = append(records, rr.String())
		}
	}
	return records
}

// checkInvariants holds a State's answers against each other.
func checkInvariants(t testing.TB, s *State) {
	t.Helper()
	forward := func(name string, pointers []string, address fmt.Stringer) {
		if !slices.Contains(pointers, name) {
			t.Errorf("Address %s of %s: points back to %q only", address, name, pointers)
		}
	}
	for name, held := range s.hosts.All() {
		host := s.hostOf(held)
		if s.Host(name) != host || s.Encloses(name) {
			t.Errorf("Host %s: not found, or enclosed", name)
		}
		if host.Headless {
			for label, endpoint := range host.endpoints.hosts.All() {
				if s.Host(label+"."+name) != endpoint {
					continue // a host of its own answers
				}
				for address := range endpoint.addresses {
					held, _ := s.pointers.Get(address)
					forward(label+"."+name, held.names, address)
				}
			}
			continue
		}
		for address := range host.addresses {
			held, _ := s.pointers.Get(address)
			forward(name, held.names, address)
		}
	}
	for address, held := range s.pointers.All() {
		for _, name := range held.names {
			host := s.Host(name)
			if host == nil || host.Headless {
				t.Errorf("Pointer of %s: %s has no address", address, name)
				continue
			}
			if !slices.Contains(slices.Collect(host.addresses), address) {
				t.Errorf("Pointer of %s: %s has other addresses", address, name)
			}
		}
		if answered := s.Pointers(address); len(answered) == 0 || !slices.Equal(slices.Compact(slices.Clone(answered)), answered) {
			t.Errorf("Pointers of %s: got %q, want some, each once", address, answered)
		}
	}
	for name := range s.enclosers.All() {
		if name == "" || name == s.clusterDomain {
			t.Errorf("Encloser %q: is always there, want it not counted", name)
		}
	}
}
