package meshvm

import (
	"bytes"
	"net"
	"slices"
	"strings"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// portName is a name that stands for a port of a service, such as `_http._tcp.reviews.prod.svc.cluster.local`.
type portName struct {
	// name and protocol are without underscores. Empty: any.
	name, protocol string
	// underscored: both labels are written as RFC 2782 has them.
	underscored bool
	// host is the service, and service its name as asked for, canonical.
	host    *mirror.Host
	service string
	// targets are where the port is, and rows what their weight is shared among: see mirror.State.Targets.
	targets []mirror.Target
	rows    int
}

// find reports whether the service has the port, and finds its targets.
func (p *portName) find(state *mirror.State) (found bool) {
	p.targets, p.rows, found = state.Targets(p.host, p.name, p.protocol)
	return found
}

// cutPort takes the first two labels of a name for port and protocol. Underscores may be missing, as in
// CoreDNS's kubernetes plugin.
func cutPort(name string) (port portName, service string, found bool) {
	first, rest, found := strings.Cut(name, ".")
	second, service, more := strings.Cut(rest, ".")
	if !found || !more {
		return portName{}, "", false
	}
	port.name, port.protocol = strings.TrimPrefix(first, "_"), strings.TrimPrefix(second, "_")
	port.underscored = len(port.name) < len(first) && len(port.protocol) < len(second)
	return port, service, true
}

// findPort finds the service and the port that a name in a zone stands for. Only a service's own name has
// ports below it: not an endpoint's, nor one that a wildcard covers.
func findPort(state *mirror.State, name, inCluster string) (portName, bool) {
	port, service, found := cutPort(name)
	if !found {
		return portName{}, false
	}
	serviceInCluster := service
	if inCluster != name {
		if _, serviceInCluster, found = cutPort(inCluster); !found {
			return portName{}, false
		}
	}
	port.host, port.service = exactHost(state, service, serviceInCluster), service
	if port.host == nil || len(port.host.Claims) == 0 {
		return portName{}, false
	}
	return port, port.find(state)
}

// isProtocol reports whether a name is there only because of a service's ports: `_tcp.SERVICE`.
func isProtocol(state *mirror.State, name, inCluster string) bool {
	label, service, found := strings.Cut(name, ".")
	protocol, underscored := strings.CutPrefix(label, "_")
	_, serviceInCluster, more := strings.Cut(inCluster, ".")
	if !found || !underscored || !more {
		return false
	}
	host := exactHost(state, service, serviceInCluster)
	return host != nil && slices.ContainsFunc(host.Ports(), func(port mirror.Port) bool { return port.Protocol == protocol })
}

// resolvePort replies to a query for a port's name in one of the plugin's zones. Addresses are answered
// too, as CoreDNS's kubernetes plugin does.
func (m *Meshvm) resolvePort(q *query, port portName, zone *zone) (*dns.Msg, outcome) {
	if q.qtype == dns.TypeSRV {
		return m.resolveService(q, port, zone)
	}
	var addresses []dns.RR
	for i, target := range port.targets {
		set := addressSet(target.Host, q.qtype)
		if set != nil && (i == 0 || port.targets[i-1].Host != target.Host) {
			addresses = append(addresses, set.RRs...)
		}
	}
	if len(addresses) == 0 {
		return m.replyNoData(q, zone)
	}
	slices.SortStableFunc(addresses, compareAddresses)
	addresses = slices.CompactFunc(addresses, func(a, b dns.RR) bool { return compareAddresses(a, b) == 0 })
	return m.replyWith(q, movedTo(q.asked, m.ttlOf(port.targets[0].Host), addresses))
}

// compareAddresses orders address records of one type by their addresses.
func compareAddresses(a, b dns.RR) int {
	switch a := a.(type) {
	case *dns.A:
		return bytes.Compare(a.A, b.(*dns.A).A)
	case *dns.AAAA:
		return bytes.Compare(a.AAAA, b.(*dns.AAAA).AAAA)
	}
	return 0
}

// resolveService replies with the SRV records of a service, and the addresses of their targets.
func (m *Meshvm) resolveService(q *query, port portName, zone *zone) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	reply.Answer, reply.Extra = m.services(q.state, q.asked, port, zone)
	if len(reply.Answer) == 0 {
		return m.replyNoData(q, zone)
	}
	return m.finish(q, reply), hit
}

