package redirect

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// TestDetect is a row for each way in which a system leaves its resolution: what is in its files, and what that comes to.
func TestDetect(t *testing.T) {
	const (
		stub = `# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).
# Do not edit.
nameserver 127.0.0.53
options edns0 trust-ad
search corp.example
`
		uplink = `# This is /run/systemd/resolve/resolv.conf managed by man:systemd-resolved(8).
nameserver 10.0.0.1
nameserver 2001:db8::1
search corp.example
`
		resolve = "passwd: files systemd\nhosts: files resolve [!UNAVAIL=return] dns\n"
	)
	tests := []struct {
		name    string
		files   map[string]string
		link    string // of /etc/resolv.conf
		running []string
		answers map[string]string
		// mode is what Decide makes of it, upstreams are those of this mode, search the machine's own.
		mode      Mode
		upstreams string
		search    string
		check     func(*testing.T, Facts)
	}{
		{name: "Debian with ifupdown and dhclient", files: map[string]string{resolvConf: "domain corp.example\nsearch corp.example\nnameserver 10.0.0.1\n"},
			mode: Direct, upstreams: "10.0.0.1:53", search: "corp.example"},
		{name: "by hand: comments behind, tabs, an unknown line, more than three servers", files: map[string]string{resolvConf: "; by hand\n\tnameserver\t10.0.0.1 # the router\nnameserver 10.0.0.2;second\nnameserver 10.0.0.3\nnameserver 10.0.0.4\nlookup file bind\noptions ndots:2 timeout:1\noptions rotate\n"},
			mode: Direct, upstreams: "10.0.0.1:53 10.0.0.2:53 10.0.0.3:53 10.0.0.4:53", check: func(t *testing.T, f Facts) {
				t.Helper()
				if got := strings.Join(f.ResolvConf.Options, " "); got != "ndots:2 timeout:1 rotate" {
					t.Errorf("Options: got %q, want those of both lines", got)
				}
			}},
		{name: "line ends of another system", files: map[string]string{resolvConf: "search corp.example\r\nnameserver 10.0.0.1\r\n"}, mode: Direct, upstreams: "10.0.0.1:53", search: "corp.example"},
		{name: "domain behind search: the last one counts", files: map[string]string{resolvConf: "search a.example b.example\ndomain Corp.Example.\nnameserver 10.0.0.1\n"}, mode: Direct, upstreams: "10.0.0.1:53", search: "corp.example"},
		{name: "a router by its link's address", files: map[string]string{resolvConf: "nameserver fe80::1%eth0\nnameserver ::ffff:10.0.0.9\n"}, mode: Direct, upstreams: "[fe80::1%eth0]:53 10.0.0.9:53"},
		{name: "words that are no address", files: map[string]string{resolvConf: "nameserver\nnameserver resolver.example\nnameserver 10.0.0.300\nnameserver 10.0.0.1\nnameserver 10.0.0.1\n"}, mode: Direct, upstreams: "10.0.0.1:53"},
		{name: "0.0.0.0, which stands for this machine", files: map[string]string{resolvConf: "nameserver 0.0.0.0\nnameserver 10.0.0.1\n"}, mode: Direct, upstreams: "10.0.0.1:53"},
		{name: "ourselves among others", files: map[string]string{resolvConf: "nameserver 127.0.0.1\nnameserver 10.0.0.1\n"}, mode: Direct, upstreams: "10.0.0.1:53"},
		{name: "dnsmasq at another address of this machine", files: map[string]string{resolvConf: "nameserver 127.0.0.2\n"}, mode: Direct, upstreams: "127.0.0.2:53"},
		{name: "no search list: the C library takes the host's domain", files: map[string]string{resolvConf: "nameserver 10.0.0.1\n", hostName: "vm1.Corp.example\n"}, mode: Direct, upstreams: "10.0.0.1:53", search: "corp.example"},
		{name: "a search list of nothing: it does not", files: map[string]string{resolvConf: "search .\nnameserver 10.0.0.1\n", hostName: "vm1.corp.example\n"}, mode: Direct, upstreams: "10.0.0.1:53"},
		{name: "a search list instead of the host's domain", files: map[string]string{resolvConf: "search lab.example\nnameserver 10.0.0.1\n", hostName: "vm1.corp.example\n"}, mode: Direct, upstreams: "10.0.0.1:53", search: "lab.example"},
		{name: "a host without a domain", files: map[string]string{resolvConf: "nameserver 10.0.0.1\n", hostName: "vm1.\n"}, mode: Direct, upstreams: "10.0.0.1:53"},
		{name: "an empty file", files: map[string]string{resolvConf: ""}, mode: Direct},
		{name: "what is no text", files: map[string]string{resolvConf: "\x00\x01nameserver\xff 10.0.0.1\n" + strings.Repeat("\x7fELF", 1000)}, mode: Direct},
		{name: "no file", mode: Direct, check: func(t *testing.T, f Facts) {
			t.Helper()
			if !f.ResolvConf.Missing {
				t.Error("Missing: got false, want true")
			}
		}},
		{name: "a link to nowhere", link: "/run/nobody/resolv.conf", mode: Direct, check: func(t *testing.T, f Facts) {
			t.Helper()
			if f.ResolvConf.Missing || f.ResolvConf.Target != "/run/nobody/resolv.conf" {
				t.Errorf("resolv.conf: got %+v, want a link", f.ResolvConf)
			}
		}},
		{name: "a container's, mounted", files: map[string]string{resolvConf: "nameserver 10.0.0.1\nsearch corp.example\noptions edns0\n",
			"/proc/self/mountinfo": "36 35 98:0 / / rw,noatime - overlay overlay rw\n99 36 98:0 /etc/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n"},
			mode: Direct, upstreams: "10.0.0.1:53", search: "corp.example", check: func(t *testing.T, f Facts) {
				t.Helper()
				if !f.ResolvConf.Mounted {
					t.Error("Mounted: got false, want true")
				}
			}},

		{name: "Ubuntu: systemd-resolved by its stub", link: "../run/systemd/resolve/stub-resolv.conf", running: []string{resolvedUnit},
			files: map[string]string{stubFile: stub, "/run/systemd/resolve/resolv.conf": uplink, "/etc/nsswitch.conf": "hosts: files dns\n"},
			mode:  Resolved, upstreams: "10.0.0.1:53 [2001:db8::1]:53", search: "corp.example"},
		{name: "Fedora: systemd-resolved by nss-resolve", link: "../run/systemd/resolve/stub-resolv.conf", running: []string{resolvedUnit, "NetworkManager.service"},
			files: map[string]string{stubFile: stub, "/run/systemd/resolve/resolv.conf": uplink, "/etc/nsswitch.conf": resolve}, answers: map[string]string{"systemctl --version": "systemd 258 (258-1.fc43)\n"},
			mode: Delegate, upstreams: "10.0.0.1:53 [2001:db8::1]:53", search: "corp.example"},
		{name: "systemd-resolved that asks CoreDNS already", link: "../run/systemd/resolve/stub-resolv.conf", running: []string{resolvedUnit},
			files: map[string]string{stubFile: stub, "/run/systemd/resolve/resolv.conf": "nameserver 127.0.0.1\nnameserver 10.0.0.1\n", "/etc/nsswitch.conf": resolve},
			mode:  Resolved, upstreams: "10.0.0.1:53", search: "corp.example"},
		{name: "systemd-resolved's stub, which has ended: it would be asked in a loop", link: "../run/systemd/resolve/stub-resolv.conf",
			files: map[string]string{stubFile: stub}, mode: Direct, search: "corp.example"},
		{name: "systemd-resolved that serves nobody", running: []string{resolvedUnit}, files: map[string]string{resolvConf: "nameserver 10.0.0.7\n", "/run/systemd/resolve/resolv.conf": uplink},
			mode: Direct, upstreams: "10.0.0.7:53"},

		{name: "RHEL: NetworkManager writes the file", running: []string{"NetworkManager.service"}, files: map[string]string{resolvConf: "# Generated by NetworkManager\nsearch corp.example\nnameserver 10.0.0.1\n"},
			mode: NetworkManager, upstreams: "192.0.2.10:53 [2001:db8::10]:53", search: "corp.example"},
		{name: "NetworkManager by rc-manager=symlink", link: "../run/NetworkManager/resolv.conf", running: []string{"NetworkManager.service"},
			files: map[string]string{"/run/NetworkManager/resolv.conf": "nameserver 10.0.0.1\n"}, mode: NetworkManager, upstreams: "192.0.2.10:53 [2001:db8::10]:53"},
		{name: "NetworkManager that leaves the file alone", running: []string{"NetworkManager.service"}, files: map[string]string{resolvConf: "nameserver 10.0.0.1\n"}, mode: Direct, upstreams: "10.0.0.1:53"},

		{name: "Debian's resolvconf", link: "../run/resolvconf/resolv.conf", files: map[string]string{
			"/run/resolvconf/resolv.conf": "# Dynamic resolv.conf(5) file for glibc resolver(3) generated by resolvconf(8)\nnameserver 10.0.0.1\nsearch corp.example\n", "/sbin/resolvconf": "", "/etc/resolvconf/update.d/libc": "",
			"/run/resolvconf/interface/eth0.dhclient": "nameserver 10.0.0.1\nnameserver 10.0.0.2\n", "/run/resolvconf/interface/lo.meshvm": "nameserver 127.0.0.1\n"},
			answers: map[string]string{"resolvconf --version": "resolvconf: Error: Command not recognized\n"}, mode: Resolvconf, upstreams: "10.0.0.1:53 10.0.0.2:53", search: "corp.example"},
		{name: "openresolv", files: map[string]string{resolvConf: "# Generated by resolvconf\nnameserver 192.0.2.30\n", "/usr/sbin/resolvconf": ""}, mode: Openresolv, upstreams: "192.0.2.30:53"},
		{name: "resolvconf that is systemd's", running: []string{resolvedUnit}, link: "../run/systemd/resolve/stub-resolv.conf",
			files: map[string]string{stubFile: stub, "/run/systemd/resolve/resolv.conf": uplink, "/usr/bin/resolvectl": ""}, mode: Resolved, upstreams: "10.0.0.1:53 [2001:db8::1]:53", search: "corp.example",
			check: func(t *testing.T, f Facts) {
				t.Helper()
				if f.Resolvconf != "" {
					t.Errorf("resolvconf: got %s, want none: it stands for systemd-resolved", f.Resolvconf)
				}
			}},
		{name: "Istio's agent answers DNS", files: map[string]string{resolvConf: "nameserver 10.0.0.1\n", "/var/lib/istio/envoy/cluster.env": "ISTIO_NAMESPACE='prod'\nexport ISTIO_META_DNS_CAPTURE='true'\n"},
			mode: Direct, upstreams: "10.0.0.1:53", check: func(t *testing.T, f Facts) {
				t.Helper()
				if !f.IstioCapture {
					t.Error("Istio's capture: got false, want true")
				}
			}},
		{name: "Istio's agent was told not to", files: map[string]string{resolvConf: "nameserver 10.0.0.1\n", "/var/lib/istio/envoy/cluster.env": "ISTIO_META_DNS_CAPTURE='false'\n"},
			mode: Direct, upstreams: "10.0.0.1:53", check: func(t *testing.T, f Facts) {
				t.Helper()
				if f.IstioCapture {
					t.Error("Istio's capture: got true, want false")
				}
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := resolving(t)
			w.must(w.remove(resolvConf))
			for path, content := range test.files {
				w.write(path, content)
			}
			if test.link != "" {
				w.link(resolvConf, test.link)
			}
			if _, ok := test.files["/usr/bin/resolvectl"]; ok {
				w.link("/usr/sbin/resolvconf", "../bin/resolvectl")
			}
			for _, unit := range test.running {
				w.running[unit] = true
			}
			run := w.Run
			w.Run = runner(func(line string) ([]byte, error, bool) {
				answer, known := test.answers[line]
				return []byte(answer), nil, known
			}, run)
			facts, err := Detect(t.Context(), w.Machine, packaged)
			if err != nil || len(facts.Unknown) > 0 {
				t.Fatalf("Detect: got %q unknown, %v; want all to be found out", facts.Unknown, err)
			}
			plan, err := Decide(facts, Wish{Server: packaged, Zones: []string{"cluster.local"}})
			if err != nil {
				t.Fatalf("Decide: %v", err)
			}
			if plan.Mode != test.mode {
				t.Errorf("Mode: got %s, because %s; want %s", plan.Mode, plan.Why, test.mode)
			}
			var upstreams []string
			for _, upstream := range plan.Upstreams {
				upstreams = append(upstreams, upstream.String())
			}
			if got := strings.Join(upstreams, " "); got != test.upstreams {
				t.Errorf("Upstreams: got %q, want %q", got, test.upstreams)
			}
			if got := strings.Join(facts.ResolvConf.Search, " "); got != test.search {
				t.Errorf("Search: got %q, want %q", got, test.search)
			}
			if test.check != nil {
				test.check(t, facts)
			}
		})
	}
}

