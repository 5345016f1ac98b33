package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodCorefile = `# a comment {
. {
    bind 127.0.0.1
    meshvm cluster.local {
        syncer syncer.example.org:15054
        tls "/etc/meshvm/ca.pem"
        token /etc/meshvm/token
    }
    forward . /run/meshvm-redirect/resolv.conf {
        max_fails 1
    }
}
`

func certificate(t *testing.T, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: end.Add(-time.Hour), NotAfter: end}
	made, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})
}

func token(end time.Time) []byte {
	part := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"iss":"i","sub":"system:serviceaccount:a:b","aud":["meshvm"],"exp":%d}`, end.Unix())
	return []byte(part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature")) + "\n")
}

func goodBundle(t *testing.T) Bundle {
	t.Helper()
	return Bundle{
		"Corefile": []byte(goodCorefile),
		"ca.pem":   certificate(t, time.Now().Add(time.Hour)),
		"token":    token(time.Now().Add(time.Hour)),
	}
}

func TestCheck(t *testing.T) {
	now := time.Now()
	replace := func(old, substitute string) func(Bundle) {
		return func(b Bundle) { b["Corefile"] = []byte(strings.Replace(goodCorefile, old, substitute, 1)) }
	}
	tests := map[string]struct {
		change func(Bundle)
		want   []string // of the error; none: it is good
	}{
		"good":                   {func(Bundle) {}, nil},
		"no Corefile":            {func(b Bundle) { delete(b, "Corefile") }, []string{"the bundle has no Corefile"}},
		"empty Corefile":         {func(b Bundle) { b["Corefile"] = nil }, []string{"there is nothing in it"}},
		"no token, no authority": {func(b Bundle) { delete(b, "token"); delete(b, "ca.pem") }, []string{"the authority /etc/meshvm/ca.pem", "the token /etc/meshvm/token", "neither in the bundle nor on this machine"}},
		"a token that ended":     {func(b Bundle) { b["token"] = token(now.Add(-time.Hour)) }, []string{"the token /etc/meshvm/token", "it ended at", "meshvmctl token"}},
		"no token at all":        {func(b Bundle) { b["token"] = []byte("none\n") }, []string{"the token /etc/meshvm/token"}},
		"an authority that ended": {func(b Bundle) { b["ca.pem"] = certificate(t, now.Add(-time.Hour)) },
			[]string{"the authority /etc/meshvm/ca.pem", "it ended at"}},
		"no certificate":    {func(b Bundle) { b["ca.pem"] = []byte("x") }, []string{"there is no PEM certificate in it"}},
		"no meshvm":         {replace("meshvm cluster.local", "kubernetes cluster.local"), []string{"no server block has the plugin meshvm"}},
		"no syncer":         {replace("syncer syncer", "node syncer"), []string{"meshvm has no syncer"}},
		"no end":            {replace("max_fails 1\n    }\n", "max_fails 1\n"), []string{"the block . has no end"}},
		"an end too many":   {replace("max_fails 1\n", "max_fails 1\n}\n}\n}\n"), []string{"there is no block that } could end"}},
		"a quotation":       {replace(`ca.pem"`, "ca.pem"), []string{"a quotation has no end"}},
		"other resolvers":   {replace("/run/meshvm-redirect/resolv.conf", "/etc/meshvm/resolv.conf"), []string{"the list of resolvers /etc/meshvm/resolv.conf"}},
		"resolvers by name": {replace("/run/meshvm-redirect/resolv.conf", "192.0.2.53 tls://192.0.2.54"), nil},
		"Istio's, not there": {replace(`tls "/etc/meshvm/ca.pem"`, "tls /etc/certs/cert-chain.pem /etc/certs/key.pem /etc/certs/root-cert.pem"),
			[]string{"the certificate /etc/certs/cert-chain.pem", "the key /etc/certs/key.pem", "the authority /etc/certs/root-cert.pem"}},
		"beside":               {replace("/etc/meshvm/token", "token"), []string{"the token token, which the Corefile names: want an absolute path"}},
		"from the environment": {replace("/etc/meshvm/token", "{$TOKEN_FILE}"), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := goodBundle(t)
			test.change(b)
			err := Machine{Root: t.TempDir()}.Check(b, now)
			if (err != nil) != (test.want != nil) {
				t.Fatalf("got %v, want an error with %q", err, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

// TestCheckOnMachine: what is on the machine already need not be in the bundle.
func TestCheckOnMachine(t *testing.T) {
	b, root := goodBundle(t), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, directory), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, directory, "ca.pem"), b["ca.pem"], 0o600); err != nil {
		t.Fatal(err)
	}
	delete(b, "ca.pem")
	if err := (Machine{Root: root}).Check(b, time.Now()); err != nil {
		t.Errorf("Check: got %v, want none", err)
	}
}

// FuzzParse: whatever is in a bundle, parse says so or returns options that have words and lines in order.
func FuzzParse(f *testing.F) {
	f.Add(goodCorefile)
	f.Add("a {\n b \"c \\\" d\" # e\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		options, err := parse(text)
		if err != nil {
			return
		}
		last := 0
		for _, o := range options {
			if len(o.words) == 0 || o.number < last || o.depth < 0 {
				t.Fatalf("got %+v after line %d", o, last)
			}
			last = o.number
		}
	})
}
