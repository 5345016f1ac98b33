package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// rule is an intended difference from CoreDNS's kubernetes plugin: the questions at which it shows, and what
// both sides must then say. At every other question both must say the same.
type rule struct {
	name, reason string
	// covers reports whether the difference shows at a question, by what the world has at the name.
	covers func(q question, n node) bool
	// check is what is wrong with the replies; nil when both sides say what they must.
	check func(x exchange) error
}

// exchange is a question and both replies to it.
type exchange struct {
	pair         *pair
	world        *world
	question     question
	node         node
	theirs, ours view
}

var errNotSo = errors.New("replies are not as the rule has them")

func must(conditions ...bool) error {
	if slices.Contains(conditions, false) {
		return errNotSo
	}
	return nil
}

// theirsSayNameError is the check where only we know that the name exists.
func theirsSayNameError(x exchange) error {
	return must(x.theirs.isNameError(x.node.zone), x.ours.isNoData(x.node.zone))
}

// oursSayNameError is the check where CoreDNS makes a name exist, with records or without.
func oursSayNameError(x exchange) error {
	return must(x.theirs.rcode == dns.RcodeSuccess, x.ours.isNameError(x.node.zone))
}

// isShouted reports whether the zone is spelled with a capital in the question.
func isShouted(q question, n node) bool { return !strings.HasSuffix(q.name, n.zone) }

