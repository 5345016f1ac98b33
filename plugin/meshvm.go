// Package meshvm is the CoreDNS plugin that answers the names of a service mesh on a virtual machine.
//
// A query is answered from a mirror of the mesh's registry in the process's own memory. Nothing is
// asked of anyone: the mirror is kept in step by a stream from a syncer, and it survives restarts on
// disk. How the plugin answers is told file by file, in the order that a query takes: meshvm.go
// sorts it, zone.go replies in the plugin's own zones, overlay.go for hosts outside them, reverse.go
// for addresses, with what reply.go makes. follower.go and followers.go keep the mirror.
package meshvm

import (
	"context"
	"net/netip"
	"slices"

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
}

func newMeshvm(config *Config) *Meshvm {
	m := &Meshvm{config: config}
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
		name:  canonical(r.Question[0].Name),
		qtype: r.Question[0].Qtype,
		state: m.follower.mirror.State(),
	}
	// What is decided is written here and not where it is decided: every query has a goroutine of its
	// own, and each frame above WriteMsg makes it likelier that its stack has to grow.
	reply, outcome := m.resolve(&q)
	requests[outcome].Inc()
	if outcome == passed {
		return plugin.NextOrFailure(m.Name(), m.Next, ctx, w, r)
	}
	return dns.RcodeSuccess, w.WriteMsg(reply)
}

// resolve is the reply to a query, or the outcome passed: the query is the next plugin's.
func (m *Meshvm) resolve(q *query) (*dns.Msg, outcome) {
	if q.qtype == dns.TypePTR {
		if addr, ok := reverseAddress(q.name); ok {
			return m.resolveReverse(q, addr)
		}
	}
	if zone := m.zoneOf(q.name); zone != nil {
		return m.resolveZone(q, zone)
	}
	return m.resolveOverlay(q)
}

// query is one query on its way through the plugin.
type query struct {
	ctx context.Context
	w   dns.ResponseWriter
	r   *dns.Msg
	// name is the query's name, lower case and without the trailing dot; empty for the root.
	name  string
	qtype uint16
	state *mirror.State
}

// spelling is the query's name as the client wrote it. Answers echo it, because some clients check
// that (draft-vixie-dnsext-dns0x20).
func (q *query) spelling() string { return q.r.Question[0].Name }

// resolveHost replies to a query for a known name by the host that answers it. authority is the zone that
// a negative answer is given for.
func (m *Meshvm) resolveHost(q *query, host *mirror.Host, authority *zone) (*dns.Msg, outcome) {
	var set *mirror.RRset
	switch {
	case host.ExternalName != "":
		return m.resolveExternalName(q, host)
	case host.Headless && host.A == nil && host.AAAA == nil:
		// Kubernetes DNS-Based Service Discovery, section 2.4.1: without ready endpoints there is
		// no such name.
		return m.replyNameError(q, authority)
	case q.qtype == dns.TypeA:
		set = host.A
	case q.qtype == dns.TypeAAAA:
		set = host.AAAA
	}
	if set == nil {
		return m.replyNoData(q, authority)
	}
	return m.replyWith(q, m.records(q, host, set))
}

// ttlOf is the TTL that this instance's configuration gives to a host's addresses. The mirror
// prepares with one instance's TTLs and may be shared by another.
func (m *Meshvm) ttlOf(host *mirror.Host) uint32 {
	if host.AddressKind == registryv1.AddressKind_ADDRESS_KIND_ENDPOINT {
		return m.config.EndpointTTL
	}
	return m.config.TTL
}

// reverseAddress is the address that a name under in-addr.arpa or ip6.arpa stands for.
func reverseAddress(name string) (netip.Addr, bool) {
	switch {
	case hasSuffix(name, "in-addr.arpa"):
		return parseReverse4(name[:len(name)-len("in-addr.arpa")])
	case hasSuffix(name, "ip6.arpa"):
		return parseReverse6(name[:len(name)-len("ip6.arpa")])
	}
	return netip.Addr{}, false
}
