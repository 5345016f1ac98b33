package conformance

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/programs"
)

// zones is the zones of both servers: the cluster's domain, another name for it, and its addresses as the
// control plane gives them to Services and the tests to endpoints.
var zones = []string{"cluster.local", "mesh.example.org", "10.96.0.0/16", "fd00:96::/112", "10.244.0.0/16", "fd00:10:244::/64"}

// reached is where queries reach both servers, as far as they can tell.
var reached = netip.MustParseAddr("192.0.2.1")

// patience bounds every wait: far beyond what anything here takes, so that a busy machine fails nothing,
// and a hang does.
const patience = 60 * time.Second

// pair is two servers that follow the same cluster.
type pair struct {
	t       *testing.T
	cluster *cluster
	// theirs is stock CoreDNS with its kubernetes plugin, ours the plugin meshvm.
	theirs, ours *resolver
	// markers counts the objects that tell whether both are in step. No two have one name.
	markers *int
}

// in is the pair as a subtest uses it.
func (p *pair) in(t *testing.T) *pair {
	again, cluster := *p, *p.cluster
	again.t, cluster.t = t, t
	again.cluster = &cluster
	return &again
}

// newPair starts both servers, and the syncer that ours follows. They run until the test ends.
func newPair(t *testing.T, c *cluster) *pair {
	t.Helper()
	if err := c.plane.GrantSyncerRole(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := c.plane.KubeconfigFor(controlplane.SyncerUser)
	if err != nil {
		t.Fatal(err)
	}
	syncer := programs.FreeAddress(t)
	programs.Start(t, programs.Syncer, "--kubeconfig", kubeconfig, "--insecure", "--shrink-guard-share", "0", "--listen", syncer, "--http-listen", programs.FreeAddress(t))

	theirs, ours := programs.FreeAddress(t), programs.FreeAddress(t)
	text := fmt.Sprintf(`.:%s {
    bind 127.0.0.1
    %s %s/%d
    kubernetes %s {
        kubeconfig %s
        pods insecure
        ttl 5
    }
    %s
}
.:%s {
    bind 127.0.0.1
    meshvm %s {
        syncer %s
        insecure
        snapshot off
        pods insecure
        ttl 5 5
    }
    %s
}
`, port(t, theirs), reachedDirective, reached, reached.BitLen(), strings.Join(zones, " "), c.plane.Kubeconfig(), outsideDirective,
		port(t, ours), strings.Join(zones, " "), syncer, outsideDirective)
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(text), ServerTypeName: "dns"})
	if err != nil {
		t.Fatalf("start both servers: %v", err)
	}
	t.Cleanup(func() {
		for _, err := range instance.ShutdownCallbacks() {
			t.Errorf("stop both servers: %v", err)
		}
		if err := instance.Stop(); err != nil {
			t.Errorf("stop both servers: %v", err)
		}
	})
	return &pair{t: t, cluster: c, theirs: newResolver(t, "CoreDNS", theirs), ours: newResolver(t, "meshvm", ours), markers: new(int)}
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// inStep returns once both servers know everything that was written to the cluster before. A watch is in
// order for its kind, so one last object of each kind tells.
func (p *pair) inStep() {
	p.t.Helper()
	*p.markers++
	names := p.cluster.mark(*p.markers)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for _, resolver := range []*resolver{p.theirs, p.ours} {
		for _, name := range names {
			for {
				reply := resolver.ask(name, dns.TypeA)
				if reply.Rcode == dns.RcodeSuccess {
					break
				}
				select {
				case <-ticker.C:
				case <-ctx.Done():
					p.t.Fatalf("%s does not know %s within %v, its last reply:\n%v", resolver.name, name, patience, reply)
				}
			}
		}
	}
}

// resolver is one of the two servers. It can be asked from several goroutines.
type resolver struct {
	name   string
	server *dnsserver.Server
}

// newResolver finds the server behind an address in this process.
func newResolver(t *testing.T, name, address string) *resolver {
	t.Helper()
	programs.Query(t, "tcp", address, introduction, dns.TypeTXT)
	server, found := servers.Load("dns://" + address)
	if !found {
		t.Fatalf("%s at %s did not introduce itself", name, address)
	}
	return &resolver{name: name, server: server.(*dnsserver.Server)}
}

// ask returns the reply to a question as it comes to reached. The caller must not modify it: servers share
// records among replies.
func (r *resolver) ask(name string, qtype uint16) *dns.Msg {
	return r.askAt(reached, new(dns.Msg).SetQuestion(name, qtype))
}

// askAt returns the reply to a message that reaches the server at an address, over TCP. A server that
// writes none is a nil.
func (r *resolver) askAt(local netip.Addr, question *dns.Msg) *dns.Msg {
	ctx := context.WithValue(context.Background(), dnsserver.Key{}, r.server)
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	w := &recorder{
		local:  net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 53)),
		remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40053},
	}
	r.server.ServeDNS(ctx, w, question)
	return w.reply
}
