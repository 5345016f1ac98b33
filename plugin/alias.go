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

// maxChain bounds how many times one query may go through the server again for the sake of CNAMEs.
const maxChain = 8

// resolveExternalName replies with the CNAME of an ExternalName Service and, for other types than CNAME,
// with what its target resolves to through the server itself: the mesh, other plugins, upstream.
func (m *Meshvm) resolveExternalName(q *query, host *mirror.Host) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	target := dns.Fqdn(host.ExternalName)
	reply.Answer = []dns.RR{&dns.CNAME{Hdr: m.header(q.spelling(), dns.TypeCNAME), Target: target}}
	if q.qtype == dns.TypeCNAME {
		return m.finish(q, reply), hit
	}
	depth, _ := q.ctx.Value(dnsserver.LoopKey{}).(int)
	if depth >= maxChain {
		return m.replyFailure(q, dns.ExtendedErrorCodeOther, "CNAME chain too long")
	}
	ctx := context.WithValue(q.ctx, dnsserver.LoopKey{}, depth+1)
	state := request.Request{W: q.w, Req: q.r}
	resolved, err := upstream.New().Lookup(ctx, state, target, q.qtype)
	if err != nil || resolved == nil || (resolved.Rcode != dns.RcodeSuccess && resolved.Rcode != dns.RcodeNameError) {
		// The CNAME stands, as with CoreDNS's kubernetes plugin: the client may follow it itself.
		m.follower.log.Debug("resolve target of ExternalName", "name", fmt.Sprintf("%q", q.name), "target", target, "error", err)
		return m.finish(q, reply), hit
	}
	reply.Rcode = resolved.Rcode
	reply.Answer = append(reply.Answer, resolved.Answer...)
	reply.Ns = resolved.Ns
	return m.finish(q, reply), hit
}
