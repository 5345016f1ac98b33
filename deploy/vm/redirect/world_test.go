package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// owned is a machine in a folder: files as a system has them, the programs that own resolution as far as they write files, CoreDNS and
// another resolver that really answer.
type owned struct {
	Machine
	tb testing.TB
	// commands are those that were run, in their order.
	commands []string
	// resolver is what the machine's own resolv.conf names, CoreDNS what takes over.
	resolver, coreDNS netip.AddrPort
	// tables are those of nftables, by family. Nil: there is no nft.
	tables map[string]string
	// signed and overTLS are settings of systemd-resolved.
	signed, overTLS string
	// stub is what systemd-resolved writes into the file of its stub. Empty: it writes none.
	stub string
	// running are the units that run.
	running map[string]bool
	// fail is the operation, a change of a file or a command, that fails: from 1. kill: so does all that follows.
	fail, operations int
	kill             bool
	// broken has verify fail: nobody takes over what is written.
	broken bool
}

// newOwned has systemd-resolved, NetworkManager and a plain resolv.conf, whichever a test then uses.
func newOwned(tb testing.TB) *owned {
	tb.Helper()
	w := &owned{tb: tb, signed: "no", overTLS: "no", running: map[string]bool{resolvedUnit: true, "NetworkManager.service": true}}
	w.coreDNS, w.resolver = serveBoth(tb)
	w.Machine = Machine{Root: memory(tb), port: w.coreDNS.Port(), Run: w.execute, fault: w.change}
	w.write("/proc/sys/kernel/random/boot_id", "boot-1\n")
	w.write("/etc/resolv.conf", "# by hand\nsearch corp.example\nnameserver 127.0.0.2\noptions ndots:3 timeout:1\nsortlist 10.0.0.0\n")
	for _, folder := range []string{"/run/systemd/system", "/run/resolvconf/interface", "/run/resolvconf/interfaces", "/run/NetworkManager"} {
		w.folder(folder)
	}
	return w
}

// memory is a folder in memory, where there is one: every change is synced, and a disk takes its time.
func memory(tb testing.TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "meshvm-redirect-") //nolint:usetesting // it cannot choose where
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			tb.Error(err)
		}
	})
	return folder
}

// serveBoth starts a CoreDNS and a resolver of the world outside, at one port of two loopback addresses.
func serveBoth(tb testing.TB) (coreDNS, resolver netip.AddrPort) {
	tb.Helper()
	for range 20 {
		packets := listenPacket(tb)
		port := netip.MustParseAddrPort(packets.LocalAddr().String()).Port()
		coreDNS, resolver = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
		if tryServe(tb, packets, coreDNS, answerMesh) == nil && tryServe(tb, nil, resolver, answerOutside) == nil {
			return coreDNS, resolver
		}
	}
	tb.Fatal("No port is free at both addresses")
	return coreDNS, resolver
}

func listenPacket(tb testing.TB) net.PacketConn {
	tb.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return packets
}

func tryServe(tb testing.TB, packets net.PacketConn, at netip.AddrPort, answer dns.HandlerFunc) (err error) {
	if packets == nil {
		if packets, err = net.ListenPacket("udp", at.String()); err != nil {
			return err
		}
	}
	stream, err := net.Listen("tcp", at.String())
	if err != nil {
		return errors.Join(err, packets.Close())
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: answer}, {Listener: stream, Handler: answer}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		tb.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-done); err != nil {
				tb.Errorf("Stop a server: %v", err)
			}
		})
	}
	return nil
}

func answerMesh(w dns.ResponseWriter, question *dns.Msg) {
	if name := question.Question[0].Name; name == "dns-version.cluster.local." {
		reply(w, question, dns.RcodeSuccess, name+` 5 TXT "1.1.0"`)
		return
	}
	answerOutside(w, question)
}

func answerOutside(w dns.ResponseWriter, question *dns.Msg) {
	if question.Question[0].Name == "." {
		reply(w, question, dns.RcodeSuccess, ". 5 NS a.root-servers.net.")
		return
	}
	reply(w, question, dns.RcodeNameError, "")
}

