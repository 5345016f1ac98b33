//go:build machines

package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The users of the tests' machine. They need no account.
const (
	testServerUID = 5301
	testProxyUID  = 1337
	testAppUID    = 5302
)

// site is a machine and, behind its uplink, the resolver of somebody else, in network namespaces.
type site struct {
	t       *testing.T
	machine Machine
	vm, far string
}

// newSite needs root, nft, iptables-nft, ip, setpriv and dig.
func newSite(t *testing.T) *site {
	t.Helper()
	name := fmt.Sprintf("mvt%d", os.Getpid())
	s := &site{t: t, vm: name + "a", far: name + "b"}
	for _, ns := range []string{s.vm, s.far} {
		s.must("ip", "netns", "add", ns)
		t.Cleanup(func() { s.must("ip", "netns", "del", ns) })
		s.must("ip", "-n", ns, "link", "set", "lo", "up")
	}
	s.must("ip", "-n", s.vm, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", s.far)
	for ns, addresses := range map[string][]string{
		s.vm:  {"10.77.0.2/24", "fd77::2/64"},
		s.far: {"10.77.0.1/24", "fd77::1/64", "8.8.8.8/32", "2001:4860:4860::8888/128"},
	} {
		for _, address := range addresses {
			args := []string{"-n", ns, "address", "add", address, "dev", "up0"}
			if strings.Contains(address, ":") {
				args = append(args, "nodad")
			}
			s.must("ip", args...)
		}
		s.must("ip", "-n", ns, "link", "set", "up0", "up")
	}
	s.must("ip", "-n", s.vm, "route", "add", "default", "via", "10.77.0.1")
	s.must("ip", "-n", s.vm, "-6", "route", "add", "default", "via", "fd77::1")

	s.machine = Machine{Root: t.TempDir(), Run: func(ctx context.Context, name string, args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", s.vm, name}, args...)...).CombinedOutput()
	}}
	s.write("/etc/passwd", fmt.Sprintf("root:x:0:0:::\nmeshvm:x:%d:%d:::\nistio-proxy:x:%d:%d:::\n", testServerUID, testServerUID, testProxyUID, testProxyUID))
	s.write("/etc/group", fmt.Sprintf("meshvm:x:%d:\nistio-proxy:x:%d:\n", testServerUID, testProxyUID))
	return s
}

func (s *site) write(path, content string) {
	s.t.Helper()
	path = s.machine.Path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) must(name string, args ...string) string {
	s.t.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

func (s *site) in(name string, args ...string) string {
	s.t.Helper()
	return s.must("ip", append([]string{"netns", "exec", s.vm, name}, args...)...)
}

// server runs CoreDNS in a namespace as a user, and waits until it answers at an address.
func (s *site) server(ns string, uid int, at, corefile string) {
	s.t.Helper()
	program := coreDNS(s.t)
	folder, err := os.MkdirTemp("/tmp", "transparent")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { // #nosec G302 -- another user reads it
		s.t.Fatal(err)
	}
	file := filepath.Join(folder, "Corefile")
	if err := os.WriteFile(file, []byte(corefile), 0o644); err != nil { // #nosec G306 -- another user reads it
		s.t.Fatal(err)
	}
	log := new(strings.Builder)
	cmd := exec.Command("ip", "netns", "exec", ns, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups",
		"--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", program, "-conf", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("CoreDNS of user %d: %s", uid, log)
		}
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		output, err := exec.Command("ip", "netns", "exec", ns, "dig", "+short", "+time=1", "+tries=1", "@"+at, "who.example", "TXT").CombinedOutput()
		if err == nil && strings.HasPrefix(string(output), `"`) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("CoreDNS at %s does not answer: %s %v", at, output, err)
		}
	}
}

// coreDNS builds the program of this repository.
func coreDNS(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "coredns") //nolint:usetesting // nobody else may look into t.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { // #nosec G302 -- another user runs it
		t.Fatal(err)
	}
	program := filepath.Join(folder, "coredns")
	build := exec.Command("go", "build", "-o", program, "../../../build/coredns")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build CoreDNS: %v: %s", err, output)
	}
	return program
}

// both runs the resolver of somebody else, who says far, and CoreDNS on the machine, who says near and forwards up.example.
func (s *site) both() {
	s.t.Helper()
	s.server(s.far, testAppUID, "8.8.8.8", says("far", ". {\n", ""))
	s.server(s.vm, testServerUID, "127.0.0.1", says("near", ". {\nbind 127.0.0.1 ::1\nacl {\nallow net 127.0.0.0/8 ::1/128\nblock\n}\n",
		"up.example {\nbind 127.0.0.1 ::1\nforward . 10.77.0.1\n}\nbig.example {\nbind 127.0.0.1 ::1\nhosts {\n"+many(200)+"}\n}\n"))
}

