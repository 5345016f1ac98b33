package meshvm

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// exchange is one query and the reply to it, both as they were on the wire.
type exchange struct {
	query, reply *dns.Msg
	tcp          bool
	// size is the reply's, in bytes.
	size int
	// passed: the query itself came to the next plugin, which replied.
	passed bool
	// lookups is how many other queries came to the next plugin for the sake of this one.
	lookups int
}

// ours tells that the plugin made the reply: the server let the query in, and the plugin kept it.
func (x exchange) ours() bool { return !x.passed && x.refusal() == dns.RcodeSuccess }

// refusal is the code that the server itself replies with, NOERROR where it hands the query on.
func (x exchange) refusal() int {
	switch opt := x.query.IsEdns0(); {
	case len(x.query.Question) == 0:
		return dns.RcodeServerFailure
	case x.query.Question[0].Qclass != dns.ClassINET:
		return dns.RcodeRefused
	case opt != nil && opt.Version() != 0:
		return dns.RcodeBadVers
	case x.query.Opcode != dns.OpcodeQuery && x.query.Opcode != dns.OpcodeNotify:
		return dns.RcodeNotImplemented
	}
	return dns.RcodeSuccess
}

// exists tells that the name asked for exists: a reply with an alias speaks of another name.
func (x exchange) exists() bool {
	return x.reply.Rcode == dns.RcodeSuccess || x.reply.Rcode == dns.RcodeNameError && len(x.reply.Answer) > 0
}

func (x exchange) qtype() uint16 { return x.query.Question[0].Qtype }

// checkForm holds a reply against what every reply must be, whatever was asked.
func checkForm(t *testing.T, x exchange) {
	t.Helper()
	query, reply := x.query, x.reply
	if !reply.Response || reply.Id != query.Id || reply.Opcode != query.Opcode {
		t.Errorf("Header: got response %t, id %d, opcode %d, want true, %d, %d", reply.Response, reply.Id, reply.Opcode, query.Id, query.Opcode)
	}
	if got, want := reply.Question, query.Question[:min(1, len(query.Question))]; !slices.Equal(got, want) {
		t.Errorf("Question: got %v, want %v", got, want)
	}
	if want := x.refusal(); want != dns.RcodeSuccess && reply.Rcode != want {
		t.Errorf("Rcode of what the server refuses: got %s, want %s", dns.RcodeToString[reply.Rcode], dns.RcodeToString[want])
	}
	asked, got := query.IsEdns0(), reply.IsEdns0()
	if (asked != nil) != (got != nil) {
		t.Errorf("OPT record: got %t, want %t", got != nil, asked != nil)
	}
	room := dns.MaxMsgSize
	if !x.tcp {
		room = dns.MinMsgSize
		if asked != nil {
			room = max(room, int(asked.UDPSize()))
		}
	}
	if x.size > room {
		t.Errorf("Size: got %d, want at most %d", x.size, room)
	}
	checkSection(t, "answer", reply.Answer)
	checkSection(t, "authority", reply.Ns)
	checkSection(t, "additional", reply.Extra)
}

// checkSection holds that no record comes twice, that each is of the Internet, and that the records of a
// set have one TTL (RFC 2181, sections 5 and 5.2).
func checkSection(t *testing.T, section string, records []dns.RR) {
	t.Helper()
	type set struct {
		owner  string
		rrtype uint16
	}
	ttls := map[set]uint32{}
	seen := map[string]bool{}
	options := 0
	for _, rr := range records {
		header := *rr.Header()
		if header.Rrtype == dns.TypeOPT {
			if options++; options > 1 || section != "additional" || header.Name != "." {
				t.Errorf("OPT record %d in the %s section: want one, of the root, in the additional section", options, section)
			}
			continue
		}
		if header.Class != dns.ClassINET {
			t.Errorf("Class in the %s section: got %s, want IN", section, rr)
		}
		key := set{strings.ToLower(header.Name), header.Rrtype}
		if ttl, found := ttls[key]; found && ttl != header.Ttl {
			t.Errorf("TTL of %s in the %s section: got %d and %d, want one", rr, section, ttl, header.Ttl)
		}
		ttls[key] = header.Ttl
		text := strings.ToLower(rr.String())
		if seen[text] {
			t.Errorf("Twice in the %s section: %s", section, rr)
		}
		seen[text] = true
	}
}

