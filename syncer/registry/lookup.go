package registry

import (
	"cmp"
	"slices"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Lookup is every claim of a host, whoever sees it, in order of their keys. A wildcard is looked up
// by its own spelling, `*.a.b`.
func (r *Registry) Lookup(host string) []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedByKey(r.index[subject{host: host}])
}

// HostsWithPrefix is every host that is claimed and begins so, in order. It goes through all of them.
func (r *Registry) HostsWithPrefix(prefix string) []string {
	var hosts []string
	r.mu.RLock()
	for about, entries := range r.index {
		if about.host != "" && len(entries) > 0 && strings.HasPrefix(about.host, prefix) {
			hosts = append(hosts, about.host)
		}
	}
	r.mu.RUnlock()
	slices.Sort(hosts)
	return hosts
}

// Slices is every EndpointSlice of a headless Service, whoever sees it, in order of their keys.
func (r *Registry) Slices(cluster, namespace, service string) []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedByKey(r.index[subject{service: serviceName{cluster, namespace, service}}])
}

// NamespaceExists reports whether any cluster has the namespace.
func (r *Registry) NamespaceExists(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.index[subject{namespace: name}]) > 0
}

func sortedByKey(entries []*Entry) []*Entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b *Entry) int { return cmp.Compare(a.Key, b.Key) })
}

// Stats is the registry's size, for metrics.
type Stats struct {
	// Resources is the number of resources, whoever sees them.
	Resources int
	// Revision is the latest revision.
	Revision uint64
	// LogBytes is what the change log holds on to, and LogRevisions how many revisions it reaches
	// back.
	LogBytes     int
	LogRevisions uint64
}

// Stats is the registry's size now.
func (r *Registry) Stats() Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return Stats{
		Resources:    len(r.entries),
		Revision:     r.revision,
		LogBytes:     r.log.bytes,
		LogRevisions: r.revision - r.log.floor,
	}
}

// subject is what a resource is about: a host, the endpoints of a service, or a namespace. One field is
// set.
type subject struct {
	host      string
	service   serviceName
	namespace string
}

type serviceName struct{ cluster, namespace, name string }

func subjectOf(body *registryv1.Body) subject {
	switch {
	case body.GetService() != nil:
		return subject{host: body.GetService().GetHost()}
	case body.GetEndpointSlice() != nil:
		slice := body.GetEndpointSlice()
		return subject{service: serviceName{slice.GetCluster(), slice.GetNamespace(), slice.GetService()}}
	default:
		return subject{namespace: body.GetNamespace().GetName()}
	}
}

// index finds entries by what they are about, for explanations.
type index map[subject][]*Entry

func (i index) add(e *Entry) { i[e.subject] = append(i[e.subject], e) }

func (i index) remove(e *Entry) {
	rest := slices.DeleteFunc(i[e.subject], func(held *Entry) bool { return held == e })
	if len(rest) == 0 {
		delete(i, e.subject)
		return
	}
	i[e.subject] = rest
}