// leastService is the least that an SRV record takes of a message: a pointer to its owner's name, ten bytes
// of header, six of data and the shortest name (RFC 1035, section 4.1; RFC 2782).
const leastService = 2 + 10 + 6 + 2

// fitAdditional leaves out addresses of targets that the client's buffer has no room for. They are a help,
// and for their sake alone a reply must not be called truncated (RFC 2181, section 9), as the server would.
func fitAdditional(q *query, reply *dns.Msg) {
	if len(reply.Extra) == 0 || greatestLength(reply) <= dns.MinMsgSize {
		return
	}
	length := reply.Len()
	state := request.Request{W: q.w, Req: q.r}
	size := state.Size()
	if opt := q.r.IsEdns0(); opt != nil && reply.IsEdns0() == nil {
		size -= dns.Len(opt) // The server adds it.
	}
	if length <= size || len(reply.Answer)*leastService > size {
		return
	}
	fitting := *reply
	fitting.Truncate(size)
	reply.Extra = fitting.Extra
}

// greatestLength is what a reply of SRV and address records is at most as long as, at little cost: names in
// text are never shorter than on the wire. A reply with other records is as long as can be.
func greatestLength(reply *dns.Msg) int {
	const header, question, fixed, terminator = 12, 4, 10, 1
	length := header
	for i := range reply.Question {
		length += len(reply.Question[i].Name) + terminator + question
	}
	for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		for _, rr := range section {
			switch rr := rr.(type) {
			case *dns.SRV:
				length += len(rr.Hdr.Name) + terminator + fixed + 3*2 + len(rr.Target) + terminator
			case *dns.A:
				length += len(rr.Hdr.Name) + terminator + fixed + net.IPv4len
			case *dns.AAAA:
				length += len(rr.Hdr.Name) + terminator + fixed + net.IPv6len
			default:
				return dns.MaxMsgSize
			}
		}
	}
	return length
}

// services is the SRV records of a service at an owner name, and the addresses of their targets, whose
// names are in the zone.
func (m *Meshvm) services(state *mirror.State, owner string, port portName, zone *zone) (services, additional []dns.RR) {
	// Most services have a port or two and an address of each family: one piece holds it all.
	piece := new(struct {
		records    [2]dns.SRV
		services   [2]dns.RR
		additional [2]dns.RR
	})
	records, services, additional := piece.records[:0], piece.services[:0], piece.additional[:0]
	if count := len(port.targets); count > cap(records) {
		records, services, additional = make([]dns.SRV, 0, count), make([]dns.RR, 0, count), make([]dns.RR, 0, count)
	}
	header := dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: m.ttlOf(port.host)}
	var host *mirror.Host
	var name string
	for _, target := range port.targets {
		if target.Port == 0 {
			continue
		}
		if host != target.Host {
			host, name = target.Host, port.targetName(state, target.Host, zone)
			for _, set := range []*mirror.RRset{target.Host.A, target.Host.AAAA} {
				if set != nil {
					additional = append(additional, m.recordsAt(name, target.Host, set)...)
				}
			}
		}
		records = append(records, dns.SRV{Hdr: header, Weight: weight(port.rows), Port: target.Port, Target: name})
		services = append(services, &records[len(records)-1])
	}
	return slices.Clip(services), slices.Clip(additional)
}

// targetName is the name of an SRV record's target in a zone. A wildcard has none of its own: the client
// gets the name that it asked for.
func (p *portName) targetName(state *mirror.State, target *mirror.Host, zone *zone) string {
	fqdn := target.FQDN()
	switch {
	case strings.HasPrefix(fqdn, registryv1.WildcardPrefix):
		return dns.Fqdn(p.service)
	case fqdn[:len(fqdn)-1] == p.service:
		return fqdn
	}
	return zone.outside(state, fqdn)
}

// weight shares a hundred among the addresses of a service, as CoreDNS does (RFC 2782: it is relative).
func weight(addresses int) uint16 {
	return uint16(max(1, 100/max(1, addresses)))
}