// checkAnswer holds what the plugin replied against what the query allows.
func checkAnswer(t *testing.T, x exchange) {
	t.Helper()
	reply := x.reply
	if x.query.Opcode == dns.OpcodeNotify {
		if reply.Rcode != dns.RcodeNotImplemented || len(reply.Answer)+len(reply.Ns) > 0 {
			t.Errorf("Notify: got %s with %d records, want NOTIMP without any", dns.RcodeToString[reply.Rcode], len(reply.Answer)+len(reply.Ns))
		}
		return
	}
	switch reply.Rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused:
		if len(reply.Answer)+len(reply.Ns) > 0 {
			t.Errorf("Records with %s: want none", dns.RcodeToString[reply.Rcode])
		}
		if transfer := x.qtype() == dns.TypeAXFR || x.qtype() == dns.TypeIXFR; transfer != (reply.Rcode == dns.RcodeRefused) {
			t.Errorf("Rcode: got %s for %s, want only transfers to be refused", dns.RcodeToString[reply.Rcode], dns.Type(x.qtype()))
		}
		return
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		t.Errorf("Rcode: got %s, want NOERROR, NXDOMAIN, SERVFAIL or REFUSED", dns.RcodeToString[reply.Rcode])
	}
	if !reply.Authoritative {
		t.Error("AA: got a reply without it, want it set")
	}
	owner, records := followAliases(t, x)
	for _, rr := range records {
		if rr.Header().Name != owner || rr.Header().Rrtype != x.qtype() {
			t.Errorf("Answer: got %s, want owner %s and type %s", rr, owner, dns.Type(x.qtype()))
		}
	}
	if len(records) > 0 && reply.Rcode != dns.RcodeSuccess {
		t.Errorf("Rcode with records of the type: got %s, want NOERROR", dns.RcodeToString[reply.Rcode])
	}
	if !reply.Truncated {
		checkAuthority(t, x, owner, len(records) > 0)
	}
	checkAdditional(t, x, records)
}

// followAliases is the name that the CNAME records at the head of an answer lead to, and what it has. Each
// alias must begin at the name where the last one ended, in just that spelling.
func followAliases(t *testing.T, x exchange) (owner string, records []dns.RR) {
	t.Helper()
	owner, records = x.query.Question[0].Name, x.reply.Answer
	if x.qtype() == dns.TypeCNAME {
		return owner, records
	}
	visited := map[string]bool{}
	for len(records) > 0 {
		alias, is := records[0].(*dns.CNAME)
		if !is {
			break
		}
		if alias.Hdr.Name != owner || visited[strings.ToLower(owner)] {
			t.Errorf("Alias: got %s, want owner %s, and each once", alias, owner)
		}
		visited[strings.ToLower(owner)] = true
		owner, records = alias.Target, records[1:]
	}
	return owner, records
}

// checkAuthority holds that a negative answer has one SOA record, of a zone that the name is in (RFC 2308,
// section 3), and any other none. An alias may end at a name that could not be looked up.
func checkAuthority(t *testing.T, x exchange, owner string, positive bool) {
	t.Helper()
	aliased := len(x.reply.Answer) > 0
	switch got := len(x.reply.Ns); {
	case positive && got > 0:
		t.Errorf("Authority with an answer: got %v, want none", x.reply.Ns)
	case positive || aliased && x.reply.Rcode == dns.RcodeSuccess && got == 0:
	case got != 1:
		t.Errorf("Authority of a negative answer: got %d records, want one SOA", got)
	default:
		soa, is := x.reply.Ns[0].(*dns.SOA)
		if !is || !dns.IsSubDomain(soa.Hdr.Name, owner) {
			t.Errorf("Authority of a negative answer for %s: got %s, want a SOA of its zone", owner, x.reply.Ns[0])
		} else if soa.Minttl != soa.Hdr.Ttl {
			t.Errorf("SOA: got TTL %d and minimum %d, want the same (RFC 2308, section 3)", soa.Hdr.Ttl, soa.Minttl)
		}
	}
}

// checkAdditional holds that additional records are addresses of the names that the answer points to.
func checkAdditional(t *testing.T, x exchange, records []dns.RR) {
	t.Helper()
	var targets []string
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.SRV:
			targets = append(targets, rr.Target)
			if rr.Port == 0 || rr.Weight == 0 || rr.Target == "." {
				t.Errorf("SRV: got %s, want port, weight and target", rr)
			}
		case *dns.NS:
			targets = append(targets, rr.Ns)
		}
	}
	addressed := map[string]bool{}
	for _, rr := range x.reply.Extra {
		switch header := rr.Header(); header.Rrtype {
		case dns.TypeA, dns.TypeAAAA:
			if addressed[header.Name] = true; !slices.Contains(targets, header.Name) {
				t.Errorf("Additional: got %s, want addresses of %v only", rr, targets)
			}
		case dns.TypeOPT:
		default:
			t.Errorf("Additional: got %s, want addresses only", rr)
		}
	}
	for _, target := range targets {
		if !addressed[target] && !x.reply.Truncated {
			t.Errorf("Additional: got no address of %s", target)
		}
	}
}
