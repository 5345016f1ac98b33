package redirect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// asked is a machine whose C library asks systemd-resolved of a version.
func asked(version int) Facts {
	return Facts{NSS: []string{"files", "resolve", "dns"}, Resolved: Daemon{Running: true, Version: version}, ResolvConf: names127("127.0.0.53")}
}

func names127(servers ...string) ResolvConf {
	var r ResolvConf
	for _, server := range servers {
		r.Servers = append(r.Servers, netip.MustParseAddr(server))
	}
	return r
}

// wrote is a resolv.conf that somebody says to have written.
func wrote(writer, target string) ResolvConf {
	r := names127("10.0.0.1")
	r.Writer, r.Target = writer, target
	return r
}

func meshWish() Wish {
	return Wish{Server: netip.MustParseAddrPort("127.0.0.1:53"), Zones: []string{"cluster.local"}, Hosts: []string{"payments.example.com", "*.wild.example.com", "own.cluster.local"}, Namespace: "prod"}
}

// TestDecideMode is the matrix of owners. Files is what glibc asks first everywhere, and says nothing.
func TestDecideMode(t *testing.T) {
	files, resolve := []string{"files", "dns"}, []string{"files", "resolve", "dns"}
	running := func(version int) Daemon { return Daemon{Running: true, Version: version} }
	manager := Daemon{Running: true}
	tests := []struct {
		name  string
		facts Facts
		want  Mode
		why   string
	}{
		{"nothing but a file", Facts{NSS: files, ResolvConf: names127("10.0.0.1")}, Direct, "nobody else writes"},
		{"no file at all", Facts{NSS: files, ResolvConf: ResolvConf{Missing: true}}, Direct, "nobody else writes"},
		{"no nsswitch.conf, as with musl", Facts{ResolvConf: names127("10.0.0.1")}, Direct, ""},

		{"resolve before dns, 258", asked(258), Delegate, "nsswitch.conf"},
		{"resolve before dns, 262", asked(262), Delegate, "nsswitch.conf"},
		{"resolve before dns, 257", asked(257), Resolved, "nsswitch.conf"},
		{"resolve before dns, 252", asked(252), Resolved, "(252)"},
		{"resolve before dns, 246", asked(246), Resolved, ""},
		{"resolve before dns, 245", asked(245), Direct, ""},
		{"resolve before dns, a version that nobody knows", asked(0), Direct, ""},
		{"resolve before dns, and a file of others", Facts{NSS: resolve, Resolved: running(252), ResolvConf: names127("10.0.0.1")}, Resolved, "nsswitch.conf"},
		{"resolve before dns, and systemd-resolved does not run", Facts{NSS: resolve, ResolvConf: names127("10.0.0.1")}, Direct, ""},
		{"dns before resolve, the stub alone", Facts{NSS: []string{"files", "dns", "resolve"}, Resolved: running(252), ResolvConf: names127("127.0.0.53")}, Resolved, "stub"},
		{"dns before resolve, a file of others", Facts{NSS: []string{"files", "dns", "resolve"}, Resolved: running(252), ResolvConf: names127("10.0.0.1")}, Direct, ""},
		{"no resolve, the stub alone", Facts{NSS: files, Resolved: running(252), ResolvConf: names127("127.0.0.53")}, Resolved, "stub"},
		{"no resolve, the stub alone, 258", Facts{NSS: files, Resolved: running(258), ResolvConf: names127("127.0.0.53")}, Delegate, "stub"},
		{"no resolve, both stubs", Facts{NSS: files, Resolved: running(252), ResolvConf: names127("127.0.0.53", "127.0.0.54")}, Resolved, "stub"},
		{"no resolve, the stub and another", Facts{NSS: files, Resolved: running(252), ResolvConf: names127("127.0.0.53", "10.0.0.1")}, Direct, ""},
		{"no resolve, whom systemd-resolved asks", Facts{NSS: files, Resolved: running(252), ResolvConf: wrote("systemd-resolved", "/run/systemd/resolve/resolv.conf")}, Direct, ""},
		{"no resolve, nobody named", Facts{NSS: files, Resolved: running(252)}, Direct, ""},
		{"the stub, and nobody behind it", Facts{NSS: files, ResolvConf: names127("127.0.0.53")}, Direct, ""},

		{"NetworkManager wrote it", Facts{NSS: files, NetworkManager: manager, ResolvConf: wrote("NetworkManager", "")}, NetworkManager, "NetworkManager writes"},
		{"NetworkManager wrote it, and does not run", Facts{NSS: files, ResolvConf: wrote("NetworkManager", "")}, Direct, ""},
		{"NetworkManager's file, by a link", Facts{NSS: files, NetworkManager: manager, ResolvConf: wrote("", "/run/NetworkManager/resolv.conf")}, NetworkManager, ""},
		{"NetworkManager's file, by a relative link", Facts{NSS: files, NetworkManager: manager, ResolvConf: wrote("", "../run/NetworkManager/resolv.conf")}, NetworkManager, ""},
		{"NetworkManager runs, and leaves the file alone", Facts{NSS: files, NetworkManager: manager, ResolvConf: wrote("", "")}, Direct, ""},
		{"NetworkManager gives systemd-resolved its servers", Facts{NSS: resolve, NetworkManager: manager, Resolved: running(252), ResolvConf: names127("127.0.0.53")}, Resolved, ""},
		{"NetworkManager wrote it, resolved runs and nobody asks it", Facts{NSS: files, NetworkManager: manager, Resolved: running(252), ResolvConf: wrote("NetworkManager", "")}, NetworkManager, ""},
		{"NetworkManager by way of resolvconf", Facts{NSS: files, NetworkManager: manager, Resolvconf: Resolvconf, ResolvConf: wrote("resolvconf", "/run/resolvconf/resolv.conf")}, Resolvconf, ""},

		{"Debian's resolvconf, by a link", Facts{NSS: files, Resolvconf: Resolvconf, ResolvConf: wrote("", "/run/resolvconf/resolv.conf")}, Resolvconf, "Debian's resolvconf writes"},
		{"Debian's resolvconf, by an old link", Facts{NSS: files, Resolvconf: Resolvconf, ResolvConf: wrote("", "/etc/resolvconf/run/resolv.conf")}, Resolvconf, ""},
		{"Debian's resolvconf says so", Facts{NSS: files, Resolvconf: Resolvconf, ResolvConf: wrote("resolvconf", "")}, Resolvconf, ""},
		{"Debian's resolvconf, and a file by hand", Facts{NSS: files, Resolvconf: Resolvconf, ResolvConf: wrote("", "")}, Direct, ""},
		{"openresolv says so", Facts{NSS: files, Resolvconf: Openresolv, ResolvConf: wrote("resolvconf", "")}, Openresolv, "openresolv writes"},
		{"openresolv, and a file by hand", Facts{NSS: files, Resolvconf: Openresolv, ResolvConf: wrote("", "")}, Direct, ""},
		{"resolvconf wrote it, and is gone", Facts{NSS: files, ResolvConf: wrote("resolvconf", "")}, Direct, ""},

		{"a container's file", Facts{NSS: files, ResolvConf: ResolvConf{Mounted: true, Servers: names127("10.0.0.1").Servers}}, Direct, ""},
		{"a link to nowhere", Facts{NSS: files, ResolvConf: ResolvConf{Target: "/run/nobody/resolv.conf"}}, Direct, ""},
		{"CoreDNS alone, of an earlier time", Facts{NSS: files, ResolvConf: ResolvConf{Ours: true, Servers: names127("127.0.0.1").Servers}}, Direct, ""},
		{"IPv6 alone", Facts{NSS: files, ResolvConf: names127("fe80::1%eth0", "2001:db8::53")}, Direct, ""},
	}
	if len(tests) < 40 {
		t.Errorf("Rows: got %d, want at least 40", len(tests))
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Decide(test.facts, meshWish())
			if err != nil {
				t.Fatalf("Decide: %v", err)
			}
			if p.Mode != test.want || !strings.Contains(p.Why, test.why) {
				t.Errorf("Mode: got %s, because %q; want %s, because of %q", p.Mode, p.Why, test.want, test.why)
			}
			// Every other mode is rejected with a reason, in the order of preference.
			var rejected []Mode
			for _, rejection := range p.Rejected {
				rejected = append(rejected, rejection.Mode)
				if rejection.Why == "" {
					t.Errorf("Mode %s is rejected without a reason", rejection.Mode)
				}
			}
			want := slices.DeleteFunc(modes(), func(m Mode) bool { return m == test.want })
			if !slices.Equal(rejected, want) {
				t.Errorf("Rejected: got %v, want %v", rejected, want)
			}
			if wide := test.want != Delegate && test.want != Resolved; p.AllNames != wide {
				t.Errorf("All names: got %t, want %t", p.AllNames, wide)
			}
		})
	}
}

