package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestModes holds what each mode leaves for the owner of resolution to read, and that a revert leaves what was there.
func TestModes(t *testing.T) {
	cases := map[string]struct {
		mode     Mode
		change   func(*owned, *Plan)
		files    map[string]string // Any "PORT" in them is the port of CoreDNS.
		commands []string
	}{
		"delegate": {mode: Delegate, files: map[string]string{
			"/run/systemd/dns-delegate.d/meshvm.dns-delegate": "[Delegate]\nDNS=127.0.0.1:PORT\nDomains=vm.svc.cluster.local svc.cluster.local cluster.local ~payments.example.com\n",
			anchorsFile: "",
		}, commands: []string{"systemctl reload-or-restart --job-mode=ignore-dependencies systemd-resolved.service", "resolvectl flush-caches"}},
		"resolved": {mode: Resolved, files: map[string]string{
			"/run/systemd/resolved.conf.d/50-meshvm.conf": "[Resolve]\nDNS=\nDNS=127.0.0.1:PORT\nDomains=vm.svc.cluster.local svc.cluster.local cluster.local ~payments.example.com\n",
			anchorsFile: "",
		}, commands: []string{"systemctl restart --job-mode=ignore-dependencies systemd-resolved.service", "resolvectl flush-caches"}},
		"resolved, all names": {mode: Resolved, change: func(_ *owned, p *Plan) { p.AllNames = true }, files: map[string]string{
			"/run/systemd/resolved.conf.d/50-meshvm.conf": "Domains=vm.svc.cluster.local svc.cluster.local cluster.local ~. ~payments.example.com\n",
		}},
		"resolved that validates": {mode: Resolved, change: func(w *owned, _ *Plan) { w.signed = "allow-downgrade" }, files: map[string]string{
			anchorsFile: "\ncluster.local\ncorp\nd.f.ip6.arpa\n",
		}},
		"resolved with anchors of the operator's": {mode: Resolved, change: func(w *owned, _ *Plan) {
			w.signed = "yes"
			w.write("/etc/dnssec-trust-anchors.d/own.negative", "corp.example\n")
		}, files: map[string]string{anchorsFile: "removes it.\ncluster.local\npayments.example.com\n"}},
		"networkmanager": {mode: NetworkManager, files: map[string]string{
			"/run/NetworkManager/conf.d/50-meshvm.conf": "[global-dns]\nsearches=vm.svc.cluster.local,svc.cluster.local,cluster.local,corp.example\n" +
				"options=ndots:3,timeout:1\n\n[global-dns-domain-*]\nservers=127.0.0.1\n",
			"/etc/resolv.conf": "nameserver 127.0.0.1\noptions ndots:3 timeout:1\n",
		}, commands: []string{"nmcli general reload conf"}},
		"resolvconf": {mode: Resolvconf, files: map[string]string{
			"/etc/resolv.conf": "nameserver 127.0.0.1\nsearch vm.svc.cluster.local svc.cluster.local cluster.local corp.example\n",
		}, commands: []string{"sh -c exec resolvconf -a lo.meshvm </run/meshvm-redirect/resolvconf"}},
		"openresolv": {mode: Openresolv, files: map[string]string{
			"/etc/resolv.conf": "nameserver 127.0.0.1\nsearch vm.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:3 timeout:1\n",
		}, commands: []string{"sh -c exec resolvconf -x -m 0 -a meshvm </run/meshvm-redirect/resolvconf"}},
		"direct": {mode: Direct, files: map[string]string{
			"/etc/resolv.conf": "nameserver 127.0.0.1\nsearch vm.svc.cluster.local svc.cluster.local cluster.local corp.example\n" +
				"# by hand\noptions ndots:3 timeout:1\nsortlist 10.0.0.0\n",
		}, commands: []string{"resolvectl flush-caches"}},
		"direct over a symbolic link": {mode: Direct, change: func(w *owned, _ *Plan) {
			w.write("/run/systemd/resolve/stub-resolv.conf", "# managed by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n")
			w.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
		}, files: map[string]string{
			"/etc/resolv.conf":                      "corp.example\noptions edns0\n",
			"/run/systemd/resolve/stub-resolv.conf": "# managed by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n",
		}},
		"direct without a file": {mode: Direct, change: func(w *owned, _ *Plan) {
			if err := os.Remove(w.Path("/etc/resolv.conf")); err != nil {
				w.tb.Fatal(err)
			}
		}, files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n"}},
		"direct over a link to nowhere": {mode: Direct, change: func(w *owned, _ *Plan) { w.link("/etc/resolv.conf", "/run/nobody/resolv.conf") },
			files: map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := setups()[c.mode](t)
			p := w.plan(c.mode)
			if c.change != nil {
				c.change(w, &p)
			}
			before := w.snapshot()
			if outcome, err := w.apply(p); err != nil || !outcome.Changed {
				t.Fatalf("Apply: got %+v, %v; want a change", outcome, err)
			}
			port := netip.AddrPortFrom(w.coreDNS.Addr(), w.coreDNS.Port()).String()[len("127.0.0.1:"):]
			for file, want := range c.files {
				if got, want := w.read(file), strings.ReplaceAll(want, "PORT", port); want == "" && got != "" || !strings.Contains(got, want) {
					t.Errorf("%s:\n got %q\nwant %q in it", file, got, want)
				}
			}
			var done []string
			for _, command := range w.commands {
				if !strings.Contains(command, " is-") && !strings.HasPrefix(command, "resolvectl dns") && !strings.HasPrefix(command, "resolvectl query") {
					done = append(done, command)
				}
			}
			if c.commands != nil && !slices.Equal(done, c.commands) {
				t.Errorf("Commands:\n got %q\nwant %q", done, c.commands)
			}
			for _, command := range c.commands {
				if steps := strings.ReplaceAll(strings.Join(Steps(p), "\n"), "'", ""); c.mode != Direct && !strings.Contains(steps, "run "+command) {
					t.Errorf("Steps:\n got %s\nwant %q among them", steps, command)
				}
			}
			if missing, err := holds(w.Machine, p); err != nil || len(missing) > 0 {
				t.Errorf("Holds: got %q, %v; want nothing missing", missing, err)
			}
			if _, err := w.revert(); err != nil {
				t.Fatalf("Revert: %v", err)
			}
			if after := w.snapshot(); after != before {
				t.Errorf("Machine after Revert:\n got %s\nwant %s", after, before)
			}
			if outcome, err := w.revert(); err != nil || outcome.Changed {
				t.Errorf("Second Revert: got %+v, %v; want no change", outcome, err)
			}
		})
	}
}

