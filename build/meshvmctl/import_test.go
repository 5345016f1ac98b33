package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// entriesIn is the hosts of the ServiceEntries in YAML, with their addresses.
func entriesIn(t *testing.T, text string) map[string]string {
	t.Helper()
	found, objects := map[string]string{}, map[string]bool{}
	for _, document := range strings.Split(text, "---\n")[1:] {
		var entry serviceEntry
		if err := yaml.UnmarshalStrict([]byte(document), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Kind != "ServiceEntry" || entry.Spec.Resolution != "NONE" || len(entry.Spec.Hosts) != 1 {
			t.Errorf("got %+v, want a ServiceEntry of one host, without resolution", entry)
		}
		if problems := validation.IsDNS1123Label(entry.Metadata.Name); len(problems) > 0 || objects[entry.Metadata.Name] {
			t.Errorf("got the name %q: %q, another has it: %t", entry.Metadata.Name, problems, objects[entry.Metadata.Name])
		}
		objects[entry.Metadata.Name] = true
		found[entry.Spec.Hosts[0]] = strings.Join(entry.Spec.Addresses, " ")
	}
	return found
}

func TestImport(t *testing.T) {
	long := strings.Repeat("a", 60) + ".example.com"
	tests := []struct {
		name, format, content string
		args                  []string
		want                  map[string]string // addresses, by host
		left                  []string          // what standard error has, in order
		code                  int
	}{
		{name: "a name", content: "192.0.2.1 db.example.com\n", want: map[string]string{"db.example.com": "192.0.2.1"}},
		{name: "both families, several names", content: "192.0.2.1\tdb.example.com DB2.example.com. # both\n2001:db8::1 db.example.com\n",
			want: map[string]string{"db.example.com": "192.0.2.1 2001:db8::1", "db2.example.com": "192.0.2.1"}},
		{name: "the same twice", content: "192.0.2.1 db.example.com db.example.com\n192.0.2.1 db.example.com\n", want: map[string]string{"db.example.com": "192.0.2.1"}},
		{name: "the machine's own", content: "127.0.0.1 localhost\n127.0.1.1 vm.example.com\nff02::1 ip6-allnodes\nfe80::1%eth0 a.example.com\n192.0.2.1 db.example.com\n",
			want: map[string]string{"db.example.com": "192.0.2.1"}, left: []string{":1: left out: 127.0.0.1 means", ":2: left out: 127.0.1.1", ":3: left out: ff02::1", ":4: left out: fe80::1%eth0"}},
		{name: "names that are none", content: "192.0.2.1 db\n192.0.2.1 a_b.example.com\n192.0.2.1\nnowhere db.example.com\n192.0.2.1 good.example.com\n",
			want: map[string]string{"good.example.com": "192.0.2.1"},
			left: []string{`:1: left out: "db" is no full name`, `:2: left out: "a_b.example.com" cannot`, ":3: left out: 192.0.2.1 has no name", `:4: left out: "nowhere" is no address`}},
		{name: "names of Services", content: "10.96.0.1 kubernetes.default.svc.cluster.local\n192.0.2.1 db.example.com\n",
			want: map[string]string{"db.example.com": "192.0.2.1"}, left: []string{"is below cluster.local, where Services are"}},
		{name: "another cluster domain", content: "10.96.0.1 a.b.svc.k8s.test\n", args: []string{"--cluster-domain", "k8s.test."}, left: []string{"is below k8s.test"}, code: 1},
		{name: "strict", content: "192.0.2.1 db.example.com db\n", args: []string{"--strict"}, want: map[string]string{"db.example.com": "192.0.2.1"}, left: []string{"no full name"}, code: 1},
		{name: "names that look alike as objects", content: "192.0.2.1 a-b.example.com a.b.example.com " + long + "\n",
			want: map[string]string{"a-b.example.com": "192.0.2.1", "a.b.example.com": "192.0.2.1", long: "192.0.2.1"}},
		{name: "dnsmasq, a domain", format: "dnsmasq", content: "domain-needed\naddress=/apps.example.com/192.0.2.2 # and below\nno-hosts\n",
			want: map[string]string{"apps.example.com": "192.0.2.2", "*.apps.example.com": "192.0.2.2"}},
		{name: "dnsmasq, a wildcard, several domains", format: "dnsmasq", content: "address=/*.a.example.com/.b.example.com/192.0.2.2\nno-hosts\n",
			want: map[string]string{"*.a.example.com": "192.0.2.2", "b.example.com": "192.0.2.2", "*.b.example.com": "192.0.2.2"}},
		{name: "dnsmasq, a host", format: "dnsmasq", content: "host-record=db.example.com,db,192.0.2.3,2001:db8::3,300\nno-hosts\n",
			want: map[string]string{"db.example.com": "192.0.2.3 2001:db8::3"}, left: []string{`"db" is no full name`}},
		{name: "dnsmasq, aliases of aliases", format: "dnsmasq", content: "cname=c.example.com,b.example.com\ncname=b.example.com,a.example.com,60\nhost-record=a.example.com,192.0.2.4\ncname=x.example.com,y.example.net\nno-hosts\n",
			want: map[string]string{"a.example.com": "192.0.2.4", "b.example.com": "192.0.2.4", "c.example.com": "192.0.2.4"}, left: []string{`:4: left out: "x.example.com" stands for "y.example.net"`}},
		{name: "dnsmasq, what is not of names", format: "dnsmasq", content: "address=/#/192.0.2.1\naddress=/ads.example.com/\naddress=192.0.2.1\nserver=/cluster.local/10.96.0.10\nconf-dir=/etc/dnsmasq.d\ntxt-record=a.example.com,b\ncname=a.example.com\nhost-record=192.0.2.1\naddress=/a.example.com/192.0.2.1\nno-hosts\n",
			want: map[string]string{"a.example.com": "192.0.2.1", "*.a.example.com": "192.0.2.1"},
			left: []string{":1: left out: address=/#/192.0.2.1 is of every name", ":2: left out: address=/ads.example.com/ says that there is nothing", ":3: left out: address=192.0.2.1: want", ":4: left out: server", ":5: left out: conf-dir is in other files", ":6: left out: txt-record", ":7: left out:", ":8: left out: host-record"}},
		{name: "hosts that Istio refuses", content: "192.0.2.1 " + strings.Repeat("a", 64) + ".example.com db.example.123 192.0.2.9\n192.0.2.1 good.example.com\n",
			want: map[string]string{"good.example.com": "192.0.2.1"}, left: []string{"aaa.example.com\" cannot", "db.example.123\" cannot", "192.0.2.9\" cannot"}},
		{name: "dnsmasq, what overrides a domain", format: "dnsmasq", content: "no-hosts\naddress=/apps.example.com/192.0.2.2\nhost-record=apps.example.com,192.0.2.3\naddress=/over.example.com/192.0.2.99\ncname=over.example.com,apps.example.com\n",
			want: map[string]string{"apps.example.com": "192.0.2.3", "*.apps.example.com": "192.0.2.2", "over.example.com": "192.0.2.3", "*.over.example.com": "192.0.2.99"}},
		{name: "dnsmasq, two addresses of a family", format: "dnsmasq", content: "no-hosts\nhost-record=two.example.com,192.0.2.1,192.0.2.2\nhost-record=both.example.com,192.0.2.1\nhost-record=both.example.com,::ffff:192.0.2.2\n",
			want: map[string]string{"two.example.com": "192.0.2.2", "both.example.com": "192.0.2.1 192.0.2.2"}},
		{name: "dnsmasq, aliases of short names", format: "dnsmasq", content: "no-hosts\nhost-record=db,192.0.2.7\ncname=db.example.com,sql.example.com,db, 60\n",
			want: map[string]string{"db.example.com": "192.0.2.7", "sql.example.com": "192.0.2.7"}, left: []string{`"db" is no full name`}},
		{name: "dnsmasq, exceptions", format: "dnsmasq", content: "no-hosts\naddress=/example.com/192.0.2.10\naddress=/blocked.example.com/\naddress=/dev.example.com/127.0.0.1\nserver=/corp.example.com/198.51.100.1\nhost-record=a_b.example.com,192.0.2.1\naddress=/ads.example.net/\n",
			want: map[string]string{"example.com": "192.0.2.10", "*.example.com": "192.0.2.10"},
			left: []string{"blocked.example.com is answered as *.example.com now, with 192.0.2.10", "dev.example.com is answered as", "corp.example.com is answered as", "a_b.example.com is answered as", "cannot"}},
		{name: "dnsmasq, servers", format: "dnsmasq", content: "no-hosts\nserver=198.51.100.1\nlocal=/lan.example.com/\nserver=/corp.example.com/198.51.100.1\naddress=/a.example.com/192.0.2.1\n",
			want: map[string]string{"a.example.com": "192.0.2.1", "*.a.example.com": "192.0.2.1"}, left: []string{"is for all other names", "keeps names from other servers", "sends a domain to another server"}},
		{name: "dnsmasq, names from elsewhere", format: "dnsmasq", content: "dhcp-host=11:22:33:44:55:66,printer.example.com,192.0.2.14\nexpand-hosts\nalias=192.0.2.1,192.0.2.2\naddn-hosts=/etc/more\naddress=/a.example.com/192.0.2.1\n",
			want: map[string]string{"a.example.com": "192.0.2.1", "*.a.example.com": "192.0.2.1"}, left: []string{"dhcp-host", "expand-hosts", "alias", "import /etc/more with --format hosts", "/etc/hosts: left out"}},
		{name: "nothing", content: "# nothing\n", code: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "names")
			if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			format := test.format
			if format == "" {
				format = "hosts"
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"import", "--format", format, "--namespace", "prod", file}, test.args...), &stdout, &stderr)
			if code != test.code {
				t.Errorf("got exit code %d, want %d: %s", code, test.code, &stderr)
			}
			got := entriesIn(t, stdout.String())
			for host, addresses := range test.want {
				if got[host] != addresses {
					t.Errorf("%s: got %q, want %q", host, got[host], addresses)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			said := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			if len(said) != len(test.left)+1 {
				t.Fatalf("got %q, want %d lines and the sum", said, len(test.left))
			}
			for n, want := range test.left {
				if !strings.Contains(said[n], want) {
					t.Errorf("got %q, want %q in it", said[n], want)
				}
			}
		})
	}
}

