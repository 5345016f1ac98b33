package doctor

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fault is a machine with one thing wrong, or none.
type fault struct {
	files    map[string]string
	modes    map[string]os.FileMode
	links    map[string]string
	commands map[string]string
	report   status.Report
	err      error
}

func (f fault) machine(t *testing.T) Machine {
	t.Helper()
	m := Machine{
		Root:   t.TempDir(),
		Now:    func() time.Time { return testNow },
		Report: func(context.Context) (status.Report, error) { return f.report, f.err },
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			line := strings.Join(append([]string{name}, args...), " ")
			for prefix, output := range f.commands {
				if strings.HasPrefix(line, prefix) {
					return []byte(output), nil
				}
			}
			return nil, errors.New("no such program")
		},
	}
	for path, content := range f.files {
		if err := os.MkdirAll(filepath.Dir(m.path(path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path(path), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if mode := cmp.Or(f.modes[path], 0o600); os.Chmod(m.path(path), mode) != nil {
			t.Fatalf("%s cannot have %s", path, mode)
		}
	}
	for path, target := range f.links {
		if err := os.MkdirAll(filepath.Dir(m.path(path)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, m.path(path)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// head and socket lines of /proc/net.
const (
	netHead   = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	udpOf     = netHead + "   0: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   998        0 "
	udpAll    = netHead + "   0: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 "
	udpStub   = netHead + "   0: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 "
	udp6All   = netHead + "   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 "
	inForce   = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n"
	noFailure = "hosts: files dns\n"
	// asksCoreDNS is the State in which systemd-resolved does.
	asksCoreDNS = `{"version":1,"applied":true,"plan":{"mode":"resolved"}}`
)

func mirrors(edit func(*status.Mirror)) status.Report {
	m := status.Mirror{Zones: []string{"cluster.local"}, View: "prod", ConnectedAddress: "x", Loaded: true, MaxStaleSeconds: 60}
	edit(&m)
	return status.Report{At: testNow, Version: "1.0", Servers: []status.Listener{{Address: "127.0.0.1:53"}}, Mirrors: []status.Mirror{m}}
}

func TestChecks(t *testing.T) {
	well := mirrors(func(*status.Mirror) {})
	credential := func(kind string, left time.Duration, fault string) status.Report {
		return mirrors(func(m *status.Mirror) {
			m.Credentials = []status.Credential{{Kind: kind, File: "/etc/meshvm/token", Expires: testNow.Add(left), Fault: fault}}
		})
	}
	env := func(content string) map[string]string {
		return map[string]string{clusterEnv: content, meshYAML: "defaultConfig:\n  proxyMetadata:\n    ISTIO_META_DNS_CAPTURE: \"true\"\n"}
	}
	noRules := map[string]string{"iptables-save": "*nat\nCOMMIT\n"}
	for name, c := range map[string]struct {
		look func(context.Context, *examination) []Finding
		fault
		want Verdict
		seen string
	}{
		"units run":             {units, fault{commands: map[string]string{"systemctl show": inForce}}, OK, "run"},
		"a unit has failed":     {units, fault{commands: map[string]string{"systemctl show": "LoadState=loaded\nActiveState=failed\nResult=exit-code\n"}}, Problem, "has failed: exit-code"},
		"a unit is not there":   {units, fault{commands: map[string]string{"systemctl show": "LoadState=not-found\nActiveState=inactive\n"}}, Warning, "not-found"},
		"a unit does not run":   {units, fault{commands: map[string]string{"systemctl show": "LoadState=loaded\nActiveState=inactive\nSubState=dead\n"}}, Problem, "inactive (dead)"},
		"a unit starts again":   {units, fault{commands: map[string]string{"systemctl show": strings.Replace(inForce, "NRestarts=0", "NRestarts=9", 1)}}, Warning, "9 times"},
		"no systemd":            {units, fault{}, Unknown, "no such program"},
		"nobody at the socket":  {statusSocket, fault{err: errors.New("nobody answers")}, Problem, "nobody answers"},
		"no mirror":             {statusSocket, fault{}, Problem, "no mirror"},
		"a mirror without data": {statusSocket, fault{report: mirrors(func(m *status.Mirror) { m.Loaded = false })}, Problem, "no registry"},
		"a mirror that is well": {statusSocket, fault{report: well}, OK, "1.0"},

		"CoreDNS holds its port": {ports, fault{report: well, files: map[string]string{"/proc/net/udp": udpOf + "77 2\n", "/proc/9/comm": "coredns-meshvm\n"}, links: map[string]string{"/proc/9/fd/5": "socket:[77]"}}, OK, "127.0.0.1:53"},
		"dnsmasq holds the port": {ports, fault{files: map[string]string{"/proc/net/udp": udpAll + "77 2\n", "/proc/9/comm": "dnsmasq\n"}, links: map[string]string{"/proc/9/fd/5": "socket:[77]"}}, Problem, "dnsmasq (process 9)"},
		"dnsmasq holds it by v6": {ports, fault{files: map[string]string{"/proc/net/udp6": udp6All + "77 2\n", "/proc/9/comm": "dnsmasq\n"}, links: map[string]string{"/proc/9/fd/5": "socket:[77]"}}, Problem, "dnsmasq (process 9)"},
		"somebody holds it":      {ports, fault{err: errors.New("no"), files: map[string]string{"/proc/net/udp": udpAll + "77 2\n"}}, Unknown, "user 0"},
		"a stub is elsewhere":    {ports, fault{files: map[string]string{"/proc/net/udp": udpStub + "77 2\n", "/proc/9/comm": "systemd-resolve\n"}, links: map[string]string{"/proc/9/fd/5": "socket:[77]"}}, Problem, "nobody listens"},
		"two copies": {ports, fault{report: well, files: map[string]string{"/proc/net/udp": udpOf + "77 2\n   1: 0100007F:0035 00000000:0000 07 0:0 0:0 0 998 0 78 2\n", "/proc/8/comm": "coredns\n", "/proc/9/comm": "coredns-meshvm\n"},
			links: map[string]string{"/proc/9/fd/5": "socket:[77]", "/proc/8/fd/5": "socket:[78]"}}, Problem, "2 copies"},
		"a broken line": {ports, fault{files: map[string]string{"/proc/net/udp": netHead + "0: ZZ:0035 a 07 b c d 0 0 1 2\n0: 01:0035 a 07 b c d 0 0 1 2\n"}}, Problem, "nobody listens"},

		"resolv.conf leads to CoreDNS": {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n"}}, OK, "127.0.0.1"},
		"resolv.conf leads elsewhere":  {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1 # office\n"}}, Problem, "past CoreDNS, to 192.0.2.1"},
		"resolv.conf names others too": {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\nnameserver 192.0.2.1\n"}}, Problem, "besides"},
		"resolv.conf names the stub":   {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.53\n"}}, Problem, "127.0.0.53"},
		"the stub, which asks CoreDNS": {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.53\n", redirect.StateFile: asksCoreDNS}}, OK, "127.0.0.53"},
		"past a stub that asks it":     {resolver, fault{files: map[string]string{"/etc/resolv.conf": "nameserver 192.0.2.1\n", redirect.StateFile: asksCoreDNS}}, Problem, "past CoreDNS, to 192.0.2.1"},
		"no resolv.conf":               {resolver, fault{}, Problem, "no server"},

		"nsswitch without dns": {nameServices, fault{files: map[string]string{"/etc/nsswitch.conf": "hosts: files myhostname\n"}}, Problem, "no DNS"},
		"nsswitch with resolve": {nameServices, fault{files: map[string]string{"/etc/nsswitch.conf": "hosts: mymachines resolve [!UNAVAIL=return] files dns\n",
			"/run/systemd/resolve/io.systemd.Resolve": ""}}, Problem, "systemd-resolved"},
		"resolve that does not run": {nameServices, fault{files: map[string]string{"/etc/nsswitch.conf": "hosts: resolve [!UNAVAIL=return] dns\n"}}, OK, "resolve, dns"},
		"multicast":                 {nameServices, fault{report: well, files: map[string]string{"/etc/nsswitch.conf": "hosts: files mdns4 dns\n"}}, Warning, "mdns4"},
		"nscd":                      {caches, fault{files: map[string]string{"/run/nscd/socket": "", "/etc/nsswitch.conf": noFailure}}, Warning, "nscd"},
		"sssd":                      {caches, fault{files: map[string]string{"/etc/nsswitch.conf": "hosts: files sss dns\n"}}, Warning, "sssd"},
		"no cache":                  {caches, fault{}, OK, "nobody"},
		"Docker":                    {containers, fault{files: map[string]string{"/run/docker.sock": ""}}, Warning, "public resolvers"},
		"Docker that is told":       {containers, fault{files: map[string]string{"/run/docker.sock": "", "/etc/docker/daemon.json": `{"dns": ["172.17.0.1"]}`}}, OK, "own"},
		"a search list":             {searchList, fault{report: well, files: map[string]string{"/etc/resolv.conf": "search corp prod.svc.cluster.local\n"}}, OK, "2 domains"},
		"a search list without us":  {searchList, fault{report: well, files: map[string]string{"/etc/resolv.conf": "search corp\n"}}, Warning, "prod.svc.cluster.local"},
		"a long search list":        {searchList, fault{files: map[string]string{"/etc/resolv.conf": "search a b c d e f g\n"}}, Warning, "7 domains"},
		"a wide search list":        {searchList, fault{files: map[string]string{"/etc/resolv.conf": "search " + strings.Repeat("a", 256) + "\n"}}, Warning, "256 characters"},
		"no dots":                   {searchList, fault{files: map[string]string{"/etc/resolv.conf": "options ndots:0\n"}}, Warning, "ndots:0"},
		"many dots":                 {searchList, fault{files: map[string]string{"/etc/resolv.conf": "options ndots:9\n"}}, Warning, "ndots:9"},
		"dots that are none":        {searchList, fault{files: map[string]string{"/etc/resolv.conf": "options ndots:x\n"}}, Warning, "ndots:x"},

		"no redirect":                  {standing, fault{}, Warning, "nothing is redirected"},
		"a torn state":                 {standing, fault{files: map[string]string{redirect.StateFile: "{"}}, Problem, "torn"},
		"a withdrawn redirect":         {standing, fault{files: map[string]string{redirect.StateFile: `{"version":1,"plan":{"mode":"direct"},"withdrawn":"since noon: mute"}`}}, Problem, "since noon: mute"},
		"a fight":                      {standing, fault{files: map[string]string{redirect.StateFile: `{"version":1,"applied":true,"plan":{"mode":"none"},"fight":"dhclient writes"}`}}, Problem, "dhclient writes"},
		"a redirect in force":          {standing, fault{files: map[string]string{redirect.StateFile: `{"version":1,"applied":true,"plan":{"mode":"none"}}`}}, OK, "in force"},
		"upstreams":                    {upstreams, fault{files: map[string]string{redirect.UpstreamsFile: "nameserver 192.0.2.1\n"}}, OK, "192.0.2.1"},
		"no upstreams":                 {upstreams, fault{}, Problem, "names no resolver"},
		"upstreams that lead back":     {upstreams, fault{files: map[string]string{redirect.UpstreamsFile: "nameserver 127.0.0.1\n"}}, Problem, "CoreDNS itself"},
		"upstreams behind the stub":    {upstreams, fault{files: map[string]string{redirect.UpstreamsFile: "nameserver 127.0.0.53\n", redirect.StateFile: asksCoreDNS}}, Problem, "systemd-resolved asks CoreDNS"},
		"no Istio":                     {istio, fault{}, OK, "not installed"},
		"Istio beside us":              {istio, fault{commands: noRules, files: env("ISTIO_SERVICE_CIDR=*\nISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=root,meshvm\n")}, OK, "alone"},
		"Istio captures DNS":           {istio, fault{commands: noRules, files: env("export ISTIO_META_DNS_CAPTURE='true'\n")}, Problem, "in place of CoreDNS"},
		"Istio overrides mesh.yaml":    {istio, fault{commands: noRules, files: env("ISTIO_META_DNS_CAPTURE=false\n")}, Warning, "overrides"},
		"Envoy without virtual IPs":    {istio, fault{commands: noRules, files: map[string]string{clusterEnv: ""}}, Warning, "not told"},
		"Envoy takes our stream":       {istio, fault{commands: noRules, files: env("ISTIO_SERVICE_CIDR=*\n")}, Warning, "through Envoy"},
		"Istio's rules are left":       {istio, fault{commands: map[string]string{"iptables-save": "-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j REDIRECT --to-ports 15053\n"}, files: env("")}, Problem, "15053"},
		"rules that nobody may see":    {istio, fault{files: env("")}, Unknown, "no such program"},
		"a token that is good":         {credentials, fault{report: credential("token", time.Hour, "")}, OK, "none"},
		"a token that ends":            {credentials, fault{report: credential("token", time.Minute, "")}, Warning, "ends in 1m0s"},
		"a token that has ended":       {credentials, fault{report: credential("token", -time.Minute, "")}, Problem, "ended 1m0s ago"},
		"a certificate nobody reads":   {credentials, fault{report: credential("certificate", time.Hour, "permission denied")}, Problem, "permission denied"},
		"credentials not known":        {credentials, fault{err: errors.New("no")}, Unknown, "does not say"},
		"a token for all":              {permissions, fault{files: map[string]string{"/etc/meshvm/token": "x"}, modes: map[string]os.FileMode{"/etc/meshvm/token": 0o644}}, Problem, "all users"},
		"a token that its group edits": {permissions, fault{files: map[string]string{"/etc/meshvm/token": "x"}, modes: map[string]os.FileMode{"/etc/meshvm/token": 0o660}}, Warning, "group"},
		"a token for CoreDNS":          {permissions, fault{files: map[string]string{"/etc/meshvm/token": "x"}, modes: map[string]os.FileMode{"/etc/meshvm/token": 0o640}}, OK, "alone"},
		"a clock that is right":        {clock, fault{commands: map[string]string{"timedatectl": "yes\n"}}, OK, "2026-03-01T12:00:00Z"},
		"a clock on its own":           {clock, fault{commands: map[string]string{"timedatectl": "no\n"}}, Warning, "not synchronized"},
		"a clock nobody knows of":      {clock, fault{}, Unknown, "no such program"},
		"no snapshot":                  {snapshot, fault{report: well}, Warning, "no registry is kept"},
		"no folder for it":             {snapshot, fault{report: mirrors(func(m *status.Mirror) { m.SnapshotFile = "/var/lib/meshvm/registry" })}, Problem, "no such file"},
		"a folder of another's":        {snapshot, fault{report: mirrors(func(m *status.Mirror) { m.SnapshotFile = "/var/lib/meshvm/registry" }), files: map[string]string{"/var/lib/meshvm/registry": "", "/etc/passwd": "meshvm:x:4242:4242:::\n"}}, Problem, "user meshvm cannot write"},
		"a syncer nobody finds":        {syncers, fault{report: mirrors(func(m *status.Mirror) { m.Syncers = []string{"syncer.invalid:443"} })}, Problem, "does not resolve"},
		"a syncer that is closed":      {syncers, fault{report: mirrors(func(m *status.Mirror) { m.Syncers = []string{"127.0.0.1:1"} })}, Problem, "no connection"},
		"a syncer without a port":      {syncers, fault{report: mirrors(func(m *status.Mirror) { m.Syncers = []string{"syncer"} })}, Problem, "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &examination{Machine: c.machine(t), report: c.report, reportErr: c.err}
			findings := c.look(t.Context(), e)
			if len(findings) == 0 || Worst(findings) != c.want {
				t.Fatalf("Verdict: got %+v, want %s", findings, c.want)
			}
			seen := false
			for _, f := range findings {
				seen = seen || f.Verdict == c.want && strings.Contains(f.Seen, c.seen)
				if strings.HasPrefix(name, "past a stub") && !strings.Contains(f.Remedy, "stub-resolv.conf") {
					t.Errorf("Remedy: got %q, want the way to the stub", f.Remedy)
				}
				if (f.Verdict == OK) != (f.Remedy == "") {
					t.Errorf("Remedy of %+v: want one where something is wrong, and only there", f)
				}
			}
			if !seen {
				t.Errorf("Seen: got %+v, want %q", findings, c.seen)
			}
		})
	}
}

func TestRunNamesEveryCheck(t *testing.T) {
	m := fault{err: errors.New("no CoreDNS")}.machine(t)
	started := time.Now()
	named := make(map[string]bool)
	for _, f := range Run(t.Context(), m) {
		named[f.Name] = true
	}
	if took := time.Since(started); took > patience {
		t.Errorf("Time: got %s, want %s at most", took, patience)
	}
	for _, c := range checks() {
		if !named[c.name] {
			t.Errorf("Findings of %q: got none, want one", c.name)
		}
	}
}

// TestPath: what IPv6 has every path carry is enough.
func TestPath(t *testing.T) {
	if got := path(1280, "192.0.2.1:15054"); len(got) != 0 {
		t.Errorf("1280 bytes: got %v, want nothing", got)
	}
	got := path(1279, "192.0.2.1:15054")
	if len(got) != 1 || got[0].Verdict != Warning || got[0].Remedy == "" || !strings.Contains(got[0].Seen, "1279") {
		t.Errorf("1279 bytes: got %v, want a warning with its remedy", got)
	}
}
