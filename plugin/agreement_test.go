package meshvm

import (
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// TestRepliesAgree examines every name that the mesh knows, and names beside and below them, in every setting.
func TestRepliesAgree(t *testing.T) {
	names, _ := vocabulary(t)
	for i, server := range startServers(t) {
		t.Run(settings[i].name, func(t *testing.T) {
			for _, name := range names {
				for _, below := range []string{"", "x.", "_http._tcp.", "_._.", "udp."} {
					for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME} {
						r := newQuestion(dns.Fqdn(below+strings.TrimPrefix(name, ".")), qtype).SetEdns0(1232, false)
						server.examine(t, packed(t, r))
					}
				}
			}
		})
	}
}

// examine sends a message and, where the plugin answers it, related ones. Their replies must agree.
func (s *frontend) examine(t *testing.T, message []byte) {
	t.Helper()
	x := s.ask(t, message, false)
	if len(x.query.Question) == 0 {
		return
	}
	if again := s.ask(t, message, false); sections(again.reply) != sections(x.reply) {
		t.Errorf("Asked again: got\n%s\nwant\n%s", sections(again.reply), sections(x.reply))
	}
	whole := s.ask(t, message, true)
	if got, want := sections(x.reply), sections(whole.reply); !x.reply.Truncated && got != want || whole.passed != x.passed {
		t.Errorf("Over UDP: got\n%s\nover TCP\n%s", got, want)
	}
	s.examineAutoPath(t, x)
	s.examineMetadata(t, x)
	switch {
	case !x.ours():
	case x.query.Opcode == dns.OpcodeNotify:
		s.examineSpelling(t, whole) // there is nothing else to a refusal
	default:
		s.examineFailure(t, x)
		s.examineSpelling(t, whole)
		s.examineExistence(t, x)
		s.examineAlias(t, whole)
		s.examineTargets(t, whole)
	}
	x.report(t)
}

// examineFailure holds that the plugin fails for a reason, and that a client that speaks EDNS is told of one,
// and of an answer that is stale.
func (s *frontend) examineFailure(t *testing.T, x exchange) {
	t.Helper()
	failed := x.reply.Rcode == dns.RcodeServerFailure
	told := func(code uint16) bool { return x.query.IsEdns0() == nil || hasError(x.reply, code) }
	stale := s.follower.staleFor() > s.config.MaxStale
	switch {
	case x.reply.Rcode == dns.RcodeRefused:
	case !s.follower.mirror.State().Loaded():
		if !failed || !told(dns.ExtendedErrorCodeNotReady) {
			t.Error("Nothing is loaded: want SERVFAIL, and Not Ready")
		}
	case s.tooStale() && !failed, stale && (s.tooStale() || !failed) && !told(dns.ExtendedErrorCodeStaleAnswer):
		t.Errorf("The registry is stale: want Stale Answer, SERVFAIL %t", s.tooStale())
	case failed && !s.tooStale():
		alias := s.ask(t, packed(t, newQuestion(x.query.Question[0].Name, dns.TypeCNAME)), true)
		if len(alias.reply.Answer) == 0 || !told(dns.ExtendedErrorCodeOther) {
			t.Errorf("Rcode: got SERVFAIL, want it and Other for an alias only, not\n%v", alias.reply)
		}
	}
}

// examineSpelling asks in the other case.
func (s *frontend) examineSpelling(t *testing.T, x exchange) {
	t.Helper()
	other := x.query.Copy()
	other.Question = []dns.Question{x.query.Question[0]}
	other.Question[0].Name = strings.Map(swapCase, x.query.Question[0].Name)
	data, err := other.Pack()
	if err != nil || new(dns.Msg).Unpack(data) != nil {
		return // some messages can be read, but not written
	}
	swapped := s.ask(t, data, true)
	if got, want := strings.ToLower(sections(swapped.reply)), strings.ToLower(sections(x.reply)); got != want {
		t.Errorf("Asked as %s: got\n%s\nwant\n%s", other.Question[0].Name, got, want)
	}
}

// swapCase is the letter's other case. Escaped bytes have no letters in them.
func swapCase(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 'a' + 'A'
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	}
	return r
}

// examineExistence asks for other types, and for the name above: a name that exists does so for every
// type (RFC 2308, section 2.2), and so do all above it in its zone (RFC 8020).
func (s *frontend) examineExistence(t *testing.T, x exchange) {
	t.Helper()
	if x.reply.Rcode != dns.RcodeSuccess && x.reply.Rcode != dns.RcodeNameError {
		return
	}
	name := x.query.Question[0].Name
	zone := s.zoneOf(canonical(name))
	if zone == nil {
		return
	}
	for _, qtype := range []uint16{dns.TypeTXT, dns.TypeAAAA} {
		other := s.ask(t, packed(t, newQuestion(name, qtype)), true)
		if other.passed || other.reply.Rcode == dns.RcodeServerFailure {
			continue // a host without addresses falls through; an alias may lead nowhere
		}
		if other.exists() != x.exists() {
			t.Errorf("Name exists for %s: got %t, for %s %t", dns.Type(qtype), other.exists(), dns.Type(x.qtype()), x.exists())
		}
	}
	labels := dns.SplitDomainName(name)
	if !x.exists() || canonical(name) == zone.name || lacksUnderscores(s, zone, name) {
		return
	}
	above := s.ask(t, packed(t, newQuestion(dns.Fqdn(strings.Join(labels[1:], ".")), dns.TypeTXT)), true)
	if !above.passed && above.reply.Rcode == dns.RcodeNameError && !above.exists() {
		t.Errorf("Name above: got NXDOMAIN for %s", above.query.Question[0].Name)
	}
}

