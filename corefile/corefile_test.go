package corefile

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/test/programs"
)

func TestMain(m *testing.M) { os.Exit(programs.Main(m, programs.CoreDNS)) }

// sample is one file of this directory, as it is but for what belongs to a machine.
type sample struct {
	address               string // where it serves
	health, ready, metric string // empty where the sample has none
	process               *programs.Process
}

// start starts the sample on free ports of loopback, with upstream in place of the
// machine's resolvers. registry is what the snapshot of an earlier run holds; nil:
// there was none.
func start(t *testing.T, name, upstream string, registry []*registryv1.Resource) *sample {
	t.Helper()
	return startWith(t, name, upstream, registry, "")
}

// startWith is start with one more line in the meshvm block.
func startWith(t *testing.T, name, upstream string, registry []*registryv1.Resource, line string) *sample {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	// Every replacement must hit: a test of another text would prove nothing.
	replace := func(old, substitute string) {
		t.Helper()
		if strings.Count(text, old) != 1 {
			t.Fatalf("Got %d of %q in %s, want 1", strings.Count(text, old), old, name)
		}
		text = strings.Replace(text, old, substitute, 1)
	}

	dir := programs.Credentials(t)
	if err := os.MkdirAll(filepath.Join(dir, "bin", "quickstart"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &sample{address: programs.FreeAddress(t)}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	nobody := programs.FreeAddress(t)
	snapshot := "registry.snapshot"

	switch name {
	case "quickstart":
		snapshot = "bin/quickstart/registry.snapshot" // as in the sample
		replace(".:1053 {", ".:"+port+" {")
		replace("syncer 127.0.0.1:15054", "syncer "+nobody)
		replace("/etc/resolv.conf", upstream) // a resolv.conf cannot name a port
	case "vm", "split-dns":
		replace("meshvm-syncer.example.org:15054", nobody)
		replace("/etc/certs/cert-chain.pem /etc/certs/key.pem /etc/certs/root-cert.pem", "cert.pem key.pem ca.pem")
		replace("/var/lib/meshvm/registry.snapshot", snapshot)
		s.health, s.ready, s.metric = programs.FreeAddress(t), programs.FreeAddress(t), programs.FreeAddress(t)
		replace("health 127.0.0.1:15056", "health "+s.health)
		replace("ready 127.0.0.1:15057", "ready "+s.ready)
		replace("prometheus 127.0.0.1:9153", "prometheus "+s.metric)
		if name == "vm" {
			replace("\n. {", "\n.:"+port+" {")
			replace("forward . /run/meshvm-redirect/resolv.conf", "forward . "+upstream)
		} else {
			replace(".:15058 {", ".:"+port+" {")
		}
	default:
		t.Fatalf("No test knows the sample %s", name)
	}
	if line != "" {
		replace("namespace default\n", "namespace default\n"+line+"\n")
	}
	if registry != nil {
		m := mirror.New(mirror.Options{})
		change := mirror.Change{Generation: "test", View: "default", ClusterDomain: "cluster.local", To: 1, Replace: true, Upserts: registry}
		if err := m.Apply(change); err != nil {
			t.Fatal(err)
		}
		m.Confirm(time.Now())
		if err := m.Save(filepath.Join(dir, snapshot)); err != nil {
			t.Fatal(err)
		}
	}
	s.process = programs.StartIn(t, dir, programs.CoreDNS, "-conf", programs.Corefile(t, text))
	s.process.WaitForStart(t)
	return s
}

// samples lists the files that are Corefiles.
func samples(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == "" {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestSamples(t *testing.T) {
	names := samples(t)
	if want := []string{"quickstart", "split-dns", "vm"}; !slices.Equal(names, want) {
		t.Errorf("Got samples %q, want %q", names, want)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := start(t, name, programs.Upstream(t), nil)

			for _, network := range []string{"udp", "tcp"} {
				outside := programs.Query(t, network, s.address, "www.example.net", dns.TypeA)
				if name == "split-dns" {
					if outside.Rcode != dns.RcodeRefused {
						t.Errorf("Outside name over %s: got %s, want REFUSED", network, dns.RcodeToString[outside.Rcode])
					}
				} else if outside.Rcode != dns.RcodeSuccess || len(outside.Answer) != 1 || !outside.Answer[0].(*dns.A).A.Equal(net.IPv4(192, 0, 2, 53)) {
					t.Errorf("Outside name over %s: got\n%v\nwant 192.0.2.53", network, outside)
				}
				mesh := programs.Query(t, network, s.address, "reviews.default.svc.cluster.local", dns.TypeA)
				if mesh.Rcode != dns.RcodeServerFailure {
					t.Errorf("Mesh name with nothing loaded over %s: got %s, want SERVFAIL", network, dns.RcodeToString[mesh.Rcode])
				}
			}

			if s.health != "" {
				expectHTTP(t, s.health, "/health", http.StatusOK, "OK")
				expectHTTP(t, s.ready, "/ready", http.StatusServiceUnavailable, "meshvm")
				expectHTTP(t, s.metric, "/metrics", http.StatusOK, "coredns_build_info{")
			}
		})
	}
}

// TestRestart starts every sample while its syncer is away, with what an earlier
// run has left on disk.
func TestRestart(t *testing.T) {
	registry := []*registryv1.Resource{
		service(t, registryv1.ServiceKey("", "default", "reviews"), &registryv1.Service{
			Host: "reviews.default.svc.cluster.local", Namespace: "default", Name: "reviews",
			Origin: registryv1.Origin_ORIGIN_KUBERNETES, AddressKind: registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP,
			Addresses: [][]byte{{10, 96, 0, 1}},
		}),
		service(t, registryv1.ServiceEntryKey("", "default", "payments", "payments.example.net"), &registryv1.Service{
			Host: "payments.example.net", Namespace: "default", Name: "payments",
			Origin: registryv1.Origin_ORIGIN_SERVICE_ENTRY, AddressKind: registryv1.AddressKind_ADDRESS_KIND_VIRTUAL_IP,
			Addresses: [][]byte{{240, 240, 0, 1}},
		}),
	}
	for _, name := range samples(t) {
		t.Run(name, func(t *testing.T) {
			s := start(t, name, programs.Upstream(t), registry)
			for host, want := range map[string]net.IP{
				"reviews.default.svc.cluster.local": net.IPv4(10, 96, 0, 1),
				"payments.example.net":              net.IPv4(240, 240, 0, 1),
			} {
				answer := programs.Query(t, "udp", s.address, host, dns.TypeA)
				if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 1 || !answer.Answer[0].(*dns.A).A.Equal(want) {
					t.Errorf("Got for %s\n%v\nwant %v", host, answer, want)
				}
			}
			absent := programs.Query(t, "udp", s.address, "absent.default.svc.cluster.local", dns.TypeA)
			if absent.Rcode != dns.RcodeNameError {
				t.Errorf("Got %s for a mesh name that is not there, want NXDOMAIN", dns.RcodeToString[absent.Rcode])
			}
			if s.ready != "" {
				expectHTTP(t, s.ready, "/ready", http.StatusOK, "OK")
			}
			s.process.Signal(t, syscall.SIGTERM)
			if code := s.process.Wait(t); code != 0 {
				t.Errorf("Got exit code %d after SIGTERM, want 0", code)
			}
		})
	}
}

func service(t *testing.T, key string, s *registryv1.Service) *registryv1.Resource {
	t.Helper()
	body, err := proto.Marshal(&registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
	if err != nil {
		t.Fatal(err)
	}
	return &registryv1.Resource{Key: key, Body: body}
}

// TestOnlyLoopback holds what makes a sample safe to copy: nobody but this machine
// is answered, and nothing ends the process that answers.
func TestOnlyLoopback(t *testing.T) {
	for _, name := range samples(t) {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			blocks, bound := 0, 0
			for number, line := range strings.Split(string(content), "\n") {
				fields := strings.Fields(line)
				if len(fields) == 0 {
					continue
				}
				if !strings.HasPrefix(line, " ") && fields[len(fields)-1] == "{" {
					blocks++
				}
				switch fields[0] {
				case "bind":
					bound++
					for _, field := range fields[1:] {
						if address, err := netip.ParseAddr(field); err != nil || !address.IsLoopback() {
							t.Errorf("%s:%d: got %q, want addresses of loopback", name, number+1, line)
						}
					}
					if len(fields) < 2 {
						t.Errorf("%s:%d: got %q, want an address", name, number+1, line)
					}
				case "health", "ready", "prometheus", "pprof":
					if len(fields) < 2 || !strings.HasPrefix(fields[1], "127.0.0.1:") {
						t.Errorf("%s:%d: got %q, want an address on 127.0.0.1", name, number+1, line)
					}
				case "loop":
					t.Errorf("%s:%d: got loop, which ends the process when it finds one", name, number+1)
				}
			}
			if blocks == 0 || bound != blocks {
				t.Errorf("%s: got %d server blocks and %d with bind, want all", name, blocks, bound)
			}
		})
	}
}

// TestDeadUpstream asks for outside names while the upstream says nothing. glibc
// gives up on a server after five seconds; an answer has to come before.
func TestDeadUpstream(t *testing.T) {
	for _, name := range []string{"vm", "quickstart"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			s := start(t, name, silent.LocalAddr().String(), nil)
			client := &dns.Client{Timeout: 5 * time.Second}
			for range 2 {
				answer, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA), s.address)
				if err != nil {
					t.Fatalf("Outside name with a dead upstream: %v", err)
				}
				if answer.Rcode != dns.RcodeServerFailure {
					t.Errorf("Outside name with a dead upstream: got %s, want SERVFAIL", dns.RcodeToString[answer.Rcode])
				}
			}
		})
	}
}

// expectHTTP gets a path once and compares the status and part of the body.
func expectHTTP(t *testing.T, address, path string, status int, part string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + address + path)
	if err != nil {
		t.Errorf("Get %s: %v", path, err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("Get %s: %v", path, err)
	}
	if response.StatusCode != status || !strings.Contains(string(body), part) {
		t.Errorf("Get %s: got %d and %.200q, want %d and %q", path, response.StatusCode, body, status, part)
	}
}