func reply(w dns.ResponseWriter, question *dns.Msg, code int, record string) {
	answer := new(dns.Msg).SetRcode(question, code)
	if rr, err := dns.NewRR(record); err == nil && rr != nil {
		answer.Answer = append(answer.Answer, rr)
	}
	_ = w.WriteMsg(answer)
}

// plan is what Decide would say, for a mode.
func (w *owned) plan(mode Mode) Plan {
	return Plan{
		Mode: mode, Server: w.coreDNS, AllNames: mode != Delegate && mode != Resolved,
		Zones: []string{"cluster.local"}, Domains: []string{"cluster.local", "payments.example.com"},
		Search: []string{"vm.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, Upstreams: []netip.AddrPort{w.resolver},
	}
}

func (w *owned) folder(path string) {
	w.tb.Helper()
	if err := os.MkdirAll(w.Path(path), 0o755); err != nil { //nolint:gosec // as systems have them
		w.tb.Fatal(err)
	}
}

func (w *owned) write(path, content string) {
	w.tb.Helper()
	w.folder(filepath.Dir(path))
	if err := os.WriteFile(w.Path(path), []byte(content), 0o644); err != nil { //nolint:gosec // as systems have them
		w.tb.Fatal(err)
	}
}

func (w *owned) link(path, target string) {
	w.tb.Helper()
	w.folder(filepath.Dir(path))
	if err := errors.Join(unlessMissing(os.Remove(w.Path(path))), os.Symlink(target, w.Path(path))); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *owned) read(path string) string {
	w.tb.Helper()
	content, err := os.ReadFile(w.Path(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.tb.Fatal(err)
	}
	return string(content)
}

// snapshot is all of the machine but for the folders of this package.
func (w *owned) snapshot() string {
	w.tb.Helper()
	var all []string
	err := filepath.WalkDir(w.Root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, w.Root), "/")
		if name == "/run/meshvm-redirect" || name == "/var" {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", name, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all = append(all, line+" -> "+target)
			return err
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			all = append(all, fmt.Sprintf("%s %q", line, content))
			return err
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// change is a change of a file that is about to be made.
func (w *owned) change(what string) error { return w.operate(what) }

func (w *owned) operate(string) error {
	w.operations++
	switch {
	case w.fail == 0 || w.operations < w.fail:
		return nil
	case w.kill:
		return errKilled
	case w.operations == w.fail:
		return errors.New("made to fail")
	}
	return nil
}

// execute is what the programs do, as far as it can be seen in files.
func (w *owned) execute(_ context.Context, name string, args ...string) ([]byte, error) {
	if name == "nft" && w.tables == nil {
		return nil, exec.ErrNotFound
	}
	line := strings.Join(append([]string{name}, args...), " ")
	w.commands = append(w.commands, line)
	if err := w.operate(line); err != nil {
		return nil, err
	}
	switch {
	case name == "nft":
		return []byte(w.nftables(args[0])), nil
	case line == "systemctl is-system-running":
		return []byte("running\n"), nil
	case strings.HasPrefix(line, "systemctl is-active "):
		if w.running[args[1]] {
			return []byte("active\n"), nil
		}
		return []byte("inactive\n"), errors.New("exit status 3")
	case line == "resolvectl dnssec":
		return []byte("Global: " + w.signed + "\nLink 2 (eth0): no\n"), nil
	case line == "resolvectl dnsovertls":
		return []byte("Global: " + w.overTLS + "\n"), nil
	case strings.HasPrefix(line, "resolvectl query "):
		if w.broken {
			return []byte("not found"), errors.New("exit status 1")
		}
		return nil, nil
	case line == "resolvectl flush-caches":
		return nil, nil
	case strings.HasPrefix(line, "systemctl restart "), strings.HasPrefix(line, "systemctl reload-or-restart "):
		w.resolved()
		return nil, nil
	case line == "nmcli general reload conf", line == "nmcli general reload dns-rc":
		return nil, w.networkManager()
	case strings.HasPrefix(line, "sh -c exec resolvconf "):
		return nil, w.resolvconf(strings.Fields(args[1])[2:])
	case strings.HasPrefix(line, "sh -c resolvconf ") && strings.HasSuffix(line, " && exec resolvconf -u"):
		return nil, w.resolvconf(strings.Fields(args[1])[1:])
	}
	return nil, fmt.Errorf("unexpected command %q", line)
}

// resolved writes the stub's file, as systemd-resolved does when it starts.
func (w *owned) resolved() {
	if w.stub != "" {
		w.write(stubFile, w.stub)
	}
}

// nftables keeps the tables that scripts make.
func (w *owned) nftables(script string) (output string) {
	if family, ok := strings.CutPrefix(script, "list table "); ok {
		return w.tables[strings.Fields(family)[0]]
	}
	if script == "list tables" {
		for family := range w.tables {
			output += "table " + family + " " + transparentTable + "\n"
		}
		return output
	}
	for strings.HasPrefix(script, "delete table ") {
		line, rest, _ := strings.Cut(script, "\n")
		delete(w.tables, strings.Fields(line)[2])
		script = rest
	}
	for table := range strings.SplitSeq("\n"+script, "\ntable ") {
		if family, _, ok := strings.Cut(table, " "); ok {
			w.tables[family] = table
		}
	}
	return ""
}

// own is what NetworkManager and both resolvconfs write where nobody else has a say.
const own = "search corp.example\nnameserver 127.0.0.2\noptions ndots:3 timeout:1\n"

func (w *owned) networkManager() error {
	settings := map[string]string{}
	for line := range strings.Lines(w.read(networkManagerFile)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			settings[key] = value
		}
	}
	content := own
	if settings["servers"] != "" && !w.broken {
		content = "search " + strings.ReplaceAll(settings["searches"], ",", " ") + "\nnameserver " + settings["servers"] + "\noptions " +
			strings.ReplaceAll(settings["options"], ",", " ") + "\n"
	}
	w.write("/etc/resolv.conf", "# Generated by NetworkManager\n"+content)
	return nil
}

func (w *owned) resolvconf(args []string) error {
	record, content := "/run/resolvconf/interface/lo.meshvm", own
	if slices.Contains(args, "meshvm") {
		record = "/run/resolvconf/interfaces/meshvm"
	}
	if slices.Contains(args, "-x") {
		w.folder("/run/resolvconf/exclusive") // It is never removed.
	}
	if slices.Contains(args, "-d") {
		if err := unlessMissing(os.Remove(w.Path(record))); err != nil {
			return err
		}
	} else {
		given := w.read(strings.TrimPrefix(args[len(args)-1], "<"))
		w.write(record, given)
		if !w.broken {
			content = given
		}
	}
	w.write("/run/resolvconf/resolv.conf", "# generated\n"+content)
	return nil
}

// setups are a machine for each mode, ready for Apply.
func setups() map[Mode]func(testing.TB) *owned {
	return map[Mode]func(testing.TB) *owned{
		Delegate: newOwned,
		Resolved: newOwned,
		Direct:   newOwned,
		NetworkManager: func(tb testing.TB) *owned {
			w := newOwned(tb)
			return w.must(w.networkManager())
		},
		Resolvconf: func(tb testing.TB) *owned { return newOwned(tb).linkedToResolvconf("lo.meshvm") },
		Openresolv: func(tb testing.TB) *owned { return newOwned(tb).linkedToResolvconf("meshvm") },
	}
}

func (w *owned) linkedToResolvconf(record string) *owned {
	w.link("/etc/resolv.conf", "../run/resolvconf/resolv.conf")
	w.must(w.resolvconf([]string{"-d", record}))
	return w.must(unlessMissing(os.Remove(w.Path("/run/resolvconf/exclusive"))))
}

func (w *owned) must(err error) *owned {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
	return w
}

func (w *owned) apply(p Plan) (Outcome, error) {
	ctx, cancel := context.WithTimeout(w.tb.Context(), 30*time.Second)
	defer cancel()
	return Apply(ctx, w.Machine, p)
}

func (w *owned) revert() (Outcome, error) {
	ctx, cancel := context.WithTimeout(w.tb.Context(), 30*time.Second)
	defer cancel()
	return Revert(ctx, w.Machine)
}

// runner runs a command by the first that knows it.
func runner(first func(line string) (output []byte, err error, known bool), then func(context.Context, string, ...string) ([]byte, error)) func(context.Context, string, ...string) ([]byte, error) {
	return func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if output, err, known := first(strings.Join(append([]string{name}, args...), " ")); known {
			return output, err
		}
		return then(ctx, name, args...)
	}
}
