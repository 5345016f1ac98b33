package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// question is one question to both servers.
type question struct {
	name  string
	qtype uint16
	// at is where it reaches the server.
	at netip.Addr
	// edns: the client speaks it.
	edns bool
	// about is the object because of which it is asked.
	about string
}

func (q question) String() string {
	text := q.name + " " + dns.TypeToString[q.qtype]
	if q.at != reached {
		text += " at " + q.at.String()
	}
	return text + " (" + q.about + ")"
}

func (q question) message() *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	if q.edns {
		m.SetEdns0(1232, false)
	}
	return m
}

// allTypes is every type that is asked for at all.
var allTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS, dns.TypeANY,
}

// rareTypes are those that are the same to most names: one of them is asked for, in turn.
var rareTypes = []uint16{dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS, dns.TypeANY}

// asking collects questions, each once.
type asking struct {
	g         *generator
	about     string
	questions []question
	seen      map[string]bool
}

func (a *asking) add(name string, qtype uint16, at netip.Addr) {
	name = dns.Fqdn(name)
	key := fmt.Sprint(name, qtype, at)
	if _, valid := dns.IsDomainName(name); !valid || a.seen[key] {
		return
	}
	a.seen[key] = true
	a.questions = append(a.questions, question{name: name, qtype: qtype, at: at, edns: a.g.chance(50), about: a.about})
}

// all asks a name for every type.
func (a *asking) all(names ...string) {
	for _, name := range names {
		for _, qtype := range allTypes {
			a.add(name, qtype, reached)
		}
	}
}

// some asks names for what they are most likely to have, and for one other type each.
func (a *asking) some(names ...string) {
	for _, name := range names {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, pick(a.g, rareTypes)} {
			a.add(name, qtype, reached)
		}
	}
}

// few asks some of the names of a list, at random.
func (a *asking) few(names ...string) {
	for _, name := range names {
		if a.g.chance(20) {
			a.some(name)
		}
	}
}

// questions is what the objects of a world imply, and near misses.
func (g *generator) questions(w *world) []question {
	// How many are drawn depends on cluster IPs, which the API server makes up. What becomes of the objects
	// must not: a generator of its own.
	a := &asking{g: &generator{Rand: rand.New(rand.NewPCG(g.Uint64(), g.seed))}, seen: map[string]bool{}}
	if g.seed%8 == 0 { // No object changes them.
		a.fixed()
	}
	for _, zone := range clusterZones {
		for _, name := range slices.Sorted(maps.Keys(w.namespaces)) {
			a.namespace(name, zone)
		}
		for _, name := range slices.SortedFunc(maps.Keys(w.services), compareNames) {
			a.about = "Service " + name.namespace + "/" + name.name
			a.service(w, name, zone)
		}
		for _, name := range slices.SortedFunc(maps.Keys(w.of), compareNames) {
			if w.services[name] == nil {
				a.about = "EndpointSlices of " + name.namespace + "/" + name.name
				a.service(w, name, zone)
			}
		}
	}
	a.about = "addresses"
	addresses := map[netip.Addr]bool{}
	for address := range w.clusterIPs {
		addresses[address] = true
	}
	for _, slice := range w.slices {
		for _, endpoint := range slice.Endpoints {
			for _, text := range endpoint.Addresses {
				addresses[netip.MustParseAddr(text)] = true
			}
		}
	}
	for _, address := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		a.address(address)
	}
	return a.questions
}

// fixed asks the names that are there without any object.
func (a *asking) fixed() {
	a.about = "no object"
	elsewhere := netip.MustParseAddr("192.0.2.2")
	for _, zone := range zoneNames {
		a.all(zone, strings.ToUpper(zone), "svc."+zone, "pod."+zone, "dns."+zone, "ns.dns."+zone, "NS.dns."+zone, "dns-version."+zone,
			"x.dns-version."+zone, "x.ns.dns."+zone, "absent."+zone, "*."+zone, "_tcp."+zone, "apex.dns."+zone, "hostmaster."+zone,
			"NS.DNS."+strings.ToUpper(zone), "DNS-VERSION."+strings.ToUpper(zone), `a\.b.`+zone, `\000.`+zone)
		for _, at := range []netip.Addr{elsewhere, netip.MustParseAddr("2001:db8::53")} {
			a.add(zone, dns.TypeNS, at)
			a.add("ns.dns."+zone, dns.TypeA, at)
			a.add("ns.dns."+zone, dns.TypeAAAA, at)
		}
		for _, qtype := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
			a.add(zone, qtype, reached)
			a.add("svc."+zone, qtype, reached)
		}
	}
	for _, zone := range clusterZones {
		a.all("svc.svc."+zone, "pod.pod."+zone, "svc.pod."+zone, "kube-system.svc."+zone, "absent.svc."+zone, "absent.pod."+zone,
			"*.svc."+zone, "x.absent.svc."+zone, "1-2-3-4.absent.pod."+zone, "prod.svc.cluster.local."+zone, "prod.svc.mesh.example.org."+zone)
	}
	a.all("outside.test", "example.org", "prod.svc.example.org", "xmesh.example.org", "both.outside.test", "missing.outside.test", ".", "local", "cluster.localx", "xcluster.local", "in-addr.arpa", "10.in-addr.arpa", "1.2.0.192.in-addr.arpa")
}

