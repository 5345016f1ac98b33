package meshvm

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/watch"
	"github.com/meshvm/meshvm/test/programs"
)

// defaults is the Config of the shortest block there is, changed by edit.
func defaults(edit func(*Config)) *Config {
	node, err := os.Hostname()
	if err != nil {
		panic(err)
	}
	config := &Config{
		Zones:        []string{"cluster.local."},
		StreamConfig: StreamConfig{Syncers: []string{"syncer.example.org:15054"}, Node: node},
		SnapshotFile: "/var/lib/meshvm/registry.snapshot",
		StatusSocket: "/run/meshvm/status.sock",
		MaxStale:     time.Hour,
		StaleAction:  StaleServe,
		TTL:          30,
		EndpointTTL:  5,
	}
	if edit != nil {
		edit(config)
	}
	return config
}

func TestParse(t *testing.T) {
	dir := programs.Credentials(t)
	in := func(name string) string { return filepath.Join(dir, name) }

	tests := []struct {
		name, corefile string
		want           *Config
	}{
		{"shortest", `meshvm { 
			syncer syncer.example.org:15054
		}`, defaults(nil)},
		{"zones", `meshvm Mesh.Example.Org cluster.local. {
			syncer syncer.example.org:15054
		}`, defaults(func(c *Config) { c.Zones = []string{"mesh.example.org.", "cluster.local."} })},
		{"reverse zones", `meshvm cluster.local 10.96.0.0/15 fd00::/16 in-addr.arpa {
			syncer syncer.example.org:15054
		}`, defaults(func(c *Config) {
			c.Zones = []string{"cluster.local.", "96.10.in-addr.arpa.", "97.10.in-addr.arpa.", "0.0.d.f.ip6.arpa.", "in-addr.arpa."}
		})},
		{"several syncers", `meshvm {
			syncer a.example.org:15054 192.0.2.1:1 [2001:db8::1]:65535
		}`, defaults(func(c *Config) {
			c.Syncers = []string{"a.example.org:15054", "192.0.2.1:1", "[2001:db8::1]:65535"}
		})},
		{"insecure on loopback", `meshvm {
			insecure
			syncer 127.0.0.1:15054 [::1]:15054 localhost:15054 LocalHost:1 127.8.9.1:15054 [::ffff:127.0.0.1]:2
		}`, defaults(func(c *Config) {
			c.Insecure = true
			c.Syncers = []string{"127.0.0.1:15054", "[::1]:15054", "localhost:15054", "LocalHost:1", "127.8.9.1:15054", "[::ffff:127.0.0.1]:2"}
		})},
		{"tls with the system's authorities", `meshvm {
			syncer syncer.example.org:15054
			tls
		}`, defaults(nil)},
		{"tls with an authority", `meshvm {
			syncer syncer.example.org:15054
			tls ` + in("ca.pem") + `
		}`, defaults(func(c *Config) { c.TLS = TLSFiles{CA: in("ca.pem")} })},
		{"tls with a client certificate", `meshvm {
			syncer syncer.example.org:15054
			tls ` + in("cert.pem") + " " + in("key.pem") + `
		}`, defaults(func(c *Config) { c.TLS = TLSFiles{Cert: in("cert.pem"), Key: in("key.pem")} })},
		{"paths below root", `meshvm {
			syncer syncer.example.org:15054
			tls cert.pem key.pem ca.pem
			token token
			snapshot registry.snapshot
		}`, defaults(func(c *Config) {
			c.TLS = TLSFiles{Cert: in("cert.pem"), Key: in("key.pem"), CA: in("ca.pem")}
			c.TokenFile = in("token")
			c.SnapshotFile = in("registry.snapshot")
		})},
		{"tls_servername", `meshvm {
			syncer 192.0.2.1:15054
			tls_servername syncer.example.org.
		}`, defaults(func(c *Config) {
			c.Syncers = []string{"192.0.2.1:15054"}
			c.TLSServerName = "syncer.example.org"
		})},
		{"tls_servername that is a SPIFFE ID", `meshvm {
			syncer 192.0.2.1:15054
			tls_servername spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer
		}`, defaults(func(c *Config) {
			c.Syncers = []string{"192.0.2.1:15054"}
			c.TLSServerName = "spiffe://cluster.local/ns/meshvm/sa/meshvm-syncer"
		})},
		{"namespace and node", `meshvm {
			syncer syncer.example.org:15054
			namespace team-1
			node VM-1.example.org
		}`, defaults(func(c *Config) { c.Namespace, c.Node = "team-1", "VM-1.example.org" })},
		{"snapshot elsewhere", `meshvm {
			syncer syncer.example.org:15054
			snapshot /srv/registry
		}`, defaults(func(c *Config) { c.SnapshotFile = "/srv/registry" })},
		{"snapshot off", `meshvm {
			syncer syncer.example.org:15054
			snapshot off
		}`, defaults(func(c *Config) { c.SnapshotFile = "" })},
		{"status elsewhere", `meshvm {
			syncer syncer.example.org:15054
			status status.sock
		}`, defaults(func(c *Config) { c.StatusSocket = in("status.sock") })},
		{"status off", `meshvm {
			syncer syncer.example.org:15054
			status off
		}`, defaults(func(c *Config) { c.StatusSocket = "" })},
		{"max_stale", `meshvm {
			syncer syncer.example.org:15054
			max_stale 90m
		}`, defaults(func(c *Config) { c.MaxStale = 90 * time.Minute })},
		{"max_stale serve", `meshvm {
			syncer syncer.example.org:15054
			max_stale 1h30m serve
		}`, defaults(func(c *Config) { c.MaxStale = 90 * time.Minute })},
		{"rebind_protection", `meshvm {
			syncer syncer.example.org:15054
			rebind_protection
		}`, defaults(func(c *Config) { c.Rebind = &RebindProtection{Ranges: DefaultRebindRanges()} })},
		{"rebind_protection of ranges", `meshvm {
			syncer syncer.example.org:15054
			rebind_protection 10.96.0.0/12 fd00::/8
		}`, defaults(func(c *Config) {
			c.Rebind = &RebindProtection{Ranges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00::/8")}}
		})},
		{"rebind_protection with exceptions", `meshvm {
			syncer syncer.example.org:15054
			rebind_protection except Corp.example.org. lab
		}`, defaults(func(c *Config) {
			c.Rebind = &RebindProtection{Ranges: DefaultRebindRanges(), Except: []string{"corp.example.org", "lab"}}
		})},
		{"rebind_protection of a range with an exception", `meshvm {
			syncer syncer.example.org:15054
			rebind_protection 240.0.0.0/4 except lab
		}`, defaults(func(c *Config) {
			c.Rebind = &RebindProtection{Ranges: []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4")}, Except: []string{"lab"}}
		})},
		{"max_stale fail", `meshvm {
			syncer syncer.example.org:15054
			max_stale 10s fail
		}`, defaults(func(c *Config) { c.MaxStale, c.StaleAction = 10*time.Second, StaleFail })},
		{"ttl", `meshvm {
			syncer syncer.example.org:15054
			ttl 3600
		}`, defaults(func(c *Config) { c.TTL = 3600 })},
		{"ttl below the endpoints'", `meshvm {
			syncer syncer.example.org:15054
			ttl 0
		}`, defaults(func(c *Config) { c.TTL, c.EndpointTTL = 0, 0 })},
		{"both ttls", `meshvm {
			syncer syncer.example.org:15054
			ttl 60 90
		}`, defaults(func(c *Config) { c.TTL, c.EndpointTTL = 60, 90 })},
		{"short_names", `meshvm {
			syncer syncer.example.org:15054
			short_names
		}`, defaults(func(c *Config) { c.ShortNames = true })},
		{"search", `meshvm {
			syncer syncer.example.org:15054
			search Corp.Example.org example.org. corp
		}`, defaults(func(c *Config) { c.Search = []string{"corp.example.org.", "example.org.", "corp."} })},
		{"pods disabled", `meshvm {
			syncer syncer.example.org:15054
			pods disabled
		}`, defaults(nil)},
		{"pods insecure", `meshvm {
			syncer syncer.example.org:15054
			pods insecure
		}`, defaults(func(c *Config) { c.Pods = PodsInsecure })},
		{"fallthrough", `meshvm {
			syncer syncer.example.org:15054
			fallthrough
		}`, defaults(func(c *Config) { c.Fall = fall.Root })},
		{"fallthrough for zones", `meshvm {
			syncer syncer.example.org:15054
			fallthrough Old.cluster.local 10.0.0.0/8
		}`, defaults(func(c *Config) { c.Fall = fall.F{Zones: []string{"old.cluster.local.", "10.in-addr.arpa."}} })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := caddy.NewTestController("dns", test.corefile)
			dnsserver.GetConfig(c).Root = dir
			got, err := parse(c)
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("Got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	dir := programs.Credentials(t)
	write(t, dir, "empty", " \n")
	write(t, dir, "large", strings.Repeat("x", 12<<10+1))
	write(t, dir, "text.pem", "no certificate\n")

	// Every case but those that say more stands in lines 2 and up of a block.
	block := func(lines ...string) string {
		return "meshvm {\n" + strings.Join(lines, "\n") + "\n}"
	}
	const syncer = "syncer syncer.example.org:15054"
	tests := []struct {
		name, corefile string
		line           int
		want           []string // parts of the error
	}{
		{"no block", "meshvm", 1, []string{"no syncer to follow", "expected a line: syncer ADDRESS..."}},
		{"no syncer", block("insecure"), 1, []string{"no syncer to follow", "syncer ADDRESS..."}},
		{"unknown property", block(syncer, "endpoint https://10.0.0.1"), 3, []string{"unknown property 'endpoint'", "expected one of fallthrough, insecure, max_stale, namespace, node, pods, rebind_protection, search, short_names, snapshot, status, syncer, tls, tls_servername, token, ttl"}},
		{"property in capitals", block("Syncer syncer.example.org:15054"), 2, []string{"unknown property 'Syncer'"}},
		{"duplicate option", block(syncer, "ttl 5", "ttl 6"), 4, []string{"ttl is already set in line 3"}},
		{"duplicate syncer line", block(syncer, "syncer other.example.org:15054"), 3, []string{"syncer is already set in line 2"}},
		{"second meshvm in one server block", "meshvm {\n" + syncer + "\n}\nmeshvm {\n" + syncer + "\n}", 4, []string{"this plugin can only be used once per Server Block"}},
		{"option with a block", block(syncer, "tls {", "ca x", "}"), 3, []string{"tls takes no block", "expected: tls [CERT KEY] [CA]"}},
		{"empty argument", block(syncer, `token ""`), 3, []string{"token has an empty argument", "environment variable", "token FILE"}},

		{"zone with a transport", "meshvm dns://cluster.local {\n" + syncer + "\n}", 1, []string{`zone "dns://cluster.local"`, "no transport (dns://)", "cluster.local or a network"}},
		{"zone with a port", "meshvm cluster.local:53 {\n" + syncer + "\n}", 1, []string{`zone "cluster.local:53"`, "no port (:53)"}},
		{"zone that is no name", "meshvm clus..ter {\n" + syncer + "\n}", 1, []string{`zone "clus..ter"`, "not a valid domain name"}},
		{"zone with odd characters", "meshvm clüster.local {\n" + syncer + "\n}", 1, []string{`zone "clüster.local"`, "not a domain name"}},
		{"zone that is an address", "meshvm cluster.local 10.96.0.0 {\n" + syncer + "\n}", 1, []string{`zone "10.96.0.0"`, "an address is not a zone", "10.96.0.0/16"}},
		{"root zone", "meshvm . {\n" + syncer + "\n}", 1, []string{`zone "."`, "deny every name outside the mesh"}},
		{"same zone twice", "meshvm cluster.local Cluster.Local. {\n" + syncer + "\n}", 1, []string{`zone "Cluster.Local." is given twice`}},
		{"reverse zones only", "meshvm 10.0.0.0/8 {\n" + syncer + "\n}", 1, []string{"every zone of \"10.0.0.0/8\" is a reverse zone", "at least one domain"}},

		{"syncer without address", block("syncer"), 2, []string{"syncer lacks its argument", "expected: syncer ADDRESS..."}},
		{"syncer without port", block("syncer syncer.example.org"), 2, []string{`"syncer.example.org": missing port in address`, "expected host:port"}},
		{"syncer without host", block("syncer :15054"), 2, []string{`":15054": missing host in address`, "expected host:port"}},
		{"syncer with a named port", block("syncer syncer.example.org:grpc"), 2, []string{`port "grpc" is not a number from 1 to 65535`}},
		{"syncer with port 0", block("syncer syncer.example.org:0"), 2, []string{`port "0" is not a number`}},
		{"syncer with too high a port", block("syncer syncer.example.org:65536"), 2, []string{`port "65536" is not a number`}},
		{"syncer as a URL", block("syncer https://syncer.example.org:15054"), 2, []string{"too many colons in address", "expected host:port"}},
		{"syncer with bare IPv6", block("syncer 2001:db8::1"), 2, []string{"too many colons in address", "[2001:db8::1]:15054"}},
		{"syncer with a bad host", block("syncer a_b!.example.org:15054"), 2, []string{`host "a_b!.example.org" is neither an IP address nor a domain name`}},
		{"same syncer twice", block("syncer a.example.org:1 a.example.org:1"), 2, []string{`"a.example.org:1" is given twice`}},

		{"insecure with an argument", block(syncer, "insecure yes"), 3, []string{"insecure has too many arguments (1)", "expected: insecure"}},
		{"insecure to another machine", block("syncer 127.0.0.1:15054 192.0.2.1:15054", "insecure"), 3, []string{"192.0.2.1:15054 is not on loopback", "expected tls"}},
		{"insecure to a name", block("insecure", syncer), 2, []string{"syncer.example.org:15054 is not on loopback"}},
		{"insecure to a name that begins as localhost", block("insecure", "syncer localhost.example.org:1"), 2, []string{"not on loopback"}},
		{"insecure to any address", block("insecure", "syncer 0.0.0.0:1"), 2, []string{"not on loopback"}},
		{"insecure and tls", block("syncer 127.0.0.1:15054", "tls", "insecure"), 4, []string{"insecure and tls exclude each other"}},
		{"insecure and tls_servername", block("syncer 127.0.0.1:15054", "insecure", "tls_servername a.example.org"), 3, []string{"insecure and tls_servername exclude each other"}},

		{"tls with four files", block(syncer, "tls a b c d"), 3, []string{"tls has too many arguments (4)", "tls [CERT KEY] [CA]"}},
		{"tls file that is not there", block(syncer, "tls nowhere.pem"), 3, []string{"nowhere.pem: no such file or directory", "CERT KEY CA"}},
		{"tls file that is a directory", block(syncer, "tls "+dir), 3, []string{"is not a regular file"}},
		{"tls file that never ends", block(syncer, "tls /dev/zero"), 3, []string{"/dev/zero is not a regular file"}},
		{"tls authority that does not parse", block("tls text.pem", syncer), 2, []string{"tls: could not read root certs"}},
		{"tls certificate that does not parse", block(syncer, "tls text.pem key.pem ca.pem"), 3, []string{"tls: could not load TLS cert"}},
		{"tls key of another certificate", block(syncer, "tls cert.pem other.pem ca.pem"), 3, []string{"tls: could not load TLS cert", "private key does not match public key"}},
		{"tls_servername without a name", block(syncer, "tls_servername"), 3, []string{"tls_servername lacks its argument", "tls_servername NAME"}},
		{"tls_servername that is no SPIFFE ID", block(syncer, "tls_servername spiffe://cluster.local"), 3, []string{`"spiffe://cluster.local" is no SPIFFE ID`}},
		{"tls_servername with a port", block(syncer, "tls_servername a.example.org:443"), 3, []string{`"a.example.org:443" is not a name`, "the syncer's certificate"}},

		{"token without a file", block(syncer, "token"), 3, []string{"token lacks its argument", "token FILE"}},
		{"token that is not there", block(syncer, "token nowhere"), 3, []string{"nowhere: no such file or directory", "bearer token"}},
		{"token that is empty", block(syncer, "token empty"), 3, []string{"empty is empty", "bearer token"}},
		{"token that is too large", block(syncer, "token large"), 3, []string{"large is larger than 12288 bytes"}},
		{"token that is a directory", block(syncer, "token "+dir), 3, []string{"is not a regular file"}},

		{"namespace without a name", block(syncer, "namespace"), 3, []string{"namespace lacks its argument"}},
		{"two namespaces", block(syncer, "namespace a b"), 3, []string{"namespace has too many arguments (2)"}},
		{"namespace in capitals", block(syncer, "namespace Default"), 3, []string{`"Default" is not a namespace`, "a-z, 0-9 and '-'"}},
		{"namespace with a dot", block(syncer, "namespace a.b"), 3, []string{`"a.b" is not a namespace`}},
		{"namespace that begins with a hyphen", block(syncer, "namespace -a"), 3, []string{`"-a" is not a namespace`}},
		{"namespace that is too long", block(syncer, "namespace "+strings.Repeat("a", 64)), 3, []string{"is not a namespace", "at most 63"}},
		{"node without a name", block(syncer, "node"), 3, []string{"node lacks its argument"}},
		{"node that is no host name", block(syncer, "node a/b"), 3, []string{`"a/b" is not a host name`}},

		{"snapshot without a file", block(syncer, "snapshot"), 3, []string{"snapshot lacks its argument", "snapshot FILE|off"}},
		{"snapshot that is a directory", block(syncer, "snapshot "+dir), 3, []string{"is not a regular file", "a file name or off"}},

		{"status without a socket", block(syncer, "status"), 3, []string{"status lacks its argument", "status SOCKET|off"}},
		{"status at a folder", block(syncer, "status "+dir), 3, []string{dir, "is no socket"}},
		{"status with a long name", block(syncer, "status /"+strings.Repeat("x", 106)), 3, []string{"107 bytes", "at most 106"}},

		{"max_stale without a duration", block(syncer, "max_stale"), 3, []string{"max_stale lacks its argument", "max_stale DURATION [serve|fail]"}},
		{"max_stale without a unit", block(syncer, "max_stale 30"), 3, []string{`"30" is not a duration`, "30m or 1h"}},
		{"max_stale zero", block(syncer, "max_stale 0s"), 3, []string{`"0s" is not positive`}},
		{"max_stale negative", block(syncer, "max_stale -5m"), 3, []string{`"-5m" is not positive`}},
		{"max_stale with another action", block(syncer, "max_stale 1h drop"), 3, []string{`"drop" is not an action`, "serve or fail"}},
		{"max_stale with the action first", block(syncer, "max_stale fail 1h"), 3, []string{`"fail" is not a duration`}},

		{"ttl without seconds", block(syncer, "ttl"), 3, []string{"ttl lacks its argument", "ttl SECONDS [ENDPOINT_SECONDS]"}},
		{"ttl with a unit", block(syncer, "ttl 30s"), 3, []string{`"30s" is not a TTL`, "from 0 to 3600"}},
		{"ttl negative", block(syncer, "ttl -1"), 3, []string{`"-1" is not a TTL`}},
		{"ttl too long", block(syncer, "ttl 3601"), 3, []string{`"3601" is not a TTL`}},
		{"ttl far too long", block(syncer, "ttl 4294967296"), 3, []string{`"4294967296" is not a TTL`}},
		{"endpoints' ttl too long", block(syncer, "ttl 30 3601"), 3, []string{`"3601" is not a TTL`}},
		{"three ttls", block(syncer, "ttl 1 2 3"), 3, []string{"ttl has too many arguments (3)"}},

		{"short_names with an argument", block(syncer, "short_names default"), 3, []string{"short_names has too many arguments (1)"}},
		{"rebind_protection of an address", block(syncer, "rebind_protection 240.240.0.1"), 3, []string{`range "240.240.0.1"`, "not a network in CIDR notation", "240.240.0.0/16"}},
		{"rebind_protection of a name", block(syncer, "rebind_protection corp.example.org"), 3, []string{`range "corp.example.org"`, "or except DOMAINS"}},
		{"rebind_protection of no network", block(syncer, "rebind_protection 240.240.0.0/33"), 3, []string{`range "240.240.0.0/33"`, "not a network in CIDR notation"}},
		{"rebind_protection with bits behind the prefix", block(syncer, "rebind_protection 240.240.1.0/16"), 3, []string{"bits are set behind the prefix, the network is 240.240.0.0/16"}},
		{"rebind_protection of everything", block(syncer, "rebind_protection ::/0"), 3, []string{`range "::/0"`, "no answer at all"}},
		{"rebind_protection of mapped addresses", block(syncer, "rebind_protection ::ffff:10.0.0.0/104"), 3, []string{"is written as that of IPv4"}},
		{"rebind_protection of a range twice", block(syncer, "rebind_protection 10.0.0.0/8 10.0.0.0/8"), 3, []string{`range "10.0.0.0/8" is given twice`}},
		{"rebind_protection without exceptions", block(syncer, "rebind_protection except"), 3, []string{"except lacks its domains"}},
		{"rebind_protection with a range among domains", block(syncer, "rebind_protection except lab 10.0.0.0/8"), 3, []string{`"10.0.0.0/8" is not a domain`, "behind all ranges"}},
		{"rebind_protection with except twice", block(syncer, "rebind_protection except lab except corp"), 3, []string{`"except" is not a domain`}},
		{"rebind_protection except the root", block(syncer, "rebind_protection except ."), 3, []string{`"." is not a domain`}},
		{"rebind_protection except a domain twice", block(syncer, "rebind_protection except lab Lab."), 3, []string{`domain "Lab." is given twice`}},

		{"search without a domain", block(syncer, "search"), 3, []string{"search lacks its argument", "expected: search DOMAIN..."}},
		{"search in what is no domain", block(syncer, "search example.org a..b"), 3, []string{`"a..b" is not a domain`, "the machine's search list, such as corp.example.org"}},
		{"search in the root", block(syncer, "search ."), 3, []string{`"." is not a domain`}},
		{"search in a network", block(syncer, "search 10.0.0.0/8"), 3, []string{`"10.0.0.0/8" is not a domain`}},
		{"same search domain twice", block(syncer, "search corp Corp."), 3, []string{`"Corp." is given twice`, "expected each domain once"}},
		{"pods without a mode", block(syncer, "pods"), 3, []string{"pods lacks its argument", "pods disabled|insecure"}},
		{"pods verified", block(syncer, "pods verified"), 3, []string{"every machine follow every pod", "expected disabled or insecure"}},
		{"pods in another mode", block(syncer, "pods on"), 3, []string{`"on" is not a mode`, "expected disabled or insecure"}},
		{"fallthrough for what is no zone", block(syncer, "fallthrough a..b"), 3, []string{`zone "a..b"`, "expected a domain"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := caddy.NewTestController("dns", test.corefile)
			dnsserver.GetConfig(c).Root = dir
			got, err := parse(c)
			if err == nil {
				t.Fatalf("parse: got %+v, want an error with %q", got, test.want)
			}
			want := append([]string{"Testfile:" + string(rune('0'+test.line)) + " - Error during parsing: "}, test.want...)
			for _, part := range want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("Got error %q, want it to contain %q", err, part)
				}
			}
		})
	}
}

// FuzzParse feeds any text to the parser. It refuses with file and line, or yields what Config promises.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"meshvm {\n syncer 127.0.0.1:15054\n insecure\n}",
		"meshvm cluster.local 10.96.0.0/12 {\n syncer a:1 b:2\n ttl 30 5\n max_stale 1h fail\n short_names\n fallthrough\n snapshot off\n namespace a\n node b\n}",
		"meshvm {\n tls {\n }\n}",
		"meshvm {\n syncer {$A}\n",
		"meshvm \"a\nb\" {",
		"meshvm ::/0 {\n syncer [::1]:1\n}",
		"meshvm a.B A.b {\n syncer a:1\n}",
		"meshvm fd00::/8 10.0.0.0/9 {\n syncer a:1\n}",
		"meshvm {\n syncer a:1 a:1\n}",
		"meshvm {\n syncer a:1\n search Corp.example.org. b\n pods insecure\n fallthrough X.y 10.0.0.0/8\n}",
		"meshvm {\n syncer a:1\n pods verified\n}",
		"meshvm {\n syncer a:1\n tls_servername A.b.\n snapshot ../x\n ttl 0\n}",
		"meshvm {\n syncer a:1\n max_stale 9999999h\n}\nmeshvm",
		"meshvm {\n syncer [fe80::1%lo]:1\n insecure\n}",
	} {
		f.Add(seed)
	}
	root := f.TempDir()
	parseText := func(corefile string) (*Config, error) {
		c := caddy.NewTestController("dns", corefile)
		dnsserver.GetConfig(c).Root = root
		return parse(c)
	}
	where := regexp.MustCompile(`^Testfile:([0-9]+) - Error during parsing: .`)
	f.Fuzz(func(t *testing.T, corefile string) {
		config, err := parseText(corefile)
		if err != nil {
			at := where.FindStringSubmatch(err.Error())
			if at == nil {
				t.Fatalf("Got error %q from %q, want file and line", err, corefile)
			}
			if line, err := strconv.Atoi(at[1]); err != nil || line > 1+strings.Count(corefile, "\n") {
				t.Errorf("Got an error in line %s of %q", at[1], corefile)
			}
			if config != nil {
				t.Errorf("Got %+v with error %v", config, err)
			}
			return
		}
		if config == nil {
			return // a text without any block
		}
		checkPromises(t, config)
		if again, err := parseText(corefile); err != nil || !reflect.DeepEqual(again, config) {
			t.Errorf("Parsed again: got %+v, error %v, want %+v", again, err, config)
		}
		if t.Failed() {
			t.Logf("The Corefile is %q", corefile)
		}
	})
}

// checkPromises holds a configuration against what the comments of Config say.
func checkPromises(t *testing.T, config *Config) {
	t.Helper()
	forward := false
	for i, zone := range config.Zones {
		forward = forward || dnsutil.IsReverse(zone) == 0
		if !isCanonicalZone(zone) || slices.Index(config.Zones, zone) != i {
			t.Errorf("Zones: got %q, want each once, lower case, with the final dot", config.Zones)
		}
	}
	if !forward {
		t.Errorf("Zones: got %q, want one that is not reverse", config.Zones)
	}
	for i, domain := range config.Search {
		if !isCanonicalZone(domain) || slices.Index(config.Search, domain) != i {
			t.Errorf("Search: got %q, want each once, lower case, with the final dot", config.Search)
		}
	}
	for i, address := range config.Syncers {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" || slices.Index(config.Syncers, address) != i {
			t.Errorf("Syncers: got %q, want each once, host:port", config.Syncers)
		}
		if config.Insecure && !watch.OnLoopback(address) {
			t.Errorf("Syncers: got insecure with %s, want loopback only", address)
		}
	}
	if config.Insecure && (config.TLS != TLSFiles{} || config.TLSServerName != "") {
		t.Errorf("TLS: got %+v and name %q with insecure, want none", config.TLS, config.TLSServerName)
	}
	if (config.TLS.Cert == "") != (config.TLS.Key == "") || strings.HasSuffix(config.TLSServerName, ".") {
		t.Errorf("TLS: got %+v and name %q, want certificate and key or none, and a name without the final dot", config.TLS, config.TLSServerName)
	}
	for _, file := range []string{config.SnapshotFile, config.StatusSocket, config.TokenFile, config.TLS.Cert, config.TLS.Key, config.TLS.CA} {
		if file != "" && !filepath.IsAbs(file) {
			t.Errorf("File: got %q, want an absolute path where there is a root", file)
		}
	}
	if len(config.Syncers) == 0 || config.Node == "" || config.MaxStale <= 0 || config.TTL > MaxTTL || config.EndpointTTL > MaxTTL {
		t.Errorf("Got %+v, want syncers, node, max_stale and ttl set", config)
	}
	if config.StaleAction > StaleFail || config.Pods > PodsInsecure {
		t.Errorf("Got max_stale %d and pods %d, want what the Corefile has words for", config.StaleAction, config.Pods)
	}
}

func isCanonicalZone(zone string) bool {
	_, valid := dns.IsDomainName(zone)
	return valid && zone != "." && zone == strings.ToLower(dns.Fqdn(zone))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