func says(word, head, rest string) string {
	return head + "template IN TXT . {\nanswer \"{{ .Name }} 0 IN TXT " + word + "\"\n}\n}\n" + rest
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "192.0.2.%d all.big.example\n", i+1)
	}
	return b.String()
}

// ask is what a program of a user gets.
func (s *site) ask(uid int, args ...string) string {
	s.t.Helper()
	all := append([]string{"netns", "exec", s.vm, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--clear-groups",
		"dig", "+short", "+time=2", "+tries=1"}, args...)
	output, err := exec.Command("ip", all...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, strings.TrimSpace(string(output)))
	}
	return strings.TrimSpace(string(output))
}

func (s *site) plan() Plan {
	return Plan{Mode: Direct, Transparent: true, Server: netip.MustParseAddrPort("127.0.0.1:53"), Server6: netip.MustParseAddrPort("[::1]:53")}
}

func (s *site) apply() {
	s.t.Helper()
	if err := applyTransparent(s.t.Context(), s.machine, s.plan()); err != nil {
		s.t.Fatalf("applyTransparent: %v", err)
	}
}

// resolvers are those that programs have built in.
var resolvers = []string{"8.8.8.8", "2001:4860:4860::8888"}

// expect asks each resolver over UDP and TCP as each user.
func (s *site) expect(want map[int]string) {
	s.t.Helper()
	for uid, word := range want {
		for _, resolver := range resolvers {
			for _, protocol := range []string{"+notcp", "+tcp"} {
				if got := s.ask(uid, protocol, "@"+resolver, "who.example", "TXT"); got != `"`+word+`"` {
					s.t.Errorf("%s at %s as user %d: got %s, want %s", protocol, resolver, uid, got, word)
				}
			}
		}
	}
}

func TestTransparentRedirectsWhoAsksAnother(t *testing.T) {
	s := newSite(t)
	s.both()
	before := s.in("nft", "list", "ruleset")
	s.expect(map[int]string{0: "far", testAppUID: "far"})

	s.apply()
	s.expect(map[int]string{0: "near", testAppUID: "near", testServerUID: "far", testProxyUID: "far"})
	t.Run("what CoreDNS forwards does not come back", func(t *testing.T) {
		for _, protocol := range []string{"+notcp", "+tcp"} {
			if got := s.ask(testAppUID, protocol, "@8.8.8.8", "who.up.example", "TXT"); got != `"far"` {
				t.Errorf("%s: got %s, want far", protocol, got)
			}
		}
	})
	t.Run("a large answer comes whole", func(t *testing.T) {
		for _, resolver := range resolvers {
			for _, flags := range [][]string{{"+bufsize=512"}, {"+tcp"}} { // the first is truncated, and asked again over TCP
				got := s.ask(testAppUID, append(flags, "@"+resolver, "all.big.example", "A")...)
				if lines := len(strings.Fields(got)); lines != 200 {
					t.Errorf("Addresses from %s with %s: got %d, want 200", resolver, flags, lines)
				}
			}
		}
	})
	t.Run("CoreDNS is asked as before", func(t *testing.T) {
		for _, address := range []string{"127.0.0.1", "::1"} {
			if got := s.ask(testAppUID, "@"+address, "who.example", "TXT"); got != `"near"` {
				t.Errorf("%s: got %s, want near", address, got)
			}
		}
	})
	t.Run("it holds, and notices what is taken away", func(t *testing.T) {
		holds := func() []string {
			missing, err := HoldsTransparent(t.Context(), s.machine, s.plan())
			if err != nil {
				t.Fatalf("HoldsTransparent: %v", err)
			}
			return missing
		}
		if missing := holds(); len(missing) > 0 {
			t.Errorf("Missing after apply: got %q, want nothing", missing)
		}
		s.in("nft", "flush chain ip6 meshvm question_target")
		if missing := holds(); len(missing) != 1 {
			t.Errorf("Missing with a chain flushed: got %q, want one", missing)
		}
		s.in("nft", "flush ruleset")
		if missing := holds(); len(missing) != 2 {
			t.Errorf("Missing with all flushed: got %q, want two", missing)
		}
	})
	t.Run("applied again it replaces itself", func(t *testing.T) {
		s.apply()
		once := s.in("nft", "list", "ruleset")
		s.apply()
		if twice := s.in("nft", "list", "ruleset"); twice != once {
			t.Errorf("Rules: got %s, want %s", twice, once)
		}
	})
	t.Run("without IPv6 its questions are left alone", func(t *testing.T) {
		p := s.plan()
		p.Server6 = netip.AddrPort{}
		if err := applyTransparent(t.Context(), s.machine, p); err != nil {
			t.Fatalf("applyTransparent: %v", err)
		}
		for resolver, word := range map[string]string{resolvers[0]: "near", resolvers[1]: "far"} {
			if got := s.ask(testAppUID, "@"+resolver, "who.example", "TXT"); got != `"`+word+`"` {
				t.Errorf("%s: got %s, want %s", resolver, got, word)
			}
		}
	})
	for range 2 {
		if err := revertTransparent(t.Context(), s.machine); err != nil {
			t.Fatalf("revertTransparent: %v", err)
		}
		if after := s.in("nft", "list", "ruleset"); after != before {
			t.Errorf("Rules after the revert: got %q, want %q", after, before)
		}
	}
	s.expect(map[int]string{0: "far", testAppUID: "far"})
}

