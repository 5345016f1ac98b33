package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// fact is something that the Kubernetes DNS-Based Service Discovery specification, version 1.1.0, demands.
type fact struct {
	// section has its number there.
	section, says string
	question      string // NAME TYPE
	// rcode and answer are demanded. SRV records are without priority and weight, which the
	// specification leaves open.
	rcode  int
	answer []string
	// additional is what the specification allows to be there, and we promise.
	additional []string
}

// authority is what must be in the authority section: where there is no answer the SOA record of the zone
// (RFC 2308, section 3), otherwise nothing.
func (f fact) authority(name string) []string {
	if len(f.answer) > 0 {
		return nil
	}
	return []string{soaOf(zoneNames[slices.IndexFunc(zoneNames, func(zone string) bool { return dns.IsSubDomain(zone, name) })])}
}

// sections are those of the specification that demand something.
var sections = []string{"2.1", "2.2", "2.3.1", "2.3.2", "2.3.3", "2.4.1", "2.4.2", "2.4.3", "2.5", "2.6", "3"}

// testSpecification holds the plugin against the specification, fact by fact, and CoreDNS with it.
func testSpecification(t *testing.T, p *pair) {
	c := p.cluster
	before := c.world()
	c.make(create(namespaceNamed(specified)), create(namespaceNamed(specifiedLong)))
	c.make(specifiedObjects()...)
	p.inStep()
	w := c.world()
	defer c.clear(w, before)

	covered := map[string]bool{}
	for _, fact := range specification(w) {
		covered[fact.section] = true
		t.Run(fact.section+" "+fact.says, func(t *testing.T) {
			for _, resolver := range []*resolver{p.ours, p.theirs} {
				fact.check(t, resolver)
			}
		})
	}
	for _, resolver := range []*resolver{p.ours, p.theirs} {
		t.Run("2.1 an endpoint's identifier leads to it, "+resolver.name, func(t *testing.T) { testIdentifiers(t, resolver) })
	}
	if got := slices.Sorted(maps.Keys(covered)); !slices.Equal(got, sections) {
		t.Errorf("Sections: got facts of %q, want of %q", got, sections)
	}
}

func (f fact) check(t *testing.T, resolver *resolver) {
	t.Helper()
	name, qtype, _ := strings.Cut(f.question, " ")
	reply := resolver.ask(name, dns.StringToType[qtype])
	if reply == nil {
		t.Fatalf("%s, %s: got no reply", resolver.name, f.question)
	}
	if reply.Rcode != f.rcode || !reply.Authoritative {
		t.Errorf("%s, %s: got %s, authoritative %t, want %s and authoritative", resolver.name, f.question,
			dns.RcodeToString[reply.Rcode], reply.Authoritative, dns.RcodeToString[f.rcode])
	}
	for section, both := range map[string][2][]string{
		"Answer":     {specifiedTexts(reply.Answer), f.answer},
		"Authority":  {specifiedTexts(reply.Ns), f.authority(name)},
		"Additional": {specifiedTexts(reply.Extra), f.additional},
	} {
		want := slices.Sorted(slices.Values(both[1]))
		if got := both[0]; !slices.Equal(got, want) {
			t.Errorf("%s, %s: %s: got %q, want %q", resolver.name, f.question, section, got, want)
		}
	}
	for _, rr := range slices.Concat(reply.Answer, reply.Ns, reply.Extra) {
		if rr.Header().Class != dns.ClassINET {
			t.Errorf("%s, %s: got %v, want class IN", resolver.name, f.question, rr)
		}
	}
}

// specifiedTexts is records in words, as facts have them.
func specifiedTexts(records []dns.RR) []string {
	var texts []string
	for _, rr := range records {
		if service, ok := rr.(*dns.SRV); ok {
			open := *service
			open.Priority, open.Weight = 0, 0
			rr = &open
		}
		texts = append(texts, text(rr))
	}
	slices.Sort(texts)
	return texts
}