var rules = []rule{
	{
		name:   "exists for every type",
		reason: "A name that exists does so for every type (RFC 2308, section 2.2): NODATA, where CoreDNS has a name error for TXT, or for any type but a name's own.",
		covers: func(q question, n node) bool {
			switch n.kind {
			case kindApex, kindSection:
				return q.qtype == dns.TypeTXT
			case kindNameServer:
				return !isShouted(q, n) && (q.qtype == dns.TypeTXT || q.qtype == dns.TypePTR)
			case kindVersion:
				return q.qtype != dns.TypeTXT && q.qtype != dns.TypeSOA
			}
			return false
		},
		check: theirsSayNameError,
	},
	{
		name:   "SOA of a name that does not exist",
		reason: "A name that does not exist has no SOA record either: a name error as for every other type (RFC 2308, section 2.1), where CoreDNS looks at the type alone.",
		covers: func(q question, n node) bool {
			return q.qtype == dns.TypeSOA && (n.kind == kindNothing || n.kind == kindHiddenReverse || n.kind == kindBelowAddress)
		},
		check: func(x exchange) error {
			return must(x.theirs.isNoData(x.node.zone), x.ours.isNameError(x.node.zone))
		},
	},
	{
		name:   "empty non-terminals",
		reason: "A name with names below it exists (RFC 8020): resolvers that minimise names (RFC 9156) would otherwise stop there and never reach the port, the name server or the address below.",
		covers: func(q question, n node) bool {
			return q.qtype != dns.TypeSOA && (n.kind == kindProtocol || n.kind == kindWayToNameServer || n.kind == kindNetwork)
		},
		check: theirsSayNameError,
	},
	{
		name:   "aliases",
		reason: "An alias answers every type with its CNAME and what the target has (RFC 1034, section 3.6.2) under the code of the last name (RFC 6604), where CoreDNS knows addresses only, drops an alias without any, and has no code or SOA from the target.",
		covers: func(q question, n node) bool { return n.kind == kindAlias && q.qtype != dns.TypeCNAME },
		check:  checkAlias,
	},
	{
		name:   "endpoints behind cluster IPs",
		reason: "VMs reach such a Service by its cluster IP; EndpointSlices are followed for headless Services only, which is what keeps the registry small.",
		covers: func(_ question, n node) bool { return n.kind == kindHidden },
		check:  oursSayNameError,
	},
	{
		name:   "addresses of endpoints behind cluster IPs",
		reason: "As above: the pointers of such endpoints are not known, nor those of endpoints whose Service is gone; those of headless Services are.",
		covers: func(q question, n node) bool { return q.qtype == dns.TypePTR && n.behind != nil },
		check:  checkPointers,
	},
	{
		name:   "the name server's address",
		reason: "ns.dns is where the query reached the server, as a VM can reach it, where CoreDNS tells the addresses of the machine or of its own Service.",
		covers: func(q question, n node) bool {
			return q.at != reached && (n.kind == kindNameServer || n.kind == kindApex && q.qtype == dns.TypeNS)
		},
		check: checkNameServer,
	},
	{
		name:   "below a pod",
		reason: "A pod's name has nothing below it, where CoreDNS takes whatever stands there for the pod.",
		covers: func(_ question, n node) bool { return n.kind == kindBelowPod },
		check:  oursSayNameError,
	},
	{
		name:   "other types of a reverse name",
		reason: "An address with a pointer exists for every type (RFC 2308, section 2.2).",
		covers: func(q question, n node) bool {
			return n.kind == kindReverse && q.qtype != dns.TypePTR && q.qtype != dns.TypeSOA
		},
		check: theirsSayNameError,
	},
	{
		name:   "whole sets of addresses",
		reason: "The addresses of an endpoint's name are one set (RFC 2181, section 5), the same wherever they are told, where CoreDNS leaves out those in slices without the port in question.",
		covers: func(q question, n node) bool { return n.spread != nil && n.spread(q.qtype) },
		check:  checkSpread,
	},
	{
		name:   "endless aliases",
		reason: "More than eleven aliases in a row, as in a loop, are a server failure, which tells the operator that something is wrong, where CoreDNS says NODATA, or tells a part of the way if that leads into another zone.",
		covers: func(q question, n node) bool { return n.kind == kindEndless && q.qtype != dns.TypeCNAME },
		check:  checkEndless,
	},
	{
		name:   "below an alias",
		reason: "An alias has nothing below it, where CoreDNS takes any port of any protocol for the alias itself.",
		covers: func(_ question, n node) bool { return n.kind == kindBelowAlias },
		check:  oursSayNameError,
	},
	{
		name:   "ports of pods",
		reason: "Nobody knows a pod's ports: NODATA, where CoreDNS makes up port zero, at which nothing can be reached.",
		covers: func(q question, n node) bool { return n.kind == kindPod && q.qtype == dns.TypeSRV },
		check: func(x exchange) error {
			name := strings.ToLower(x.question.name)
			return must(x.theirs.isPositive(name+" srv 0 100 0 "+name), x.ours.isNoData(x.node.zone))
		},
	},
	{
		name:   "the spelling of a zone",
		reason: "Names are the same in capitals (RFC 4343), where CoreDNS finds neither a zone's name servers nor their address.",
		covers: func(q question, n node) bool {
			return isShouted(q, n) && (n.kind == kindApex && q.qtype == dns.TypeNS || n.kind == kindNameServer && q.qtype != dns.TypeSOA)
		},
		check: checkSpelling,
	},
	{
		name:   "the cluster's names in reverse zones",
		reason: "A reverse zone holds addresses and its name server, where CoreDNS also has svc, pod and dns-version in it.",
		covers: func(q question, n node) bool {
			return n.kind == kindStray && (q.qtype == dns.TypeSOA || (q.qtype == dns.TypeTXT) == (n.labels[0] == "dns-version"))
		},
		check: oursSayNameError,
	},
	{
		name:   "below an IPv6 address",
		reason: "An address has 32 digits and nothing below them, where CoreDNS overlooks up to three labels more.",
		covers: func(q question, n node) bool { return q.qtype == dns.TypePTR && n.kind == kindBelowAddress },
		check:  oursSayNameError,
	},
	{
		name:   "addresses outside the reverse zones",
		reason: "What is known of an address is told wherever it is, as an overlay: endpoints are in networks that nobody lists as zones. CoreDNS keeps to its zones.",
		covers: func(q question, n node) bool { return q.qtype == dns.TypePTR && n.kind == kindForeignReverse },
		check: func(x exchange) error {
			return must(x.theirs.rcode == dns.RcodeNameError, x.ours.isPositive(x.world.pointers(x.question.name, x.node.address)...))
		},
	},
}

// checkAlias holds both sides' replies for an alias against their own replies for its target.
func checkAlias(x exchange) error {
	target := dns.Fqdn(x.world.services[x.node.service].Spec.ExternalName)
	cname := cnameOf(x.question.name, target)

	want := x.pair.askAgain(x.pair.ours, x.question, target)
	want.answer = append(want.answer, cname)
	slices.Sort(want.answer)
	want.question, want.authoritative = x.ours.question, true
	if !x.ours.equal(want) {
		return fmt.Errorf("ours should be the CNAME and what the target has: %v", want)
	}

	return checkTheirAlias(x)
}

