package meshvm

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// rebindReason is why an answer of the next plugin is withheld.
type rebindReason uint8

const (
	pointsNowhere rebindReason = iota
	pointsIntoRange
	pointsAtClusterIP
	pointsAtVirtualIP
	unreadable
)

var rebindReasons = [...]string{
	pointsIntoRange:   "range",
	pointsAtClusterIP: "cluster_ip",
	pointsAtVirtualIP: "virtual_ip",
	unreadable:        "unreadable",
}

func (r rebindReason) String() string { return rebindReasons[r] }

// rebindInterval is the time between two lines of the log about withheld answers: whoever owns a name
// outside decides how many there are.
const rebindInterval = 10 * time.Second

// rebindLog bounds what an instance logs of withheld answers.
type rebindLog struct {
	// next is when the next line may be written, in nanoseconds since 1970.
	next atomic.Int64
	// silent is how many were withheld since the last line.
	silent atomic.Uint64
}

// chased marks the context of a look-up that follows an ExternalName of the mesh.
type chased struct{}

// passOn hands a query to the next plugin, whose answer is inspected first if the Corefile says so.
func (m *Meshvm) passOn(q *query) (int, error) {
	w := q.w
	if m.config.Rebind != nil && !m.mayPoint(q) {
		w = &rebindWriter{ResponseWriter: q.w, m: m, r: q.r}
	}
	return plugin.NextOrFailure(m.Name(), m.Next, q.ctx, w, q.r)
}

// mayPoint reports whether the answer for the query's name may point into the mesh: a name in the plugin's
// zones, in the cluster's domain or of a host of the mesh, the target of an ExternalName, or what the
// Corefile excepts.
func (m *Meshvm) mayPoint(q *query) bool {
	domain := q.state.ClusterDomain()
	return m.zoneOf(q.name) != nil ||
		domain != "" && hasSuffix(q.name, domain) ||
		slices.ContainsFunc(m.config.Rebind.Except, func(domain string) bool { return hasSuffix(q.name, domain) }) ||
		m.overlaid(q.state, q.name) != nil ||
		q.ctx.Value(chased{}) != nil
}

// chasing is the context of a look-up for the target of an ExternalName.
func (m *Meshvm) chasing(ctx context.Context) context.Context {
	if m.config.Rebind == nil {
		return ctx
	}
	return context.WithValue(ctx, chased{}, true)
}

// rebindWriter withholds answers of the next plugin that point into the mesh (DNS rebinding).
type rebindWriter struct {
	dns.ResponseWriter
	m *Meshvm
	r *dns.Msg
}

// WriteMsg implements dns.ResponseWriter.
func (w *rebindWriter) WriteMsg(answer *dns.Msg) error {
	// Now, and not when the query came: upstream takes its time.
	if address, reason := w.m.inspect(w.m.follower.mirror.State(), answer); reason != pointsNowhere {
		return w.withhold(address, reason)
	}
	return w.ResponseWriter.WriteMsg(answer)
}

// Write implements dns.ResponseWriter for plugins that pack by themselves. What cannot be unpacked cannot be
// inspected, and is withheld.
func (w *rebindWriter) Write(packed []byte) (int, error) {
	answer := new(dns.Msg)
	address, reason := netip.Addr{}, unreadable
	if err := answer.Unpack(packed); err == nil {
		address, reason = w.m.inspect(w.m.follower.mirror.State(), answer)
	}
	if reason == pointsNowhere {
		return w.ResponseWriter.Write(packed)
	}
	if err := w.withhold(address, reason); err != nil {
		return 0, err
	}
	return len(packed), nil
}

// withhold replies without any record, as dnsmasq does. REFUSED or SERVFAIL would send a stub resolver to its
// next server, which might tell the address. There is no SOA record, so that nobody caches it.
func (w *rebindWriter) withhold(address netip.Addr, reason rebindReason) error {
	rebindRefused[reason].Inc()
	w.m.rebindLog.report(w, address, reason, time.Now())
	reply := new(dns.Msg).SetReply(w.r)
	reply.RecursionAvailable = true
	if reason == unreadable {
		reply.Rcode = dns.RcodeServerFailure
	}
	extend(&query{r: w.r}, reply, dns.ExtendedErrorCodeBlocked, "rebind_protection: the answer points into the mesh")
	return w.ResponseWriter.WriteMsg(reply)
}

