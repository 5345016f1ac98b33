package redirect

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// TestWatchKeepsAMachine has a DHCP client write resolv.conf, and the kernel tell of it.
func TestWatchKeepsAMachine(t *testing.T) {
	w := newOwned(t)
	w.running = map[string]bool{}
	w.write("/etc/nsswitch.conf", "hosts: files dns\n")
	if _, err := w.apply(w.plan(Direct)); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	var told atomic.Value
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, w.Machine, Keeping{
			Wish: func(context.Context) (Wish, error) {
				return Wish{Server: w.coreDNS, Zones: []string{"cluster.local"}, Namespace: "vm"}, nil
			},
			Tell: func(state string) { told.Store(state) },
			Log:  slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}()
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not so after 30 s; resolv.conf is %q, upstreams are %q, told %v", what, w.read(resolvConf), w.forwarded(), told.Load())
			}
		}
	}
	asksCoreDNS := func() bool {
		return slices.Equal(resolvconf.Parse([]byte(w.read(resolvConf))).Servers, []netip.Addr{w.coreDNS.Addr()})
	}
	until("The resolvers of the first network", func() bool { return w.forwarded() == "127.0.0.2" })

	// A DHCP client replaces it as a whole, with the resolver of another network.
	w.write("/etc/resolv.conf.dhclient", "search other.example\nnameserver 192.0.2.77\n")
	w.must(os.Rename(w.Path("/etc/resolv.conf.dhclient"), w.Path(resolvConf)))
	until("The resolvers of another network", func() bool { return w.forwarded() == "192.0.2.77" })
	until("CoreDNS is asked again", asksCoreDNS)
	until("The service manager knows", func() bool { return told.Load() == "STATUS=mode direct, names all" })
	if got := resolvconf.Parse([]byte(w.read(resolvConf))).Search; !slices.Contains(got, "other.example") || !slices.Contains(got, "vm.svc.cluster.local") {
		t.Errorf("Search list: got %q, want the other network's and the mesh's", got)
	}

	// Somebody empties it: what was known last is forwarded to, and given back at the end.
	w.write("/etc/resolv.conf", "")
	until("CoreDNS is asked once more", asksCoreDNS)
	if got := w.forwarded(); got != "192.0.2.77" {
		t.Errorf("Upstreams: got %q, want those that were known last", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Watch: got %v, want nil", err)
	}
	if !asksCoreDNS() {
		t.Errorf("resolv.conf after the end: got %q, want it left alone", w.read(resolvConf))
	}
	goleak.VerifyNone(t, before)
}

// TestWatchCannotReadTheState has the State torn: it is said, nothing is changed, and resolvers are followed all the same.
func TestWatchCannotReadTheState(t *testing.T) {
	w := resolving(t)
	w.write(StateFile, "{")
	kept := keptMachine{w.Machine}
	if _, err := kept.state(); err == nil || !strings.Contains(err.Error(), StateFile+" cannot be used: it is torn") {
		t.Errorf("State: got %v, want which file is torn", err)
	}
	if err := kept.upstreams(t.Context(), Plan{}); err != nil || w.forwarded() != "192.0.2.1 2001:db8::1" {
		t.Errorf("Upstreams: got %q, %v; want the machine's own", w.forwarded(), err)
	}
}

// TestKeptMachineAnswers holds how soon a CoreDNS that is silent is taken for silent.
func TestKeptMachineAnswers(t *testing.T) {
	w := newOwned(t)
	silent := listenPacket(t)
	defer silent.Close()
	for name, c := range map[string]struct {
		server netip.AddrPort
		zones  []string
		want   bool
	}{
		"for the mesh":           {w.coreDNS, []string{"10.in-addr.arpa", "cluster.local"}, true},
		"without a zone":         {w.coreDNS, nil, true},
		"another server":         {w.resolver, []string{"cluster.local"}, false},
		"nobody":                 {netip.MustParseAddrPort("127.0.0.1:1"), []string{"cluster.local"}, false},
		"silent, for the mesh":   {netip.MustParseAddrPort(silent.LocalAddr().String()), []string{"cluster.local"}, false},
		"silent, without a zone": {netip.MustParseAddrPort(silent.LocalAddr().String()), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if got := (keptMachine{w.Machine}).answers(t.Context(), Plan{Server: c.server, Zones: c.zones}); got != c.want {
				t.Errorf("Answers: got %t, want %t", got, c.want)
			}
			if took := time.Since(start); took >= silence {
				t.Errorf("Took: got %s, want less than %s", took, silence)
			}
		})
	}
}

// TestKeptMachineLeavesToOthers has somebody run meshvmctl between a look and what Watch does about it.
func TestKeptMachineLeavesToOthers(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*owned)
		applies   bool
	}{
		"nobody":                    {func(*owned) {}, true},
		"who reverts it":            {func(w *owned) { _, err := w.revert(); w.must(err) }, false},
		"who asks for another mode": {func(w *owned) { p := w.plan(Direct); p.Wished.Mode = Direct; _, err := w.apply(p); w.must(err) }, false},
		"who asks for every name": {func(w *owned) {
			p := w.plan(Resolved)
			p.AllNames, p.Wished.AllNames = true, true
			_, err := w.apply(p)
			w.must(err)
		}, false},
		"who withdraws it": {func(w *owned) { w.withdraw() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOwned(t)
			plan := w.plan(Resolved)
			if _, err := w.apply(plan); err != nil {
				t.Fatal(err)
			}
			c.meanwhile(w)
			before := w.snapshot()
			plan.Domains = append(plan.Domains, "ship.example.com")
			if err := (keptMachine{w.Machine}).apply(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			if applied := w.snapshot() != before; applied != c.applies {
				t.Errorf("Machine: changed %t, want %t", applied, c.applies)
			}
		})
	}
}
