package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// namespaces is where ip keeps named network namespaces.
const namespaces = "/run/netns"

// Addresses of a site. Each site has a network of its own, so that all have the same.
const (
	Router   = "10.77.0.1" // DHCP, the syncer, and the first resolver
	Resolver = "10.77.0.2" // another resolver
	Fixed    = "10.77.0.50"
	syncer   = Router + ":15054"
)

// Names that a site's resolvers know, and nobody else.
const (
	// Outside is a name of the world.
	Outside = "www.outside.example"
	// OutsideAddress is what it resolves to.
	OutsideAddress = "203.0.113.10"
	// Domain is the search list that DHCP hands out.
	Domain = "corp.example"
	// Short is a name in Domain.
	Short = "intranet"
	// ShortAddress is what it resolves to.
	ShortAddress = "203.0.113.11"
	// Live is a zone in which every name is an address of the resolver that was asked, see RouterLive.
	Live = "live.outside.example"
	// RouterLive is that address of the router.
	RouterLive = "203.0.113.101"
	// ResolverLive is that address of the other resolver.
	ResolverLive = "203.0.113.102"
)

// Names that the mesh knows.
const (
	// Service is a Kubernetes Service.
	Service = "reviews.default.svc.cluster.local"
	// ServiceAddress is its cluster IP.
	ServiceAddress = "10.96.10.3"
	// Entry is the host of a ServiceEntry, which the world knows too, by another address.
	Entry = "payments.example.com"
	// EntryAddress is the mesh's address of Entry.
	EntryAddress = "240.240.0.1"
	// EntryOutside is the world's address of Entry.
	EntryOutside = "203.0.113.20"
)

var sites atomic.Int32

// Site is a network with what a machine finds in one: a router with DHCP and DNS, and a syncer of a mesh.
type Site struct {
	tb             testing.TB
	folder         string
	router, inside string // network namespaces
	dhcp           *process
	mesh           *mesh
}

// NewSite makes a network. It ends with the test.
func NewSite(tb testing.TB) *Site {
	tb.Helper()
	id := sites.Add(1)
	s := &Site{tb: tb, folder: tb.TempDir(), router: fmt.Sprintf("router%d", id), inside: fmt.Sprintf("machine%d", id)}
	s.ip("netns", "add", s.router)
	tb.Cleanup(func() { s.ip("netns", "delete", s.router) })
	s.ip("-n", s.router, "link", "add", "lan", "type", "bridge")
	for _, address := range []string{Router, Resolver} {
		s.ip("-n", s.router, "address", "add", address+"/24", "dev", "lan")
	}
	for _, device := range []string{"lo", "lan"} {
		s.ip("-n", s.router, "link", "set", device, "up")
	}
	s.serveNames()
	s.mesh = newMesh(tb, s)
	return s
}

// plugIn makes the network namespace of a machine that is about to boot, and connects it. What the one before had of addresses and
// rules is lost, as it is with the kernel of a machine.
func (s *Site) plugIn() {
	s.tb.Helper()
	s.ip("netns", "add", s.inside)
	s.ip("-n", s.router, "link", "add", "port", "type", "veth", "peer", "name", "eth0", "netns", s.inside)
	s.ip("-n", s.router, "link", "set", "port", "master", "lan", "up")
}

func (s *Site) unplug() {
	s.tb.Helper()
	s.ip("-n", s.router, "link", "delete", "port")
	s.ip("netns", "delete", s.inside)
}

func (s *Site) ip(args ...string) {
	s.tb.Helper()
	// Not the test's context, which is over when its end deletes what it made.
	if _, err := shell(context.Background(), `exec ip "$@"`, args...); err != nil {
		s.tb.Fatalf("ip %s: %v", strings.Join(args, " "), err)
	}
}

// serveNames starts the two resolvers, the first with DHCP.
func (s *Site) serveNames() {
	s.tb.Helper()
	options := filepath.Join(s.folder, "dhcp")
	if err := os.Mkdir(options, 0o755); err != nil { //nolint:gosec // dnsmasq's user reads it
		s.tb.Fatal(err)
	}
	s.writeOptions(Router)
	resolver := func(address, live string, flags ...string) *process {
		process := start(s.tb, "dnsmasq "+address, s.router, append([]string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
			"--log-facility=-", "--pid-file=", "--no-resolv", "--no-hosts", "--no-poll", "--no-ping", "--bind-interfaces", "--listen-address=" + address, "--except-interface=lo",
			"--address=/#/", "--address=/" + Live + "/" + live,
			"--host-record=" + Outside + "," + OutsideAddress, "--host-record=" + Short + "." + Domain + "," + ShortAddress,
			"--host-record=" + Entry + "," + EntryOutside}, flags...)...)
		s.tb.Cleanup(func() { process.stop(s.tb) })
		return process
	}
	s.dhcp = resolver(Router, RouterLive, "--dhcp-range=10.77.0.100,10.77.0.150,1h", "--dhcp-authoritative",
		"--dhcp-leasefile="+filepath.Join(s.folder, "leases"), "--dhcp-optsfile="+filepath.Join(options, "options"))
	resolver(Resolver, ResolverLive)
}

func (s *Site) writeOptions(resolvers ...string) {
	s.tb.Helper()
	text := "option:dns-server," + strings.Join(resolvers, ",") + "\noption:domain-name," + Domain + "\n"
	if err := os.WriteFile(filepath.Join(s.folder, "dhcp", "options"), []byte(text), 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// HandOut has DHCP hand out other resolvers from now on.
func (s *Site) HandOut(resolvers ...string) {
	s.tb.Helper()
	s.writeOptions(resolvers...)
	s.dhcp.signal(s.tb, syscall.SIGHUP)
}
