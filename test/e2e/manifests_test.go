package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

const reviews = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {clusterIP: ADDRESS, clusterIPs: [ADDRESS], ports: [{name: http, port: 80}]}
`

func reviewsAt(address string) string { return strings.ReplaceAll(reviews, "ADDRESS", address) }

// syncerOn starts a syncer that serves a folder of manifests and returns it with its addresses.
func syncerOn(t *testing.T, folder string) (syncer *programs.Process, address, http string) {
	t.Helper()
	address, http = programs.FreeAddress(t), programs.FreeAddress(t)
	return syncerAt(t, folder, address, http), address, http
}

func syncerAt(t *testing.T, folder, address, http string) *programs.Process {
	t.Helper()
	return programs.Start(t, programs.Syncer, "--manifests", folder, "--insecure", "--listen", address, "--http-listen", http)
}

// TestQuickstart asks what the README asks, of the manifests and the text that `make run` uses.
func TestQuickstart(t *testing.T) {
	folder, err := filepath.Abs("../../deploy/quickstart")
	if err != nil {
		t.Fatal(err)
	}
	_, syncer, _ := syncerOn(t, folder)
	m := newMachine(t, []string{syncer})
	m.isReady()
	tests := map[string]struct {
		name  string
		qtype uint16
		want  string
	}{
		"service":                  {"productpage.default.svc.cluster.local.", dns.TypeA, "10.96.10.1"},
		"service, IPv6":            {"productpage.default.svc.cluster.local.", dns.TypeAAAA, "fd00:96::a01"},
		"headless":                 {"mongodb.default.svc.cluster.local.", dns.TypeA, "10.244.1.11 10.244.2.12"},
		"endpoint":                 {"mongodb-0.mongodb.default.svc.cluster.local.", dns.TypeA, "10.244.1.11"},
		"ServiceEntry host":        {"payments.example.com.", dns.TypeA, "240.240.0.1"},
		"wildcard":                 {"any.thing.storage.example.com.", dns.TypeA, "192.0.2.80"},
		"service on VMs":           {"warehouse.vm.example.com.", dns.TypeA, "192.0.2.21 192.0.2.22"},
		"PTR":                      {"1.10.96.10.in-addr.arpa.", dns.TypePTR, "productpage.default.svc.cluster.local."},
		"empty namespace":          {"staging.svc.cluster.local.", dns.TypeA, ""},
		"no such service":          {"nope.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		"outside name":             {"example.org.", dns.TypeA, programs.Outside},
		"apex of the wildcard":     {"storage.example.com.", dns.TypeA, programs.Outside},
		"IPv6 of an IPv4-only one": {"any.storage.example.com.", dns.TypeAAAA, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(_ *testing.T) { m.answersNow(tc.name, tc.qtype, tc.want) })
	}
}

func TestManifestEdits(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	syncer, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")

	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	t.Logf("changed in %v", m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2"))

	write(t, folder, "reviews.yaml", "kind: [")
	syncer.WaitFor(t, "reviews.yaml:1")
	m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")

	write(t, folder, "other.yaml", strings.ReplaceAll(reviewsAt("10.96.0.9"), "reviews", "other"))
	t.Logf("created in %v", m.answers("other.prod.svc.cluster.local.", dns.TypeA, "10.96.0.9"))

	if err := os.Remove(filepath.Join(folder, "reviews.yaml")); err != nil {
		t.Fatal(err)
	}
	t.Logf("gone in %v", m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "NXDOMAIN"))
	m.answersNow("other.prod.svc.cluster.local.", dns.TypeA, "10.96.0.9")
	if err := status("http://"+http+"/readyz", 200); err != nil {
		t.Error(err)
	}
}

// TestNothingIsLostWhenThingsDie walks through the failure table of the design, with real processes.
func TestNothingIsLostWhenThingsDie(t *testing.T) {
	const name = "reviews.prod.svc.cluster.local."
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	syncer, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers(name, dns.TypeA, "10.96.0.1")
	m.saved()

	syncer.Stop(t, syscall.SIGKILL)
	m.coredns.WaitFor(t, "lost syncer")
	m.metric(`coredns_meshvm_connected{namespace="vm",syncers="` + address + `"} 0`)
	m.answersNow(name, dns.TypeA, "10.96.0.1")

	m.coredns.Stop(t, syscall.SIGKILL)
	m.boot()
	// boot asked for an outside name until the port was open: this is the first mesh name.
	m.answersNow(name, dns.TypeA, "10.96.0.1")
	m.answersNow("nope.prod.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	m.isReady()

	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	syncer = syncerAt(t, folder, address, http)
	m.answers(name, dns.TypeA, "10.96.0.2")

	syncer.Stop(t, syscall.SIGTERM)
	m.coredns.Stop(t, syscall.SIGTERM)
	m.boot()
	m.answersNow(name, dns.TypeA, "10.96.0.2")
}

func TestCorruptedSnapshot(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	syncer, address, http := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
	m.coredns.Stop(t, syscall.SIGTERM)
	syncer.Stop(t, syscall.SIGKILL)

	whole, err := os.ReadFile(m.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	whole[len(whole)/2] ^= 0x40
	write(t, filepath.Dir(m.snapshot), filepath.Base(m.snapshot), string(whole))
	m.boot()
	m.coredns.WaitFor(t, "snapshot not loaded")
	m.coredns.WaitFor(t, m.snapshot)
	m.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "SERVFAIL")
	m.answersNow("example.org.", dns.TypeA, programs.Outside)
	if err := status("http://"+m.ready+"/ready", http503); err != nil {
		t.Errorf("Ready with nothing loaded: %v", err)
	}

	syncerAt(t, folder, address, http)
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
	m.isReady()
	if _, err := os.Stat(m.snapshot + ".corrupt"); err != nil {
		t.Errorf("The corrupted file is not set aside: %v", err)
	}
}

const http503 = http.StatusServiceUnavailable

func TestReload(t *testing.T) {
	const name = "reviews.prod.svc.cluster.local."
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	_, address, _ := syncerOn(t, folder)
	m := newMachine(t, []string{address})
	m.answers(name, dns.TypeA, "10.96.0.1")

	// Another TTL is no reason to open the stream again.
	m.configure([]string{address}, "insecure", "namespace vm", "ttl 77")
	eventually(t, "the new TTL", func() error {
		reply, err := m.exchange(name, dns.TypeA)
		if err == nil && (len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != 77) {
			err = fmt.Errorf("got %v", reply.Answer)
		}
		return err
	})
	if got := strings.Count(m.coredns.Output(), "in step with syncer"); got != 1 {
		t.Errorf("Streams opened over a reload: got %d, want 1", got)
	}

	// A Corefile that does not parse leaves everything as it is.
	m.configure([]string{address}, "insecure", "namespace vm", "ttl nonsense")
	m.coredns.WaitFor(t, "nonsense")
	m.answersNow(name, dns.TypeA, "10.96.0.1")

	// Another namespace is another view: a new stream, which the old one's registry bridges.
	m.configure([]string{address}, "insecure", "namespace other")
	m.coredns.WaitFor(t, "Reloading complete")
	m.answers(name, dns.TypeA, "10.96.0.1")
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	m.answers(name, dns.TypeA, "10.96.0.2")
}

func TestVisibility(t *testing.T) {
	folder := t.TempDir()
	private := strings.Replace(reviewsAt("10.96.0.1"), "namespace: prod}", `namespace: prod, annotations: {networking.istio.io/exportTo: "."}}`, 1)
	write(t, folder, "reviews.yaml", private)
	_, address, _ := syncerOn(t, folder)
	inside := newMachine(t, []string{address}, "insecure", "namespace prod")
	beside := newMachine(t, []string{address}, "insecure", "namespace dev")
	inside.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
	beside.isReady()
	beside.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "NXDOMAIN")

	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	beside.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
	write(t, folder, "reviews.yaml", private)
	beside.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "NXDOMAIN")
	inside.answersNow("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
}

func TestSyncerFailover(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.1"))
	first, firstAddress, _ := syncerOn(t, folder)
	_, secondAddress, _ := syncerOn(t, folder)
	m := newMachine(t, []string{firstAddress, secondAddress})
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.1")
	first.Stop(t, syscall.SIGKILL)
	write(t, folder, "reviews.yaml", reviewsAt("10.96.0.2"))
	m.answers("reviews.prod.svc.cluster.local.", dns.TypeA, "10.96.0.2")
}
