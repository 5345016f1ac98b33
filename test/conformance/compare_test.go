package conformance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// view is what of a reply is compared: everything but TTLs, the order of records, the spelling of names and
// the serial of a SOA.
type view struct {
	rcode                         int
	authoritative, truncated      bool
	answer, authority, additional []string
	question                      string
}

func viewOf(m *dns.Msg) view {
	if m == nil {
		return view{rcode: -1}
	}
	v := view{
		rcode:         m.Rcode,
		authoritative: m.Authoritative,
		truncated:     m.Truncated,
		answer:        texts(m.Answer),
		authority:     texts(m.Ns),
		additional:    texts(m.Extra),
	}
	if len(m.Question) == 1 {
		v.question = m.Question[0].String()
	}
	return v
}

func (v view) equal(other view) bool {
	return v.rcode == other.rcode && v.authoritative == other.authoritative && v.truncated == other.truncated &&
		v.question == other.question && slices.Equal(v.answer, other.answer) &&
		slices.Equal(v.authority, other.authority) && slices.Equal(v.additional, other.additional)
}

func (v view) String() string {
	if v.rcode < 0 {
		return "no reply"
	}
	text := fmt.Sprintf("%s aa=%t tc=%t", dns.RcodeToString[v.rcode], v.authoritative, v.truncated)
	for _, section := range []struct {
		name    string
		records []string
	}{{"answer", v.answer}, {"authority", v.authority}, {"additional", v.additional}} {
		if len(section.records) > 0 {
			text += fmt.Sprintf(" %s %q", section.name, section.records)
		}
	}
	return text
}

// texts is records in words, sorted.
func texts(records []dns.RR) []string {
	texts := make([]string, 0, len(records))
	for _, rr := range records {
		texts = append(texts, text(rr))
	}
	slices.Sort(texts)
	return texts
}

// text is a record in words: owner, type, data.
func text(rr dns.RR) string {
	header := rr.Header()
	var data string
	switch rr := rr.(type) {
	case *dns.A:
		data = rr.A.String()
	case *dns.AAAA:
		data = rr.AAAA.String()
	case *dns.CNAME:
		data = rr.Target
	case *dns.PTR:
		data = rr.Ptr
	case *dns.SRV:
		data = fmt.Sprint(rr.Priority, rr.Weight, rr.Port, " ", rr.Target)
	case *dns.SOA:
		data = fmt.Sprint(rr.Ns, " ", rr.Mbox, " ", rr.Refresh, rr.Retry, rr.Expire, rr.Minttl)
	case *dns.OPT:
		return strings.ReplaceAll(strings.TrimSpace(rr.String()), "\n", " ")
	default:
		data = strings.TrimPrefix(rr.String(), header.String())
	}
	return strings.ToLower(header.Name + " " + dns.TypeToString[header.Rrtype] + " " + data)
}

// isNoData reports whether the name exists, but not with the type, as the zone says.
func (v view) isNoData(zone string) bool { return v.rcode == dns.RcodeSuccess && v.isNegative(zone) }

// isNameError reports whether the name does not exist, as the zone says.
func (v view) isNameError(zone string) bool {
	return v.rcode == dns.RcodeNameError && v.isNegative(zone)
}

// isServerFailure reports whether the server could not tell.
func (v view) isServerFailure() bool {
	return v.rcode == dns.RcodeServerFailure && len(v.answer)+len(v.authority)+len(v.additionalRecords()) == 0
}

func (v view) isNegative(zone string) bool {
	return v.authoritative && len(v.answer) == 0 && len(v.additionalRecords()) == 0 &&
		len(v.authority) == 1 && v.authority[0] == soaOf(zone)
}

// soaOf is the SOA record of a zone in words.
func soaOf(zone string) string {
	return text(&dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA},
		Ns:  "ns.dns." + zone, Mbox: "hostmaster." + zone, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 5,
	})
}

// isPositive reports whether there are such answers, and nothing else but additional records.
func (v view) isPositive(answer ...string) bool {
	slices.Sort(answer)
	return v.rcode == dns.RcodeSuccess && v.authoritative && len(v.authority) == 0 && slices.Equal(v.answer, answer)
}

// additionalRecords is the additional section without EDNS, which is the server's.
func (v view) additionalRecords() []string {
	return slices.DeleteFunc(slices.Clone(v.additional), func(text string) bool { return strings.HasPrefix(text, ";") })
}
