package meshvm

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/mirror"
	"github.com/meshvm/meshvm/test/programs"
)

func TestAutoPath(t *testing.T) {
	corp := func(c *Config) { c.Search = []string{"corp.example.net.", "example.net."} }
	tests := []struct {
		name  string
		query string
		edit  func(*Config)
		want  []string
	}{
		{"a pod's search list", "www.example.org.vm.svc.cluster.local.", nil,
			[]string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""}},
		{"with the machine's own", "www.example.org.vm.svc.cluster.local.", corp,
			[]string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "corp.example.net.", "example.net.", ""}},
		{"another spelling", "WWW.example.org.VM.svc.Cluster.Local.", nil,
			[]string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""}},
		{"a domain of the mesh among the machine's own", "x.cluster.local.",
			func(c *Config) { c.Search = []string{"svc.cluster.local.", "example.net.", "cluster.local."} },
			[]string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "example.net.", ""}},
		{"the zone itself", "cluster.local.", nil,
			[]string{"vm.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", ""}},
		{"another zone of the plugin", "x.mesh.example.org.", corp,
			[]string{"vm.svc.mesh.example.org.", "svc.mesh.example.org.", "mesh.example.org.", "corp.example.net.", "example.net.", ""}},
		{"a reverse zone", "1.0.96.10.in-addr.arpa.", corp, nil},
		{"outside the zones", "www.example.org.", corp, nil},
		{"a mesh host outside the zones", "api.example.com.", corp, nil},
		{"the machine's own domain", "www.corp.example.net.", corp, nil},
		{"the root", ".", corp, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := defaultConfig()
			config.Zones = []string{DefaultZone, "mesh.example.org.", "96.10.in-addr.arpa."}
			if test.edit != nil {
				test.edit(config)
			}
			m := serving(t, config, mesh())
			if got := m.AutoPath(question(test.query, dns.TypeA)); !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("AutoPath(%s): got %q, want %q", test.query, got, test.want)
			}
		})
	}

	t.Run("nothing is loaded", func(t *testing.T) {
		m := serving(t, defaultConfig(), nil)
		m.follower.mirror = mirror.New(mirror.Options{Namespace: "vm"})
		if got := m.AutoPath(question("x.vm.svc.cluster.local.", dns.TypeA)); got != nil {
			t.Errorf("AutoPath: got %q, want nil", got)
		}
	})
	t.Run("the namespace is not known", func(t *testing.T) {
		m := serving(t, defaultConfig(), nil)
		change := mirror.Change{Generation: "g", ClusterDomain: "cluster.local", To: 1, Replace: true, Upserts: mesh()}
		if err := m.follower.mirror.Apply(change); err != nil {
			t.Fatalf("Apply: %v", err)
		}
		if got := m.AutoPath(question("x.vm.svc.cluster.local.", dns.TypeA)); got != nil {
			t.Errorf("AutoPath: got %q, want nil", got)
		}
	})
}

func TestUnderForeignSearch(t *testing.T) {
	config := defaultConfig()
	config.Zones = []string{DefaultZone, "mesh.corp."}
	config.Search = []string{"prod.svc.cluster.local.", "corp.", "team.example.org."}
	m := newMeshvm(config)
	for name, want := range map[string]bool{
		"ldap.corp":                true,
		"corp":                     true,
		"a.b.corp":                 true,
		"team.example.org":         true,
		"www.team.example.org":     true,
		"example.org":              false,
		"otherteam.example.org":    false,
		"ldapcorp":                 false,
		"reviews":                  false,
		"reviews.prod":             false,
		"x.prod.svc":               false,
		"":                         false,
		"a.prod.svc.cluster.local": false,
	} {
		if got := m.underForeignSearch(name); got != want {
			t.Errorf("underForeignSearch(%q): got %t, want %t", name, got, want)
		}
		if got := testing.AllocsPerRun(10, func() { m.underForeignSearch(name) }); got > 0 {
			t.Errorf("Allocations for %q: got %v, want none", name, got)
		}
	}
}