// TestApplyAgain holds that an Apply of what holds runs nothing, and that one after a change brings it back.
func TestApplyAgain(t *testing.T) {
	for mode, setup := range setups() {
		t.Run(string(mode), func(t *testing.T) {
			w := setup(t)
			if _, err := w.apply(w.plan(mode)); err != nil {
				t.Fatal(err)
			}
			inForce := w.snapshot()
			w.commands = nil
			upstreams := w.plan(mode)
			upstreams.Upstreams = append(upstreams.Upstreams, netip.MustParseAddrPort("192.0.2.53:53"))
			if outcome, err := w.apply(upstreams); err != nil || outcome.Changed {
				t.Errorf("Apply with another upstream: got %+v, %v; want no change", outcome, err)
			}
			if state, err := LoadState(w.Machine); err != nil || len(state.Plan.Upstreams) != 2 {
				t.Errorf("State: got %+v, %v; want both upstreams", state, err)
			}
			for _, command := range w.commands {
				if !strings.HasPrefix(command, "resolvectl dns") {
					t.Errorf("Commands of an Apply that changes nothing: got %q, want none", command)
				}
			}
			search := w.plan(mode)
			search.Search = append(search.Search, "dhcp.example")
			w.commands = nil
			if _, err := w.apply(search); err != nil {
				t.Errorf("Apply with another domain of the machine's own: %v", err)
			}
			for _, command := range w.commands {
				if strings.HasPrefix(command, "systemctl re") {
					t.Errorf("Commands with another domain of the machine's own: got %q, want no restart", command)
				}
			}
			domains := w.plan(mode)
			domains.Domains, domains.Search = []string{"cluster.local"}, []string{"cluster.local"}
			if outcome, err := w.apply(domains); err != nil || !outcome.Changed {
				t.Errorf("Apply with other domains: got %+v, %v; want a change", outcome, err)
			}
			if missing, err := holds(w.Machine, w.plan(mode)); err != nil || len(missing) == 0 {
				t.Errorf("Holds, of the plan before: got %q, %v; want something missing", missing, err)
			}
			if _, err := w.apply(w.plan(mode)); err != nil {
				t.Errorf("Apply with the domains as before: %v", err)
			}
			if after := w.snapshot(); after != inForce {
				t.Errorf("Machine after the domains changed to and fro:\n got %s\nwant %s", after, inForce)
			}
		})
	}
}

