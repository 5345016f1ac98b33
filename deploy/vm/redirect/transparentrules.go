package redirect

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"
)

// transparentTable is ours, in the families ip and ip6: the family inet has no nat before Linux 5.2.
const transparentTable = "meshvm"

// Priorities of the chains. Istio's agent writes its rules with iptables, which are in the chains of priority -300 (raw) and -100
// (nat). The first nat rule that matches a connection is the only one, and the first zone that a packet gets is its zone, so that ours
// come before Istio's whoever loaded his rules first.
const (
	zonePriority     = -310
	redirectPriority = -110
	sourcePriority   = 90
)

// familyRules are the rules of one IP family.
type familyRules struct {
	// family is ip or ip6.
	family string
	server netip.AddrPort
	exempt exemption
	// stubs: those of systemd-resolved go on being asked, since it asks CoreDNS itself.
	stubs bool
}

// transparentRules are what a Plan wants, for each IP family in which CoreDNS listens.
func transparentRules(m Machine, p Plan) ([]familyRules, error) {
	exempt, err := m.exempt(p)
	if err != nil {
		return nil, err
	}
	var rules []familyRules
	for _, server := range []netip.AddrPort{p.Server, p.Server6} {
		if !server.IsValid() {
			continue
		}
		addr := server.Addr().Unmap()
		r := familyRules{family: "ip", server: netip.AddrPortFrom(addr, server.Port()), exempt: exempt, stubs: p.Mode.split()}
		if addr.Is6() {
			r.family = "ip6"
		}
		if addr.IsUnspecified() || addr.Zone() != "" {
			return nil, &Impossible{"nftables cannot send questions to " + server.String() + ": have CoreDNS listen at an address of this machine"}
		}
		if len(rules) > 0 && rules[0].family == r.family {
			return nil, &Impossible{fmt.Sprintf("%s and %s are of one IP family: want one of each", p.Server, p.Server6)}
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil, &Impossible{"where CoreDNS listens is not known"}
	}
	return rules, nil
}

// body are the rules, with a %s each where the comment goes.
func (r familyRules) body() string {
	var b strings.Builder
	chain := func(name, hook string, priority int, rules ...string) {
		fmt.Fprintf(&b, "chain %s {\ntype %s priority %d; policy accept;\n", name, hook, priority)
		for _, rule := range rules {
			fmt.Fprintf(&b, "%s comment \"%%[1]s\"\n", rule)
		}
		b.WriteString("}\n")
	}
	port := strconv.Itoa(int(r.server.Port()))
	addr := r.server.Addr().String()
	dnat := addr + ":" + port
	local := "127.0.0.0/8"
	if r.family == "ip6" {
		dnat, local = "["+addr+"]:"+port, "::1"
	}
	left := r.exempt.rules()
	if r.stubs && r.family == "ip" {
		left = append(left, fmt.Sprintf("ip daddr { %s, %s } return", stubs[0], stubs[1]))
	}
	var zone, redirected, source []string
	for _, protocol := range []string{"udp", "tcp"} {
		// A reply is found in the zone of its question, and a nameserver's replies have none of Istio's zones on their way out.
		zone = append(zone, fmt.Sprintf("%s saddr %s %s sport %s ct zone set 0", r.family, addr, protocol, port))
		if r.server.Port() == dnsPort {
			// Istio would send these to its agent where resolv.conf names CoreDNS. Being redirected to where they go already, they stay.
			own := fmt.Sprintf("%s daddr %s %s dport %d ", r.family, addr, protocol, dnsPort)
			zone = append(zone, own+"ct zone set 0")
			redirected = append(redirected, own+"dnat to "+dnat)
		}
	}
	zone, redirected = append(zone, left...), append(redirected, left...)
	for _, protocol := range []string{"udp", "tcp"} {
		asked := fmt.Sprintf("%s dport %d ", protocol, dnsPort)
		zone = append(zone, asked+"ct zone set 0")
		redirected = append(redirected, asked+"dnat to "+dnat)
		if r.server.Addr().IsLoopback() {
			// The kernel chose a source for the resolver that was asked. CoreDNS is to see who it is: this machine.
			source = append(source, fmt.Sprintf("%s saddr != %s %s daddr %s %s dport %s ct status dnat snat to %s", r.family, local, r.family, addr, protocol, port, addr))
		}
	}
	chain("question_zone", "filter hook output", zonePriority, zone...)
	chain("question_target", "nat hook output", redirectPriority, redirected...)
	chain("question_source", "nat hook postrouting", sourcePriority, source...)
	return b.String()
}

// script loads the rules in a table of their own.
func (r familyRules) script() string {
	return fmt.Sprintf("table %s %s {\n%s}\n", r.family, transparentTable, fmt.Sprintf(r.body(), r.comment()))
}

// comment tells rules of another plan apart.
func (r familyRules) comment() string {
	hash := fnv.New64a()
	hash.Write([]byte(r.body())) // never fails
	return fmt.Sprintf("meshvm %016x", hash.Sum64())
}

func (r familyRules) count() int { return strings.Count(r.body(), "%[1]s") }

// dnsPort is where questions go (RFC 1035, section 4.2).
const dnsPort = 53
