package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

func TestMain(m *testing.M) { os.Exit(programs.Main(m, programs.CoreDNS)) }

// corefile is the least that serves: nothing to stream from, nothing on disk.
func corefile(address, more string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`.:%s {
	bind %s
	errors
	meshvm {
		syncer 127.0.0.1:1
		insecure
		snapshot off
	}
	%s
}
`, port, host, more)
}

func TestVersion(t *testing.T) {
	p := programs.Start(t, programs.CoreDNS, "-version")
	if code := p.Wait(t); code != 0 {
		t.Errorf("Got exit code %d, want 0", code)
	}
	want := []string{
		"CoreDNS-1.15.0+meshvm-" + programs.Version,
		runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version() + ", ",
	}
	lines := strings.Split(p.Output(), "\n")
	if len(lines) < 2 || lines[0] != want[0] || !strings.HasPrefix(lines[1], want[1]) {
		t.Errorf("Got %q, want lines %q", lines, want)
	}
}

// TestPlugins holds the build to exactly the plugins that have a place in the
// order: one more would be linked for nothing, one less would fail in a Corefile.
func TestPlugins(t *testing.T) {
	p := programs.Start(t, programs.CoreDNS, "-plugins")
	if code := p.Wait(t); code != 0 {
		t.Errorf("Got exit code %d, want 0", code)
	}
	got := strings.Fields(p.Output())
	want := slices.Sorted(slices.Values(directives))
	if !slices.Equal(got, want) {
		t.Errorf("Got plugins %q\nwant %q", got, want)
	}
}

// TestSize holds the size that a VM has to download and hold in memory.
func TestSize(t *testing.T) {
	const most = 32_000_000
	info, err := os.Stat(programs.Binary(t, programs.CoreDNS))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("coredns, stripped: %.1f MB", float64(info.Size())/1e6)
	if info.Size() > most {
		t.Errorf("Got %d bytes, want at most %d", info.Size(), most)
	}
}

func TestServe(t *testing.T) {
	address, upstream := programs.FreeAddress(t), programs.Upstream(t)
	pidFile := filepath.Join(t.TempDir(), "coredns.pid")
	p, _ := programs.Serve(t, corefile(address, "forward . "+upstream), "-pidfile", pidFile)

	for _, network := range []string{"udp", "tcp"} {
		answer := programs.Query(t, network, address, "www.example.net", dns.TypeA)
		if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 1 || !answer.Answer[0].(*dns.A).A.Equal(net.IPv4(192, 0, 2, 53)) {
			t.Errorf("Outside name over %s: got\n%v\nwant 192.0.2.53", network, answer)
		}
		answer = programs.Query(t, network, address, "reviews.default.svc.cluster.local", dns.TypeA)
		if answer.Rcode != dns.RcodeServerFailure {
			t.Errorf("Mesh name with nothing loaded over %s: got %s, want SERVFAIL", network, dns.RcodeToString[answer.Rcode])
		}
	}

	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(pid)), strconv.Itoa(p.Pid()); got != want {
		t.Errorf("Got pid %s in the pidfile, want %s", got, want)
	}
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("Got exit code %d after SIGTERM, want 0", code)
	}
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("Got %v for the pidfile after SIGTERM, want it gone", err)
	}
}

func TestFlags(t *testing.T) {
	config := func(key string) string {
		return strings.Replace(corefile("127.0.0.1:0", ""), ".:0", key, 1)
	}
	for _, name := range []string{"-dns.port", "-p"} {
		t.Run(name, func(t *testing.T) {
			port := programs.FreePort(t)
			programs.Serve(t, config("."), name, port)
			answer := programs.Query(t, "udp", "127.0.0.1:"+port, "a.cluster.local", dns.TypeA)
			if answer.Rcode != dns.RcodeServerFailure {
				t.Errorf("Got %s, want SERVFAIL", dns.RcodeToString[answer.Rcode])
			}
		})
	}
	t.Run("-quiet", func(t *testing.T) {
		// A reload happens after everything that a start says.
		file := programs.Corefile(t, corefile("127.0.0.1:0", "reload 2s 1s"))
		p := programs.Start(t, programs.CoreDNS, "-conf", file, "-quiet")
		p.WaitFor(t, "plugin/reload: Running configuration")
		if err := os.WriteFile(file, []byte(corefile("127.0.0.1:0", "reload 2s 1s\n\tbufsize 1232")), 0o600); err != nil {
			t.Fatal(err)
		}
		p.WaitFor(t, "Reloading complete")
		for _, said := range []string{"CoreDNS-", ".:0"} {
			if strings.Contains(p.Output(), said) {
				t.Errorf("Got %q in %q, want quiet", said, p.Output())
			}
		}
	})
	t.Run("unknown", func(t *testing.T) {
		expectRefusal(t, programs.Start(t, programs.CoreDNS, "-cfg", "x"), 2, "flag provided but not defined: -cfg", "-conf string")
	})
	t.Run("arguments", func(t *testing.T) {
		expectRefusal(t, programs.Start(t, programs.CoreDNS, "Corefile"), 1, "extra command line arguments: [Corefile]")
	})
	t.Run("no Corefile", func(t *testing.T) {
		expectRefusal(t, programs.Start(t, programs.CoreDNS), 1, "no Corefile here: name one with -conf FILE")
	})
	t.Run("Corefile that is not there", func(t *testing.T) {
		expectRefusal(t, programs.Start(t, programs.CoreDNS, "-conf", "/nowhere/Corefile"), 1, "open /nowhere/Corefile: no such file or directory")
	})
}