// TestDecideUnknown: where it cannot be told who owns resolution, nobody is taken for the owner, unless somebody else is for sure.
func TestDecideUnknown(t *testing.T) {
	unknown := Daemon{Unknown: true}
	files, resolve := []string{"files", "dns"}, []string{"files", "resolve", "dns"}
	tests := []struct {
		name    string
		facts   Facts
		wished  Mode
		want    Mode
		refused string
	}{
		{name: "systemd-resolved, which the C library asks", facts: Facts{NSS: resolve, Resolved: unknown}, refused: "systemd-resolved: it took too long"},
		{name: "systemd-resolved, by its stub", facts: Facts{NSS: files, Resolved: unknown, ResolvConf: names127("127.0.0.53")}, refused: "it took too long"},
		{name: "systemd-resolved, which nobody asks", facts: Facts{NSS: files, Resolved: unknown, ResolvConf: names127("10.0.0.1")}, want: Direct},
		{name: "systemd-resolved, and direct is asked for", facts: Facts{NSS: resolve, Resolved: unknown}, wished: Direct, want: Direct},
		{name: "systemd-resolved, and it is asked for", facts: Facts{NSS: resolve, Resolved: unknown}, wished: Resolved, refused: "cannot be told"},
		{name: "NetworkManager, which wrote the file", facts: Facts{NSS: files, NetworkManager: unknown, ResolvConf: wrote("NetworkManager", "")}, refused: "it took too long"},
		{name: "NetworkManager, which did not", facts: Facts{NSS: files, NetworkManager: unknown, ResolvConf: names127("10.0.0.1")}, want: Direct},
		{name: "NetworkManager behind systemd-resolved", facts: Facts{NSS: resolve, Resolved: Daemon{Running: true, Version: 252}, NetworkManager: unknown, ResolvConf: wrote("NetworkManager", "")}, want: Resolved},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.facts.Unknown = []string{"systemd-resolved: it took too long"}
			w := meshWish()
			w.Mode = test.wished
			p, err := Decide(test.facts, w)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("Decide: got mode %s, %v; want an error with %q", p.Mode, err, test.refused)
				}
				return
			}
			if err != nil || p.Mode != test.want {
				t.Errorf("Decide: got mode %s, %v; want %s", p.Mode, err, test.want)
			}
		})
	}
}