// TestDetectOurs: where resolv.conf is ours by now, the machine's own is the one that was there before.
func TestDetectOurs(t *testing.T) {
	w := setups()[Direct](t)
	before, err := Detect(t.Context(), w.Machine, w.coreDNS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	after, err := Detect(t.Context(), w.Machine, w.coreDNS)
	if err != nil {
		t.Fatal(err)
	}
	if !after.ResolvConf.Ours {
		t.Error("Ours: got false, want true")
	}
	if !slices.Equal(after.ResolvConf.Servers, before.ResolvConf.Servers) || !slices.Equal(after.ResolvConf.Search, before.ResolvConf.Search) {
		t.Errorf("resolv.conf: got %+v, want %+v", after.ResolvConf, before.ResolvConf)
	}
}

// TestDetectOursBehindALink: where a link could not be replaced, ours is behind it, and the machine's own is in the backup alone.
func TestDetectOursBehindALink(t *testing.T) {
	w := newOwned(t)
	w.must(os.Rename(w.Path(resolvConf), w.Path("/run/resolv.conf")))
	w.link(resolvConf, "../run/resolv.conf")
	w.fault = func(change string) error {
		if change == "rename "+resolvConf {
			return unix.EROFS
		}
		return nil
	}
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	f, err := Detect(t.Context(), w.Machine, w.coreDNS)
	if err != nil {
		t.Fatal(err)
	}
	r := f.ResolvConf
	if search := strings.Join(r.Search, " "); r.Target == "" || search != "corp.example" || !slices.Equal(r.Servers, []netip.Addr{w.resolver.Addr()}) {
		t.Errorf("resolv.conf: got %+v, want a link, the search list corp.example and the server %s", r, w.resolver.Addr())
	}
}

// TestDetectUnknown: a program that cannot be asked about does not count as one that does not run.
func TestDetectUnknown(t *testing.T) {
	for line, unknown := range map[string]func(Facts) bool{
		"systemctl is-active " + resolvedUnit:        func(f Facts) bool { return f.Resolved.Unknown },
		"systemctl --version":                        func(f Facts) bool { return f.Resolved.Unknown },
		"systemctl is-active NetworkManager.service": func(f Facts) bool { return f.NetworkManager.Unknown },
	} {
		t.Run(line, func(t *testing.T) {
			w := resolving(t)
			w.running[resolvedUnit] = true
			w.Run = runner(func(asked string) ([]byte, error, bool) { return nil, context.DeadlineExceeded, asked == line }, w.Run)
			f, err := Detect(t.Context(), w.Machine, packaged)
			if err != nil || !unknown(f) || len(f.Unknown) != 1 || !strings.Contains(f.Unknown[0], line) {
				t.Errorf("Detect: got %+v, %v; want what is not known, and why", f, err)
			}
		})
	}
}

// FuzzResolvConf: whatever a resolv.conf says, upstreams are addresses that are neither CoreDNS nor a stub, each once, and what is
// rewritten of it names CoreDNS alone.
func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("search a.example\nnameserver 10.0.0.1 # x\noptions ndots:2\n"))
	f.Add([]byte("nameserver fe80::1%eth0\nnameserver 127.0.0.53\r\nnameserver 127.0.0.1\ndomain b."))
	server := netip.MustParseAddr("127.0.0.1")
	f.Fuzz(func(t *testing.T, content []byte) {
		d := detection{server: netip.AddrPortFrom(server, 53)}
		upstreams := d.others(resolvconf.Parse(content).Servers)
		for i, upstream := range upstreams {
			if !upstream.IsValid() || isStub(upstream.Addr()) || upstream.Addr() == server || slices.Contains(upstreams[:i], upstream) {
				t.Errorf("Upstreams of %q: got %v", content, upstreams)
			}
		}
		for _, domain := range resolvconf.Parse(content).Search {
			if domain == "" || domain != strings.ToLower(domain) || strings.HasSuffix(domain, ".") || strings.ContainsAny(domain, " \t\n") {
				t.Errorf("Search of %q: got %q", content, domain)
			}
		}
		again := rewritten(content, false, []netip.Addr{server}, nil)
		if got := resolvconf.Parse(again).Servers; !slices.Equal(got, []netip.Addr{server}) {
			t.Errorf("Servers of what is rewritten of %q: got %v in %q, want %s alone", content, got, again, server)
		}
	})
}
