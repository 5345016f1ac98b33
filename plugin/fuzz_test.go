package meshvm

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// FuzzMessage sends any message to a whole server. Whatever it is, there is one reply, and it is well
// formed; what the plugin answered agrees with itself.
func FuzzMessage(f *testing.F) {
	for i, message := range seedMessages(f) {
		f.Add(uint8(i%len(settings)), message)
		f.Add(uint8(0), message)
	}
	servers := startServers(f)
	f.Fuzz(func(t *testing.T, setting uint8, message []byte) {
		if err := new(dns.Msg).Unpack(message); err != nil {
			return
		}
		endless := time.AfterFunc(hanging, func() { panic("a query gets no reply") })
		defer endless.Stop()
		servers[int(setting)%len(servers)].examine(t, message)
	})
}

// FuzzName asks for names made of parts that the mesh knows, so that every way through the plugin is
// taken. The first of parts chooses a whole name, the others labels in front of it.
func FuzzName(f *testing.F) {
	names, labels := vocabulary(f)
	for i := range names {
		f.Add(uint8(i%len(settings)), []byte{byte(i)}, dns.TypeA, uint16(0))
	}
	for i := 0; i < len(labels); i += 4 {
		f.Add(uint8(i%len(settings)), []byte{byte(i), byte(i), byte(i + 1), byte(i + 2), byte(i + 3)}, dns.TypeSRV, uint16(1232))
	}
	servers := startServers(f)
	f.Fuzz(func(t *testing.T, setting uint8, parts []byte, qtype, size uint16) {
		if len(parts) == 0 {
			return
		}
		name := names[int(parts[0])%len(names)]
		for _, part := range parts[1:] {
			name = labels[int(part)%len(labels)] + "." + strings.TrimPrefix(name, ".")
		}
		r := newQuestion(name, qtype)
		if size > 0 {
			r.SetEdns0(size, size%2 == 1)
		}
		message, err := r.Pack()
		if err != nil || new(dns.Msg).Unpack(message) != nil {
			return // longer than a name may be
		}
		endless := time.AfterFunc(hanging, func() { panic("a query gets no reply") })
		defer endless.Stop()
		servers[int(setting)%len(servers)].examine(t, message)
	})
}

// hanging is how long no query takes, on any machine: a fuzz run itself would wait for its end and pass.
const hanging = 5 * time.Second

// vocabulary is the names of the mesh and around it, and labels of them and unlike them.
func vocabulary(tb testing.TB) (names, labels []string) {
	tb.Helper()
	names = []string{
		"cluster.local.", "mesh.example.org.", ".", "svc.cluster.local.", "pod.cluster.local.", "prod.pod.cluster.local.", "dns.cluster.local.",
		"dns-version.cluster.local.", "prod.svc.cluster.local.", "vm.", "prod.", "prod.svc.", "example.com.", "target.example.net.", "sub.mesh.example.org.",
		"10.in-addr.arpa.", "in-addr.arpa.", "ip6.arpa.", "d.f.ip6.arpa.", "corp.example.com.",
		"db-0.db.prod.svc.cluster.local.", "10-0-0-2.db.prod.svc.cluster.local.", "group-10.0.3.5.vms.prod.svc.cluster.local.", "3.5.vms.prod.svc.cluster.local.", "_tcp.reviews.prod.svc.mesh.example.org.", "_tcp.api.example.com.",
	}
	labels = []string{
		"_tcp", "_udp", "_sctp", "tcp", "_", "*", "_http", "http", "_sql", "_metrics", "_https", "_TLS", "_any", "ns", "dns", "svc", "pod", "1-2-3-4", "fd00--1", "10", "0", "f",
		"256", "00", "x", "EXT", `\000`, `\255`, `a\.b`, `\\`, `\"`, `\@`, strings.Repeat("l", 63), strings.Repeat(`\200`, 63), "xn--bcher-kva", "-", "1-2-3-4-5", "--1", "fe80--1%25x",
	}
	for _, r := range largeMesh() {
		body := &registryv1.Body{}
		if err := proto.Unmarshal(r.GetBody(), body); err != nil {
			tb.Fatal(err)
		}
		if s := body.GetService(); s != nil {
			names = append(names, strings.TrimPrefix(s.GetHost(), "*.")+".")
			for _, address := range s.GetAddresses() {
				names = append(names, reverse(net.IP(address).String()))
			}
		}
		for _, endpoint := range body.GetEndpointSlice().GetEndpoints() {
			for _, address := range endpoint.GetAddresses() {
				names = append(names, reverse(net.IP(address).String()))
			}
		}
	}
	for _, name := range names {
		for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
			if !slices.Contains(labels, label) && label != "" {
				labels = append(labels, label)
			}
		}
	}
	return names, labels
}

