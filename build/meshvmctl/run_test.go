package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/syncer/server/explain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests are this package's, with the control plane that some of them share.
type tests struct{ *testing.M }

// Run implements goleak.TestingM.
func (t tests) Run() int { return plane.Main(t.M) }

// syncer is a real one on loopback.
type syncer struct {
	source    *registry.Source
	vms, http string
}

func startSyncer(t *testing.T) *syncer {
	t.Helper()
	return startSyncerWith(t, server.Options{})
}

func startSyncerWith(t *testing.T, options server.Options) *syncer {
	t.Helper()
	options.ShutdownTimeout = time.Second
	names := registry.New(registry.Options{})
	s := &syncer{source: names.AddSource("manifests")}
	front, err := server.New(names, options)
	if err != nil {
		t.Fatal(err)
	}
	vms, people := listen(t), listen(t)
	s.vms, s.http = vms.Addr().String(), people.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- front.Serve(ctx, vms, people) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func encodeAddresses(texts ...string) [][]byte {
	var encoded [][]byte
	for _, text := range texts {
		encoded = append(encoded, netip.MustParseAddr(text).AsSlice())
	}
	return encoded
}

func update(kind, namespace, name, key string, visibility registry.Visibility, body *registryv1.Body) registry.Update {
	return registry.Update{
		Object:    registry.Object{Kind: kind, Namespace: namespace, Name: name},
		Resources: []registry.Resource{{Key: key, Visibility: visibility, Body: body}},
	}
}

func service(s *registryv1.Service, visibility registry.Visibility) registry.Update {
	kind, key := "Service", registryv1.ServiceKey("", s.GetNamespace(), s.GetName())
	if s.GetOrigin() == registryv1.Origin_ORIGIN_SERVICE_ENTRY {
		kind, key = "ServiceEntry", registryv1.ServiceEntryKey("", s.GetNamespace(), s.GetName(), s.GetHost())
	}
	return update(kind, s.GetNamespace(), s.GetName(), key, visibility, &registryv1.Body{Body: &registryv1.Body_Service{Service: s}})
}

func port(name string, number uint32) *registryv1.Port {
	return &registryv1.Port{Name: name, Number: number, Protocol: registryv1.Protocol_PROTOCOL_TCP}
}

// mesh is what the tests look up.
func mesh() []registry.Update {
	kubernetes, entry := registryv1.Origin_ORIGIN_KUBERNETES, registryv1.Origin_ORIGIN_SERVICE_ENTRY
	clusterIP, literal := registryv1.AddressKind_ADDRESS_KIND_CLUSTER_IP, registryv1.AddressKind_ADDRESS_KIND_LITERAL
	everyone := registry.Public()
	return []registry.Update{
		service(&registryv1.Service{
			Host: "reviews.prod.svc.cluster.local", Namespace: "prod", Name: "reviews", Origin: kubernetes,
			AddressKind: clusterIP, Addresses: encodeAddresses("10.0.0.1", "fd00::1"), Ports: []*registryv1.Port{port("http", 80), port("https", 443)},
		}, everyone),
		service(&registryv1.Service{
			Host: "reviews.prod.svc.cluster.local", Namespace: "test", Name: "usurper", Origin: entry,
			AddressKind: literal, Addresses: encodeAddresses("192.0.2.66"), CreatedAt: 1_700_000_000,
		}, everyone),
		service(&registryv1.Service{
			Host: "secret.prod.svc.cluster.local", Namespace: "prod", Name: "secret", Origin: kubernetes,
			AddressKind: clusterIP, Addresses: encodeAddresses("10.0.0.2"),
		}, registry.VisibleTo("prod")),
		service(&registryv1.Service{Host: "alias.prod.svc.cluster.local", Namespace: "prod", Name: "alias", Origin: kubernetes, ExternalName: "db.example.org"}, everyone),
		service(&registryv1.Service{Host: "db.prod.svc.cluster.local", Namespace: "prod", Name: "db", Origin: kubernetes, Headless: true}, everyone),
		service(&registryv1.Service{Host: "idle.prod.svc.cluster.local", Namespace: "prod", Name: "idle", Origin: kubernetes, Headless: true}, everyone),
		service(&registryv1.Service{
			Host: "*.example.com", Namespace: "prod", Name: "wild", Origin: entry, AddressKind: literal, Addresses: encodeAddresses("192.0.2.10"),
			Ports: []*registryv1.Port{port("https", 443)},
		}, everyone),
		service(&registryv1.Service{Host: "www.example.net", Namespace: "prod", Name: "by-dns", Origin: entry}, everyone),
		update("EndpointSlice", "prod", "db-1", registryv1.EndpointSliceKey("", "prod", "db-1"), everyone, &registryv1.Body{Body: &registryv1.Body_EndpointSlice{
			EndpointSlice: &registryv1.EndpointSlice{Namespace: "prod", Name: "db-1", Service: "db", Endpoints: []*registryv1.Endpoint{
				{Addresses: encodeAddresses("10.1.0.1"), Hostname: "db-0", Ready: true},
				{Addresses: encodeAddresses("10.1.0.2")},
			}, Ports: []*registryv1.Port{port("sql", 3306), port("", 0)}},
		}}),
	}
}

// meshvmctl runs the command and returns what it says.
func meshvmctl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, &out, &err)
	return code, out.String(), err.String()
}