// TestDecideAskedFor: a mode that was asked for is taken where it could work, with a warning where it is not how the machine is set up.
func TestDecideAskedFor(t *testing.T) {
	by := func(mode Mode) Wish {
		w := meshWish()
		w.Mode = mode
		return w
	}
	tests := []struct {
		name            string
		facts           Facts
		wish            Wish
		warned, refused string
	}{
		{name: "direct beside systemd-resolved", facts: asked(252), wish: by(Direct), warned: "asks systemd-resolved first"},
		{name: "resolved with 258", facts: asked(258), wish: by(Resolved)},
		{name: "delegate with 257", facts: asked(257), wish: by(Delegate), refused: "has no dns-delegate.d"},
		{name: "resolved with 245", facts: asked(245), wish: by(Resolved), refused: "cannot ask for single domains"},
		{name: "resolved where it does not run", wish: by(Resolved), refused: "does not run"},
		{name: "resolved where nobody asks it", facts: Facts{NSS: []string{"files", "dns"}, Resolved: Daemon{Running: true, Version: 252}, ResolvConf: names127("10.0.0.1")}, wish: by(Resolved), warned: "does not ask it"},
		{name: "networkmanager that left the file alone", facts: Facts{NetworkManager: Daemon{Running: true}}, wish: by(NetworkManager), warned: "has not written"},
		{name: "networkmanager where it does not run", wish: by(NetworkManager), refused: "does not run"},
		{name: "openresolv where Debian's is", facts: Facts{Resolvconf: Resolvconf}, wish: by(Openresolv), refused: "openresolv is not installed"},
		{name: "direct against NetworkManager", facts: Facts{NetworkManager: Daemon{Running: true}, ResolvConf: wrote("NetworkManager", "")}, wish: by(Direct), warned: "will do so again"},
		{name: "none", facts: asked(252), wish: by(None)},
		{name: "what is no mode", wish: by("dnsmasq"), refused: `no mode "dnsmasq"`},
		{name: "no server", wish: Wish{Zones: []string{"cluster.local"}}, refused: "where CoreDNS listens"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Decide(test.facts, test.wish)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Fatalf("Decide: got mode %s, %v; want an error with %q", p.Mode, err, test.refused)
				}
				return
			}
			if err != nil || p.Mode != test.wish.Mode {
				t.Fatalf("Decide: got mode %s, %v; want %s", p.Mode, err, test.wish.Mode)
			}
			if warned := strings.Join(p.Warnings, "\n"); test.warned != "" && !strings.Contains(warned, test.warned) {
				t.Errorf("Warnings: got %q, want %q among them", warned, test.warned)
			}
			if p.Wished.Mode != test.wish.Mode {
				t.Errorf("Wished: got %s, want %s", p.Wished.Mode, test.wish.Mode)
			}
		})
	}
}

