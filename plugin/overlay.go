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
	if !q.ordinary() {
		return nil, passed
	}
	if q.qtype == dns.TypeSRV && strings.HasPrefix(q.name, "_") {
		return m.resolveOverlaidPort(q)
	}
	host := m.overlaid(q.state, q.name)
	q.via, q.host = viaHost, host
	if host == nil || !addressed(host) && !awaited(host) {
		return nil, passed
	}
	switch q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV:
	case dns.TypeHTTPS, dns.TypeSVCB:
		// An address hint from upstream would lead around the mesh: the answer is none.
	default:
		return nil, passed
	}
	if m.tooStale() {
		return m.replyStale(q)
	}
	if awaited(host) {
		return m.replyAwaited(q, m.zoneOfOne(q))
	}
	return m.resolveHost(q, host, m.zoneOfOne(q))
}

// zoneOfOne is a zone that holds the query's name and nothing else: a negative answer for a host must not
// speak for its neighbours.
func (m *Meshvm) zoneOfOne(q *query) *zone {
	authority := *m.primary
	authority.fqdn = q.asked
	return &authority
}

// resolveOverlaidPort replies to a query for the SRV records of a host's port. Names below a host are the
// host's own to give, so those that are no port of it are the next plugin's.
func (m *Meshvm) resolveOverlaidPort(q *query) (*dns.Msg, outcome) {
	port, found := m.overlaidPort(q.state, q.name)
	if !found {
		return nil, passed
	}
	q.via, q.host = viaPort, port.host
	if m.tooStale() {
		return m.replyStale(q)
	}
	return m.resolveService(q, port, m.zoneOfOne(q))
}

// overlaidPort finds the port of an overlaid host that a name stands for, as RFC 2782 writes it.
func (m *Meshvm) overlaidPort(state *mirror.State, name string) (portName, bool) {
	port, service, found := cutPort(name)
	if !found || !port.underscored || port.name == "" || port.protocol == "" {
		return portName{}, false
	}
	port.host, port.service = m.overlaid(state, service), service
	if port.host == nil || !addressed(port.host) {
		return portName{}, false
	}
	return port, port.find(state)
}

// overlaid is the host that answers for a name outside the plugin's zones: an exact one, else a short
// name, else the longest wildcard. Kubernetes Services are known only in the plugin's zones.
func (m *Meshvm) overlaid(state *mirror.State, name string) *mirror.Host {
	if host := state.Host(name); host != nil && host.Origin != registryv1.Origin_ORIGIN_KUBERNETES {
		return host
	}
	if m.config.ShortNames {
		if host := m.shortName(state, name); host != nil {
			return host
		}
	}
	return state.Wildcard(name)
}

// shortName is the Kubernetes Service that NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc stands for to
// this VM, as in the name table of Istio's agent; nil if there is none.
func (m *Meshvm) shortName(state *mirror.State, name string) *mirror.Host {
	if m.underForeignSearch(name) {
		return nil
	}
	switch strings.Count(name, ".") {
	case 0:
		namespace := state.View()
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
	host := state.Host(joinName(name, state.ClusterDomain()))
	if host == nil || host.Origin != registryv1.Origin_ORIGIN_KUBERNETES {
		return nil
	}
	return host
}