// TestTrampled holds that what others overwrite is seen, taken over anew, and theirs again after Revert.
func TestTrampled(t *testing.T) {
	const theirs = "# dhclient\nnameserver 127.0.0.2\nsearch other.example\n"
	w := newOwned(t)
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	w.write("/etc/resolv.conf", theirs)
	if missing, err := holds(w.Machine, w.plan(Direct)); err != nil || !slices.Equal(missing, []string{"/etc/resolv.conf was written by others"}) {
		t.Errorf("Holds: got %q, %v; want that others have written it", missing, err)
	}
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	if got := w.read("/etc/resolv.conf"); !strings.Contains(got, "nameserver 127.0.0.1\n") || !strings.Contains(got, "# dhclient\n") || strings.Contains(got, "ndots") {
		t.Errorf("resolv.conf taken over anew: got %q, want CoreDNS, and all else as others have it now", got)
	}
	if _, err := w.revert(); err != nil {
		t.Fatal(err)
	}
	if got := w.read("/etc/resolv.conf"); got != theirs {
		t.Errorf("resolv.conf after Revert: got %q, want %q", got, theirs)
	}
}

// TestRefused holds that nothing is changed where a Plan cannot work, and that the reason is said.
func TestRefused(t *testing.T) {
	manyDomains := make([]string, 300)
	for i := range manyDomains {
		manyDomains[i] = strings.Repeat("x", i%60+1) + ".example.com"
	}
	cases := map[string]struct {
		mode   Mode
		change func(*owned, *Plan)
		want   string
	}{
		"CoreDNS does not run":           {Direct, func(_ *owned, p *Plan) { p.Server = netip.MustParseAddrPort("127.0.0.9:9") }, "cannot name a port"},
		"CoreDNS does not know the mesh": {Resolved, func(w *owned, p *Plan) { p.Server = w.resolver }, "does not answer: cluster.local. SOA over udp: NXDOMAIN"},
		"one zone is not answered":       {Resolved, func(_ *owned, p *Plan) { p.Zones = append(p.Zones, "other.local") }, "other.local. SOA over udp"},
		"no zone and not all names":      {Resolved, func(_ *owned, p *Plan) { p.Zones = nil }, "serves no zone"},
		"nobody listens":                 {Resolved, func(_ *owned, p *Plan) { p.Server = netip.MustParseAddrPort("127.0.0.9:9") }, "connection refused"},
		"DNS over TLS":                   {Resolved, func(w *owned, _ *Plan) { w.overTLS = "yes" }, "DNSOverTLS=opportunistic"},
		"more domains than it takes":     {Resolved, func(_ *owned, p *Plan) { p.Domains = manyDomains }, "--all-names"},
		"no domains":                     {Delegate, func(_ *owned, p *Plan) { p.Domains = nil }, "no domain would be routed"},
		"no address":                     {Direct, func(_ *owned, p *Plan) { p.Server = netip.AddrPort{} }, "where CoreDNS listens is not known"},
		"a domain with a second line":    {Resolved, func(_ *owned, p *Plan) { p.Domains = []string{"a.example\nDNS=192.0.2.1"} }, `"a.example\nDNS=192.0.2.1" is no domain name`},
		"a wildcard":                     {Resolved, func(_ *owned, p *Plan) { p.Domains = []string{"*.example.com"} }, `"*.example.com" is no domain name`},
		"a search list with an option":   {Direct, func(_ *owned, p *Plan) { p.Search = []string{"a.example options"} }, "is no domain name"},
		"no such mode":                   {"other", func(*owned, *Plan) {}, `unknown mode "other"`},
		"a folder":                       {Direct, func(w *owned, _ *Plan) { w.must(os.Remove(w.Path(resolvConf))).folder(resolvConf) }, "is a directory"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newOwned(t)
			p := w.plan(c.mode)
			c.change(w, &p)
			before := w.snapshot()
			if _, err := w.apply(p); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Apply: got %v, want %q in it", err, c.want)
			}
			if after := w.snapshot(); after != before {
				t.Errorf("Machine:\n got %s\nwant %s", after, before)
			}
			if state, err := LoadState(w.Machine); state != nil || err != nil {
				t.Errorf("State: got %+v, %v; want none", state, err)
			}
		})
	}
}