// TestDecideNames: which names come to CoreDNS, and what is said of those that do not.
func TestDecideNames(t *testing.T) {
	many := meshWish()
	many.Hosts = nil
	for i := range maxRoutes + 9 {
		many.Hosts = append(many.Hosts, "host"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26)+".example.com")
	}
	slices.Sort(many.Hosts)
	many.Hosts = slices.Compact(many.Hosts)
	all := meshWish()
	all.AllNames = true
	transparent := meshWish()
	transparent.Transparent = true
	tests := []struct {
		name     string
		facts    Facts
		wish     Wish
		allNames bool
		domains  []string
		missed   int
		warned   []string
	}{
		{name: "split: zones, hosts and what is below a wildcard", facts: asked(252), wish: meshWish(), domains: []string{"cluster.local", "payments.example.com", "wild.example.com"}, warned: []string{"one by one", "--all-names"}},
		{name: "split, all names asked for", facts: asked(252), wish: all, allNames: true, domains: []string{"cluster.local", "payments.example.com", "wild.example.com"}},
		{name: "split, transparent sends all", facts: asked(252), wish: transparent, allNames: true, domains: []string{"cluster.local", "payments.example.com", "wild.example.com"}, warned: []string{"::1"}},
		{name: "direct has all names anyway", facts: Facts{ResolvConf: names127("10.0.0.1")}, wish: meshWish(), allNames: true, domains: []string{"cluster.local"}},
		{name: "split, more hosts than are routed", facts: asked(252), wish: many, missed: len(many.Hosts) + 1 - maxRoutes, warned: []string{"are not routed"}},
		{name: "Istio's own capture", facts: Facts{IstioCapture: true, ResolvConf: names127("10.0.0.1")}, wish: meshWish(), allNames: true, domains: []string{"cluster.local"}, warned: []string{"ISTIO_META_DNS_CAPTURE"}},
		{name: "no resolver", facts: Facts{}, wish: meshWish(), allNames: true, domains: []string{"cluster.local"}, warned: []string{"only names of the mesh will resolve"}},
		{name: "a mounted file", facts: Facts{ResolvConf: ResolvConf{Mounted: true}}, wish: meshWish(), allNames: true, domains: []string{"cluster.local"}, warned: []string{"rewritten where it is"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := Decide(test.facts, test.wish)
			if err != nil {
				t.Fatal(err)
			}
			if p.AllNames != test.allNames {
				t.Errorf("All names: got %t, want %t", p.AllNames, test.allNames)
			}
			if test.domains != nil && !slices.Equal(p.Domains, test.domains) {
				t.Errorf("Domains: got %q, want %q", p.Domains, test.domains)
			}
			if len(p.Domains) > maxRoutes || len(p.Missed) != test.missed {
				t.Errorf("Domains: got %d and %d missed, want at most %d, and %d missed", len(p.Domains), len(p.Missed), maxRoutes, test.missed)
			}
			warned := strings.Join(p.Warnings, "\n")
			for _, want := range test.warned {
				if !strings.Contains(warned, want) {
					t.Errorf("Warnings: got %q, want %q among them", warned, want)
				}
			}
		})
	}
}