// seedMessages are queries of every kind that the plugin answers, and odd ones.
func seedMessages(tb testing.TB) [][]byte {
	tb.Helper()
	var messages [][]byte
	add := func(m *dns.Msg, edit ...func(*dns.Msg)) {
		for _, edit := range edit {
			edit(m)
		}
		messages = append(messages, packed(tb, m))
	}
	edns := func(version uint8, size uint16) func(*dns.Msg) {
		return func(m *dns.Msg) { m.SetEdns0(size, true); m.IsEdns0().SetVersion(version) }
	}
	for _, query := range []string{
		"reviews.prod.svc.cluster.local. A", "ReViews.Prod.svc.cluster.local. AAAA", "db.prod.svc.cluster.local. A", "idle.prod.svc.cluster.local. A",
		"db-0.db.prod.svc.cluster.local. AAAA", "10-0-0-2.db.prod.svc.cluster.local. A", "_http._tcp.reviews.prod.svc.cluster.local. SRV",
		"_sql._tcp.db.prod.svc.cluster.local. SRV", "many.prod.svc.cluster.local. SRV", "ext.prod.svc.cluster.local. A", "first.prod.svc.cluster.local. CNAME",
		"circle.prod.svc.cluster.local. A", "to-www.prod.svc.cluster.local. A", "10.0.96.10.in-addr.arpa. PTR", "1.0.0.10.in-addr.arpa. PTR",
		"dns-version.cluster.local. TXT", "cluster.local. SOA", "cluster.local. NS", "ns.dns.cluster.local. A", "api.example.com. A", "api.example.com. SRV",
		"any.deep.wild.example.com. AAAA", "api.example.com. HTTPS", "api.example.com. MX", "v4only.prod.svc.cluster.local. AAAA", "nope.svc.cluster.local. A",
		"1-2-3-4.prod.pod.cluster.local. A", "short. A", "reviews.prod.svc. A", ". NS", "cluster.local. AXFR", "cluster.local. IXFR", "reviews.prod.svc.cluster.local. ANY",
		"reviews.prod.svc.cluster.local. DS",
	} {
		name, qtype, _ := strings.Cut(query, " ")
		add(newQuestion(name, dns.StringToType[qtype]))
		add(newQuestion(name, dns.StringToType[qtype]), edns(0, 1232))
	}
	host := "reviews.prod.svc.cluster.local."
	add(new(dns.Msg))
	add(newQuestion(host, dns.TypeA), func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	add(newQuestion("version.bind.", dns.TypeTXT), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
	add(newQuestion(host, dns.TypeA), func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY })
	add(new(dns.Msg).SetNotify("cluster.local."))
	add(new(dns.Msg).SetUpdate("cluster.local."))
	add(newQuestion(host, dns.TypeA), func(m *dns.Msg) { m.Response = true })
	add(newQuestion(strings.Repeat(strings.Repeat("x", 62)+".", 3)+strings.Repeat("y", 49)+".cluster.local.", dns.TypeA))
	add(newQuestion(strings.Repeat("a.", 127), dns.TypeA))
	add(newQuestion(`a\.b.reviews.prod.svc.cluster.local.`, dns.TypeA))
	add(newQuestion(`reviews\.prod.svc.cluster.local.`, dns.TypeA))
	add(newQuestion(`\000\255.prod.svc.cluster.local.`, dns.TypeA))
	add(newQuestion(`*.wild.example.com.`, dns.TypeA))
	add(newQuestion(host, dns.TypeA), edns(1, 1232))
	add(newQuestion(host, dns.TypeA), edns(0, 0))
	add(newQuestion("many.prod.svc.cluster.local.", dns.TypeSRV), edns(0, 65535))
	add(newQuestion(host, dns.TypeA), edns(0, 512), func(m *dns.Msg) {
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		m.Extra = append(m.Extra, m.Extra[0])
	})
	add(newQuestion(host, dns.TypeA), func(m *dns.Msg) { m.SetTsig("key.", dns.HmacSHA256, 300, 0) })
	whole := packed(tb, newQuestion(host, dns.TypeA))
	return append(messages, whole[:len(whole)-1], whole[:12], whole[:5], slices.Concat(whole, []byte{0}))
}

func newQuestion(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

func packed(tb testing.TB, m *dns.Msg) []byte {
	tb.Helper()
	data, err := m.Pack()
	if err != nil {
		tb.Fatalf("Pack: %v, of\n%v", err, m)
	}
	return data
}