func TestImportAndExportRefuse(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.snap")
	if err := os.WriteFile(broken, []byte("no snapshot"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no file":                {[]string{"import"}, exitUsage, "no file"},
		"an unknown format":      {[]string{"import", "--format", "bind", "-"}, exitUsage, "want hosts or dnsmasq"},
		"no namespace":           {[]string{"import", "--namespace", "", "-"}, exitUsage, "--namespace"},
		"no such namespace":      {[]string{"import", "--export-to", ".,A B", "-"}, exitUsage, "--export-to"},
		"no zone":                {[]string{"import", "--cluster-domain", "a b", "-"}, exitUsage, "--cluster-domain"},
		"no such file":           {[]string{"import", "/nowhere"}, exitUnreachable, "/nowhere"},
		"export to all and some": {[]string{"import", "--export-to", "prod,*", "-"}, exitUsage, "--export-to has * beside others"},
		"export to one twice":    {[]string{"import", "--namespace", "prod", "--export-to", ".,prod", "-"}, exitUsage, "--export-to has namespace prod twice"},
		"export to what":         {[]string{"export", "--format", "bind"}, exitUsage, "want hosts or json"},
		"export an argument":     {[]string{"export", "x"}, exitUsage, "unexpected argument"},
		"export no snapshot":     {[]string{"export", "--snapshot", "/nowhere"}, exitUnreachable, "/nowhere"},
		"export an empty name":   {[]string{"export", "--snapshot", ""}, exitUsage, "--snapshot is empty"},
		"export what is broken":  {[]string{"export", "--snapshot", broken}, exitUnreachable, broken + ": not a meshvm snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tc.args, &stdout, &stderr); code != tc.code || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("got exit code %d and %q, want %d and %q", code, &stderr, tc.code, tc.want)
			}
		})
	}
	// The file is CoreDNS's, or something of the operator's that was named by mistake: nothing happens to it.
	if content, err := os.ReadFile(broken); err != nil || string(content) != "no snapshot" {
		t.Errorf("after an export of what is broken the file holds %q, %v; want it as it was", content, err)
	}
}

// FuzzImport: whatever is in a file, what is written are ServiceEntries that Kubernetes may have, and each line is taken or left.
func FuzzImport(f *testing.F) {
	for _, seed := range []string{"192.0.2.1 db.example.com\n", "address=/#/192.0.2.1\n", "host-record=a.example.com,::1\ncname=b.c,a.example.com\n", "cname=a.b,a.b\n", "1.2.3.4 *.*.a\n"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	object := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, content string, dnsmasq bool) {
		found := &imported{clusterDomain: "cluster.local"}
		read := found.readHosts
		if dnsmasq {
			read = found.readDnsmasq
		}
		if err := read(strings.NewReader(content), "file"); err != nil {
			return // A line is too long.
		}
		found.finish()
		names := map[string]bool{}
		for host, addresses := range found.names {
			name := entryName(host)
			if names[name] || !object.MatchString(name) || len(name) > 63 {
				t.Errorf("host %q: got the name %q, want one of its own", host, name)
			}
			names[name] = true
			if len(addresses) == 0 {
				t.Errorf("host %q has no address", host)
			}
		}
		if err := found.write(&bytes.Buffer{}, "prod", nil); err != nil {
			t.Error(err)
		}
	})
}