// TestNotVerified holds that what the machine does not ask afterwards is undone, and remembered only where there was a redirect before.
func TestNotVerified(t *testing.T) {
	for _, mode := range []Mode{Delegate, Resolved, NetworkManager, Resolvconf, Openresolv} {
		t.Run(string(mode), func(t *testing.T) {
			w := setups()[mode](t)
			before := w.snapshot()
			w.broken = true
			if _, err := w.apply(w.plan(mode)); err == nil || !strings.Contains(err.Error(), "it is undone, and the machine") {
				t.Errorf("Apply: got %v, want it undone", err)
			}
			if after := w.snapshot(); after != before {
				t.Errorf("Machine:\n got %s\nwant %s", after, before)
			}
			if state, err := LoadState(w.Machine); state != nil || err != nil {
				t.Errorf("State: got %+v, %v; want none", state, err)
			}
			w.broken = false
			if _, err := w.apply(w.plan(mode)); err != nil {
				t.Fatal(err)
			}
			w.broken = true
			changed := w.plan(mode)
			changed.Search, changed.Domains = []string{"cluster.local"}, []string{"cluster.local"}
			if _, err := w.apply(changed); err == nil {
				t.Error("Apply over another that works: got no error, want one")
			}
			if after := w.snapshot(); after != before {
				t.Errorf("Machine:\n got %s\nwant %s", after, before)
			}
			if s, err := Stand(w.Machine); err != nil || s.InForce || !strings.Contains(s.Withdrawn, "could not be applied") {
				t.Errorf("Stand: got %+v, %v; want it withdrawn", s, err)
			}
		})
	}
}

// TestDecidedAgain holds that what Apply did is no fact about the machine: a Plan that is decided again is the same, and of another
// namespace nothing of the first one stays.
func TestDecidedAgain(t *testing.T) {
	for _, mode := range []Mode{NetworkManager, Resolvconf, Openresolv, Direct} {
		t.Run(string(mode), func(t *testing.T) {
			w := setups()[mode](t)
			decide := func(namespace string) []string {
				facts, err := Detect(t.Context(), w.Machine, w.coreDNS)
				if err != nil {
					t.Fatal(err)
				}
				p := w.plan(mode)
				p.Search = nil
				p.search(facts, Wish{Namespace: namespace, Zones: p.Zones})
				search := slices.Clone(p.Search)
				if _, err := w.apply(p); err != nil {
					t.Fatal(err)
				}
				return search
			}
			for _, namespace := range []string{"vm", "vm", "prod"} {
				want := []string{"corp.example", namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"}
				if got := decide(namespace); !slices.Equal(got, want) {
					t.Errorf("Search list: got %q, want %q", got, want)
				}
			}
		})
	}
}

// TestOthersBeside holds that a resolv.conf that names others after CoreDNS is no redirect: the C library would ask them, too.
func TestOthersBeside(t *testing.T) {
	w := setups()[Resolvconf](t)
	before := w.snapshot()
	execute := w.Run
	w.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		output, err := execute(ctx, name, args...)
		if err == nil && name == "sh" && strings.Contains(args[1], " -a ") {
			w.write("/run/resolvconf/resolv.conf", w.read("/run/resolvconf/resolv.conf")+"nameserver 127.0.0.2\n")
		}
		return output, err
	}
	if _, err := w.apply(w.plan(Resolvconf)); err == nil || !strings.Contains(err.Error(), "names 127.0.0.1, 127.0.0.2, not only 127.0.0.1") {
		t.Errorf("Apply: got %v, want that others are named", err)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("Machine:\n got %s\nwant %s", after, before)
	}
}

// TestInterrupted holds that an Apply whose context ends undoes what it has done.
func TestInterrupted(t *testing.T) {
	w := newOwned(t)
	before := w.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	execute := w.Run
	w.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name == "systemctl" && args[0] == "restart" && ctx.Err() == nil {
			cancel()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return execute(ctx, name, args...)
	}
	if _, err := Apply(ctx, w.Machine, w.plan(Resolved)); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: got %v, want that it was canceled", err)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("Machine:\n got %s\nwant %s", after, before)
	}
}

