package meshvm

import (
	"net"
	"net/netip"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
)

// Timers of the SOA record, in seconds, as CoreDNS's kubernetes plugin has them.
const (
	soaRefresh = 7200
	soaRetry   = 1800
	soaExpire  = 86400
)

// newReply is an authoritative reply without any records.
func (m *Meshvm) newReply(q *query) *dns.Msg {
	// Message and question in one piece: SetReply would allocate the question by itself.
	piece := new(struct {
		reply    dns.Msg
		question [1]dns.Question
	})
	reply := &piece.reply
	reply.Id = q.r.Id
	reply.Response = true
	reply.Opcode = q.r.Opcode
	reply.RecursionDesired = q.r.RecursionDesired
	reply.CheckingDisabled = q.r.CheckingDisabled
	piece.question[0] = q.r.Question[0]
	reply.Question = piece.question[:]
	reply.Authoritative = true
	// Clients such as dig complain when a server that does recurse says it does not.
	reply.RecursionAvailable = m.recursive
	return reply
}

// replyWith replies with records.
func (m *Meshvm) replyWith(q *query, records []dns.RR) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	reply.Answer = records
	return m.finish(q, reply), hit
}

// replyNoData replies that the name exists, but not with this type (RFC 2308, section 2.2).
func (m *Meshvm) replyNoData(q *query, authority *zone) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	reply.Ns = []dns.RR{m.soa(q.state, authority, authority.fqdn)}
	return m.finish(q, reply), noData
}

// replyAwaited replies NODATA for a host whose virtual IP is awaited: its address elsewhere would lead around
// the mesh.
func (m *Meshvm) replyAwaited(q *query, authority *zone) (*dns.Msg, outcome) {
	reply, _ := m.replyNoData(q, authority)
	return reply, pending
}

// replyNameError replies that the name does not exist (RFC 2308, section 2.1).
func (m *Meshvm) replyNameError(q *query, authority *zone) (*dns.Msg, outcome) {
	reply := m.newReply(q)
	reply.Rcode = dns.RcodeNameError
	reply.Ns = []dns.RR{m.soa(q.state, authority, authority.fqdn)}
	return m.finish(q, reply), nameError
}

// replyUnknown replies that a name is not known here, unless the Corefile says that it may be further on.
func (m *Meshvm) replyUnknown(q *query, authority *zone) (*dns.Msg, outcome) {
	if m.config.Fall.Through(q.asked) {
		return nil, passed
	}
	return m.replyNameError(q, authority)
}

// replyRefused replies that a query of this kind is not for everybody.
func (m *Meshvm) replyRefused(q *query) (*dns.Msg, outcome) {
	return new(dns.Msg).SetRcode(q.r, dns.RcodeRefused), refused
}

// replyNotImplemented replies to what is no query, such as NOTIFY: the zones have no primary elsewhere.
func (m *Meshvm) replyNotImplemented(q *query) (*dns.Msg, outcome) {
	return new(dns.Msg).SetRcode(q.r, dns.RcodeNotImplemented), notImplemented
}

// replyNotReady replies that nothing is known yet.
func (m *Meshvm) replyNotReady(q *query) (*dns.Msg, outcome) {
	return m.replyFailure(q, dns.ExtendedErrorCodeNotReady, "no registry has been loaded yet")
}

// replyStale replies that what is known is too old to be told.
func (m *Meshvm) replyStale(q *query) (*dns.Msg, outcome) {
	return m.replyFailure(q, dns.ExtendedErrorCodeStaleAnswer, "the registry is older than max_stale")
}

func (m *Meshvm) replyFailure(q *query, code uint16, reason string) (*dns.Msg, outcome) {
	reply := new(dns.Msg)
	reply.SetRcode(q.r, dns.RcodeServerFailure)
	extend(q, reply, code, reason)
	return reply, failed
}

// finish says so in a reply when it comes from a registry that may be out of date.
func (m *Meshvm) finish(q *query, reply *dns.Msg) *dns.Msg {
	if m.follower.staleFor() > m.config.MaxStale {
		staleAnswers.Inc()
		q.stale = true
		extend(q, reply, dns.ExtendedErrorCodeStaleAnswer, "")
	}
	return reply
}

// tooStale reports whether the registry is so old that the Corefile says to fail.
func (m *Meshvm) tooStale() bool {
	return m.config.StaleAction == StaleFail && m.follower.staleFor() > m.config.MaxStale
}

// extend adds an Extended DNS Error (RFC 8914) to the reply to a client that speaks EDNS. The server
// completes the OPT record.
func extend(q *query, reply *dns.Msg, code uint16, reason string) {
	asked := q.r.IsEdns0()
	if asked == nil {
		return
	}
	reply.SetEdns0(asked.UDPSize(), asked.Do())
	opt := reply.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: reason})
}

// recordsAt is a host's record set at an owner name and with this instance's TTL. The prepared records
// serve where both are theirs already.
func (m *Meshvm) recordsAt(owner string, host *mirror.Host, set *mirror.RRset) []dns.RR {
	ttl := m.ttlOf(host)
	if owner == host.FQDN() && ttl == set.TTL {
		return set.RRs
	}
	return movedTo(owner, ttl, set.RRs)
}

// movedTo is address records, some and all of one type, at another owner name and with another TTL.
func movedTo(owner string, ttl uint32, records []dns.RR) []dns.RR {
	header := dns.RR_Header{Name: owner, Rrtype: records[0].Header().Rrtype, Class: dns.ClassINET, Ttl: ttl}
	if header.Rrtype == dns.TypeA {
		return copied[dns.A](records, header)
	}
	return copied[dns.AAAA](records, header)
}

// copied is records, all of them R, with another header. It makes two allocations, however many there are.
// The address bytes stay shared: nobody changes them.
func copied[R any, P interface {
	*R
	dns.RR
}](records []dns.RR, header dns.RR_Header) []dns.RR {
	copies := make([]R, len(records))
	again := make([]dns.RR, len(records))
	for i, rr := range records {
		copies[i] = *rr.(P)
		record := P(&copies[i])
		*record.Header() = header
		again[i] = record
	}
	return again
}

// header is a record header with the TTL of addresses that do not move.
func (m *Meshvm) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: m.config.TTL}
}

// soa is the SOA record of a zone at an owner name. A name that does not exist may exist in a moment,
// so a negative answer lives no longer than an endpoint's address.
func (m *Meshvm) soa(state *mirror.State, zone *zone, owner string) dns.RR {
	header := m.header(owner, dns.TypeSOA)
	header.Ttl = m.config.EndpointTTL
	return &dns.SOA{
		Hdr:     header,
		Ns:      zone.nameServer,
		Mbox:    zone.mailbox,
		Serial:  state.Serial(),
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  m.config.EndpointTTL,
	}
}

// ownAddress is the address record of this server at a name.
func (m *Meshvm) ownAddress(q *query, owner string) []dns.RR {
	state := request.Request{W: q.w, Req: q.r}
	address, err := netip.ParseAddr(state.LocalIP())
	if err != nil {
		return nil
	}
	return []dns.RR{m.addressRecord(owner, address.Unmap().WithZone(""))}
}

// addressRecord is a record of an address that does not move.
func (m *Meshvm) addressRecord(owner string, address netip.Addr) dns.RR {
	ip := net.IP(address.AsSlice())
	if address.Is4() {
		return &dns.A{Hdr: m.header(owner, dns.TypeA), A: ip}
	}
	return &dns.AAAA{Hdr: m.header(owner, dns.TypeAAAA), AAAA: ip}
}