// istio loads what Istio's agent loads on a VM that captures DNS and whose resolv.conf names 8.8.8.8 and 127.0.0.1, in essence.
func (s *site) istio() {
	s.t.Helper()
	for _, rule := range []string{
		"-t nat -N ISTIO_OUTPUT",
		"-t nat -N ISTIO_REDIRECT",
		"-t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
		"-t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT",
		"-t nat -A OUTPUT -p udp --dport 53 -m owner --uid-owner 1337 -j RETURN",
		"-t nat -A OUTPUT -p udp --dport 53 -m owner --gid-owner 1337 -j RETURN",
		"-t nat -A OUTPUT -p udp --dport 53 -d 8.8.8.8/32 -j REDIRECT --to-port 15053",
		"-t nat -A OUTPUT -p udp --dport 53 -d 127.0.0.1/32 -j REDIRECT --to-port 15053",
		"-t nat -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN",
		"-t nat -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN",
		"-t nat -A ISTIO_OUTPUT -p tcp --dport 53 -d 8.8.8.8/32 -j REDIRECT --to-ports 15053",
		"-t nat -A ISTIO_OUTPUT -p tcp --dport 53 -d 127.0.0.1/32 -j REDIRECT --to-ports 15053",
		"-t nat -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN",
		"-t nat -A ISTIO_OUTPUT -j ISTIO_REDIRECT",
		"-t raw -A OUTPUT -p udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1",
		"-t raw -A OUTPUT -p udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2",
		"-t raw -A OUTPUT -p udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1",
		"-t raw -A OUTPUT -p udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2",
		"-t raw -A OUTPUT -p udp --dport 53 -d 8.8.8.8/32 -j CT --zone 2",
		"-t raw -A PREROUTING -p udp --sport 53 -s 8.8.8.8/32 -j CT --zone 1",
		"-t raw -A OUTPUT -p udp --dport 53 -d 127.0.0.1/32 -j CT --zone 2",
		"-t raw -A PREROUTING -p udp --sport 53 -s 127.0.0.1/32 -j CT --zone 1",
	} {
		s.in("iptables-nft", strings.Fields(rule)...)
	}
}

func TestTransparentComesBeforeIstio(t *testing.T) {
	for name, first := range map[string]string{"Istio's rules are there first": "istio", "Istio's rules come later": "meshvm"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.both()
			if first == "istio" {
				s.istio()
				if got := s.ask(testAppUID, "@8.8.8.8", "who.example", "TXT"); got == `"near"` || got == `"far"` {
					t.Fatalf("With Istio's rules alone: got %s, want no answer, since its agent does not run", got)
				}
				if got := s.ask(testAppUID, "@127.0.0.1", "who.example", "TXT"); got == `"near"` {
					t.Fatalf("With Istio's rules alone, at CoreDNS: got %s, want no answer", got)
				}
			}
			s.apply()
			if first != "istio" {
				s.istio()
			}
			for _, question := range [][]string{
				{"@8.8.8.8"}, {"+tcp", "@8.8.8.8"}, {"@127.0.0.1"}, {"+tcp", "@127.0.0.1"}, {"@2001:4860:4860::8888"},
			} {
				if got := s.ask(testAppUID, append(question, "who.example", "TXT")...); got != `"near"` {
					t.Errorf("%s: got %s, want near", question, got)
				}
			}
			for _, protocol := range []string{"+notcp", "+tcp"} {
				if got := s.ask(testProxyUID, protocol, "@8.8.8.8", "who.example", "TXT"); got != `"far"` {
					t.Errorf("Istio's agent, %s: got %s, want far", protocol, got)
				}
			}
			if err := revertTransparent(t.Context(), s.machine); err != nil {
				t.Fatalf("revertTransparent: %v", err)
			}
			if left := s.in("nft", "list", "tables"); strings.Contains(left, "meshvm") || !strings.Contains(left, "nat") {
				t.Errorf("Tables after the revert: got %s, want Istio's alone", left)
			}
		})
	}
}