// TestStartedTooOften holds that a start that systemd refuses, since there were too many, is tried once more after a reset.
func TestStartedTooOften(t *testing.T) {
	w := newOwned(t)
	execute, refused := w.Run, false
	w.Run = func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if name == "systemctl" && args[0] == "restart" && !refused {
			refused = true
			return []byte("start of the service was attempted too often"), errors.New("exit status 1")
		}
		if name == "systemctl" && args[0] == "reset-failed" {
			return nil, nil
		}
		return execute(ctx, name, args...)
	}
	if _, err := w.apply(w.plan(Resolved)); err != nil || !refused {
		t.Errorf("Apply: got %v (refused %t), want no error after a refusal", err, refused)
	}
}

// TestStubOverwritten: systemd-resolved is asked to write its file again, where programs read what others have written into it.
func TestStubOverwritten(t *testing.T) {
	const (
		others  = "nameserver 10.0.0.1\n"
		ours    = "search vm.svc.cluster.local svc.cluster.local cluster.local\n"
		written = "nameserver 127.0.0.53\n" + ours
	)
	cases := map[string]struct {
		change func(*owned)
		want   bool
	}{
		"through the link":          {want: true, change: func(w *owned) { w.write(stubFile, others) }},
		"emptied":                   {want: true, change: func(w *owned) { w.write(stubFile, "") }},
		"another server beside it":  {want: true, change: func(w *owned) { w.write(stubFile, written+others) }},
		"another search list":       {want: true, change: func(w *owned) { w.write(stubFile, "nameserver 127.0.0.53\nsearch corp.example\n") }},
		"options only":              {change: func(w *owned) { w.write(stubFile, written+"options ndots:2\n") }},
		"a file that nobody reads":  {change: func(w *owned) { w.write(stubFile, others); w.link("/etc/resolv.conf", "own.conf") }},
		"no stub":                   {change: func(w *owned) { w.write("/run/systemd/resolve/resolv.conf", others); w.link(stubFile, "resolv.conf") }},
		"the link replaced, a file": {change: func(w *owned) { w.must(w.remove("/etc/resolv.conf")).write("/etc/resolv.conf", others) }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := setups()[Resolved](t)
			w.stub = written
			w.write(stubFile, written)
			w.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
			p := w.plan(Resolved)
			if _, err := w.apply(p); err != nil {
				t.Fatalf("Apply: %v", err)
			}
			if missing, err := holds(w.Machine, p); err != nil || len(missing) > 0 {
				t.Fatalf("Holds, before: got %q, %v; want nothing", missing, err)
			}
			c.change(w)
			missing, err := holds(w.Machine, p)
			if err != nil || len(missing) > 0 != c.want {
				t.Fatalf("Holds: got %q, %v; want something: %t", missing, err, c.want)
			}
			w.commands = nil
			if _, err := w.apply(p); err != nil {
				t.Fatalf("Apply again: %v", err)
			}
			if c.want && w.read(stubFile) != written {
				t.Errorf("%s: got %q, want %q", stubFile, w.read(stubFile), written)
			}
			if restarted := slices.Contains(w.commands, "systemctl restart --job-mode=ignore-dependencies systemd-resolved.service"); restarted != c.want {
				t.Errorf("systemd-resolved restarted: got %t in %q, want %t", restarted, w.commands, c.want)
			}
		})
	}
}

// TestApplyWithoutResolvectl is a systemd-resolved from before there was a resolvectl (239): what it remembers expires by itself.
func TestApplyWithoutResolvectl(t *testing.T) {
	w := newOwned(t)
	before := w.snapshot()
	w.Run = runner(func(line string) ([]byte, error, bool) {
		return nil, fmt.Errorf("resolvectl: %w", exec.ErrNotFound), strings.HasPrefix(line, "resolvectl ")
	}, w.Run)
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Errorf("Apply: %v", err)
	}
	if _, err := w.revert(); err != nil {
		t.Errorf("Revert: %v", err)
	}
	if after := w.snapshot(); after != before {
		t.Errorf("Machine:\n got %s\nwant %s", after, before)
	}
}