// TestAutoPathServes asks a server that has the real autopath plugin in front, and hosts that the mesh
// does not have behind.
func TestAutoPathServes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.snapshot")
	if err := serving(t, defaultConfig(), mesh()).follower.mirror.Save(file); err != nil {
		t.Fatalf("Save: %v", err)
	}
	const zone = "cluster.local."
	tests := []struct {
		name  string
		query string // NAME TYPE
		want  []string
		rcode int
		// authority is the owner of the SOA record in the authority section.
		authority string
	}{
		{name: "found as it is", query: "short.vm.svc.cluster.local. A", want: []string{"short.vm.svc.cluster.local. A 10.96.0.12"}},
		{name: "found with the second domain", query: "reviews.prod.vm.svc.cluster.local. A", want: []string{
			"reviews.prod.vm.svc.cluster.local. CNAME reviews.prod.svc.cluster.local.",
			"reviews.prod.svc.cluster.local. A 10.96.0.10",
		}},
		{name: "found with the third", query: "dns-version.vm.svc.cluster.local. TXT", want: []string{
			"dns-version.vm.svc.cluster.local. CNAME dns-version.cluster.local.",
			`dns-version.cluster.local. TXT "1.1.0"`,
		}},
		{name: "found with the machine's own", query: "files.vm.svc.cluster.local. A", want: []string{
			"files.vm.svc.cluster.local. CNAME files.corp.example.net.",
			"files.corp.example.net. A 192.0.2.2",
		}},
		{name: "found without any", query: "www.example.org.vm.svc.cluster.local. A", want: []string{
			"www.example.org.vm.svc.cluster.local. CNAME www.example.org.",
			"www.example.org. A 192.0.2.1",
		}},
		{name: "a mesh host outside the zones", query: "api.example.com.vm.svc.cluster.local. A", want: []string{
			"api.example.com.vm.svc.cluster.local. CNAME api.example.com.",
			"api.example.com. A 240.240.0.1",
		}},
		{name: "another spelling", query: "Reviews.prod.VM.svc.cluster.local. A", want: []string{
			"Reviews.prod.VM.svc.cluster.local. CNAME Reviews.prod.svc.cluster.local.",
			"Reviews.prod.svc.cluster.local. A 10.96.0.10",
		}},
		{name: "no data ends the walk", query: "v4only.prod.vm.svc.cluster.local. AAAA", authority: zone},
		{name: "found nowhere", query: "nope.invalid.vm.svc.cluster.local. A", rcode: dns.RcodeNameError, authority: zone},
		{name: "not below the first domain", query: "www.example.org.svc.cluster.local. A", rcode: dns.RcodeNameError, authority: zone},
		{name: "not in the zones", query: "www.example.org. A", want: []string{"www.example.org. A 192.0.2.1"}},
	}
	address := serve(t, "snapshot "+file)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name, qtype, _ := strings.Cut(test.query, " ")
			reply := programs.Query(t, "udp", address, name, dns.StringToType[qtype])
			if reply.Rcode != test.rcode {
				t.Errorf("Rcode: got %s, want %s", dns.RcodeToString[reply.Rcode], dns.RcodeToString[test.rcode])
			}
			if got := reply.Question[0].Name; got != name {
				t.Errorf("Question: got %s, want %s", got, name)
			}
			var got []string
			for _, rr := range reply.Answer {
				got = append(got, rr.Header().Name+" "+data(rr))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("Answer: got %q, want %q", got, test.want)
			}
			authority := ""
			if len(reply.Ns) > 0 {
				authority = reply.Ns[0].Header().Name
			}
			if authority != test.authority {
				t.Errorf("SOA of: got %q, want %q", authority, test.authority)
			}
		})
	}

	t.Run("nothing is loaded", func(t *testing.T) {
		address := serve(t, "snapshot off")
		if got := programs.Query(t, "udp", address, "www.example.org.vm.svc.cluster.local", dns.TypeA); got.Rcode != dns.RcodeServerFailure {
			t.Errorf("Rcode in a zone: got %s, want SERVFAIL", dns.RcodeToString[got.Rcode])
		}
		if got := programs.Query(t, "udp", address, "www.example.org", dns.TypeA); len(got.Answer) != 1 {
			t.Errorf("Answer outside: got %v, want one record", got.Answer)
		}
	})
}

// serve starts a server with autopath in front of the plugin until the test ends, and returns its address.
// It knows two hosts besides the mesh's, and that there are no others.
func serve(t *testing.T, option string) string {
	t.Helper()
	before := dnsserver.Directives
	t.Cleanup(func() { dnsserver.Directives = before })
	if err := dnsserver.SetDirectives([]string{"bind", "autopath", pluginName, "hosts", "template"}); err != nil {
		t.Fatal(err)
	}
	address := programs.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	corefile := fmt.Sprintf(`.:%s {
	bind 127.0.0.1
	autopath @meshvm
	meshvm {
		syncer 127.0.0.1:1
		insecure
		namespace vm
		search corp.example.net
		%s
	}
	hosts {
		192.0.2.1 www.example.org
		192.0.2.2 files.corp.example.net
		fallthrough
	}
	template ANY ANY . {
		rcode NXDOMAIN
	}
}
`, port, option)
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		for _, err := range instance.ShutdownCallbacks() {
			t.Errorf("Shutdown: %v", err)
		}
		if err := instance.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return address
}
