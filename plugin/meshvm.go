// Package meshvm is the CoreDNS plugin that answers the names of a service mesh on a virtual machine.
//
// A query is answered from a mirror of the mesh's registry in the process's own memory. Nothing is
// asked of anyone: the mirror is kept in step by a stream from a syncer, and it survives restarts on
// disk. How the plugin answers is told file by file, in the order that a query takes: meshvm.go
// sorts it, zone.go replies in the plugin's own zones, overlay.go for hosts outside them, reverse.go
// for addresses; service.go names ports, pod.go pods, alias.go follows ExternalNames, and reply.go makes
// what is sent. follower.go and followers.go keep the mirror.
package meshvm

import (
	"context"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// Meshvm answers from a mirror of the mesh's registry. One instance serves one server block.
type Meshvm struct {
	// Next is the plugin that gets what is not the mesh's.
	Next plugin.Handler

	config *Config
	zones  []zone
	// recursive: the chain goes on behind the plugin.
	recursive bool
	// primary is the first zone that is not a reverse one: the home of names that the plugin makes up.
	primary  *zone
	follower *follower
	// listenHosts are the hosts of the bind plugin, empty where there is none.
	listenHosts []string
	// server is the Server Block's configuration, and blockKeys its zones. Both are only for who explains an answer.
	server    *dnsserver.Config
	blockKeys []string
	transfers transfers
	rebindLog rebindLog
}

func newMeshvm(config *Config) *Meshvm {
	m := &Meshvm{config: config}
	m.transfers.ctx, m.transfers.cancel = context.WithCancel(context.Background())
	for _, fqdn := range config.Zones {
		m.zones = append(m.zones, newZone(fqdn))
	}
	// Config promises that there is one.
	forward := slices.IndexFunc(config.Zones, func(fqdn string) bool { return dnsutil.IsReverse(fqdn) == 0 })
	m.primary = &m.zones[max(forward, 0)]
	return m
}

// Name implements plugin.Handler.
func (m *Meshvm) Name() string { return pluginName }

const pluginName = "meshvm"

// ServeDNS implements plugin.Handler.
func (m *Meshvm) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	q := query{
		ctx:   ctx,
		w:     w,
		r:     r,
		asked: r.Question[0].Name,
		name:  canonical(r.Question[0].Name),
		qtype: r.Question[0].Qtype,
		state: m.follower.mirror.State(),
	}
	// What is decided is written here and not where it is decided: every query has a goroutine of its
	// own, and each frame above WriteMsg makes it likelier that its stack has to grow.
	reply, outcome := m.resolve(&q)
	if q.stale && outcome <= nameError {
		requests[requestType(q.qtype)][stale].Inc()
	} else {
		requests[requestType(q.qtype)][outcome].Inc()
	}
	if outcome == passed {
		return m.passOn(&q)
	}
	if q.qtype == dns.TypeSRV {
		fitAdditional(&q, reply)
	}
	return dns.RcodeSuccess, w.WriteMsg(reply)
}

// resolve is the reply to a query, or the outcome passed: the query is the next plugin's.
func (m *Meshvm) resolve(q *query) (*dns.Msg, outcome) {
	if zone := m.zoneOf(q.name); zone != nil {
		return m.resolveZone(q, zone)
	}
	if q.qtype == dns.TypePTR {
		return m.resolvePointer(q)
	}
	return m.resolveOverlay(q)
}

// query is one query on its way through the plugin.
type query struct {
	ctx context.Context
	w   dns.ResponseWriter
	r   *dns.Msg
	// asked is the name as the client wrote it, or an alias's target on the way. Answers echo it, because
	// some clients check that (draft-vixie-dnsext-dns0x20).
	asked string
	// name is asked in lower case and without the trailing dot; empty for the root.
	name  string
	qtype uint16
	state *mirror.State
	// via and host are how the name was found, for who explains the answer.
	via  via
	host *mirror.Host
	// aliases is how many led here from the name that the client asked for.
	aliases int
	// stale: the reply is from a registry older than max_stale.
	stale bool
}

func (q *query) qclass() uint16 { return q.r.Question[0].Qclass }

// ordinary tells a question about the Internet from a NOTIFY, or a question of another class.
func (q *query) ordinary() bool {
	return q.r.Opcode == dns.OpcodeQuery && (q.qclass() == dns.ClassINET || q.qclass() == dns.ClassANY)
}

// resolveHost replies to a query for a known name by the host that answers it. authority is the zone that
// a negative answer is given for.
func (m *Meshvm) resolveHost(q *query, host *mirror.Host, authority *zone) (*dns.Msg, outcome) {
	switch {
	case host.ExternalName != "":
		return m.resolveAlias(q, host)
	case host.Headless && !addressed(host):
		// Kubernetes DNS-Based Service Discovery, section 2.4.1: without ready endpoints there is
		// no such name.
		return m.replyUnknown(q, authority)
	case q.qtype == dns.TypeSRV:
		every := portName{host: host, service: q.name}
		every.find(q.state)
		return m.resolveService(q, every, authority)
	}
	set := addressSet(host, q.qtype)
	if set == nil {
		return m.replyNoData(q, authority)
	}
	return m.replyWith(q, m.recordsAt(q.asked, host, set))
}

// addressSet is a host's addresses of a type, nil where it has none or the type is another.
func addressSet(host *mirror.Host, qtype uint16) *mirror.RRset {
	switch qtype {
	case dns.TypeA:
		return host.A
	case dns.TypeAAAA:
		return host.AAAA
	}
	return nil
}

func addressed(host *mirror.Host) bool { return host.A != nil || host.AAAA != nil }

// awaited reports whether a host has no address because its virtual IP is still to come.
func awaited(host *mirror.Host) bool {
	return host.AddressKind == registryv1.AddressKind_ADDRESS_KIND_PENDING && !addressed(host)
}

// ttlOf is the TTL that this instance's configuration gives to a host's addresses. The mirror
// prepares with one instance's TTLs and may be shared by another.
func (m *Meshvm) ttlOf(host *mirror.Host) uint32 {
	if host.AddressKind == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
		return m.config.EndpointTTL
	}
	return m.config.TTL
}
