package bootstrap

import (
	"slices"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/corefile"
)

// machine is one that lacks nothing.
func machine() Machine {
	return Machine{
		Account: Account{"prod", "vm"}, Syncers: []string{"syncer.example.org:15054"},
		ClusterDomain: "cluster.local", Directory: InstallDirectory,
	}
}

// directives are the lines of a text that are no comments.
func directives(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		line = strings.TrimSpace(line)
		return line == "" || line[0] == '#'
	})
}

// TestCorefile compares with the sample: what is not a VM's own is as it stands there, whatever that says.
func TestCorefile(t *testing.T) {
	tests := map[string]struct {
		change func(*Machine)
		own    map[string][]string // directive in the sample: what stands there instead
	}{
		"least": {func(*Machine) {}, map[string][]string{
			"syncer": {"syncer syncer.example.org:15054"}, "tls": {"tls /etc/meshvm/ca.pem", "token /etc/meshvm/token"}, "namespace": {"namespace prod"},
		}},
		"all": {func(m *Machine) {
			m.Syncers, m.ServerName, m.ClusterDomain, m.Node = []string{"192.0.2.1:1", "[2001:db8::1]:2"}, "syncer.mesh", "k8s.test", "vm-1.example.org"
			m.Upstreams, m.Directory = []string{"192.0.2.53", "[::1]:5353"}, "/opt/mesh"
		}, map[string][]string{
			"meshvm": {"meshvm k8s.test {"}, "syncer": {"syncer 192.0.2.1:1 [2001:db8::1]:2"},
			"tls":       {"tls /opt/mesh/ca.pem", "tls_servername syncer.mesh", "token /opt/mesh/token"},
			"namespace": {"namespace prod", "node vm-1.example.org"}, "forward": {"forward . 192.0.2.53 [::1]:5353 {"},
		}},
		"Istio's certificates": {func(m *Machine) { m.IstioCertificates, m.IstioAuthority = true, true }, map[string][]string{
			"syncer": {"syncer syncer.example.org:15054"}, "namespace": {"namespace prod"},
		}},
		"Istio's certificates, and the syncer's": {func(m *Machine) {
			m.IstioCertificates, m.IstioAuthority, m.ServerName = true, true, "spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer"
		}, map[string][]string{
			"syncer": {"syncer syncer.example.org:15054"}, "namespace": {"namespace prod"},
			"tls": {"tls /etc/certs/cert-chain.pem /etc/certs/key.pem /etc/certs/root-cert.pem", "tls_servername spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer"},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := machine()
			test.change(&m)
			text, err := m.Corefile()
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, line := range directives(corefile.VM()) {
				own, ok := test.own[strings.Fields(line)[0]]
				if !ok {
					own = []string{strings.TrimSpace(line)}
				}
				want = append(want, own...)
			}
			var got []string
			for _, line := range directives(text) {
				got = append(got, strings.TrimSpace(line))
			}
			if !slices.Equal(got, want) {
				t.Errorf("Got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if !strings.Contains(text, "Written by meshvmctl bootstrap for ServiceAccount prod/vm.") || strings.Contains(text, "put your syncer's address") {
				t.Errorf("Got\n%s\nwant the head to be of this VM", text)
			}
		})
	}
}

// TestChangedSample: a sample in which something is not found must not become a Corefile without it.
func TestChangedSample(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"the line is gone":  {". {\n    tls a\n}", "want one line token"},
		"there are two":     {". {\n    token a\n    token b\n}", "want one line token"},
		"in a comment only": {". {\n    # token a\n}", "want one line token"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sample{lines: strings.Split(test.text, "\n")}
			s.replace("token", "token /etc/meshvm/token")
			if s.err == nil || !strings.Contains(s.err.Error(), test.want) {
				t.Errorf("Got %v, want %q", s.err, test.want)
			}
		})
	}
	s := sample{lines: []string{"# nothing", ""}}
	if s.head([]string{"# new"}); s.err == nil {
		t.Error("Got no error for a sample without a server block, want one")
	}
}

