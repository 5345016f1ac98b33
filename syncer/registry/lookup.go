package registry

import (
	"cmp"
	"slices"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Lookup is every claim of a host, whoever sees it, in order of their keys. A wildcard is looked up
// by its own spelling, `*.a.b`.
func (r *Registry) Lookup(host string) []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedByKey(r.index.hosts[host])
}

// Slices is every EndpointSlice of a headless Service, whoever sees it, in order of their keys.
func (r *Registry) Slices(cluster, namespace, service string) []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sortedByKey(r.index.slices[serviceName{cluster, namespace, service}])
}

// NamespaceExists reports whether any cluster has the namespace.
func (r *Registry) NamespaceExists(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.index.namespaces[name]) > 0
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

type serviceName struct{ cluster, namespace, name string }

// index finds entries by what they are about, for explanations.
type index struct {
	hosts      map[string][]*Entry
	slices     map[serviceName][]*Entry
	namespaces map[string][]*Entry
}

// indexKeys is where an entry stands in the index. At most one field is set.
type indexKeys struct {
	host      string
	service   serviceName
	namespace string
}

func newIndex() index {
	return index{
		hosts:      map[string][]*Entry{},
		slices:     map[serviceName][]*Entry{},
		namespaces: map[string][]*Entry{},
	}
}

func indexKeysOf(body *registryv1.Body) indexKeys {
	switch {
	case body.GetService() != nil:
		return indexKeys{host: body.GetService().GetHost()}
	case body.GetEndpointSlice() != nil:
		slice := body.GetEndpointSlice()
		return indexKeys{service: serviceName{slice.GetCluster(), slice.GetNamespace(), slice.GetService()}}
	default:
		return indexKeys{namespace: body.GetNamespace().GetName()}
	}
}

func (i *index) add(e *Entry) {
	switch k := e.indexed; {
	case k.host != "":
		insert(i.hosts, k.host, e)
	case k.service != serviceName{}:
		insert(i.slices, k.service, e)
	default:
		insert(i.namespaces, k.namespace, e)
	}
}

func (i *index) remove(e *Entry) {
	switch k := e.indexed; {
	case k.host != "":
		take(i.hosts, k.host, e)
	case k.service != serviceName{}:
		take(i.slices, k.service, e)
	default:
		take(i.namespaces, k.namespace, e)
	}
}

func insert[K comparable](m map[K][]*Entry, key K, e *Entry) { m[key] = append(m[key], e) }

func take[K comparable](m map[K][]*Entry, key K, e *Entry) {
	rest := slices.DeleteFunc(m[key], func(held *Entry) bool { return held == e })
	if len(rest) == 0 {
		delete(m, key)
		return
	}
	m[key] = rest
}