// namespace asks the names that a namespace gives, and those of pods in it.
func (a *asking) namespace(name, zone string) {
	a.about = "Namespace " + name
	services, pods := name+".svc."+zone, name+".pod."+zone
	a.all(services, pods)
	a.few(strings.ToUpper(services), "*."+services, "absent."+services, "*.absent."+services, "_http._tcp.absent."+services, "_tcp."+services,
		"svc."+services, "pod."+services, "a.b.c.d."+services, "x"+services, name+"."+zone, services+zone, "a.b.absent."+services)
	labels := []string{
		"1-2-3-4", "10-244-0-1", "255-255-255-255", "256-1-1-1", "1-2-3", "1-2-3-4-5", "01-2-3-4", "1--2-3-4", "1-2-3-", "-1-2-3",
		"fd00-10-244--1", "fd00-10-244--", "fd00-10-244--0", "--1", "--", "1-2-3-4-5-6-7-8", "1-2-3-4-5-6-7-8-9", "fe80--1", "FD00--AB", "--ffff-1-2",
		"2001-db8--1--1", "g--1", "12345--1", "localhost", "1-2-3-4x", "_1-2-3-4", "*",
	}
	label := pick(a.g, labels)
	a.all(label + "." + pods)
	a.some("x."+label+"."+pods, "_http._tcp."+label+"."+pods, "a.b.c."+label+"."+pods)
}

// service asks the names that a Service and its EndpointSlices give.
func (a *asking) service(w *world, name objectName, zone string) {
	base := name.name + "." + name.namespace + ".svc." + zone
	a.all(base)
	a.few(strings.ToUpper(base), mixed(base), "*."+base, "absent."+base, "*._tcp."+base, "_*._tcp."+base, "a.b.c."+base,
		name.name+".svc."+zone, name.name+"."+name.namespace+".pod."+zone, name.name+"."+name.namespace+"."+zone,
		name.name+"x."+name.namespace+".svc."+zone, name.name+"."+name.namespace+".svc."+serviceAddresses,
		name.name+"."+pick(a.g, lastingNamespaces)+".svc."+zone,
		"_tcp."+base, "_udp."+base, "tcp."+base, "_."+base, "_sctp."+base)

	var ports []portOf
	if service := w.services[name]; service != nil {
		for _, port := range service.Spec.Ports {
			ports = append(ports, portOf{port.Name, strings.ToLower(string(port.Protocol))})
		}
	}
	var labels []string
	for _, slice := range w.of[name] {
		for _, port := range slice.Ports {
			ports = append(ports, portOf{*port.Name, strings.ToLower(string(*port.Protocol))})
		}
		for _, endpoint := range slice.Endpoints {
			for _, address := range endpoint.Addresses {
				labels = append(labels, endpointLabel(endpoint, address), strings.NewReplacer(".", "-", ":", "-").Replace(address))
			}
		}
	}
	slices.SortFunc(ports, func(a, b portOf) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.protocol, b.protocol)) })
	for _, port := range slices.Compact(ports) {
		a.some("_" + port.name + "._" + port.protocol + "." + base)
		a.few("_._" + port.protocol + "." + base)
		if port.name != "" {
			a.few("_"+port.name+"._."+base, port.name+"."+port.protocol+"."+base, pick(a.g, []string{
				"_" + port.name + "." + port.protocol + "." + base,
				port.name + "._" + port.protocol + "." + base,
				"__" + port.name + "._" + port.protocol + "." + base,
				strings.ToUpper("_" + port.name + "._" + port.protocol + "." + base),
				"_" + port.name + "x._" + port.protocol + "." + base,
				"_" + port.name + "._sctp." + base,
				"_" + port.name + "._udp." + base,
				"_" + port.name + "." + base,
				"x._" + port.name + "._" + port.protocol + "." + base,
				"_" + port.protocol + "._" + port.name + "." + base,
			}))
		}
	}
	if len(ports) == 0 {
		a.few("_http._tcp."+base, "_._."+base, "_._tcp."+base)
	}
	slices.Sort(labels)
	for _, label := range slices.Compact(labels) {
		a.some(label + "." + base)
		a.few(pick(a.g, []string{
			"x." + label + "." + base,
			"_http._tcp." + label + "." + base,
			strings.ToUpper(label) + "." + base,
			label + "x." + base,
			label + "." + name.namespace + ".svc." + zone,
			"_" + label + "." + base,
			label + "." + name.namespace + ".pod." + zone,
		}))
	}
}

// mixed is a name in a spelling that no object has.
func mixed(name string) string {
	letters := []byte(name)
	for i := 0; i < len(letters); i += 2 {
		letters[i] = strings.ToUpper(string(letters[i]))[0]
	}
	return string(letters)
}

// address asks the reverse names of an address and of its neighbour, and names above and below them.
func (a *asking) address(address netip.Addr) {
	for _, address := range []netip.Addr{address, address.Next()} {
		name, err := dns.ReverseAddr(address.String())
		if err != nil {
			panic(err)
		}
		a.add(name, dns.TypePTR, reached)
		for range 2 {
			a.add(name, pick(a.g, allTypes), reached)
		}
		a.add(strings.ToUpper(name), dns.TypePTR, reached)
		below := pick(a.g, []string{"x.", "1.", "0.", "x.y.", "a.b.c.", "a.b.c.d."}) + name
		a.add(below, dns.TypePTR, reached)
		a.add(below, pick(a.g, allTypes), reached)
		for above := name; ; {
			_, above, _ = strings.Cut(above, ".")
			if !strings.HasSuffix(above, ".arpa.") {
				break
			}
			if a.g.chance(15) {
				a.add(above, pick(a.g, allTypes), reached)
			}
			if a.g.chance(5) {
				a.add(above, dns.TypePTR, reached)
			}
			if a.g.chance(3) {
				a.add("x."+above, pick(a.g, allTypes), reached)
				a.add("00."+above, pick(a.g, allTypes), reached)
			}
		}
	}
}
