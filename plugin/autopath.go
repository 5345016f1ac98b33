package meshvm

import (
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/autopath"
	"github.com/coredns/coredns/request"
)

var _ autopath.AutoPather = (*Meshvm)(nil)

// AutoPath implements autopath.AutoPather. The path is that of a pod in the machine's namespace, for the
// zone that the query is in, then the domains of the search option, then the bare name. It is nil for a
// name in none of the plugin's zones, and as long as nothing is loaded or the namespace is not known. It is
// nil for its own first domain too, which autopath would take for a name in itself.
func (m *Meshvm) AutoPath(request request.Request) []string {
	name := canonical(request.QName())
	zone := m.zoneOf(name)
	if zone == nil || zone.reverse {
		return nil
	}
	state := m.follower.mirror.State()
	namespace := state.View()
	if !state.Loaded() || namespace == "" {
		return nil
	}
	// The first domain ends in the second, and that in the third: they share one string.
	domain := namespace + ".svc." + zone.fqdn
	if name == domain[:len(domain)-1] {
		return nil
	}
	path := make([]string, 0, 4+len(m.config.Search))
	path = append(path, domain, domain[len(namespace)+1:], zone.fqdn)
	for _, domain := range m.config.Search {
		if !slices.Contains(path, domain) {
			path = append(path, domain)
		}
	}
	return append(path, "")
}

// underForeignSearch reports whether a name, canonical, lies in a domain of the machine's search list that
// is not the mesh's. A client that looks for a short name asks for such names on the way.
func (m *Meshvm) underForeignSearch(name string) bool {
	return slices.ContainsFunc(m.config.Search, func(domain string) bool {
		domain = strings.TrimSuffix(domain, ".")
		return hasSuffix(name, domain) && m.zoneOf(domain) == nil
	})
}
