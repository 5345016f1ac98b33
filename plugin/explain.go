package meshvm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/plugin/status"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// via is what a name was found as. Answering notes it, so that an explanation cannot differ from the answer.
type via uint8

const (
	viaNothing via = iota
	viaHost
	viaPort
	viaPod
	viaReverse
	viaApex
	viaZone
	viaEnclosed
)

// outcomeNames are the labels of coredns_meshvm_requests_total, but for the words that meshvmctl lookup has for the same.
var outcomeNames = [...]string{
	hit: "answered", noData: "nodata", nameError: "nxdomain", failed: "servfail", refused: "refused", pending: "pending", notImplemented: "notimp", passed: "passed-on",
}

// witness is a client at this machine that is sent nothing.
type witness struct {
	dns.ResponseWriter
	local net.Addr
}

func (w witness) LocalAddr() net.Addr     { return w.local }
func (w witness) RemoteAddr() net.Addr    { return w.local }
func (witness) WriteMsg(*dns.Msg) error   { return errors.New("an explanation is not sent") }
func (witness) Write([]byte) (int, error) { return 0, errors.New("an explanation is not sent") }

// local is where a client on this machine reaches the plugin.
func (m *Meshvm) local() net.Addr {
	for _, host := range m.listenHosts {
		if address, err := netip.ParseAddr(host); err == nil && !address.IsUnspecified() {
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, 53))
		}
	}
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:53"))
}

