package meshvm

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// resolveOverlay replies to a query outside the plugin's zones: hosts of the mesh are laid over whatever
// the rest of the world says, exactly, and all else is the next plugin's.
func (m *Meshvm) resolveOverlay(q *query) (*dns.Msg, outcome) {
	host := m.overlaid(q)
	if host == nil || !addressed(host) {
		return nil, passed
	}
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA:
	case dns.TypeHTTPS, dns.TypeSVCB:
		// An address hint from upstream would lead around the mesh: the answer is none.
	default:
		return nil, passed
	}
	if m.tooStale() {
		return m.replyStale(q)
	}
	// The host is its own zone: a negative answer must not speak for its neighbours.
	authority := *m.primary
	authority.fqdn = q.spelling()
	return m.resolveHost(q, host, &authority)
}

// overlaid is the host that answers for a name outside the plugin's zones: an exact one, else a short
// name, else the longest wildcard. Kubernetes Services are known only in the plugin's zones.
func (m *Meshvm) overlaid(q *query) *mirror.Host {
	if host := q.state.Host(q.name); host != nil && host.Origin != registryv1.Origin_ORIGIN_KUBERNETES {
		return host
	}
	if m.config.ShortNames {
		if host := m.shortName(q); host != nil {
			return host
		}
	}
	return q.state.Wildcard(q.name)
}

// shortName is the Kubernetes Service that NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc stands for to
// this VM, as in the name table of Istio's agent; nil if there is none.
func (m *Meshvm) shortName(q *query) *mirror.Host {
	name := q.name
	switch strings.Count(name, ".") {
	case 0:
		namespace := q.state.View()
		if namespace == "" || name == "" {
			return nil
		}
		name += "." + namespace + ".svc"
	case 1:
		name += ".svc"
	case 2:
		if !strings.HasSuffix(name, ".svc") {
			return nil
		}
	default:
		return nil
	}
	host := q.state.Host(joinName(name, q.state.ClusterDomain()))
	if host == nil || host.Origin != registryv1.Origin_ORIGIN_KUBERNETES {
		return nil
	}
	return host
}