// TestBothWaysAgree asks the syncer and a mirror of its stream, which must tell the same.
func TestBothWaysAgree(t *testing.T) {
	const zone = ".svc.cluster.local"
	tests := map[string]struct {
		name, recordType, namespace string
		code                        int
		outcome                     explain.Outcome
		records                     string
	}{
		"cluster IP":           {"reviews.prod" + zone, "", "dev", exitFound, explain.Answered, "A 10.0.0.1, AAAA fd00::1"},
		"own namespace":        {"reviews.prod" + zone, "", "test", exitFound, explain.Answered, "A 192.0.2.66"},
		"one type":             {"Reviews.Prod" + zone + ".", "aaaa", "dev", exitFound, explain.Answered, "AAAA fd00::1"},
		"no such type":         {"reviews.prod" + zone, "AAAA", "test", exitNotFound, explain.NoData, ""},
		"seen":                 {"secret.prod" + zone, "", "prod", exitFound, explain.Answered, "A 10.0.0.2"},
		"not seen":             {"secret.prod" + zone, "", "dev", exitNotFound, explain.NameError, ""},
		"alias":                {"alias.prod" + zone, "", "", exitFound, explain.Answered, "CNAME db.example.org"},
		"headless":             {"db.prod" + zone, "", "", exitFound, explain.Answered, "A 10.1.0.1"},
		"headless, none ready": {"idle.prod" + zone, "", "", exitNotFound, explain.NameError, ""},
		"endpoint":             {"db-0.db.prod" + zone, "", "", exitFound, explain.Answered, "A 10.1.0.1"},
		"endpoint not ready":   {"10-1-0-2.db.prod" + zone, "", "", exitNotFound, explain.NameError, ""},
		"wildcard":             {"a.b.example.com", "", "", exitFound, explain.Answered, "A 192.0.2.10"},
		"wildcard, no AAAA":    {"a.b.example.com", "AAAA", "", exitNotFound, explain.NoData, ""},
		"wildcard, CNAME":      {"a.b.example.com", "CNAME", "", exitNotFound, explain.PassedOn, ""},
		"no addresses":         {"www.example.net", "", "", exitNotFound, explain.PassedOn, ""},
		"unknown":              {"nothing.prod" + zone, "", "", exitNotFound, explain.NameError, ""},
		"outside":              {"example.org", "", "", exitNotFound, explain.PassedOn, ""},
		"namespace":            {"prod" + zone, "", "", exitNotFound, explain.NoData, ""},
		"zone":                 {"cluster.local", "", "", exitNotFound, explain.NoData, ""},
		"PTR":                  {"10.0.0.1", "", "dev", exitFound, explain.Answered, "PTR reviews.prod" + zone},
		"PTR of an endpoint":   {"1.0.1.10.in-addr.arpa", "", "dev", exitFound, explain.Answered, "PTR db-0.db.prod" + zone},
		"PTR of IPv6": {"1." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa", "PTR", "dev", exitFound, explain.Answered,
			"PTR reviews.prod" + zone},
		"PTR of nobody":           {"10.9.9.9", "PTR", "", exitNotFound, explain.PassedOn, ""},
		"SRV":                     {"_http._tcp.reviews.prod" + zone, "SRV", "dev", exitFound, explain.Answered, "SRV 0 50 80 reviews.prod" + zone},
		"SRV without being asked": {"_http._tcp.reviews.prod" + zone, "", "dev", exitFound, explain.Answered, "SRV 0 50 80 reviews.prod" + zone},
		"SRV of a host": {"reviews.prod" + zone, "srv", "dev", exitFound, explain.Answered,
			"SRV 0 25 80 reviews.prod" + zone + ", SRV 0 25 443 reviews.prod" + zone},
		"SRV of an endpoint":       {"db-0.db.prod" + zone, "SRV", "dev", exitFound, explain.Answered, "SRV 0 50 3306 db-0.db.prod" + zone},
		"SRV of endpoints":         {"_sql._tcp.db.prod" + zone, "SRV", "dev", exitFound, explain.Answered, "SRV 0 100 3306 db-0.db.prod" + zone},
		"SRV of another port":      {"_nope._tcp.reviews.prod" + zone, "", "dev", exitNotFound, explain.NameError, ""},
		"SRV of no port":           {"reviews.prod" + zone, "SRV", "test", exitNotFound, explain.NoData, ""},
		"SRV of an alias":          {"alias.prod" + zone, "SRV", "", exitFound, explain.Answered, "CNAME db.example.org"},
		"SRV under a wildcard":     {"_https._tcp.a.example.com", "", "", exitFound, explain.Answered, "SRV 0 100 443 a.example.com"},
		"SRV outside, other port":  {"_http._tcp.a.example.com", "", "", exitNotFound, explain.PassedOn, ""},
		"SRV outside, no address":  {"www.example.net", "SRV", "", exitNotFound, explain.PassedOn, ""},
		"addresses of a port":      {"_http._tcp.reviews.prod" + zone, "AAAA", "dev", exitFound, explain.Answered, "AAAA fd00::1"},
		"above ports":              {"_tcp.reviews.prod" + zone, "", "dev", exitNotFound, explain.NoData, ""},
		"above ports of endpoints": {"_tcp.db.prod" + zone, "", "dev", exitNotFound, explain.NoData, ""},
		"above no port":            {"_udp.reviews.prod" + zone, "", "dev", exitNotFound, explain.NameError, ""},
	}
	s := startSyncer(t)
	if err := s.source.Apply(time.Now(), mesh()...); err != nil {
		t.Fatal(err)
	}
	s.source.Synced()
	for way, flags := range map[string][]string{"http": {"--http", s.http}, "stream": {"--syncer", s.vms, "--insecure"}} {
		for name, test := range tests {
			t.Run(way+"/"+name, func(t *testing.T) {
				args := append([]string{"lookup", test.name, "-o", "json", "--namespace", test.namespace, "--type", test.recordType}, flags...)
				code, stdout, stderr := meshvmctl(t, args...)
				if code != test.code || stderr != "" {
					t.Errorf("exit %d, want %d; stderr %q", code, test.code, stderr)
				}
				var e explain.Explanation
				if err := json.Unmarshal([]byte(stdout), &e); err != nil {
					t.Fatalf("%v in %q", err, stdout)
				}
				var records []string
				for _, record := range e.Records {
					records = append(records, record.Type+" "+record.Value)
				}
				if got := strings.Join(records, ", "); e.Outcome != test.outcome || got != test.records {
					t.Errorf("got %s [%s], want %s [%s]", e.Outcome, got, test.outcome, test.records)
				}
				if e.Reason == "" || e.Revision != 1 || e.ClusterDomain != "cluster.local" || e.Namespace != test.namespace {
					t.Errorf("reason %q, revision %d, domain %q, namespace %q", e.Reason, e.Revision, e.ClusterDomain, e.Namespace)
				}
			})
		}
	}
}