func checkTheirAlias(x exchange) error {
	target := dns.Fqdn(x.world.services[x.node.service].Spec.ExternalName)
	inZone := dns.IsSubDomain(x.node.zone, target)
	spelled := target
	if inZone && isShouted(x.question, x.node) {
		spelled = strings.ToUpper(target) // CoreDNS follows it in the spelling of the question's zone.
	}
	theirs := x.pair.askAgain(x.pair.theirs, x.question, spelled)
	below := dns.IsSubDomain(strings.ToLower(x.question.name), target)
	if !isAddress(x.question.qtype) || below || inZone && len(theirs.answer) == 0 {
		if !x.theirs.isNoData(x.node.zone) {
			return errors.New("theirs should be NODATA")
		}
		return nil
	}
	if !x.theirs.isPositive(append(theirs.answer, cnameOf(x.question.name, target))...) {
		return fmt.Errorf("theirs should be the CNAME and the target's addresses: %v", theirs)
	}
	return nil
}

// checkEndless wants a server failure of ours, and of theirs what is left of an alias that they give up.
func checkEndless(x exchange) error {
	theirs := must(x.theirs.isNoData(x.node.zone))
	if !dns.IsSubDomain(x.node.zone, dns.Fqdn(x.world.services[x.node.service].Spec.ExternalName)) {
		theirs = checkTheirAlias(x) // It counts from one again.
	}
	return errors.Join(theirs, must(x.ours.isServerFailure()))
}

func isAddress(qtype uint16) bool { return qtype == dns.TypeA || qtype == dns.TypeAAAA }

func cnameOf(name, target string) string { return strings.ToLower(name + " cname " + target) }

// checkSpelling wants ours to be what it is in small letters.
func checkSpelling(x exchange) error {
	want := x.pair.askAgain(x.pair.ours, x.question, strings.ToLower(x.question.name))
	want.question = x.ours.question
	theirs := x.theirs.isNameError
	if x.node.kind == kindApex {
		theirs = x.theirs.isNoData
	}
	return must(theirs(x.node.zone), x.ours.equal(want))
}

// askAgain is a resolver's reply to the same question for another name.
func (p *pair) askAgain(r *resolver, q question, name string) view {
	q.name = name
	return viewOf(r.askAt(q.at, q.message()))
}

// checkPointers wants ours to be theirs without the pointers to names that only they know.
func checkPointers(x exchange) error {
	var known []string
	for _, service := range x.node.behind {
		if !isHeadless(x.world.services[service]) {
			continue
		}
		for _, answer := range x.theirs.answer {
			if strings.HasSuffix(answer, "."+service.name+"."+service.namespace+".svc."+clusterZone) {
				known = append(known, answer)
			}
		}
	}
	theirs := must(x.theirs.isPositive(slices.Clone(x.theirs.answer)...), len(x.theirs.answer) > len(known))
	if len(known) == 0 {
		return errors.Join(theirs, must(x.ours.isNameError(x.node.zone)))
	}
	return errors.Join(theirs, must(x.ours.isPositive(known...)))
}

// checkNameServer wants either side to tell its own address.
func checkNameServer(x exchange) error {
	name := "ns.dns." + x.node.zone
	theirs, ours := name+" a "+reached.String(), name+" aaaa "+x.question.at.String()
	mine := dns.TypeAAAA
	if x.question.at.Is4() {
		ours, mine = name+" a "+x.question.at.String(), dns.TypeA
	}
	if x.node.kind == kindApex {
		ns := x.node.zone + " ns " + name
		return must(
			x.theirs.isPositive(ns), slices.Equal(x.theirs.additionalRecords(), []string{theirs}),
			x.ours.isPositive(ns), slices.Equal(x.ours.additionalRecords(), []string{ours}),
		)
	}
	either := func(v view, qtype uint16, answer string) bool {
		if x.question.qtype != qtype {
			return v.isNoData(x.node.zone)
		}
		return v.isPositive(answer)
	}
	return must(either(x.theirs, dns.TypeA, theirs), either(x.ours, mine, ours))
}