// report logs a withheld answer, unless one was logged a moment ago.
func (l *rebindLog) report(w *rebindWriter, address netip.Addr, reason rebindReason, now time.Time) {
	next := l.next.Load()
	if now.UnixNano() < next || !l.next.CompareAndSwap(next, now.Add(rebindInterval).UnixNano()) {
		l.silent.Add(1)
		return
	}
	// Names come from outside: nothing in them may look like a line of its own.
	w.m.follower.log.Warn("withhold an answer that points into the mesh, for a name that is not the mesh's",
		"name", strconv.QuoteToASCII(w.r.Question[0].Name), "address", address, "reason", reason.String(), "silent", l.silent.Swap(0))
}

// inspect looks for an address of the mesh in every section of an answer.
func (m *Meshvm) inspect(state *mirror.State, answer *dns.Msg) (netip.Addr, rebindReason) {
	for _, section := range [...][]dns.RR{answer.Answer, answer.Ns, answer.Extra} {
		for _, rr := range section {
			if address, reason := m.inspectRecord(state, rr); reason != pointsNowhere {
				return address, reason
			}
		}
	}
	return netip.Addr{}, pointsNowhere
}

func (m *Meshvm) inspectRecord(state *mirror.State, rr dns.RR) (netip.Addr, rebindReason) {
	switch rr := rr.(type) {
	case *dns.A:
		return m.inspectAddress(state, rr.A)
	case *dns.AAAA:
		return m.inspectAddress(state, rr.AAAA)
	case *dns.SVCB:
		return m.inspectHints(state, rr.Value)
	case *dns.HTTPS:
		return m.inspectHints(state, rr.Value)
	}
	return netip.Addr{}, pointsNowhere
}

// inspectHints looks into the address hints of an SVCB or HTTPS record (RFC 9460, section 7.3).
func (m *Meshvm) inspectHints(state *mirror.State, values []dns.SVCBKeyValue) (netip.Addr, rebindReason) {
	for _, value := range values {
		var hints []net.IP
		switch value := value.(type) {
		case *dns.SVCBIPv4Hint:
			hints = value.Hint
		case *dns.SVCBIPv6Hint:
			hints = value.Hint
		}
		for _, hint := range hints {
			if address, reason := m.inspectAddress(state, hint); reason != pointsNowhere {
				return address, reason
			}
		}
	}
	return netip.Addr{}, pointsNowhere
}

// nat64 is the well-known prefix of IPv4 addresses in IPv6 ones (RFC 6052, section 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// inspectAddress tells whether an address leads into the mesh, also where IPv6 wraps an IPv4 one.
func (m *Meshvm) inspectAddress(state *mirror.State, ip net.IP) (netip.Addr, rebindReason) {
	address, valid := netip.AddrFromSlice(ip)
	if !valid {
		return netip.Addr{}, pointsNowhere
	}
	address = address.Unmap()
	if reason := m.inMesh(state, address); reason != pointsNowhere {
		return address, reason
	}
	if nat64.Contains(address) {
		wrapped := address.As16()
		inner := netip.AddrFrom4([4]byte(wrapped[12:]))
		return inner, m.inMesh(state, inner)
	}
	return address, pointsNowhere
}

// inMesh tells whether an address is in a range of the mesh or one that the registry gives out now. Other
// addresses of hosts do not count: a ServiceEntry may name an address of the Internet, which names that
// are not the mesh's share with good reason, and endpoints are machines with names elsewhere.
func (m *Meshvm) inMesh(state *mirror.State, address netip.Addr) rebindReason {
	for _, prefix := range m.config.Rebind.Ranges {
		if prefix.Contains(address) {
			return pointsIntoRange
		}
	}
	for _, name := range state.Pointers(address) {
		host := state.Host(name)
		if host == nil {
			continue
		}
		switch host.AddressKind {
		case registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP:
			return pointsAtClusterIP
		case registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP:
			return pointsAtVirtualIP
		}
	}
	return pointsNowhere
}