func TestText(t *testing.T) {
	s := startSyncer(t)
	if err := s.source.Apply(time.Now(), mesh()...); err != nil {
		t.Fatal(err)
	}
	s.source.Synced()
	tests := map[string]struct {
		args []string
		want string
	}{
		"explained": {[]string{"reviews.prod.svc.cluster.local", "--namespace", "dev", "--http", s.http}, `
reviews.prod.svc.cluster.local: answered
  A     10.0.0.1
  AAAA  fd00::1
from       Service prod/reviews
why        Service prod/reviews claims it; a Kubernetes Service wins over a ServiceEntry
addresses  cluster IP
seen from  dev
registry   revision 1, zone cluster.local

claims of reviews.prod.svc.cluster.local
  + Service prod/reviews       10.0.0.1, fd00::1 (cluster IP)  exported to *                                a Kubernetes Service wins over a ServiceEntry
  - ServiceEntry test/usurper  192.0.2.66 (literal)            exported to *  created 2023-11-14T22:13:20Z  a Kubernetes Service wins over a ServiceEntry
`},
		"hidden": {[]string{"secret.prod.svc.cluster.local", "--http", "http://" + s.http}, `
secret.prod.svc.cluster.local: NXDOMAIN: there is no such name
why        Service prod/secret claims it, but is exported to prod only, not to a VM without a namespace
seen from  no namespace
registry   revision 1, zone cluster.local

claims of secret.prod.svc.cluster.local, not used
  - Service prod/secret  10.0.0.2 (cluster IP)  exported to prod    exported to prod only, not to a VM without a namespace
`},
		"headless": {[]string{"db.prod.svc.cluster.local", "--type", "A", "--http", s.http}, `
db.prod.svc.cluster.local: answered
  A  10.1.0.1
from       Service prod/db
why        Service prod/db claims it
addresses  endpoint
seen from  no namespace
registry   revision 1, zone cluster.local

endpoints
  10.1.0.1  ready      db-0.db.prod.svc.cluster.local      EndpointSlice prod/db-1
  10.1.0.2  not ready  10-1-0-2.db.prod.svc.cluster.local  EndpointSlice prod/db-1

claims of db.prod.svc.cluster.local
  + Service prod/db  headless  exported to *    nobody else that is visible claims the host
`},
		"services": {[]string{"_sql._tcp.db.prod.svc.cluster.local", "--http", s.http}, `
_sql._tcp.db.prod.svc.cluster.local: answered
  SRV  0 100 3306 db-0.db.prod.svc.cluster.local
from       Service prod/db
why        Service prod/db has the port sql/tcp; addresses times ports: 1, which share a weight of 100
host       db.prod.svc.cluster.local
addresses  endpoint
seen from  no namespace
registry   revision 1, zone cluster.local

endpoints
  10.1.0.1  ready      db-0.db.prod.svc.cluster.local      EndpointSlice prod/db-1  sql/tcp 3306, unnamed/tcp any number
  10.1.0.2  not ready  10-1-0-2.db.prod.svc.cluster.local  EndpointSlice prod/db-1  sql/tcp 3306, unnamed/tcp any number

claims of db.prod.svc.cluster.local
  + Service prod/db  headless  exported to *    nobody else that is visible claims the host
`},
		"no such port": {[]string{"_nope._tcp.reviews.prod.svc.cluster.local", "--namespace", "dev", "--http", s.http}, `
_nope._tcp.reviews.prod.svc.cluster.local: NXDOMAIN: there is no such name
why        Service prod/reviews has no port nope/tcp, only http/tcp, https/tcp
seen from  dev
registry   revision 1, zone cluster.local

claims of reviews.prod.svc.cluster.local, not used
  + Service prod/reviews       10.0.0.1, fd00::1 (cluster IP) at http/tcp 80, https/tcp 443  exported to *                                a Kubernetes Service wins over a ServiceEntry
  - ServiceEntry test/usurper  192.0.2.66 (literal)                                          exported to *  created 2023-11-14T22:13:20Z  a Kubernetes Service wins over a ServiceEntry
`},
		"services as a VM": {[]string{"_https._tcp.x.example.com", "--syncer", s.vms, "--insecure"}, `
_https._tcp.x.example.com: answered
  SRV  0 100 443 x.example.com  TTL 30 s
from       ServiceEntry prod/wild
why        ServiceEntry prod/wild claims *.example.com
host       *.example.com
addresses  literal
seen from  no namespace
registry   revision 1, zone cluster.local
`},
		"as a VM": {[]string{"x.example.com", "--syncer", s.vms, "--insecure", "--namespace", "dev"}, `
x.example.com: answered
  A  192.0.2.10  TTL 30 s
from       ServiceEntry prod/wild
why        ServiceEntry prod/wild claims *.example.com
host       *.example.com
addresses  literal
seen from  dev
registry   revision 1, zone cluster.local
`},
		"endpoint as a VM": {[]string{"db-0.db.prod.svc.cluster.local", "--syncer", s.vms, "--insecure"}, `
db-0.db.prod.svc.cluster.local: answered
  A  10.1.0.1  TTL 5 s
from       Service prod/db
why        Service prod/db claims db-0.db.prod.svc.cluster.local
addresses  endpoint
seen from  no namespace
registry   revision 1, zone cluster.local
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, stdout, stderr := meshvmctl(t, append([]string{"lookup"}, test.args...)...)
			if want := strings.TrimPrefix(test.want, "\n"); stdout != want || stderr != "" {
				t.Errorf("stderr %q, got\n%s\nwant\n%s", stderr, stdout, want)
			}
		})
	}
}

func TestSyncerCannotBeAsked(t *testing.T) {
	closed := listen(t)
	nobody := closed.Addr().String()
	closed.Close()
	mute := listen(t) // takes connections and says nothing
	defer mute.Close()
	unsynced := startSyncer(t)
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer stranger.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	tests := map[string]struct {
		args []string
		want string
	}{
		"nobody listens":          {[]string{"--syncer", nobody, "--insecure"}, "connection refused"},
		"nobody listens on HTTP":  {[]string{"--http", nobody}, "connection refused"},
		"says nothing":            {[]string{"--syncer", mute.Addr().String(), "--insecure", "--timeout", "100ms"}, "within 100ms"},
		"says nothing on HTTP":    {[]string{"--http", mute.Addr().String(), "--timeout", "100ms"}, "deadline exceeded"},
		"not ready":               {[]string{"--syncer", unsynced.vms, "--insecure"}, "waiting for manifests to sync"},
		"plaintext where TLS":     {[]string{"--syncer", unsynced.vms}, unsynced.vms},
		"no syncer over HTTP":     {[]string{"--http", stranger.URL}, "does not answer as a syncer"},
		"no such page":            {[]string{"--http", missing.URL}, "404"},
		"HTTP at the VMs' port":   {[]string{"--http", unsynced.vms}, "ask the syncer"},
		"stream at the HTTP port": {[]string{"--syncer", unsynced.http, "--insecure"}, unsynced.http},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, append([]string{"lookup", "a.b"}, test.args...)...)
			if code != exitUnreachable || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 3 and one line with %q", code, stdout, stderr, test.want)
			}
		})
	}
}

// bootArgs is a command line of bootstrap that lacks nothing but --out.
func bootArgs(flags ...string) []string {
	return append([]string{"bootstrap", "--namespace", "a", "--service-account", "b"}, flags...)
}

func TestBadUsage(t *testing.T) {
	s := startSyncer(t)
	s.source.Synced()
	tests := map[string]struct {
		args []string
		want string
	}{
		"no command":                {nil, "want a command"},
		"unknown command":           {[]string{"dig"}, `unknown command "dig"`},
		"no name":                   {[]string{"lookup", "--http", "a:1"}, "want one NAME, got 0"},
		"two names":                 {[]string{"lookup", "a", "b", "--http", "a:1"}, "want one NAME, got 2"},
		"empty name":                {[]string{"lookup", ".", "--http", "a:1"}, "NAME is empty"},
		"nobody to ask":             {[]string{"lookup", "a"}, "want either --syncer or --http"},
		"two to ask":                {[]string{"lookup", "a", "--http", "a:1", "--syncer", "b:1"}, "want either --syncer or --http"},
		"type":                      {[]string{"lookup", "a", "--http", "a:1", "--type", "MX"}, `--type "MX": want A, AAAA, CNAME, PTR, SRV`},
		"output":                    {[]string{"lookup", "a", "--http", "a:1", "-o", "yaml"}, `--output "yaml": want text or json`},
		"timeout":                   {[]string{"lookup", "a", "--http", "a:1", "--timeout", "0"}, "--timeout 0s"},
		"unknown flag":              {[]string{"lookup", "a", "--server", "a:1"}, "unknown flag: --server"},
		"TLS over HTTP":             {[]string{"lookup", "a", "--http", "a:1", "--tls-cert-file", "x"}, "go with --syncer only"},
		"TLS without https":         {[]string{"lookup", "a", "--http", "a:1", "--tls-ca-file", "x"}, `--http "a:1": want https://`},
		"no authorities":            {[]string{"lookup", "a", "--http", "https://a:1", "--tls-ca-file", "/nowhere"}, "--tls-ca-file: open /nowhere"},
		"authorities of none":       {[]string{"lookup", "a", "--http", "https://a:1", "--tls-ca-file", "run_test.go"}, "--tls-ca-file run_test.go: no certificate in it"},
		"no port":                   {[]string{"lookup", "a", "--syncer", "host"}, `--syncer "host": want HOST:PORT`},
		"plaintext off loopback":    {[]string{"lookup", "a", "--syncer", "10.0.0.1:1", "--insecure"}, "loopback"},
		"no such certificate":       {[]string{"lookup", "a", "--syncer", "127.0.0.1:1", "--tls-ca-file", "/no/such/file"}, "/no/such/file"},
		"no URL":                    {[]string{"lookup", "a", "--http", "ftp://a"}, `--http "ftp://a": want HOST:PORT or a URL`},
		"refused by the syncer":     {[]string{"lookup", "a", "--http", s.http, "--namespace", "A.B"}, `"namespace" is "A.B": want the name of a namespace`},
		"PTR of a name":             {[]string{"lookup", "a.b", "--syncer", s.vms, "--insecure", "--type", "PTR"}, "for PTR want an address"},
		"vips of whom":              {[]string{"vips"}, "want --http"},
		"vips of two":               {[]string{"vips", "a", "b", "--http", "a:1"}, "want one HOST at most, got 2"},
		"vips of nothing":           {[]string{"vips", ".", "--http", "a:1"}, "HOST is empty"},
		"vips in a state":           {[]string{"vips", "--http", "a:1", "--state", "assigned,lost"}, `--state "lost": want assigned, pending, quarantine, conflict, several, exhausted`},
		"vips in a format":          {[]string{"vips", "--http", "a:1", "-o", "wide"}, `--output "wide": want text or json`},
		"vips in no time":           {[]string{"vips", "--http", "a:1", "--timeout", "0"}, "--timeout 0s"},
		"vips by TLS without https": {[]string{"vips", "--http", "a:1", "--tls-server-name", "x"}, `--http "a:1": want https://`},
		"vips of no URL":            {[]string{"vips", "--http", "ftp://a"}, `--http "ftp://a": want HOST:PORT or a URL`},
		"vips, unknown flag":        {[]string{"vips", "--syncer", "a:1"}, "unknown flag: --syncer"},
		"bootstrap whom":            {[]string{"bootstrap", "--out", "x"}, "want --namespace"},
		"bootstrap as whom":         {[]string{"bootstrap", "--namespace", "a", "--out", "x"}, "want --service-account"},
		"bootstrap where":           {bootArgs(), "want --out DIR"},
		"bootstrap what":            {bootArgs("--out", "x", "vm"), `unexpected argument "vm"`},
		"bootstrap with two CAs":    {bootArgs("--out", "x", "--ca-file", "a", "--ca-secret", "b"), "want one of --ca-file, --ca-configmap and --ca-secret"},
		"bootstrap at no port":      {bootArgs("--out", "x", "--syncer", "a"), `syncer "a": want HOST:PORT`},
		"bootstrap at a bad host":   {bootArgs("--out", "x", "--syncer", "a{$B}:1"), `host "a{$B}" is not a DNS name`},
		"bootstrap of no name":      {bootArgs("--out", "x", "--node", "a b"), `node "a b" is not a DNS name`},
		"bootstrap of a bad domain": {bootArgs("--out", "x", "--cluster-domain", ""), `cluster domain "" is not a DNS name`},
		"bootstrap beside":          {bootArgs("--out", "x", "--install-dir", "etc"), `install directory "etc": want an absolute path`},
		"bootstrap in a circle":     {bootArgs("--out", "x", "--upstream", "127.0.0.1"), `upstream "127.0.0.1" is the VM's own server`},
		"bootstrap for a moment":    {bootArgs("--out", "x", "--token-duration", "9m"), "--token-duration 9m0s: want 10m0s or more"},
		"bootstrap for nobody":      {bootArgs("--out", "x", "--audience", ""), "--audience is empty"},
		"bootstrap in no time":      {bootArgs("--out", "x", "--timeout", "0"), "--timeout 0s"},
		"bootstrap of no Service":   {bootArgs("--out", "x", "--syncer-service", ""), "must not be empty"},
		"token of whom":             {[]string{"token"}, "want --namespace"},
		"token of what":             {[]string{"token", "show"}, `unexpected argument "show"`},
		"token in no cluster":       {[]string{"token", "--kubeconfig", "/no/such/file", "--namespace", "a", "--service-account", "b"}, "/no/such/file"},
		"inspect what":              {[]string{"token", "inspect"}, "want one FILE, got 0"},
		"inspect in a format":       {[]string{"token", "inspect", "x", "-o", "yaml"}, `--output "yaml"`},
		"inspect in the past":       {[]string{"token", "inspect", "x", "--within", "-1s"}, "--within -1s"},
		"version of what":           {[]string{"version", "x"}, `unexpected argument "x"`},
		"help on what":              {[]string{"help", "lokup"}, `meshvmctl has no command "lokup": did you mean lookup?`},
		"help below what":           {[]string{"help", "redirect", "aply"}, `meshvmctl redirect has no command "aply": did you mean apply?`},
		"help below nothing":        {[]string{"help", "lookup", "name"}, `meshvmctl lookup has no command "name"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, test.args...)
			if code != exitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 2 and one line with %q", code, stdout, stderr, test.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string][]string{
		"help":                 {"lookup", "version", "Usage:"},
		"--help":               {"lookup", "version", "Usage:"},
		"version":              {"meshvmctl dev\n"},
		"--version":            {"meshvmctl dev\n"},
		"vips --help":          {"Exit codes:", "quarantine", "--state STATES"},
		"bootstrap --help":     {"Exit codes:", "--out DIR", "--token-duration"},
		"token --help":         {"Exit codes:", "--out FILE", "inspect FILE"},
		"token inspect --help": {"Exit codes:", "--within"},
		"status --help":        {"Exit codes:", "--socket SOCKET"},
		"help redirect":        {"meshvmctl redirect COMMAND", "apply"},
		"help redirect apply":  {"Exit codes:", "--all-names"},
		"lookup --help":        {"Exit codes:", "--tls-server-name NAME", "--timeout"},
	} {
		t.Run(args, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, strings.Fields(args)...)
			if code != exitFound || stderr != "" {
				t.Errorf("exit %d, stderr %q", code, stderr)
			}
			for _, text := range want {
				if !strings.Contains(stdout, text) {
					t.Errorf("got %q, want it to say %q", stdout, text)
				}
			}
		})
	}
}

// TestLinks: an operator's tool carries neither a DNS server nor a syncer.
func TestLinks(t *testing.T) {
	listed, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dependency := range strings.FieldsSeq(string(listed)) {
		for _, unwanted := range []string{"istio.io/", "github.com/coredns/", "github.com/meshvm/meshvm/syncer/registry"} {
			if strings.HasPrefix(dependency, unwanted) {
				t.Errorf("meshvmctl links %s", dependency)
			}
		}
	}
}
