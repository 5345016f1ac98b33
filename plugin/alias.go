package meshvm

import (
	"context"
	"fmt"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// maxAliases bounds how many aliases one query may follow, in the registry and beyond: as many as CoreDNS's
// kubernetes plugin.
const maxAliases = 11

// resolveAlias replies with the CNAME of an ExternalName Service and, for other types than CNAME, with
// what its target has (RFC 1034, section 3.6.2). The reply's code is that of the last name (RFC 6604).
func (m *Meshvm) resolveAlias(q *query, host *mirror.Host) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	target := dns.Fqdn(host.ExternalName)
	piece := new(struct {
		alias  dns.CNAME
		answer [4]dns.RR // Room for what most targets have.
	})
	piece.alias = dns.CNAME{Hdr: m.header(q.asked, dns.TypeCNAME), Target: target}
	reply.Answer = append(piece.answer[:0], &piece.alias)
	if q.qtype == dns.TypeCNAME {
		return m.finish(q, reply), hit
	}
	before, _ := q.ctx.Value(dnsserver.LoopKey{}).(int)
	if before+q.aliases >= maxAliases {
		return m.replyFailure(q, dns.ExtendedErrorCodeOther, "too many aliases, perhaps a loop")
	}
	resolved, outcome := m.resolveTarget(q, target)
	if outcome == passed {
		resolved = m.lookUp(q, target, before+q.aliases+1)
	}
	switch {
	case outcome == failed:
		return m.replyFailure(q, dns.ExtendedErrorCodeOther, "the alias leads to a name that cannot be resolved")
	case resolved == nil:
		// The CNAME stands, as with CoreDNS's kubernetes plugin: the client may follow it itself.
		return m.finish(q, reply), hit
	}
	reply.Rcode = resolved.Rcode
	reply.Answer = append(reply.Answer, resolved.Answer...)
	reply.Ns = resolved.Ns
	reply.Extra = withoutOPT(resolved.Extra)
	return m.finish(q, reply), hit
}

// resolveTarget replies to the query for an alias's target, if it is in one of the plugin's zones.
func (m *Meshvm) resolveTarget(q *query, target string) (*dns.Msg, outcome) {
	name := canonical(target)
	zone := m.zoneOf(name)
	if zone == nil {
		return nil, passed
	}
	next := *q
	next.asked, next.name, next.aliases = target, name, q.aliases+1
	return m.resolveZone(&next, zone)
}

// lookUp resolves an alias's target through the server itself: other plugins, upstream, or this one again.
// Nil: it cannot be resolved now.
func (m *Meshvm) lookUp(q *query, target string, aliases int) *dns.Msg {
	ctx := context.WithValue(m.chasing(q.ctx), dnsserver.LoopKey{}, aliases)
	state := request.Request{W: q.w, Req: q.r}
	resolved, err := upstream.New().Lookup(ctx, state, target, q.qtype)
	if err == nil && resolved != nil && (resolved.Rcode == dns.RcodeSuccess || resolved.Rcode == dns.RcodeNameError) {
		return resolved
	}
	m.follower.log.Debug("resolve target of ExternalName", "name", fmt.Sprintf("%q", q.name), "target", target, "error", err)
	return nil
}

// withoutOPT is additional records without EDNS, which is the server's to add.
func withoutOPT(records []dns.RR) []dns.RR {
	var kept []dns.RR
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypeOPT {
			kept = append(kept, rr)
		}
	}
	return kept
}
