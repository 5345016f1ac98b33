package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen. Nothing waits that long when all is well.
const patience = 20 * time.Second

func TestBadFlags(t *testing.T) {
	tls := []string{"--tls-cert-file", "c", "--tls-private-key-file", "k", "--client-ca-file", "a"}
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown flag":              {[]string{"--listenn", "x"}, "unknown flag: --listenn"},
		"argument":                  {[]string{"--insecure", "manifests"}, `unexpected argument "manifests": there are only flags`},
		"flag without value":        {[]string{"--listen"}, "flag needs an argument: --listen"},
		"bad boolean":               {[]string{"--insecure=maybe"}, "--insecure"},
		"two sources":               {[]string{"--insecure", "--kubeconfig", "k", "--manifests", "m"}, "--kubeconfig and --manifests exclude each other"},
		"empty folder":              {[]string{"--insecure", "--manifests", ""}, "--manifests is empty: want a path"},
		"no TLS":                    {[]string{"--manifests", "m"}, "--tls-cert-file is missing: want"},
		"half of TLS":               {[]string{"--manifests", "m", "--tls-cert-file", "c", "--tls-private-key-file", "k"}, "--client-ca-file is missing"},
		"who reads is nobody's":     {append([]string{"--token-review", "--http-authorization", "everybody"}, tls...), `--http-authorization "everybody": want open or kubernetes`},
		"tokens in plaintext":       {[]string{"--insecure", "--http-authorization", "kubernetes"}, "--http-authorization kubernetes and --insecure exclude each other"},
		"replicas of no Service":    {[]string{"--insecure", "--replicas", "meshvm"}, `--replicas "meshvm": want NAMESPACE/NAME of a Service`},
		"TLS and plaintext":         {append([]string{"--insecure"}, tls...), "--tls-cert-file and --insecure exclude each other"},
		"plaintext off loopback":    {[]string{"--insecure", "--listen", ":15054"}, "--insecure with --listen :15054: plaintext is for loopback only"},
		"plaintext on a name":       {[]string{"--insecure", "--listen", "syncer.example.com:15054"}, "plaintext is for loopback only"},
		"plaintext on an address":   {[]string{"--insecure", "--listen", "10.0.0.1:15054"}, "plaintext is for loopback only"},
		"listen without port":       {append([]string{"--listen", "127.0.0.1"}, tls...), `--listen "127.0.0.1": want HOST:PORT`},
		"listen on a word":          {append([]string{"--listen", ":grpc"}, tls...), `--listen ":grpc": port "grpc": want a number`},
		"listen on a URL":           {append([]string{"--http-listen", "http://x:80"}, tls...), `--http-listen "http://x:80": want HOST:PORT`},
		"port too high":             {append([]string{"--http-listen", ":65536"}, tls...), `--http-listen ":65536": port "65536": want a number from 0 to 65535`},
		"cluster domain":            {[]string{"--insecure", "--cluster-domain", "bad..domain"}, `--cluster-domain "bad..domain": want a DNS name`},
		"default export":            {[]string{"--insecure", "--default-export", "Prod!"}, `--default-export "Prod!": want *, ., ~, or namespaces`},
		"default export, nobody":    {[]string{"--insecure", "--default-export", "~,prod"}, "~ stands alone"},
		"VIPs otherwise":            {[]string{"--insecure", "--vip", "none"}, `--vip "none": want status or allocate`},
		"VIP quarantine of nothing": {[]string{"--insecure", "--vip", "allocate", "--vip-quarantine", "0s"}, "--vip-quarantine 0s: want a time such as 24h"},
		"VIP writes never":          {[]string{"--insecure", "--vip", "allocate", "--vip-qps", "0"}, "--vip-qps 0: want more than 0"},
		"VIP namespace of no form":  {[]string{"--insecure", "--vip", "allocate", "--vip-namespace", "A b"}, `--vip-namespace "A b": want the name of a namespace`},
		"VIP namespace alone":       {[]string{"--insecure", "--vip-namespace", "mesh"}, "--vip-namespace goes with --vip allocate only"},
		"VIP ranges alone":          {[]string{"--insecure", "--vip-ranges", "240.240.0.0/16"}, "--vip-ranges goes with --vip allocate only"},
		"VIP range of no form":      {[]string{"--insecure", "--vip-ranges", "240.240.0.0"}, `--vip-ranges: range "240.240.0.0": want CIDR form`},
		"VIP range with host bits":  {[]string{"--insecure", "--vip-ranges", "2001:2::/48,240.240.0.1/16"}, "want 240.240.0.0/16"},
		"VIP range, then allocate":  {[]string{"--insecure", "--vip", "allocate", "--vip-ranges", "x"}, `--vip-ranges: range "x"`},
		"log level":                 {[]string{"--insecure", "--log-level", "loud"}, `--log-level "loud": want debug, info, warn or error`},
		"log format":                {[]string{"--insecure", "--log-format", "xml"}, `--log-format "xml": want text or json`},
		"listen with blank in host": {append([]string{"--listen", "a b:1"}, tls...), `--listen "a b:1": host "a b"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr transcript.Transcript
			code := run(t.Context(), test.args, &stdout, &stderr)
			got := stderr.String()
			if code != exitUsage || !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 || stdout.String() != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 2 and one line with %q", code, stdout.String(), got, test.want)
			}
		})
	}
}

func TestFaultsAtStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	folder := t.TempDir()
	absent := filepath.Join(folder, "absent")
	broken := filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	local := []string{"--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"}
	tests := map[string]struct {
		args []string
		want string
	}{
		"no such folder":         {append([]string{"--manifests", absent}, local...), absent},
		"no such kubeconfig":     {append([]string{"--kubeconfig", absent}, local...), absent},
		"broken kubeconfig":      {append([]string{"--kubeconfig", broken}, local...), broken},
		"not in a cluster":       {local, "neither --kubeconfig nor --manifests is given"},
		"listen address is used": {[]string{"--manifests", folder, "--insecure", "--http-listen", "127.0.0.1:0", "--listen", taken.Addr().String()}, "--listen: "},
		"HTTP address is used":   {[]string{"--manifests", folder, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", taken.Addr().String()}, "--http-listen: "},
		"no certificate": {[]string{"--manifests", folder, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
			"--tls-cert-file", absent, "--tls-private-key-file", absent, "--client-ca-file", absent}, "read TLS certificate: open " + absent},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr transcript.Transcript
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			code := run(ctx, test.args, &stdout, &stderr)
			if code != exitFault || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit %d, stderr %q; want exit 1 with %q", code, stderr.String(), test.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string][]string{
		"--help":    {"Usage:", "--manifests DIR", "--default-export NAMESPACES", "--vip-ranges", `"cluster.local")`},
		"-h":        {"Usage:"},
		"--version": {"meshvm-syncer dev\n"},
	} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr transcript.Transcript
			if code := run(t.Context(), []string{args}, &stdout, &stderr); code != exitDone || stderr.String() != "" {
				t.Errorf("exit %d, stderr %q", code, stderr.String())
			}
			for _, text := range want {
				if !strings.Contains(stdout.String(), text) {
					t.Errorf("got %q, want it to say %q", stdout.String(), text)
				}
			}
		})
	}
}

// TestDefaultAddresses: a syncer without TLS is not reachable from elsewhere unless it is asked for.
func TestDefaultAddresses(t *testing.T) {
	tests := map[string]struct {
		args         []string
		listen, http string
	}{
		"plaintext":                 {[]string{"--insecure"}, "127.0.0.1:15054", "127.0.0.1:15055"},
		"TLS":                       {[]string{"--tls-cert-file", "c", "--tls-private-key-file", "k", "--client-ca-file", "a"}, ":15054", ":15055"},
		"plaintext, HTTP elsewhere": {[]string{"--insecure", "--http-listen", ":80"}, "127.0.0.1:15054", ":80"},
		"plaintext on IPv6":         {[]string{"--insecure", "--listen", "[::1]:1"}, "[::1]:1", "127.0.0.1:15055"},
		"plaintext on localhost":    {[]string{"--insecure", "--listen", "localhost:1"}, "localhost:1", "127.0.0.1:15055"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(test.args)
			if err != nil || got.listen != test.listen || got.httpListen != test.http {
				t.Errorf("got %q and %q, %v; want %q and %q", got.listen, got.httpListen, err, test.listen, test.http)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	got, err := parse([]string{
		"--tls-cert-file", "c", "--tls-private-key-file", "k", "--client-ca-file", "a",
		"--cluster-domain", "Mesh.Example.", "--default-export", ".,shared", "--log-level", "warn", "--log-format", "json", "--vip", "status",
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (server.TLSFiles{Certificate: "c", Key: "k", ClientCA: "a"}); got.tls == nil || *got.tls != want {
		t.Errorf("TLS files are %+v, want %+v", got.tls, want)
	}
	if got.translation.ClusterDomain != "mesh.example" || !slices.Equal(got.translation.DefaultExport, []string{".", "shared"}) {
		t.Errorf("objects are read with %+v", got.translation)
	}
	if got.logLevel != slog.LevelWarn || got.logFormat != "json" {
		t.Errorf("logs %s from %s on", got.logFormat, got.logLevel)
	}
}

const manifests = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ports: [{port: 80}]}
`

func TestStartsServesAndStops(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "bookinfo.yaml"), []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr transcript.Transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"--manifests", folder, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
			"--log-format", "json", "--cluster-domain", "Mesh.Local.",
		}, &stdout, &stderr)
	}()
	address := ""
	waitFor(t, "the log says where it serves", func() bool {
		address = logged(stderr.String(), "serving", "http")
		return address != ""
	})
	waitFor(t, "it is ready", func() bool { return get(address, "/readyz") == "ok\n" })
	if got := get(address, "/debug/registry?name=reviews.prod.svc.mesh.local"); !strings.Contains(got, `"value": "10.0.0.1"`) {
		t.Errorf("explanation is %s", got)
	}
	for _, metric := range []string{`meshvm_syncer_build_info{version="dev"} 1`, "meshvm_syncer_manifest_objects 1"} {
		if got := get(address, "/metrics"); !strings.Contains(got, metric) {
			t.Errorf("/metrics lacks %s", metric)
		}
	}
	cancel()
	select {
	case code := <-ended:
		if code != exitDone {
			t.Errorf("exit %d, want 0\n%s", code, stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("still running %s after the stop\n%s", patience, stderr.String())
	}
	if logged(stderr.String(), "stopped", "level") != "INFO" {
		t.Errorf("the log does not end with the stop:\n%s", stderr.String())
	}
}

// TestUnreachableCluster: without its API server a syncer runs, is not ready, and says why.
func TestUnreachableCluster(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + listener.Addr().String()
	listener.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],` +
		`"clusters":[{"name":"k","cluster":{"server":"` + server + `"}}],"users":[{"name":"u","user":{}}]}`
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr transcript.Transcript
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--kubeconfig", kubeconfig, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"}, &stdout, &stderr)
	}()
	address := ""
	waitFor(t, "the log says where it serves", func() bool {
		address = logged(stderr.String(), "serving", "http")
		return address != ""
	})
	if got := get(address, "/readyz"); got != "waiting for kubernetes to sync\n" {
		t.Errorf("/readyz says %q", got)
	}
	if got := get(address, "/healthz"); got != "ok\n" {
		t.Errorf("/healthz says %q", got)
	}
	waitFor(t, "the log names the API server", func() bool {
		return strings.Contains(stderr.String(), "connection refused") && strings.Contains(stderr.String(), strings.TrimPrefix(server, "http://"))
	})
	cancel()
	select {
	case code := <-ended:
		if code != exitDone {
			t.Errorf("exit %d, want 0\n%s", code, stderr.String())
		}
	case <-time.After(patience):
		t.Fatalf("still running %s after the stop\n%s", patience, stderr.String())
	}
}

// logged is an attribute of a line of a JSON log, empty where there is none.
func logged(log, message, attribute string) string {
	for line := range strings.Lines(log) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			value, _ := fields[attribute].(string)
			return value
		}
	}
	return ""
}

func get(address, path string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + address + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
