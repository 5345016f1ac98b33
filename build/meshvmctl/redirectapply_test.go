package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// serveMesh is a CoreDNS that answers for a mesh, and says so at a socket.
func serveMesh(t *testing.T) (server netip.AddrPort, socket string) {
	t.Helper()
	return serveMeshForwarding(t, func() bool { return true })
}

// serveMeshForwarding refuses names outside the mesh unless it forwards.
func serveMeshForwarding(t *testing.T, forwards func() bool) (server netip.AddrPort, socket string) {
	t.Helper()
	stream := listen(t)
	packets, err := net.ListenPacket("udp", stream.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		reply := new(dns.Msg).SetReply(question)
		if question.Question[0].Qtype == dns.TypeTXT {
			reply.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"1.1.0"}}}
		} else if !forwards() {
			reply.Rcode = dns.RcodeRefused
		}
		_ = w.WriteMsg(reply)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: answer}, {Listener: stream, Handler: answer}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-done); err != nil {
				t.Error(err)
			}
		})
	}
	server = netip.MustParseAddrPort(stream.Addr().String())
	return server, serveRedirected(t, status.Report{
		Servers: []status.Listener{{Address: server.String()}},
		Mirrors: []status.Mirror{{Zones: []string{"cluster.local."}, View: "prod"}},
	})
}