// TestDecideTransparentAlone: rules of nftables send CoreDNS every name also where resolution is left to its owner, whose resolvers
// CoreDNS forwards to.
func TestDecideTransparentAlone(t *testing.T) {
	resolver := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53")}
	facts := Facts{ResolvConf: names127("10.0.0.1"), Resolved: Daemon{Running: true}, Upstreams: map[Mode][]netip.AddrPort{Direct: resolver}, IstioCapture: true}
	facts.ResolvConf.Search = []string{"corp.example"}
	w := meshWish()
	w.Mode, w.Transparent = None, true
	p, err := Decide(facts, w)
	if err != nil {
		t.Fatal(err)
	}
	if p.Mode != None || !p.AllNames || !slices.Equal(p.Upstreams, resolver) {
		t.Errorf("Plan: got mode %s, all names %t, upstreams %v; want %s, all names and %v", p.Mode, p.AllNames, p.Upstreams, None, resolver)
	}
	if len(p.Search) > 0 {
		t.Errorf("Search: got %q, want none, since nobody's search list is changed", p.Search)
	}
	for _, want := range []string{"::1", "systemd-resolved goes on", "ISTIO_META_DNS_CAPTURE"} {
		if warned := strings.Join(p.Warnings, "\n"); !strings.Contains(warned, want) {
			t.Errorf("Warnings: got %q, want %q among them", warned, want)
		}
	}
}

// TestDecideSearch: the machine's own domains stay in front.
func TestDecideSearch(t *testing.T) {
	tests := []struct {
		name string
		own  []string
		wish func(*Wish)
		want string
		// warned is in a warning.
		warned string
	}{
		{name: "none of its own", want: "prod.svc.cluster.local svc.cluster.local cluster.local"},
		{name: "its own first", own: []string{"corp.example"}, want: "corp.example prod.svc.cluster.local svc.cluster.local cluster.local"},
		{name: "one of ours is there already", own: []string{"svc.cluster.local", "corp.example"}, want: "svc.cluster.local corp.example prod.svc.cluster.local cluster.local"},
		{name: "no namespace", own: []string{"corp.example"}, wish: func(w *Wish) { w.Namespace = "" }, want: "corp.example"},
		{name: "reverse zones are not searched", wish: func(w *Wish) { w.Zones = []string{"10.in-addr.arpa", "mesh.example"} }, want: "prod.svc.mesh.example svc.mesh.example mesh.example"},
		{name: "what is no domain, as with a comma behind it", own: []string{"corp.example,", "lab.example"}, want: "lab.example prod.svc.cluster.local svc.cluster.local cluster.local", warned: `"corp.example,"`},
		{name: "the first zone alone", wish: func(w *Wish) { w.Zones = []string{"one.example", "two.example"} }, want: "prod.svc.one.example svc.one.example one.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := meshWish()
			if test.wish != nil {
				test.wish(&w)
			}
			p, err := Decide(Facts{ResolvConf: ResolvConf{Search: test.own}}, w)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.Search, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if warned := strings.Join(p.Warnings, "\n"); !strings.Contains(warned, test.warned) {
				t.Errorf("Warnings: got %q, want %q among them", warned, test.warned)
			}
		})
	}
}