// explain says what a query over TCP is replied to, and why, by having it answered. An alias's target that is not the mesh's
// is not looked up.
func (m *Meshvm) explain(name string, qtype uint16) status.Explanation {
	r := new(dns.Msg).SetQuestion(name, qtype)
	q := query{
		ctx: context.Background(), w: witness{local: m.local()}, r: r,
		asked: name, name: canonical(name), qtype: qtype, state: m.follower.mirror.State(),
	}
	reply, outcome := m.resolve(&q)
	if reply != nil && qtype == dns.TypeSRV {
		fitAdditional(&q, reply)
	}
	e := status.Explanation{
		Name: q.name, Type: dns.TypeToString[qtype], At: time.Now(), Block: m.blockKeys, Outcome: outcomeNames[outcome],
		Match: m.match(&q), Namespace: q.state.View(), Loaded: q.state.Loaded(),
		Revision: q.state.Position().GetRevision(), StalenessSeconds: m.follower.staleFor().Seconds(),
		Stale: m.follower.staleFor() > m.config.MaxStale,
	}
	if m.follower.client != nil {
		e.Synced = m.follower.client.Status().Synced
	}
	for _, zone := range m.zones {
		e.Zones = append(e.Zones, zone.name)
	}
	if m.server != nil {
		for _, handler := range m.server.Handlers() {
			e.Plugins = append(e.Plugins, handler.Name())
		}
	}
	if reply != nil {
		e.Rcode = dns.RcodeToString[reply.Rcode]
		for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
			for _, rr := range section {
				e.Records = append(e.Records, strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
	}
	if outcome == passed {
		e.Upstreams = m.upstreams()
	}
	if q.host != nil {
		e.Host = canonical(q.host.FQDN())
		e.Claims = claimsOf(q.state, q.host)
		e.Target = q.host.ExternalName
	}
	m.reason(&q, outcome, &e)
	return e
}

// match says what a name was found as.
func (m *Meshvm) match(q *query) string {
	switch q.via {
	case viaHost:
		return m.matchHost(q)
	case viaPort:
		return "port"
	case viaPod:
		return "pod"
	case viaReverse:
		return "reverse"
	case viaApex:
		return "apex"
	case viaZone:
		return "zone"
	case viaEnclosed:
		return "enclosed"
	}
	return "none"
}

func (m *Meshvm) matchHost(q *query) string {
	switch {
	case q.host == nil:
		return "none"
	case strings.HasPrefix(q.host.FQDN(), registryv1.WildcardPrefix):
		return "wildcard"
	case m.zoneOf(q.name) == nil && canonical(q.host.FQDN()) != q.name:
		return "short-name"
	case len(q.host.Claims) == 0:
		return "endpoint"
	}
	return "exact"
}

// reason says why the outcome is what it is, and what to try.
func (m *Meshvm) reason(q *query, outcome outcome, e *status.Explanation) {
	zone := m.zoneOf(q.name)
	switch {
	case outcome == failed && !q.state.Loaded():
		e.Reason = "no registry was loaded yet, neither from a syncer nor from a snapshot, so names of the mesh are not known"
		e.Hints = append(e.Hints, "see meshvmctl status for why no syncer is followed")
	case outcome == failed && m.tooStale():
		e.Reason = "the registry is older than max_stale, and the Corefile says to fail then"
		e.Hints = append(e.Hints, "see meshvmctl status for why no syncer is followed")
	case outcome == failed:
		e.Reason = "the alias leads to a name that cannot be resolved, perhaps to itself"
	case outcome == refused:
		e.Reason = "queries of this type are not for everybody"
	case outcome == notImplemented:
		e.Reason = "it is no query"
	case outcome == pending:
		e.Reason = "the host has no virtual IP yet; an address from elsewhere would lead around the mesh"
		e.Hints = append(e.Hints, "see meshvmctl vips for hosts that wait for one")
	case outcome == hit:
		e.Reason = answeredReason(e)
	case outcome == passed:
		m.passedReason(q, zone, e)
	case outcome == noData:
		e.Reason = noDataReason(q, e)
	default:
		m.unknownReason(q, e)
	}
	if e.Stale && outcome != failed {
		e.Hints = append(e.Hints, "the registry is stale: the answer is the last one known, see meshvmctl status")
	}
}

func answeredReason(e *status.Explanation) string {
	found := map[string]string{
		"exact":      "the mesh has a host of this name",
		"wildcard":   "the wildcard with the longest suffix that covers the name, and no host of just this name",
		"endpoint":   "an endpoint of a headless Service has this name",
		"short-name": "short_names has it stand for a Service in the cluster",
		"port":       "it is the name of a port of the host",
		"pod":        "the address is written in the name: nobody checks that there is such a pod",
		"reverse":    "the mesh knows whose address it is",
		"apex":       "it is the zone itself",
		"zone":       "it is a name that the zone has of its own",
	}[e.Match]
	if e.Target != "" {
		found += fmt.Sprintf("; it is an alias of %s, whose records come with it where they can be had", e.Target)
	}
	return found
}

func noDataReason(q *query, e *status.Explanation) string {
	qtype := dns.TypeToString[q.qtype]
	switch e.Match {
	case "enclosed":
		return "the name is there only because of names below it"
	case "apex":
		return "it is the zone itself, which has no " + qtype + " record"
	case "exact", "wildcard", "endpoint", "short-name", "port":
		return fmt.Sprintf("%s is in the mesh and has no %s record", e.Host, qtype)
	}
	return "the name has no " + qtype + " record"
}

func (m *Meshvm) passedReason(q *query, zone *zone, e *status.Explanation) {
	switch {
	case q.host != nil && !addressed(q.host):
		e.Reason = fmt.Sprintf("%s is in the mesh but has no address, so others are asked", e.Host)
	case q.host != nil:
		e.Reason = fmt.Sprintf("the mesh has no say in %s records of %s", dns.TypeToString[q.qtype], e.Host)
	case zone != nil:
		m.unknownReason(q, e)
		e.Reason += "; fallthrough has others asked"
	default:
		e.Reason = "it is in no zone of the mesh, and no host of the mesh that this machine may see has the name"
		m.suggest(q, e)
		if !q.state.Loaded() {
			e.Reason = "no registry was loaded yet, so hosts outside the mesh's zones are not known"
		}
	}
	if len(e.Upstreams) == 0 && m.server != nil {
		e.Hints = append(e.Hints, "no forward stands behind meshvm in this Server Block: whatever does answers, or the query is refused")
	}
}

// unknownReason says why a name in the plugin's zones does not exist.
func (m *Meshvm) unknownReason(q *query, e *status.Explanation) {
	switch {
	case q.host != nil && q.host.Headless:
		e.Reason = fmt.Sprintf("%s is headless and has no ready endpoint", e.Host)
	case q.via == viaReverse:
		e.Reason = "nothing in the mesh has this address"
	case q.via == viaPod && m.config.Pods != PodsInsecure:
		e.Reason = "names of pods are not answered"
		e.Hints = append(e.Hints, "option pods insecure of meshvm answers them")
	case q.via == viaPod:
		e.Reason = "there is no such namespace, or the first label is no address"
	default:
		e.Reason = "no host of the mesh that this machine may see has the name"
		e.ClosestEncloser = closestEncloser(q, m)
		m.suggest(q, e)
		namespace := e.Namespace
		if namespace == "" {
			namespace = "NAMESPACE"
		}
		e.Hints = append(e.Hints, fmt.Sprintf("only the syncer knows what is not exported to this machine: meshvmctl lookup %s --http SYNCER:15055 --namespace %s", q.name, namespace))
	}
}

// closestEncloser is the longest name above a name that exists (RFC 4592, section 3.3.1).
func closestEncloser(q *query, m *Meshvm) string {
	zone := m.zoneOf(q.name)
	if zone == nil {
		return ""
	}
	for name := q.name; name != zone.name; {
		_, name, _ = strings.Cut(name, ".")
		if !hasSuffix(name, zone.name) {
			break
		}
		inCluster := zone.inCluster(q.state, name)
		if name == zone.name || q.state.Host(name) != nil || q.state.Host(inCluster) != nil || q.state.Encloses(name) || q.state.Encloses(inCluster) {
			return name
		}
	}
	return zone.name
}

// maxClaims bounds the claims of an Explanation.
const maxClaims = 100

// claimsOf is the claims of a host, and how they were ruled on.
func claimsOf(state *mirror.State, host *mirror.Host) []status.Claim {
	won, lost, reason := state.Ruling(host)
	var claims []status.Claim
	add := func(claim mirror.Claim, winner bool, why string) {
		s := claim.Service
		said := status.Claim{
			Key: claim.Key, Object: objectOf(claim.Key), Winner: winner, Reason: why,
			AddressKind: addressKinds[s.GetAddressKind()], ExternalName: s.GetExternalName(), Headless: s.GetHeadless(),
		}
		for _, encoded := range s.GetAddresses() {
			if address, valid := netip.AddrFromSlice(encoded); valid {
				said.Addresses = append(said.Addresses, address.Unmap().String())
			}
		}
		if s.GetCreatedAt() != 0 {
			said.CreatedAt = time.Unix(s.GetCreatedAt(), 0).UTC()
		}
		if len(claims) < maxClaims {
			claims = append(claims, said)
		}
	}
	for _, claim := range won {
		why := reason
		switch {
		case len(won) > 1:
			why = "joined with the other ServiceEntries of its namespace"
		case why == "":
			why = "nobody else that is visible claims the host"
		}
		add(claim, true, why)
	}
	for _, claim := range lost {
		add(claim, false, reason)
	}
	return claims
}

// objectOf is the kind, namespace and name of the object that a resource's key is of.
func objectOf(key string) string {
	kind, rest, _ := strings.Cut(key, "/")
	parts := strings.SplitN(rest, "/", 3)
	kind, cluster, _ := strings.Cut(kind, "@")
	object := kind + " " + strings.Join(parts[:min(2, len(parts))], "/")
	if cluster != "" {
		object += "@" + cluster
	}
	return object
}