// serveRedirected is a socket where CoreDNS says this, with a host of the mesh outside its zones.
func serveRedirected(t *testing.T, report status.Report) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "status.sock")
	server, err := status.Serve(socket, status.Source{
		Report: func() status.Report { return report },
		Hosts:  func() []string { return []string{"*.payments.example.com"} },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return socket
}

// resolvedMachine is a folder in which systemd-resolved does all that it is told.
func resolvedMachine(t *testing.T) redirect.Machine {
	t.Helper()
	machine := redirect.Machine{Root: t.TempDir(), Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name == "resolvectl" && (args[0] == "dnssec" || args[0] == "dnsovertls") {
			return []byte("Global: no\n"), nil
		}
		if name == "systemctl" {
			switch strings.Join(args, " ") {
			case "is-active systemd-resolved.service":
				return []byte("active\n"), nil
			case "is-active NetworkManager.service":
				return []byte("inactive\n"), errors.New("exit status 3")
			case "--version":
				return []byte("systemd 252 (252.38-1~deb12u1)\n+PAM\n"), nil
			}
		}
		return nil, nil
	}}
	if err := os.MkdirAll(machine.Path("/run/systemd/system"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{"/etc/resolv.conf": "search corp.example\nnameserver 127.0.0.53\n", "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(machine.Path(path)), 0o700), os.WriteFile(machine.Path(path), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return machine
}

// TestRedirect goes through apply, status and revert as an operator does.
func TestRedirect(t *testing.T) {
	server, socket := serveMesh(t)
	machine := resolvedMachine(t)
	var out, failures bytes.Buffer
	step := func(name string, want int, wantOut string, run func() int) {
		t.Helper()
		out.Reset()
		failures.Reset()
		if code := run(); code != want || !strings.Contains(out.String(), wantOut) {
			t.Errorf("%s: got %d, %q, %q; want %d, %q", name, code, out.String(), failures.String(), want, wantOut)
		}
	}
	apply := func(args ...string) func() int {
		return func() int {
			a := redirectApply{machine: machine, decide: decideRedirect}
			return a.run(t.Context(), append(args, "--socket", socket), &out, &failures)
		}
	}
	show := func(output string) func() int {
		return func() int { return showRedirect(machine, output, &out, &failures) }
	}
	revert := func() int { return revertRedirect(t.Context(), machine, &out, &failures) }

	step("status before", exitNotFound, "nothing is redirected\n", show("text"))
	step("apply", exitDone, "name resolution is redirected to CoreDNS at "+server.String()+" by mode resolved: it was asked for\nnames: cluster.local payments.example.com\n", apply("--mode", "resolved"))
	step("apply again", exitDone, "name resolution was redirected already", apply("--mode", "resolved"))
	step("status", exitFound, "search     corp.example prod.svc.cluster.local svc.cluster.local cluster.local\nupstreams  192.0.2.53:53\n", show("text"))
	step("status as JSON", exitFound, `"in_force": true`, show("json"))
	var standing redirect.Standing
	if err := json.Unmarshal(out.Bytes(), &standing); err != nil || standing.Plan.Server != server {
		t.Errorf("JSON: got %+v, %v; want the server", standing, err)
	}
	if err := redirect.Update(t.Context(), machine, func(s *redirect.State) { s.Fight = "ten times in five seconds" }); err != nil {
		t.Fatal(err)
	}
	step("status of a fight", exitNotFound, "fought over: ten times in five seconds", show("text"))
	if _, err := redirect.Withdraw(t.Context(), machine, "CoreDNS does not answer"); err != nil {
		t.Fatal(err)
	}
	step("status when withdrawn", exitNotFound, ": CoreDNS does not answer\n", show("text"))
	step("apply with all names", exitDone, "names: all\n", apply("--mode", "resolved", "--all-names"))
	if err := os.Remove(machine.Path("/run/systemd/resolved.conf.d/50-meshvm.conf")); err != nil {
		t.Fatal(err)
	}
	step("status when something is missing", exitNotFound, "missing    /run/systemd/resolved.conf.d/50-meshvm.conf is not there as it was written\n", show("text"))
	step("revert", exitDone, "name resolution is this machine's own again\n", revert)
	step("revert again", exitDone, "nothing was redirected\n", revert)
	step("mode none", exitDone, "nothing is redirected: it was asked for\n", apply("--mode", "none"))
	if err := os.WriteFile(machine.Path(redirect.StateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("status of a torn state", exitUsage, "", show("text"))
	step("apply with a torn state", exitDone, "name resolution is redirected to CoreDNS", apply())
	if !strings.Contains(failures.String(), "cannot be used: it is torn") {
		t.Errorf("Warnings of apply: got %q, want the torn state", failures.String())
	}
	if err := os.WriteFile(machine.Path(redirect.StateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("revert with a torn state", exitDone, "name resolution is this machine's own again\n", revert)
	if !strings.Contains(failures.String(), "warning: "+machine.Path(redirect.StateFile)+" cannot be used: it is torn") {
		t.Errorf("Warnings: got %q, want the torn state", failures.String())
	}
}

// TestRedirectAfterTheNetworkCame holds that CoreDNS, which started before there was a network, is told of the machine's resolvers: nobody
// else does before a redirect is in force, and none comes into force while CoreDNS forwards to nobody.
func TestRedirectAfterTheNetworkCame(t *testing.T) {
	machine := resolvedMachine(t)
	_, socket := serveMeshForwarding(t, func() bool {
		content, err := os.ReadFile(machine.Path(redirect.UpstreamsFile))
		return err == nil && strings.Contains(string(content), "nameserver 192.0.2.53\n")
	})
	var out, failures bytes.Buffer
	a := redirectApply{machine: machine, decide: decideRedirect}
	if code := a.run(t.Context(), []string{"--all-names", "--wait", "0", "--socket", socket}, &out, &failures); code != exitDone {
		t.Errorf("Apply: got %d, %q; want %d", code, failures.String(), exitDone)
	}
}

// TestRedirectRefused holds what apply says when it does nothing.
func TestRedirectRefused(t *testing.T) {
	_, socket := serveMesh(t)
	silent := serveRedirected(t, status.Report{Servers: []status.Listener{{Address: "127.0.0.1:1"}}, Mirrors: []status.Mirror{{Zones: []string{"cluster.local"}}}})
	none := func(context.Context, redirect.Machine, redirect.Wish) (redirect.Plan, error) {
		return redirect.Plan{Mode: redirect.None, Why: "/etc/resolv.conf is immutable"}, nil
	}
	cases := map[string]struct {
		args   []string
		decide func(context.Context, redirect.Machine, redirect.Wish) (redirect.Plan, error)
		code   int
		want   string
	}{
		"an unknown mode":            {args: []string{"--mode", "magic"}, code: exitUsage, want: `--mode "magic": want one of delegate, resolved`},
		"an argument":                {args: []string{"now"}, code: exitUsage, want: `unexpected argument "now"`},
		"an empty socket":            {args: []string{"--socket", ""}, code: exitUsage, want: "--socket is empty"},
		"a wait before now":          {args: []string{"--wait", "-1s"}, code: exitUsage, want: "--wait -1s"},
		"an unknown flag":            {args: []string{"--force"}, code: exitUsage, want: "unknown flag: --force"},
		"nobody at the socket":       {args: []string{"--wait", "0", "--socket", "/nonexistent/status.sock"}, code: exitRefused, want: "within 0s: there is no socket"},
		"CoreDNS does not answer":    {args: []string{"--mode", "resolved", "--wait", "0", "--socket", silent}, code: exitRefused, want: "within 0s: CoreDNS at 127.0.0.1:1 does not answer"},
		"nothing can be done":        {args: []string{"--socket", socket}, decide: none, code: exitRefused, want: "nothing is redirected: /etc/resolv.conf is immutable"},
		"a port that nobody can say": {args: []string{"--mode", "direct", "--socket", socket}, code: exitRefused, want: "cannot name a port"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.decide == nil {
				c.decide = decideRedirect
			}
			var out bytes.Buffer
			a := redirectApply{machine: resolvedMachine(t), decide: c.decide}
			if code := a.run(t.Context(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("Apply: got %d, %q; want %d, %q", code, out.String(), c.code, c.want)
			}
		})
	}
}

// TestListeningServer holds at which of its addresses CoreDNS is asked.
func TestListeningServer(t *testing.T) {
	cases := map[string]struct {
		addresses []string
		want      string
		fails     string
	}{
		"loopback before others": {addresses: []string{"192.0.2.1:53", "127.0.0.1:53"}, want: "127.0.0.1:53"},
		"loopback, another port": {addresses: []string{"192.0.2.1:53", "127.0.0.1:5353"}, want: "127.0.0.1:5353"},
		"port 53 before others":  {addresses: []string{"127.0.0.1:5353", "[::1]:53"}, want: "[::1]:53"},
		"every address":          {addresses: []string{"[::]:53"}, want: "127.0.0.1:53"},
		"none on loopback":       {addresses: []string{"192.0.2.1:53"}, want: "192.0.2.1:53"},
		"none":                   {fails: "does not say where it listens"},
		"no address":             {addresses: []string{"dns.example:53"}, fails: `listens at "dns.example:53"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var listeners []status.Listener
			for _, address := range c.addresses {
				listeners = append(listeners, status.Listener{Address: address})
			}
			got, err := listeningServer(listeners)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("Server: got %s, %v; want %q", got, err, c.fails)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Errorf("Server: got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}