func TestBadCorefile(t *testing.T) {
	tests := []struct {
		name, corefile string
		want           []string
	}{
		{"bad property", ".:0 {\n meshvm {\n  syncers a:1\n }\n}", []string{"plugin/meshvm: ", "Corefile:3 - Error during parsing: unknown property 'syncers'", "expected one of "}},
		{"insecure elsewhere", ".:0 {\n meshvm {\n  syncer 192.0.2.1:15054\n  insecure\n }\n}", []string{"Corefile:4 - ", "192.0.2.1:15054 is not on loopback"}},
		{"meshvm twice", ".:0 {\n meshvm {\n  syncer a.example.org:1\n }\n meshvm {\n  syncer a.example.org:1\n }\n}", []string{"Corefile:5 - ", "once per Server Block"}},
		{"plugin of another build", ".:0 {\n kubernetes cluster.local\n}", []string{"Corefile:2 - Error during parsing: Unknown directive 'kubernetes'"}},
		{"block that does not end", ".:0 {\n meshvm {\n", []string{"Unexpected EOF"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			expectRefusal(t, programs.Start(t, programs.CoreDNS, "-conf", programs.Corefile(t, test.corefile)), 1, test.want...)
		})
	}
}

// TestSecondCopy is about SO_REUSEPORT, with which a second copy would start and
// take half of the queries.
func TestSecondCopy(t *testing.T) {
	address := programs.FreeAddress(t)
	first, _ := programs.Serve(t, corefile(address, ""))

	second := programs.Start(t, programs.CoreDNS, "-conf", programs.Corefile(t, corefile(address, "")))
	expectRefusal(t, second, 1, "plugin/meshvm: udp "+address+" is in use: another copy of CoreDNS or another DNS server has it")
	if answer := programs.Query(t, "udp", address, "a.cluster.local", dns.TypeA); answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("Got %s from the first copy, want SERVFAIL", dns.RcodeToString[answer.Rcode])
	}
	other, _ := programs.Serve(t, corefile(programs.FreeAddress(t), "")) // another port is another matter
	other.Signal(t, syscall.SIGTERM)
	other.Wait(t)

	first.Signal(t, syscall.SIGKILL)
	first.Wait(t)
	programs.Serve(t, corefile(address, "")) // nothing was left behind
}

// TestTwoAtOnce starts copies at the same moment: one serves, the rest give way.
func TestTwoAtOnce(t *testing.T) {
	address := programs.FreeAddress(t)
	file := programs.Corefile(t, corefile(address, ""))
	var copies []*programs.Process
	for range 4 {
		copies = append(copies, programs.Start(t, programs.CoreDNS, "-conf", file))
	}
	serving := 0
	for _, p := range copies {
		p.WaitFor(t, address[strings.LastIndex(address, ":"):]) // either says its address
		if !strings.Contains(p.Output(), "in use") {
			serving++
		}
	}
	if serving != 1 {
		t.Errorf("Got %d copies that serve, want 1", serving)
	}
}

func TestReload(t *testing.T) {
	address := programs.FreeAddress(t)
	p, file := programs.Serve(t, corefile(address, "reload 2s 1s"))
	edit := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answers := func() {
		t.Helper()
		if answer := programs.Query(t, "udp", address, "a.cluster.local", dns.TypeA); answer.Rcode != dns.RcodeServerFailure {
			t.Errorf("Got %s, want SERVFAIL", dns.RcodeToString[answer.Rcode])
		}
	}

	edit(corefile(address, "reload 2s 1s\n\tbufsize 1232"))
	p.WaitFor(t, "Reloading complete")
	answers()

	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	edit(corefile(address, "reload 2s 1s") + corefile(taken.LocalAddr().String(), ""))
	p.WaitFor(t, "udp "+taken.LocalAddr().String()+" is in use")
	answers()

	added := programs.FreeAddress(t)
	edit(corefile(address, "reload 2s 1s") + corefile(added, ""))
	p.WaitFor(t, "Reloading complete")
	if answer := programs.Query(t, "udp", added, "a.cluster.local", dns.TypeA); answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("Got %s at the added address, want SERVFAIL", dns.RcodeToString[answer.Rcode])
	}
	answers()
}

// expectRefusal fails the test unless the process ends with the code and says why.
func expectRefusal(t *testing.T, p *programs.Process, code int, want ...string) {
	t.Helper()
	if got := p.Wait(t); got != code {
		t.Errorf("Got exit code %d, want %d", got, code)
	}
	for _, text := range want {
		if !strings.Contains(p.Output(), text) {
			t.Errorf("Got output %q, want it to contain %q", p.Output(), text)
		}
	}
}
