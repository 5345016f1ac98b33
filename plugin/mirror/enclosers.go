package mirror

import "strings"

// Every host makes the names above it exist (RFC 4592, section 2.2.2), up to the cluster domain or, outside
// it, to the root. A name is counted once for each host or counted name right below it, and once for each
// Namespace resource that it belongs to, so that one more host in a namespace touches that namespace's name
// only.

// exists counts a name that is there because of something else, and the names above it.
func (e *edit) exists(name string) {
	for name != "" && name != e.base.clusterDomain {
		count, known := e.enclosers.Get(name)
		// A copy, so that a host gone does not stay in memory for its parent.
		e.enclosers.Put(strings.Clone(name), count+1)
		if known {
			return
		}
		name = parent(name)
	}
}

// gone undoes what exists did.
func (e *edit) gone(name string) {
	for name != "" && name != e.base.clusterDomain {
		count, _ := e.enclosers.Get(name)
		if count > 1 {
			e.enclosers.Put(strings.Clone(name), count-1)
			return
		}
		e.enclosers.Delete(name)
		name = parent(name)
	}
}

// encloseEndpoints counts the names between endpoints that changed and their Service: there are some where an
// endpoint's own name has dots.
func (e *edit) encloseEndpoints(changes []hostChange) {
	for _, change := range changes {
		switch {
		case change.before == nil && change.after.isDeep():
			e.exists(parent(change.after.host()))
		case change.after == nil && change.before.isDeep():
			e.gone(parent(change.before.host()))
		}
	}
}

// isDeep reports whether a host, which may be nil, is an endpoint whose own name has more than one label.
func (h *Host) isDeep() bool {
	return h != nil && h.isEndpoint() && strings.Contains(h.owner[:h.label], ".")
}

// namespaceName is the name under which a namespace's Services are found.
func namespaceName(namespace, clusterDomain string) string {
	return namespace + ".svc." + clusterDomain
}

// parent is a name without its first label, empty where there is no more than one.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}