func TestMachineCheck(t *testing.T) {
	tests := map[string]struct {
		change func(*Machine)
		want   string
	}{
		"namespace":                   {func(m *Machine) { m.Account.Namespace = "a.b" }, `namespace "a.b"`},
		"account":                     {func(m *Machine) { m.Account.Name = "a b" }, `service account "a b"`},
		"account of two lines":        {func(m *Machine) { m.Account.Name = "a\n}" }, `service account "a\n}"`},
		"address without port":        {func(m *Machine) { m.Syncers = []string{"a"} }, `syncer "a": want HOST:PORT`},
		"address without host":        {func(m *Machine) { m.Syncers = []string{":1"} }, `syncer ":1": host "" is not a DNS name`},
		"address with port 0":         {func(m *Machine) { m.Syncers = []string{"a:0"} }, `port "0" is not a number`},
		"address with a zone":         {func(m *Machine) { m.Syncers = []string{"[fe80::1%eth0]:1"} }, "no address of another machine"},
		"address of nothing":          {func(m *Machine) { m.Syncers = []string{"0.0.0.0:1"} }, "no address of another machine"},
		"address from environment":    {func(m *Machine) { m.Syncers = []string{"{$SYNCER}:1"} }, "is not a DNS name"},
		"address with a brace":        {func(m *Machine) { m.Syncers = []string{"a }:1"} }, "is not a DNS name"},
		"address twice":               {func(m *Machine) { m.Syncers = []string{"a:1", "a:1"} }, `syncer "a:1" is given twice`},
		"server name":                 {func(m *Machine) { m.ServerName = "a_b/c" }, `server name "a_b/c"`},
		"a SPIFFE ID without a path":  {func(m *Machine) { m.ServerName = "spiffe://cluster.local" }, "is no SPIFFE ID"},
		"a SPIFFE ID with a brace":    {func(m *Machine) { m.ServerName = "spiffe://cluster.local/{$A}" }, "want a SPIFFE ID of letters"},
		"a SPIFFE ID for a node":      {func(m *Machine) { m.Node = "spiffe://cluster.local/ns/a/sa/b" }, "node"},
		"node":                        {func(m *Machine) { m.Node = `"` }, "node"},
		"no domain":                   {func(m *Machine) { m.ClusterDomain = "" }, `cluster domain ""`},
		"upstream by name":            {func(m *Machine) { m.Upstreams = []string{"dns.example.org"} }, `upstream "dns.example.org": want IP or IP:PORT`},
		"upstream that is itself":     {func(m *Machine) { m.Upstreams = []string{"127.0.0.1:53"} }, "own server"},
		"upstream that is itself, v6": {func(m *Machine) { m.Upstreams = []string{"::ffff:127.0.0.1"} }, "own server"},
		"upstream nowhere":            {func(m *Machine) { m.Upstreams = []string{"0.0.0.0"} }, "nobody can be asked there"},
		"upstream at no port":         {func(m *Machine) { m.Upstreams = []string{"192.0.2.1:0"} }, "nobody can be asked there"},
		"relative directory":          {func(m *Machine) { m.Directory = "etc/meshvm" }, "install directory"},
		"directory with a space":      {func(m *Machine) { m.Directory = "/etc/my mesh" }, "install directory"},
		"directory with a quote":      {func(m *Machine) { m.Directory = "/etc/`id`" }, "install directory"},
		"directory that climbs":       {func(m *Machine) { m.Directory = "/etc/../tmp" }, "install directory"},
		"the root":                    {func(m *Machine) { m.Directory = "/" }, "install directory"},
		"Istio's authority alone":     {func(m *Machine) { m.IstioAuthority = true }, "goes with these certificates only"},
		"no syncer":                   {func(m *Machine) { m.Syncers = nil }, "no syncer for the VM to follow"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := machine()
			test.change(&m)
			text, err := m.Corefile()
			if err == nil || !strings.Contains(err.Error(), test.want) || text != "" {
				t.Errorf("Got %q, %v, want an error with %q", text, err, test.want)
			}
		})
	}
}