// lacksUnderscores tells names of ports that are written as only CoreDNS reads them. The names above them
// are no protocol's.
func lacksUnderscores(s *frontend, zone *zone, name string) bool {
	state := s.follower.mirror.State()
	port, found := findPort(state, canonical(name), zone.inCluster(state, canonical(name)))
	return found && (!port.underscored || port.protocol == "")
}

// examineAlias asks for what an alias leads to: the reply's code and records are those of its target
// (RFC 1034, section 3.6.2; RFC 6604).
func (s *frontend) examineAlias(t *testing.T, x exchange) {
	t.Helper()
	if len(x.reply.Answer) == 0 || x.reply.Truncated || x.qtype() == dns.TypeCNAME {
		return
	}
	alias, is := x.reply.Answer[0].(*dns.CNAME)
	if !is {
		return
	}
	target := s.ask(t, packed(t, newQuestion(alias.Target, x.qtype())), true)
	if target.reply.Rcode != dns.RcodeSuccess && target.reply.Rcode != dns.RcodeNameError {
		// The alias stands alone.
		target.reply = new(dns.Msg)
	}
	want := new(dns.Msg)
	want.Rcode, want.Answer, want.Ns = target.reply.Rcode, append(x.reply.Answer[:1:1], target.reply.Answer...), target.reply.Ns
	got := x.reply.Copy()
	got.Extra = nil
	if got, want := sections(got), sections(want); got != want {
		t.Errorf("Alias to %s: got\n%s\nwant\n%s", alias.Target, got, want)
	}
}

// examineTargets asks for what the answer points to: its addresses are those in the additional section, and
// what an address points back to has that address.
func (s *frontend) examineTargets(t *testing.T, x exchange) {
	t.Helper()
	if x.reply.Truncated {
		return
	}
	asked := map[string]bool{}
	for _, rr := range x.reply.Answer {
		switch rr := rr.(type) {
		case *dns.SRV:
			if !asked[rr.Target] && len(asked) < 3 {
				asked[rr.Target] = true
				got, known := s.addressesOf(t, rr.Target)
				if want := additionalOf(x.reply, rr.Target); !known || !slices.Equal(got, want) {
					t.Errorf("Addresses of %s: got %v, known %t, want %v as in the additional section", rr.Target, got, known, want)
				}
			}
		case *dns.PTR:
			address, _ := reverseAddress(canonical(rr.Hdr.Name))
			if got, known := s.addressesOf(t, rr.Ptr); known && !slices.Contains(got, address.String()) {
				t.Errorf("Addresses of %s, which %s points to: got %v", rr.Ptr, address, got)
			}
		}
	}
}

// addressesOf is a name's addresses in order. known: the plugin does not leave the name to others, as it does
// where its zones are but a part of the cluster's domain.
func (s *frontend) addressesOf(t *testing.T, name string) (texts []string, known bool) {
	t.Helper()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		x := s.ask(t, packed(t, newQuestion(name, qtype)), true)
		texts = append(texts, addressTexts(x.reply.Answer, name)...)
		known = !x.passed
	}
	slices.Sort(texts)
	return texts, known
}

func additionalOf(reply *dns.Msg, name string) []string {
	texts := addressTexts(reply.Extra, name)
	slices.Sort(texts)
	return texts
}

func addressTexts(records []dns.RR, owner string) []string {
	var texts []string
	for _, rr := range records {
		switch rr := rr.(type) {
		case *dns.A:
			if rr.Hdr.Name == owner {
				texts = append(texts, rr.A.String())
			}
		case *dns.AAAA:
			if rr.Hdr.Name == owner {
				texts = append(texts, rr.AAAA.String())
			}
		}
	}
	return texts
}

// examineAutoPath holds that a search path is one: domains, each once, the bare name last.
func (s *frontend) examineAutoPath(t *testing.T, x exchange) {
	t.Helper()
	path := s.AutoPath(request.Request{W: &test.ResponseWriter{}, Req: x.query})
	for i, domain := range path {
		last := i == len(path)-1
		if last != (domain == "") || !last && domain != dns.Fqdn(strings.ToLower(domain)) || slices.Index(path, domain) != i {
			t.Errorf("Search path: got %q, want domains, each once, and the empty one last", path)
		}
	}
}

// examineMetadata holds that a query whose reply is the plugin's is labelled, and that labels have values.
func (s *frontend) examineMetadata(t *testing.T, x exchange) {
	t.Helper()
	ctx := s.Metadata(metadata.ContextWithMetadata(t.Context()), request.Request{W: &test.ResponseWriter{}, Req: x.query})
	labels := metadata.ValueFuncs(ctx)
	for label, value := range labels {
		if !metadata.IsLabel(label) || value() == "" {
			t.Errorf("Metadata: got %q for label %q", value(), label)
		}
	}
	if x.ours() && labels[labelStale] == nil {
		t.Errorf("Metadata: got %d labels without %s for a reply of the plugin", len(labels), labelStale)
	}
}

// sections is a reply's code and records as text.
func sections(reply *dns.Msg) string {
	var text strings.Builder
	text.WriteString(dns.RcodeToString[reply.Rcode])
	for _, section := range [][]dns.RR{reply.Answer, reply.Ns, reply.Extra} {
		text.WriteString("\n--\n")
		for _, rr := range section {
			text.WriteString(rr.String())
			text.WriteByte('\n')
		}
	}
	return text.String()
}
