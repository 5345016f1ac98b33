package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/server"
	"github.com/meshvm/meshvm/test/controlplane"
	"github.com/meshvm/meshvm/test/transcript"
)

func TestIdentityFlags(t *testing.T) {
	standard := identitySettings{audience: "meshvm", recheck: 2 * time.Minute, reviewsPerSecond: 100}
	with := func(change func(*identitySettings)) identitySettings {
		s := standard
		change(&s)
		return s
	}
	tls := []string{"--tls-cert-file=c", "--tls-private-key-file=k"}
	tests := map[string]struct {
		flags []string
		want  identitySettings
	}{
		"none": {[]string{"--insecure"}, standard},
		"certificates and RBAC": {append(tls, "--client-ca-file=a", "--authorization=rbac"),
			with(func(s *identitySettings) { s.rbac = true })},
		"reviewed tokens, and no certificates": {append(tls, "--token-review"),
			with(func(s *identitySettings) { s.review, s.rbac = true, true })},
		"verified tokens over plaintext": {[]string{"--insecure", "--token-jwks=cluster"},
			with(func(s *identitySettings) { s.jwks, s.rbac = "cluster", true })},
		"a file of keys, without a cluster": {[]string{"--insecure", "--manifests=m", "--token-jwks=jwks.json", "--token-issuer=https://issuer.example", "--authorization=identity"},
			with(func(s *identitySettings) { s.jwks, s.issuer = "jwks.json", "https://issuer.example" })},
		"manifests, and a cluster for identities": {[]string{"--insecure", "--manifests=m", "--kubeconfig=k", "--token-review"},
			with(func(s *identitySettings) { s.review, s.rbac = true, true })},
		"all": {append(tls, "--token-review", "--token-jwks=https://issuer.example/x", "--token-issuer=https://issuer.example/y", "--token-audience=vms",
			"--authorization=identity", "--identity-recheck=1s", "--identity-qps=2.5"),
			identitySettings{review: true, jwks: "https://issuer.example/x", issuer: "https://issuer.example/y", audience: "vms", recheck: time.Second, reviewsPerSecond: 2.5}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parse(test.flags)
			if err != nil {
				t.Fatal(err)
			}
			if got.identity != test.want {
				t.Errorf("got %+v, want %+v", got.identity, test.want)
			}
		})
	}
	got, err := parse(append(tls, "--token-review"))
	if err != nil || got.tls == nil || *got.tls != (server.TLSFiles{Certificate: "c", Key: "k"}) {
		t.Errorf("TLS files without a client CA: got %+v, %v", got.tls, err)
	}
}

func TestBadIdentityFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"--insecure --manifests=m --token-review":                                                          "--token-review with --manifests: want --kubeconfig too",
		"--insecure --manifests=m --token-jwks=cluster":                                                    "--token-jwks cluster with --manifests: want --kubeconfig too",
		"--insecure --manifests=m --token-jwks=f --token-issuer=i":                                         "--authorization rbac with --manifests: want --kubeconfig too, for the cluster that is to be asked; where tokens are taken RBAC is asked, too, but with --authorization identity",
		"--manifests=m --authorization=rbac":                                                               "--authorization rbac with --manifests: want --kubeconfig too",
		"--insecure --authorization=rbac":                                                                  "--authorization rbac with --insecure: nobody has an identity",
		"--insecure --kubeconfig=k --manifests=m --token-jwks=f --token-issuer=i --authorization=identity": "--kubeconfig and --manifests exclude each other",
		"--insecure --authorization=abac":                                                                  `--authorization "abac": want rbac or identity`,
		"--insecure --token-issuer=i":                                                                      "--token-issuer goes with --token-jwks only",
		"--insecure --token-review --token-issuer=i":                                                       "--token-issuer goes with --token-jwks only",
		"--insecure --token-audience=x":                                                                    "--token-audience goes with --token-review or --token-jwks only",
		"--insecure --token-review --token-audience=":                                                      `--token-audience "": want a word`,
		"--insecure --token-jwks=":                                                                         "--token-jwks is empty",
		"--insecure --token-jwks=jwks.json":                                                                "--token-jwks jwks.json: a file does not say whose keys it holds: want --token-issuer too",
		"--insecure --token-jwks=http://issuer.example":                                                    `--token-jwks "http://issuer.example": want https://`,
		"--insecure --token-review --identity-recheck=999ms":                                               "--identity-recheck 999ms: want at least 1s",
		"--insecure --token-review --identity-qps=0":                                                       "--identity-qps 0: want at least 1",
		"--insecure --token-review --identity-qps=NaN":                                                     "--identity-qps NaN: want at least 1",
		"--tls-cert-file=c --tls-private-key-file=k":                                                       "where tokens are taken (--token-review, --token-jwks) --client-ca-file may be left out",
	} {
		t.Run(flags, func(t *testing.T) {
			if _, err := parse(strings.Fields(flags)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}

// TestTokensOpenTheView: a syncer without any cluster takes tokens by a file of keys, and shows each VM its own view.
func TestTokensOpenTheView(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	folder, keyFile := t.TempDir(), filepath.Join(t.TempDir(), "jwks.json")
	absent := keyFile + ".absent"
	private := strings.Replace(manifests, "namespace: prod}", "namespace: prod, annotations: {networking.istio.io/exportTo: .}}", 1)
	for path, content := range map[string][]byte{filepath.Join(folder, "bookinfo.yaml"): []byte(private), keyFile: keys} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := []string{
		"--manifests", folder, "--insecure", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json",
		"--token-issuer", "https://issuer.example", "--authorization", "identity", "--token-jwks",
	}
	var fault, stdout, stderr transcript.Transcript
	if code := run(t.Context(), append(flags, absent), &stdout, &fault); code != exitFault || !strings.Contains(fault.String(), "--token-jwks: token keys of "+absent) {
		t.Errorf("without the file: exit %d, stderr %q; want exit 1 and its name", code, fault.String())
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, append(flags, keyFile), &stdout, &stderr) }()
	defer func() { <-ended }()
	defer cancel()
	address := ""
	waitFor(t, "the log says where it serves", func() bool {
		address = logged(stderr.String(), "serving", "listen")
		return address != ""
	})
	waitFor(t, "it is ready", func() bool { return get(logged(stderr.String(), "serving", "http"), "/readyz") == "ok\n" })
	token := func(namespace string) string {
		signed, err := controlplane.Token{
			Issuer: "https://issuer.example", Namespace: namespace, ServiceAccount: "vm", UID: "1", Audience: []string{"meshvm"}, KeyID: "a",
			Expires: time.Now().Add(time.Hour),
		}.Sign(jose.ES256, key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for name, test := range map[string]struct {
		token string
		code  codes.Code
		names bool // it is shown the one that is private
	}{
		"its own namespace":  {token("prod"), codes.OK, true},
		"another namespace":  {token("dev"), codes.OK, false},
		"no token":           {"", codes.Unauthenticated, false},
		"what is no token":   {"secret", codes.Unauthenticated, false},
		"a token cut short":  {token("prod")[:200], codes.Unauthenticated, false},
		"a token lengthened": {token("prod") + "AAAA", codes.Unauthenticated, false},
	} {
		t.Run(name, func(t *testing.T) {
			names, err := watch(t, address, test.token)
			if status.Code(err) != test.code || names != test.names {
				t.Errorf("got %v, shown: %t; want %s, shown: %t", err, names, test.code, test.names)
			}
			if test.token != "" && (strings.Contains(stderr.String(), test.token) || err != nil && strings.Contains(err.Error(), test.token)) {
				t.Errorf("the log or the status holds the token")
			}
		})
	}
	if got := get(logged(stderr.String(), "serving", "http"), "/metrics"); !strings.Contains(got, "meshvm_syncer_jwks_keys 1") {
		t.Errorf("/metrics lacks meshvm_syncer_jwks_keys 1")
	}
}

// watch opens a stream with a token, and reports whether its first view holds the one private name.
func watch(t *testing.T, address, token string) (bool, error) {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := registryv1.NewRegistryClient(connection).Watch(ctx)
	if err != nil {
		return false, err
	}
	if err := stream.Send(&registryv1.WatchRequest{Request: &registryv1.WatchRequest_Hello{Hello: &registryv1.Hello{Node: "vm"}}}); err != nil {
		t.Logf("send the hello: %v", err) // What Recv says is the reason.
	}
	found := false
	for {
		response, err := stream.Recv()
		if err != nil {
			return false, err
		}
		delta := response.GetDelta()
		for _, upsert := range delta.GetUpserts() {
			found = found || strings.Contains(upsert.GetKey(), "reviews")
		}
		if response.GetHeartbeat() != nil || delta != nil && !delta.GetMore() {
			return found, nil
		}
	}
}
